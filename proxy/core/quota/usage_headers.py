"""What Graph says of its limits, read (`gauges`) and word for word (`Usage`): news, never a part of what was read.

Source of the shapes: developers.facebook.com/docs/graph-api/overview/rate-limiting, and for the insights header
…/docs/marketing-api/insights/best-practices.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from proxy.core.graph.errors import UNREADABLE
from proxy.core.graph.ids import is_id
from proxy.core.http import headers
from proxy.core.memory import json_text
from proxy.core.memory.memo import MEMO_BYTES, Recent, memo
from proxy.core.model import Headers

FORGOTTEN_S = 300
"""Usage decays within minutes; clients that sleep on a high value must not be made to sleep on an old one."""

ADS = frozenset({"ads_insights", "ads_management", "custom_audience"})
"""The business use cases that are limited by ad account; the others belong to a page or a business."""

USES = ADS | {"pages", "instagram", "leadgen", "messenger"}
"""Those that Meta's page lists."""

_USE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_COUNTS = ("call_count", "total_time", "total_cputime", "call_volume", "cpu_time")
_MOST_GAUGES = 64  # Graph says of itself that it tells of at most 32
_MOST_PERCENT = 1000.0
_YEAR_S = 365 * 86400.0
_DIGITS = 12


class UsageLevel(NamedTuple):
    """How much of one limit is used."""

    kind: str  # app, page, account or business
    id: str  # "" where the header names none: it speaks of who asked, or of what was read
    type: str  # the business use case, "" for none
    percent: float
    lasts_s: float = 0.0  # seconds until there is allowance again; 0 where Graph does not say


def usage_levels(fields: Headers) -> tuple[UsageLevel, ...]:
    """What the usage headers among *fields* say; unknown members say nothing, and neither does garbage."""
    told = [(name.lower(), value) for name, value in fields]
    found = [gauge for name, value in told if name in _READERS for gauge in _read(name, value)]
    return tuple(found[:_MOST_GAUGES])


def usage_headers_of(told: Iterable[UsageLevel]) -> Headers:
    """Headers that say what *told* says, as Graph might: where it names nothing, they speak of what was read."""
    return tuple(_written(gauge) for gauge in told)


@memo()
def _written(gauge: UsageLevel) -> tuple[str, str]:
    kind, percent = gauge.kind, gauge.percent
    if gauge.id:
        use = {"type": gauge.type, "call_count": percent, "estimated_time_to_regain_access": gauge.lasts_s / 60}
        return "X-Business-Use-Case-Usage", json.dumps({gauge.id: [use]})
    if gauge.type:
        member = "app_id_util_pct" if kind == "app" else "acc_id_util_pct"
        return "X-FB-Ads-Insights-Throttle", json.dumps({member: percent})
    if kind == "account":
        return "X-Ad-Account-Usage", json.dumps({"acc_id_util_pct": percent, "reset_time_duration": gauge.lasts_s})
    return f"X-{kind.title()}-Usage", json.dumps({"call_count": percent})


def retry_after_s(fields: Headers, now: float) -> float:
    """Seconds until the time that `Retry-After` names (RFC 9110 section 10.2.3); 0 where it is missing or garbage."""
    text = next((value.strip() for name, value in fields if name.lower() == "retry-after"), "")
    if text.isascii() and text.isdigit():
        return min(float(text[:_DIGITS]), _YEAR_S)
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - now), _YEAR_S)
    except (ValueError, OverflowError):
        return 0.0


def usage_in(fields: Headers) -> Headers:
    """The usage headers among *fields*."""
    return tuple([field for field in fields if _TELLS[field[0]]])


class _Tells(dict[str, bool]):
    """Whether a field of that name tells of usage, by each spelling that was seen: this is asked of every field."""

    PLACES = 256
    LONGEST = 64

    def __missing__(self, name: str) -> bool:
        tells = name.lower() in headers.USAGE
        if len(name) > self.LONGEST:
            return tells
        if len(self) >= self.PLACES:
            self.clear()
        self[name] = tells
        return tells


_TELLS = _Tells()


def _read(name: str, text: str) -> tuple[UsageLevel, ...]:
    return _read_again(name, text)


@memo()
def _read_again(name: str, text: str) -> tuple[UsageLevel, ...]:
    """Whole percents stay the same over many calls: what is said again is read once."""
    return tuple(_READERS[name](text))


def _app(text: str) -> Iterable[UsageLevel]:
    return _counted("app", _named(_object(text)))


def _page(text: str) -> Iterable[UsageLevel]:
    return _counted("page", _named(_object(text)))


