"""Counts calls against budgets, and writes the usage headers (developers.facebook.com, "Rate Limits")."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from proxy.emulator.config import LiveConfig
from proxy.emulator.language.calls import Call, Headers
from proxy.emulator.language.errors import throttled

_STEPS = 60
_CODES = {"ads_insights": 80000, "ads_management": 80004}


class Meter:
    """Calls within a sliding window, kept in sixty steps."""

    __slots__ = ("_counts", "_step", "_total")

    def __init__(self) -> None:
        """Start at nothing."""
        self._counts = [0] * _STEPS
        self._step = 0
        self._total = 0

    def add(self, calls: int, now: float, window_s: float) -> None:
        """Count *calls* made *now*."""
        self._advance(int(now / window_s * _STEPS))
        self._counts[self._step % _STEPS] += calls
        self._total += calls

    def total(self, now: float, window_s: float) -> int:
        """The calls that the window still holds."""
        self._advance(int(now / window_s * _STEPS))
        return self._total

    def _advance(self, step: int) -> None:
        for passed in range(max(self._step + 1, step - _STEPS + 1), step + 1):
            self._total -= self._counts[passed % _STEPS]
            self._counts[passed % _STEPS] = 0
        self._step = max(self._step, step)


class Quota:
    """Meters and blocks: for the app or its tokens, and for each use of an ad account."""

    def __init__(self, settings: LiveConfig, clock: Callable[[], float]) -> None:
        """Start with everything unused."""
        self._settings = settings
        self._clock = clock
        self._meters: dict[str, Meter] = {}
        self._blocked: dict[str, float] = {}

    def clear(self) -> None:
        """Forget all calls and blocks."""
        self._meters.clear()
        self._blocked.clear()

    def spend(self, call: Call, calls: int) -> None:
        """Count a call. Raises GraphError over a budget or while blocked; the call has been counted even then."""
        self._add(call, calls)
        config, use, accounts = self._settings.config, _use_case(call), _accounts(call)
        if self._is_refused(self._owner(call), config.budget):
            raise throttled(config.throttle_code, config.throttle_status)
        if any(self._is_refused(f"{account} {use}", config.account_budget) for account in accounts):
            raise throttled(config.account_code or _CODES[use], config.throttle_status)

    def give_back(self, call: Call, calls: int) -> None:
        """Take so many calls off again, for *call* turned out not to count."""
        self._add(call, -calls)

    def _add(self, call: Call, calls: int) -> None:
        now, window_s = self._clock(), self._settings.config.window_s
        for account in _accounts(call):
            for name in (account, f"{account} {_use_case(call)}"):
                self._meters.setdefault(name, Meter()).add(calls, now, window_s)
        self._meters.setdefault(self._owner(call), Meter()).add(calls, now, window_s)

    def headers(self, call: Call) -> Headers:
        """The usage headers that a reply to *call* carries."""
        config = self._settings.config
        if not config.usage_headers:
            return []
        used = self._percent(self._owner(call), config.budget)
        found = [("X-App-Usage", f'{{"call_count":{used},"total_time":{used // 2},"total_cputime":{used // 3}}}')]
        if _use_case(call) == "ads_insights":
            found.append(("X-FB-Ads-Insights-Throttle", self._throttle(call, used)))
        for account in _accounts(call):
            found += self._account_headers(account, _use_case(call))
        return found

    def _throttle(self, call: Call, app: int) -> str:
        account = max((self._account_percent(account, "ads_insights") for account in _accounts(call)), default=0)
        return _json_text(
            {"app_id_util_pct": app, "acc_id_util_pct": account, "ads_api_access_tier": "standard_access"}
        )

    def _account_headers(self, account: str, use: str) -> Headers:
        used = self._account_percent(account, use)
        business = {
            "type": use,
            "call_count": used,
            "total_cputime": used // 3,
            "total_time": used // 2,
            "estimated_time_to_regain_access": self._minutes_to_regain(f"{account} {use}", used),
            "ads_api_access_tier": "standard_access",
        }
        managed = self._account_percent(account, "ads_management")
        ad = {"acc_id_util_pct": float(managed), "reset_time_duration": 0, "ads_api_access_tier": "standard_access"}
        return [
            ("X-Business-Use-Case-Usage", _json_text({account.removeprefix("act_"): [business]})),
            ("X-Ad-Account-Usage", _json_text(ad)),
        ]

    def _minutes_to_regain(self, owner: str, used: int) -> int:
        """In minutes, rounded up: a block's end, else that of the window."""
        left = self._blocked.get(owner, 0.0) - self._clock()
        if left > 0:
            return math.ceil(left / 60)
        return 0 if used < 100 else int(self._settings.config.window_s // 60)

    def _is_refused(self, owner: str, budget: int | None) -> bool:
        """True if *owner* is over *budget* or blocked; a refusal starts or restarts the block."""
        config, now = self._settings.config, self._clock()
        is_blocked = now < self._blocked.get(owner, 0.0)
        if not is_blocked and (budget is None or self._total(owner) <= budget):
            return False
        if config.block_s:
            self._blocked[owner] = now + config.block_s
        return True

    def _owner(self, call: Call) -> str:
        return f"token {call.token}" if self._settings.config.budget_scope == "token" else "app"

    def _account_percent(self, account: str, use: str) -> int:
        """Of an account's own budget for *use*; without one, as if the account had the app's to itself."""
        config = self._settings.config
        if config.account_budget is None:
            return self._percent(account, config.budget)
        return self._percent(f"{account} {use}", config.account_budget)

    def _percent(self, owner: str, budget: int | None) -> int:
        if self._clock() < self._blocked.get(owner, 0.0):
            return 100
        return min(100, self._total(owner) * 100 // max(1, budget)) if budget is not None else 0

    def _total(self, owner: str) -> int:
        meter = self._meters.get(owner)
        return meter.total(self._clock(), self._settings.config.window_s) if meter else 0


def _use_case(call: Call) -> str:
    return "ads_insights" if "insights" in call.path else "ads_management"


def _accounts(call: Call) -> list[str]:
    return [call.path[0]] if call.path and call.path[0].startswith("act_") else []


def _json_text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
