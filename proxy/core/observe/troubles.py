"""Finds the present troubles (`troubles` of `/stats`), the worst first.

The dashboard and `top` both show this list, so that they agree on the troubles and on their words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from proxy.core.graph.errors import TRANSIENT

RECENT_S = 60
"""Seconds for which an error counts as a trouble."""

LATE_MS = 250
"""The lag of the event loop from which on the processor, and not Graph, makes callers wait."""

LOG_UNREAD_S, SILENT_S = 1.0, 3.0
"""Seconds after which it is told that the fleet's log was not read, or that its store took no sign of life."""

COVERED = "stale-if-error"
"""The detail of a stale reply that was served in place of an error of Graph's."""

_MOST_NAMED = 3  # limits that are named; more are only counted, for each token may have some

# The sidecar's own errors that are troubles, by `errors.word`; the others are caused by their callers.
_OWN_ERRORS = {
    "unreachable": ("graph", "Graph cannot be reached"),
    "looping": ("graph", "Calls to Graph lead back to the sidecar"),
    "cut": ("graph", "Graph's replies are cut off"),
    "nonsense": ("graph", "Graph's replies make no sense"),
    "late": ("graph", "Graph does not answer in time"),
    "uncertified": ("process", "No certificate for Graph's hosts can be made"),
    "overloaded": ("process", "Too many requests wait, callers get 503"),
    "fault": ("process", "A fault of the sidecar's own"),
}
_TOKEN_CODES = frozenset({102, 190})  # the token has expired or was withdrawn
_LIMIT_KINDS = {"app": "App", "page": "Page", "account": "Ad account", "business": "Business", "edge": "Edge"}

Stats = Mapping[str, Any]


LEVELS = ("bad", "warn")
"""bad: callers get errors or stale replies; warn: they wait, or soon will."""

ABOUT = ("drain", "settings", "graph", "quota", "token", "store", "shared", "process")
"""The subjects of troubles."""


class Trouble(NamedTuple):
    """One present trouble."""

    level: str  # one of LEVELS
    about: str  # one of ABOUT
    what: str
    ago_s: float | None = None  # seconds since it last happened; None for a lasting state
    for_s: float | None = None  # seconds that it will still last, if that is known
    for_named: bool = False  # whether Graph named that time; if not, the sidecar tries again then


def troubles(stats: Stats) -> list[dict[str, Any]]:
    """Returns the troubles in *stats*, the document of `/stats`."""
    found = chain(
        _drain(stats),
        _settings(stats["last_reload"]),
        _recent_errors(stats),
        _limits(stats["usage"]),
        _store(stats["store"]),
        _shared(stats.get("shared", {})),
        _lag(stats["loop_lag_ms"]),
    )
    return [each._asdict() for each in sorted(found, key=lambda trouble: trouble.level != "bad")]


def _drain(stats: Stats) -> Iterator[Trouble]:
    if stats["state"] == "draining":
        left = stats["open"]
        inside = f"{left} request{'' if left == 1 else 's'} still open" if left else "no request is open any more"
        yield Trouble("warn", "drain", f"The sidecar is stopping, {inside}")


def _settings(last_reload: Stats) -> Iterator[Trouble]:
    if not last_reload["successful"]:
        yield Trouble("warn", "settings", "The last reload was refused, the settings before it stay in force")


def _recent_errors(stats: Stats) -> Iterator[Trouble]:
    """Yields one trouble for each kind of recent errors that callers did not cause, with the time of the newest."""
    newest: dict[Trouble, float] = {}
    for error in stats["errors"]:
        trouble = _of_error(error)
        if trouble and error["at"] > stats["now"] - RECENT_S:
            newest[trouble] = max(error["at"], newest.get(trouble, 0.0))
    for trouble, at in newest.items():
        yield trouble._replace(ago_s=round(max(0.0, stats["now"] - at), 1))


