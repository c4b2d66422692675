"""Routes: paths with what differs from object to object folded, so that there are few of them, and no name in any."""

from __future__ import annotations

import re
from collections.abc import Callable

from proxy.core.memo import Memo

OTHER = "other"
"""The route of everything for which there is no place any more."""

ROOTS = frozenset(
    {"ads_archive", "app", "debug_token", "ids", "me", "oauth", "pages", "refresh_access_token", "search", "url"}
)
"""First segments that name no object; any other is an id, or an alias that somebody chose."""

DEEPEST = 4
"""Segments that are told apart; Graph's paths have two or three."""

_ACCOUNT = re.compile(r"act_[0-9]+")
_NUMBER = re.compile(r"[0-9]+(?:_[0-9]+)*")
_WORD = re.compile(r"[a-z][a-z_]{0,39}[0-9]?")


def template(path: str) -> str:
    """The route of *path* (unversioned, in normal form): `/act_1/campaigns` is `/act_{id}/campaigns`."""
    first, *rest = path[1:].split("/")
    told = [_folded(first, ROOTS.__contains__), *(_folded(each, _is_word) for each in rest[: DEEPEST - 1])]
    return "/" + "/".join([*told, "…"] if len(rest) >= DEEPEST else told)


def shown(path: str) -> str:
    """*path* with its ids, and without what may be a name or a secret: those segments are folded."""
    first, *rest = path[1:].split("/")
    told = [first if is_id(first) else _folded(first, ROOTS.__contains__)]
    told += [each if is_id(each) else _folded(each, _is_word) for each in rest]
    return "/" + "/".join(told)


def is_id(segment: str) -> bool:
    """Whether *segment* is an id of Graph's: digits, two of them, or an ad account's."""
    return len(segment) <= 64 and (_NUMBER.fullmatch(segment.removeprefix("act_")) is not None)


def account(node: str) -> str:
    """The ad account that *node* is, "" for anything else."""
    return node if _ACCOUNT.fullmatch(node) and len(node) <= 64 else ""


class Routes:
    """At most so many routes; later ones are `other`, for a label that anybody may invent must not grow a metric."""

    def __init__(self, limit: int = 64) -> None:
        """Know no route yet; a program uses a few dozen, and each is many lines of a scrape."""
        self._limit = limit
        self._known: set[str] = set()
        self._template = Memo(template)

    def of(self, path: str) -> str:
        """The route of *path*."""
        route = self._template(path)
        if route in self._known:
            return route
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(route)
        return route


def _folded(segment: str, is_kept: Callable[[str], bool]) -> str:
    if not segment or is_kept(segment):
        return segment
    return "act_{id}" if _ACCOUNT.fullmatch(segment) else "{id}"


def _is_word(segment: str) -> bool:
    return _WORD.fullmatch(segment) is not None