def _counted(kind: str, told: dict[str, Any]) -> Iterable[UsageLevel]:
    percent = _highest(told, _COUNTS)
    return () if percent is None else (UsageLevel(kind, "", "", percent),)


def _ad_account(text: str) -> Iterable[UsageLevel]:
    """`reset_time_duration` is in seconds."""
    told = _named(_object(text))
    percent = _number(told.get("acc_id_util_pct"), _MOST_PERCENT)
    return (
        () if percent is None else (UsageLevel("account", "", "", percent, _seconds(told.get("reset_time_duration"))),)
    )


def _insights(text: str) -> Iterable[UsageLevel]:
    told = _named(_object(text))
    for name, kind in (("app_id_util_pct", "app"), ("acc_id_util_pct", "account")):
        percent = _number(told.get(name), _MOST_PERCENT)
        if percent is not None:
            yield UsageLevel(kind, "", "ads_insights", percent)


def _business(text: str) -> Iterable[UsageLevel]:
    """`estimated_time_to_regain_access` is in minutes."""
    for name, uses in _members(text):
        for each in uses if isinstance(uses, list) else [uses]:
            told: dict[str, Any] = _named(each) if isinstance(each, dict) else {}
            percent = _highest(told, _COUNTS)
            if percent is None or not is_id(name):
                continue
            use = told["type"] if isinstance(told.get("type"), str) and _USE.fullmatch(told["type"]) else ""
            minutes = _seconds(told.get("estimated_time_to_regain_access"))
            yield UsageLevel("account" if use in ADS else "business", name, use, percent, minutes * 60)


_READERS: dict[str, Callable[[str], Iterable[UsageLevel]]] = {
    "x-app-usage": _app,
    "x-page-usage": _page,
    "x-ad-account-usage": _ad_account,
    "x-business-use-case-usage": _business,
    "x-fb-ads-insights-throttle": _insights,
}


def _object(text: str) -> dict[str, Any]:
    try:
        told = json_text.decode(text)
    except (*UNREADABLE, UnicodeEncodeError):
        return {}
    return told if isinstance(told, dict) else {}


def _named(told: dict[str, Any]) -> dict[str, Any]:
    """The members by their names in lower case: the headers' own names come in every case, too."""
    return {name.lower(): value for name, value in told.items()}


def _members(text: str) -> list[tuple[str, Any]]:
    """The members of an object, of several with one name all: Meta's sample repeats them."""
    told = _object(text)
    if len(told) >= text.count("["):
        return list(told.items())
    pairs: list[tuple[str, Any]] = []

    def keep(members: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = members  # the outermost object ends last
        return dict(members)

    try:
        json.loads(text, object_pairs_hook=keep)
    except (ValueError, RecursionError):
        return list(told.items())
    return pairs


def _highest(told: dict[str, Any], names: tuple[str, ...]) -> float | None:
    """The limit that is nearest is the one that counts."""
    numbers = [number for name in names if (number := _number(told.get(name), _MOST_PERCENT)) is not None]
    return max(numbers, default=None)


def _seconds(value: Any) -> float:
    return _number(value, _YEAR_S) or 0.0


def _number(value: Any, most: float) -> float | None:
    """*value* as a number from 0 to *most*; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(min(value, most)):
        return None
    return float(max(0, min(value, most)))


class LatestUsage:
    """The newest usage headers: an app's by credential, those of an account or a business by the object as well."""

    PLACES = 1024

    def __init__(self) -> None:
        """Know nothing yet."""
        self._newest = Recent[tuple[bytes, str], tuple[float, Headers]](self.PLACES, 2 * MEMO_BYTES)

    def note(self, fingerprint: bytes, node: str, told: Headers, now: float) -> None:
        """Remember the usage headers *told*, of a reply about *node* to the credential with *fingerprint*."""
        of_app = headers.pick(told, headers.APP_USAGE)
        self._put((fingerprint, ""), of_app, now)
        self._put((fingerprint, node), told if not of_app else headers.without(told, headers.APP_USAGE), now)

    def newest(self, fingerprint: bytes, node: str, now: float) -> Headers:
        """The usage headers for a reply that Graph did not give now; none rather than old ones."""
        places = dict.fromkeys(((fingerprint, ""), (fingerprint, node)))
        told = (self._newest.get(place) or (0.0, ()) for place in places)
        return tuple(field for then, fields in told if now - then < FORGOTTEN_S for field in fields)

    def _put(self, place: tuple[bytes, str], told: Headers, now: float) -> None:
        if told:
            self._newest.put(place, (now, told))
