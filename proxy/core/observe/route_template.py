"""Routes: paths with what differs from object to object folded, so that there are few of them, and no name in any."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

from proxy.core.graph.ids import AD_ACCOUNT, is_id
from proxy.core.memory.memo import Memo

OTHER_ROUTE = "other"
"""The route of everything for which there is no place any more."""

ROOTS = frozenset(
    {"ads_archive", "app", "debug_token", "ids", "me", "oauth", "pages", "refresh_access_token", "search", "url"}
)
"""First segments that name no object; any other is an id, or an alias that somebody chose."""

DEEPEST = 4
"""Segments that are told apart; Graph's paths have two or three."""
_WORD = re.compile(r"[a-z][a-z_]{0,39}[0-9]?")


def template(path: str) -> str:
    """The route of *path* (unversioned, in normal form): `/act_1/campaigns` is `/act_{id}/campaigns`."""
    first, *rest = path[1:].split("/")
    told = [_folded(first, ROOTS.__contains__), *(_folded(each, is_word) for each in rest[: DEEPEST - 1])]
    return "/" + "/".join([*told, "…"] if len(rest) >= DEEPEST else told)


def redacted_path(path: str) -> str:
    """*path* with its ids, and without what may be a name or a secret: those segments are folded."""
    first, *rest = path[1:].split("/")
    told = [first if is_id(first) else _folded(first, ROOTS.__contains__)]
    told += [each if is_id(each) else _folded(each, is_word) for each in rest]
    return "/" + "/".join(told)


class Routes:
    """At most so many routes, those that are answered well most often; the others are `other`.

    A label that anybody may invent must not grow a metric, and what is asked in vain must not keep out what is used.
    """

    def __init__(self, limit: int = 64, renamed: Callable[[str, str], None] = lambda _route, _other: None) -> None:
        """Know no route yet; *renamed* hears of a route whose place another takes, and what it is called from then on.

        A program uses a few dozen routes, and each is many lines of a scrape.
        """
        self._limit = limit
        self._known: dict[str, int] = {}  # how often each was answered well
        self._others: OrderedDict[str, int] = OrderedDict()
        self._renamed = renamed
        self._template = Memo(template)

    def label(self, path: str) -> str:
        """The route of *path*."""
        route = self._template(path)
        if route in self._known:
            return route
        if len(self._known) >= self._limit:
            return OTHER_ROUTE
        self._known[route] = 0
        return route

    def answered(self, path: str, times: int = 1) -> None:
        """Reads of *path* were answered well: its route may take the place of one that is used far less."""
        route = self._template(path)
        if route in self._known:
            self._known[route] += times
            return
        count = self._others[route] = self._others.pop(route, 0) + times
        if len(self._others) > self._limit:
            self._others.popitem(last=False)
        least = min(self._known, key=self._known.__getitem__)
        if count > 2 * self._known[least]:
            self._renamed(least, OTHER_ROUTE)
            self._others.pop(route, None)
            self._others[least] = self._known.pop(least)
            self._known[route] = count


def _folded(segment: str, is_kept: Callable[[str], bool]) -> str:
    if not segment or is_kept(segment):
        return segment
    return "act_{id}" if AD_ACCOUNT.fullmatch(segment) else "{id}"


def is_word(segment: str) -> bool:
    """Whether *segment* is a word of Graph's, such as an edge's name, and no id or alias."""
    return _WORD.fullmatch(segment) is not None
