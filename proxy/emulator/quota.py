"""What has been used of the allowance, and the headers that tell (developers.facebook.com, "Rate Limits")."""

from __future__ import annotations

import json
from collections.abc import Callable

from proxy.emulator.calls import Call, Headers
from proxy.emulator.config import Settings
from proxy.emulator.errors import throttled

_STEPS = 60


class Meter:
    """Calls within a sliding window, kept in sixty steps."""

    __slots__ = ("_counts", "_step", "total")

    def __init__(self) -> None:
        """Start at nothing."""
        self._counts = [0] * _STEPS
        self._step = 0
        self.total = 0

    def add(self, calls: int, now: float, window_s: float) -> None:
        """Count *calls* made *now* and forget those that the window has left behind."""
        self._advance(int(now / window_s * _STEPS))
        self._counts[self._step % _STEPS] += calls
        self.total += calls

    def _advance(self, step: int) -> None:
        for passed in range(max(self._step + 1, step - _STEPS + 1), step + 1):
            self.total -= self._counts[passed % _STEPS]
            self._counts[passed % _STEPS] = 0
        self._step = max(self._step, step)


class Quota:
    """Meters for the app or its tokens, and for ad accounts."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        """Start with everything unused."""
        self._settings = settings
        self._clock = clock
        self._meters: dict[str, Meter] = {}

    def clear(self) -> None:
        """Give everybody their whole allowance again."""
        self._meters.clear()

    def spend(self, call: Call, calls: int) -> None:
        """Count a call; one over the budget raises, and has been counted all the same."""
        config = self._settings.config
        now = self._clock()
        meters = [self._meter(self._owner(call)), *(self._meter(account) for account in _accounts(call))]
        for meter in meters:
            meter.add(calls, now, config.window_s)
        if config.budget is not None and meters[0].total > config.budget:
            raise throttled(config.throttle_code, config.throttle_status)

    def headers(self, call: Call) -> Headers:
        """The usage headers that a reply to *call* carries."""
        if not self._settings.config.usage_headers:
            return []
        used = self._percent(self._owner(call))
        found = [("X-App-Usage", f'{{"call_count":{used},"total_time":{used // 2},"total_cputime":{used // 3}}}')]
        insights = "insights" in call.path
        if insights:
            found.append(("X-FB-Ads-Insights-Throttle", self._throttle(call, used)))
        for account in _accounts(call):
            found += self._account_headers(account, "ads_insights" if insights else "ads_management")
        return found

    def _throttle(self, call: Call, app: int) -> str:
        account = max((self._percent(account) for account in _accounts(call)), default=0)
        return _text({"app_id_util_pct": app, "acc_id_util_pct": account, "ads_api_access_tier": "standard_access"})

    def _account_headers(self, account: str, use: str) -> Headers:
        used = self._percent(account)
        business = {
            "type": use,
            "call_count": used,
            "total_cputime": used // 3,
            "total_time": used // 2,
            "estimated_time_to_regain_access": 0 if used < 100 else int(self._settings.config.window_s // 60),
            "ads_api_access_tier": "standard_access",
        }
        ad = {"acc_id_util_pct": float(used), "reset_time_duration": 0, "ads_api_access_tier": "standard_access"}
        return [
            ("X-Business-Use-Case-Usage", _text({account.removeprefix("act_"): [business]})),
            ("X-Ad-Account-Usage", _text(ad)),
        ]

    def _owner(self, call: Call) -> str:
        return f"token {call.token}" if self._settings.config.budget_scope == "token" else "app"

    def _meter(self, owner: str) -> Meter:
        return self._meters.setdefault(owner, Meter())

    def _percent(self, owner: str) -> int:
        budget = self._settings.config.budget
        return min(100, self._meter(owner).total * 100 // max(1, budget)) if budget is not None else 0


def _accounts(call: Call) -> list[str]:
    return [call.path[0]] if call.path and call.path[0].startswith("act_") else []


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
