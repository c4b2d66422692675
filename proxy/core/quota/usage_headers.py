"""Parses Graph's usage headers (`usage_levels`), and keeps the newest ones as they came (`LatestUsage`).

`_READERS` has a row for each header that is read. `headers.USAGE` names them all, for those that forward and store;
`headers.USAGE_NOT_READ` names the one that has no row here, because Graph refuses nothing over that limit.

Source of the shapes: developers.facebook.com/docs/graph-api/overview/rate-limiting, and for the insights header
…/docs/marketing-api/insights/best-practices.

`core/quota/limiter` learns from what is parsed here, for the fast path too. A caller gets the headers of its own reply,
or those of `LatestUsage` for a reply from the cache (`reply/render`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from proxy.core.cache.generation import Generation
from proxy.core.graph.errors import UNREADABLE
from proxy.core.graph.ids import is_id
from proxy.core.http import headers
from proxy.core.memory import json_text
from proxy.core.memory.memo import MEMO_BYTES, Recent, memo
from proxy.core.model import Headers

FORGOTTEN_S = 300
"""Seconds after which usage headers are outdated: usage falls within minutes, and clients sleep on a high value."""

ADS = frozenset({"ads_insights", "ads_management", "custom_audience"})
"""The business use cases that are limited by ad account; the others are limited by page or business."""

USES = ADS | {"pages", "instagram", "leadgen", "messenger"}
"""All business use cases that Meta's page lists."""

_USE_CASE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_COUNTS = ("call_count", "total_time", "total_cputime", "call_volume", "cpu_time")
_MOST_GAUGES = 64  # Meta documents at most 32
_MOST_PERCENT = 1000.0
_YEAR_S = 365 * 86400.0


class UsageLevel(NamedTuple):
    """How much of one limit is used."""

    kind: str  # app, page, account or business
    id: str  # "" where the header names none: it is about the caller's app, or about the object that was read
    type: str  # the business use case, "" for none
    percent: float
    regain_s: float = 0.0  # seconds until there is allowance again; 0 where Graph does not say


def usage_levels(fields: Headers) -> tuple[UsageLevel, ...]:
    """Returns the levels in the usage headers among *fields*; unknown members and unreadable values are left out."""
    lower = [(name.lower(), value) for name, value in fields]
    found = [level for name, value in lower if name in _READERS for level in _levels_of(name, value)]
    return tuple(found[:_MOST_GAUGES])


def usage_headers_of(levels: Iterable[UsageLevel]) -> Headers:
    """Returns usage headers with these *levels*, as Graph would write them: the inverse of `usage_levels`."""
    return tuple(_as_header(level) for level in levels)


@memo()
def _as_header(level: UsageLevel) -> tuple[str, str]:
    kind, percent = level.kind, level.percent
    if level.id:
        use = {"type": level.type, "call_count": percent, "estimated_time_to_regain_access": level.regain_s / 60}
        return "X-Business-Use-Case-Usage", json.dumps({level.id: [use]})
    if level.type:
        member = "app_id_util_pct" if kind == "app" else "acc_id_util_pct"
        return "X-FB-Ads-Insights-Throttle", json.dumps({member: percent})
    if kind == "account":
        return "X-Ad-Account-Usage", json.dumps({"acc_id_util_pct": percent, "reset_time_duration": level.regain_s})
    return f"X-{kind.title()}-Usage", json.dumps({"call_count": percent})


def usage_in(fields: Headers) -> Headers:
    """Returns the usage headers among *fields*."""
    return tuple([field for field in fields if _IS_USAGE[field[0]]])


class _IsUsage(dict[str, bool]):
    """Whether a field name is that of a usage header, by spelling: a table, for every field of every reply is asked."""

    CAPACITY = 256
    LONGEST = 64

    def __missing__(self, name: str) -> bool:
        is_usage = name.lower() in headers.USAGE
        if len(name) > self.LONGEST:
            return is_usage
        if len(self) >= self.CAPACITY:
            self.clear()
        self[name] = is_usage
        return is_usage


_IS_USAGE = _IsUsage()


def _levels_of(name: str, text: str) -> tuple[UsageLevel, ...]:
    return _remembered_levels(name, text)


@memo()
def _remembered_levels(name: str, text: str) -> tuple[UsageLevel, ...]:
    """Returns the levels in one header; remembered, because whole percents stay the same over many calls."""
    return tuple(_READERS[name](text))


def _app_usage(text: str) -> Iterable[UsageLevel]:
    return _counted("app", _lower_names(_json_object(text)))


def _page_usage(text: str) -> Iterable[UsageLevel]:
    return _counted("page", _lower_names(_json_object(text)))


def _counted(kind: str, members: dict[str, Any]) -> Iterable[UsageLevel]:
    percent = _highest(members, _COUNTS)
    return () if percent is None else (UsageLevel(kind, "", "", percent),)


def _ad_account_usage(text: str) -> Iterable[UsageLevel]:
    """`reset_time_duration` is in seconds."""
    members = _lower_names(_json_object(text))
    percent = _bounded_number(members.get("acc_id_util_pct"), _MOST_PERCENT)
    return (
        ()
        if percent is None
        else (UsageLevel("account", "", "", percent, _duration(members.get("reset_time_duration"))),)
    )