def _of_error(error: Stats) -> Trouble | None:
    """Returns the trouble that *error* is a sign of, None if its caller caused it."""
    if error["mode"] == "FAILED":
        about, what = _OWN_ERRORS.get(error["what"], ("", ""))
        return Trouble("bad", about, what) if what else None
    if error["what"] == COVERED:
        return Trouble("warn", "graph", "Graph fails, stored replies are served instead")
    if error["status"] >= 500 or error["code"] in TRANSIENT:
        return Trouble("bad", "graph", "Graph answers with errors")
    return Trouble("warn", "token", "Graph refuses a token") if error["code"] in _TOKEN_CODES else None


def _limits(usage: Iterable[Stats]) -> Iterator[Trouble]:
    """Yields the limits that are reached and those that are nearly reached: the first few by name, then the number."""
    reached = [
        (f"{_limit_name(limit)}: the limit is reached", limit["regain_s"], limit["regain_named"])
        for limit in usage
        if limit["stage"] == "stop"
    ]
    near = [_nearly_reached(limit) for limit in usage if limit["stage"] == "spare"]
    for what, regain_s, is_named in reached[:_MOST_NAMED]:
        yield Trouble("bad", "quota", what, for_s=regain_s, for_named=is_named)
    if more := reached[_MOST_NAMED:]:
        yield Trouble(
            "bad",
            "quota",
            f"{len(more)} more: the limit is reached",
            for_s=max(last or 0.0 for _, last, _ in more) or None,
            for_named=all(is_named for *_, is_named in more),
        )
    for what in near[:_MOST_NAMED]:
        yield Trouble("warn", "quota", what)
    if len(near) > _MOST_NAMED:
        yield Trouble("warn", "quota", f"{len(near) - _MOST_NAMED} more: nearly used, or soon; low-priority reads wait")


def _nearly_reached(limit: Stats) -> str:
    """Returns the text about a limit that is nearly used up, or is predicted to be."""
    name, used, percent = _limit_name(limit), f"{limit['percent']:.0f} % used", limit["foreseen_percent"]
    if percent is None:
        return f"{name}: {used}, low-priority reads wait"
    in_s = limit["foreseen_in_s"]
    when = "soon" if in_s is None else f"in {in_s:.0f} s" if in_s < 100 else f"in {in_s / 60:.0f} min"
    return f"{name}: {used}, will be at {percent:.0f} % {when} at this rate; low-priority reads wait"


def _limit_name(limit: Stats) -> str:
    words = (_LIMIT_KINDS.get(limit["kind"], limit["kind"]), limit["id"], limit["type"].replace("_", " "))
    return " ".join(word for word in words if word)


def _store(store: Stats) -> Iterator[Trouble]:
    if store.get("breaker") == "open":
        yield Trouble("warn", "store", "The cache on disk is not used for now, entries are in memory only")
    if store.get("other_key"):
        yield Trouble("warn", "store", "The entries on disk need another cache.key_file, none can be decrypted")


def _shared(shared: Stats) -> Iterator[Trouble]:
    """Yields the trouble of the shared store; of several only the first, because it causes the others."""
    if not shared:
        return
    if shared["other_secret"]:
        yield Trouble("bad", "shared", "Another secret than cache.key_file is in use there, nothing is shared")
    elif not shared["up"]:
        yield Trouble("warn", "shared", f"The shared store is away, this replica works alone: {shared['trouble']}")
    elif shared["full"]:
        yield Trouble("warn", "shared", "The shared store is full, entries are not written")
    elif not shared["believed"] and (why := _why_unknown(shared)):
        yield Trouble("warn", "shared", f"Changes by other replicas are not known here: {why}")


def _why_unknown(shared: Stats) -> str:
    """Returns why changes by other replicas are not known; "" where they were until a moment ago."""
    if shared["trouble"]:
        return str(shared["trouble"])
    if not 0 <= (lag := shared["log"]["lag_s"]) < LOG_UNREAD_S:
        return "the log was not read yet" if lag < 0 else f"the log was last read {lag:.0f} s ago"
    if not 0 <= (silent := shared["sign_of_life_s"]) < SILENT_S:
        return "the store took no sign of life" + (f" for {silent:.0f} s" if silent >= 0 else " yet")
    return ""


def _lag(lag: Stats) -> Iterator[Trouble]:
    if (late := lag["p99"] or 0) >= LATE_MS:
        yield Trouble("warn", "process", f"The process gets too little processor time, it is up to {late:.0f} ms late")
