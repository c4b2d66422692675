"""What somebody who looks on should see first: the troubles of now, the worst of them on top.

Found once, for `/stats`, and shown by the page and by `top`: both call the same a trouble, in the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from proxy.core.graph.errors import TRANSIENT

RECENT_S = 60
"""Seconds for which an error is news."""

LATE_MS = 250
"""How late the event loop may be before waits are the processor's fault and no longer Graph's."""

COVERED = "stale-if-error"
"""The detail of a reply that Graph failed to give and that was held; its caller saw no error."""

_EACH = 3  # limits of a sort that are named: each token may have some

# Our own errors that tell of trouble around us, by `errors.word`; the others are their caller's.
_OURS = {
    "unreachable": ("graph", "Graph cannot be reached"),
    "looping": ("graph", "Calls to Graph lead back here"),
    "cut": ("graph", "Graph's replies end before they are whole"),
    "nonsense": ("graph", "Graph's replies make no sense"),
    "late": ("graph", "Graph does not answer in time"),
    "uncertified": ("process", "TLS cannot be ended here in Graph's name"),
    "overloaded": ("process", "Too many requests wait here, callers get 503"),
    "fault": ("process", "A fault of the sidecar's own"),
}
_TOKEN = frozenset({102, 190})  # and for a token that is no longer good
_KINDS = {"app": "App", "page": "Page", "account": "Ad account", "business": "Business", "edge": "Edge"}

Told = Mapping[str, Any]


class Trouble(NamedTuple):
    """One thing that is wrong now."""

    level: str  # bad: callers get errors or what is old; warn: they wait, or soon will
    about: str  # drain, graph, quota, token, store, shared, process
    what: str
    ago_s: float | None = None  # seconds since it happened last; None for what lasts
    for_s: float | None = None  # seconds that it will still last, if that is known


def troubles(told: Told) -> list[dict[str, Any]]:
    """Those in *told*, which is what `/stats` tells."""
    found = chain(
        _drain(told),
        _errors(told),
        _limits(told["usage"]),
        _store(told["store"]),
        _shared(told.get("shared", {})),
        _lag(told["loop_lag_ms"]),
    )
    return [each._asdict() for each in sorted(found, key=lambda trouble: trouble.level != "bad")]


def _drain(told: Told) -> Iterator[Trouble]:
    if told["state"] == "draining":
        left = told["open"]
        inside = f"{left} request{'' if left == 1 else 's'} still inside" if left else "nobody is inside any more"
        yield Trouble("warn", "drain", f"The sidecar is stopping, {inside}")


def _errors(told: Told) -> Iterator[Trouble]:
    """Errors of the last minute that are no fault of who asked: those of a kind as one, of the time of the newest."""
    newest: dict[Trouble, float] = {}
    for error in told["errors"]:
        trouble = _of_error(error)
        if trouble and error["at"] > told["now"] - RECENT_S:
            newest[trouble] = max(error["at"], newest.get(trouble, 0.0))
    for trouble, at in newest.items():
        yield trouble._replace(ago_s=round(max(0.0, told["now"] - at), 1))


def _of_error(error: Told) -> Trouble | None:
    """The trouble that *error* is a sign of, if any."""
    if error["mode"] == "FAILED":
        about, what = _OURS.get(error["what"], ("", ""))
        return Trouble("bad", about, what) if what else None
    if error["what"] == COVERED:
        return Trouble("warn", "graph", "Graph fails, and what is held answers")
    if error["status"] >= 500 or error["code"] in TRANSIENT:
        return Trouble("bad", "graph", "Graph answers with errors of its own")
    return Trouble("warn", "token", "Graph refuses a token") if error["code"] in _TOKEN else None


def _limits(usage: Iterable[Told]) -> Iterator[Trouble]:
    """The limits that are reached, and those that are near it; of many of a sort the first, and how many more."""
    reached = [(f"{_named(pool)}: the limit is reached", pool["regain_s"]) for pool in usage if pool["stage"] == "stop"]
    near = [
        f"{_named(pool)}: {pool['percent']:.0f} % used, reads that have time wait"
        for pool in usage
        if pool["stage"] == "spare"
    ]
    for what, regain_s in reached[:_EACH]:
        yield Trouble("bad", "quota", what, for_s=regain_s)
    if more := reached[_EACH:]:
        yield Trouble(
            "bad",
            "quota",
            f"{len(more)} more: the limit is reached",
            for_s=max(last or 0.0 for _, last in more) or None,
        )
    for what in near[:_EACH]:
        yield Trouble("warn", "quota", what)
    if len(near) > _EACH:
        yield Trouble("warn", "quota", f"{len(near) - _EACH} more: nearly used, reads that have time wait")


def _named(pool: Told) -> str:
    words = (_KINDS.get(pool["kind"], pool["kind"]), pool["id"], pool["type"].replace("_", " "))
    return " ".join(word for word in words if word)


def _store(store: Told) -> Iterator[Trouble]:
    if store.get("breaker") == "open":
        yield Trouble("warn", "store", "The cache on disk rests, memory goes on")


def _shared(shared: Told) -> Iterator[Trouble]:
    """What is wrong with the store that replicas share: of several things the first, for it is why of the others."""
    if not shared:
        return
    if shared["other_secret"]:
        yield Trouble("bad", "shared", "Another secret than this cache.key_file is in use there, nothing is shared")
    elif not shared["up"]:
        yield Trouble("warn", "shared", f"The shared store is away, this replica goes on alone: {shared['trouble']}")
    elif shared["full"]:
        yield Trouble("warn", "shared", "The shared store is full, entries are not written")
    elif not shared["believed"]:
        yield Trouble("warn", "shared", f"What other replicas change is not heard: {shared['trouble']}")


def _lag(lag: Told) -> Iterator[Trouble]:
    if (late := lag["p99"] or 0) >= LATE_MS:
        yield Trouble("warn", "process", f"The process wants for processor time, up to {late:.0f} ms late")