def _insights_usage(text: str) -> Iterable[UsageLevel]:
    members = _lower_names(_json_object(text))
    for name, kind in (("app_id_util_pct", "app"), ("acc_id_util_pct", "account")):
        percent = _bounded_number(members.get(name), _MOST_PERCENT)
        if percent is not None:
            yield UsageLevel(kind, "", "ads_insights", percent)


def _business_usage(text: str) -> Iterable[UsageLevel]:
    """`estimated_time_to_regain_access` is in minutes."""
    for name, uses in _repeated_members(text):
        for each in uses if isinstance(uses, list) else [uses]:
            members: dict[str, Any] = _lower_names(each) if isinstance(each, dict) else {}
            percent = _highest(members, _COUNTS)
            if percent is None or not is_id(name):
                continue
            use = (
                members["type"] if isinstance(members.get("type"), str) and _USE_CASE.fullmatch(members["type"]) else ""
            )
            minutes = _duration(members.get("estimated_time_to_regain_access"))
            yield UsageLevel("account" if use in ADS else "business", name, use, percent, minutes * 60)


_READERS: dict[str, Callable[[str], Iterable[UsageLevel]]] = {
    "x-app-usage": _app_usage,
    "x-page-usage": _page_usage,
    "x-ad-account-usage": _ad_account_usage,
    "x-business-use-case-usage": _business_usage,
    "x-fb-ads-insights-throttle": _insights_usage,
}


def _json_object(text: str) -> dict[str, Any]:
    try:
        members = json_text.decode(text)
    except (*UNREADABLE, UnicodeEncodeError):
        return {}
    return members if isinstance(members, dict) else {}


def _lower_names(members: dict[str, Any]) -> dict[str, Any]:
    """Returns the members by their names in lower case: Graph spells them in different ways."""
    return {name.lower(): value for name, value in members.items()}


def _repeated_members(text: str) -> list[tuple[str, Any]]:
    """Returns all members of a JSON object, also those that share one name: Meta's sample repeats names."""
    members = _json_object(text)
    if len(members) >= text.count("["):
        return list(members.items())
    pairs: list[tuple[str, Any]] = []

    def keep(members: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = members  # the outermost object ends last
        return dict(members)

    try:
        json.loads(text, object_pairs_hook=keep)
    except (ValueError, RecursionError):
        return list(members.items())
    return pairs


def _highest(members: dict[str, Any], names: tuple[str, ...]) -> float | None:
    """Returns the highest of the percentages called *names*, for the nearest limit is the one that counts."""
    numbers = [number for name in names if (number := _bounded_number(members.get(name), _MOST_PERCENT)) is not None]
    return max(numbers, default=None)


def _duration(value: Any) -> float:
    return _bounded_number(value, _YEAR_S) or 0.0


def _bounded_number(value: Any, most: float) -> float | None:
    """Returns *value* as a number from 0 to *most*; None if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(min(value, most)):
        return None
    return float(max(0, min(value, most)))


class LatestUsage:
    """The newest usage headers of each app (by token), and of each account or business (by token and object)."""

    CAPACITY = 1024

    def __init__(self, generation: Generation | None = None) -> None:
        """Start empty; other values than before advance *generation*."""
        self._generation = generation or Generation()
        self._newest = Recent[tuple[bytes, str], tuple[float, Headers]](self.CAPACITY, 2 * MEMO_BYTES)

    def note(self, fingerprint: bytes, node: str, usage: Headers, now: float) -> None:
        """Keep the *usage* headers of a reply about *node* to the token with *fingerprint*."""
        of_app = headers.pick(usage, headers.APP_USAGE)
        self._put((fingerprint, ""), of_app, now)
        self._put((fingerprint, node), usage if not of_app else headers.without(usage, headers.APP_USAGE), now)

    def newest(self, fingerprint: bytes, node: str, now: float) -> Headers:
        """Returns the newest usage headers for a reply from the cache; none where they are outdated."""
        return self.newest_and_lasts_s(fingerprint, node, now)[0]

    def newest_and_lasts_s(self, fingerprint: bytes, node: str, now: float) -> tuple[Headers, float]:
        """Returns the same, and in how many seconds the first of them is outdated."""
        keys = dict.fromkeys(((fingerprint, ""), (fingerprint, node)))
        found = [self._newest.get(key) or (0.0, ()) for key in keys]
        known = [(then, fields) for then, fields in found if now - then < FORGOTTEN_S]
        lasts_s = FORGOTTEN_S - now + min([then for then, _ in known], default=now)
        return tuple(field for _, fields in known for field in fields), lasts_s

    def _put(self, key: tuple[bytes, str], usage: Headers, now: float) -> None:
        if not usage:
            return
        known = self._newest.get(key)
        forgotten = self._newest.put(key, (now, usage))
        if forgotten or known is None or known[1] != usage or now - known[0] >= FORGOTTEN_S:
            self._generation.advance()
