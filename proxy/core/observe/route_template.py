"""Route templates (`url.template` of OpenTelemetry): paths with ids replaced, so that they are few and not secret."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

from proxy.core.graph.ids import AD_ACCOUNT, is_id
from proxy.core.memory.memo import Memo

OTHER_ROUTE = "other"
"""The label of every route beyond the limit."""

ROOTS = frozenset(
    {"ads_archive", "app", "debug_token", "ids", "me", "oauth", "pages", "refresh_access_token", "search", "url"}
)
"""The first segments that name no object; any other is an id or a user's own name."""

DEEPEST = 4
"""The most segments of a template; Graph's paths have two or three."""
_WORD = re.compile(r"[a-z][a-z_]{0,39}[0-9]?")


def template(path: str) -> str:
    """Returns the template of *path* (unversioned, in normal form): `/act_{id}/campaigns` for `/act_1/campaigns`."""
    first, *rest = path[1:].split("/")
    segments = [
        _template_segment(first, ROOTS.__contains__),
        *(_template_segment(each, is_word) for each in rest[: DEEPEST - 1]),
    ]
    return "/" + "/".join([*segments, "…"] if len(rest) >= DEEPEST else segments)


def redacted_path(path: str) -> str:
    """Returns *path* with its ids, and with a placeholder for segments that may be names or secrets."""
    first, *rest = path[1:].split("/")
    segments = [first if is_id(first) else _template_segment(first, ROOTS.__contains__)]
    segments += [each if is_id(each) else _template_segment(each, is_word) for each in rest]
    return "/" + "/".join(segments)


class Routes:
    """Labels for a bounded number of routes, those with the most good answers; the rest is `other`.

    Callers can invent paths, so the number of labels needs a bound; and invented paths, which get errors, must not take
    the place of used ones.
    """

    def __init__(self, limit: int = 64, renamed: Callable[[str, str], None] = lambda _route, _other: None) -> None:
        """Start without routes; *renamed* is called with a route that loses its label, and its new label.

        The limit is low, because a program uses a few dozen routes, and each adds many lines to a scrape.
        """
        self._limit = limit
        self._known: dict[str, int] = {}  # the good answers of each
        self._others: OrderedDict[str, int] = OrderedDict()
        self._renamed = renamed
        self._template = Memo(template)
        self.is_full = limit <= 0
        """Whether a further route gets no label of its own."""

    def label(self, path: str) -> str:
        """Returns the label for *path*."""
        route = self._template(path)
        if route in self._known:
            return route
        if self.is_full:
            return OTHER_ROUTE
        self._known[route] = 0
        self.is_full = len(self._known) >= self._limit
        return route

    def record_answer(self, path: str, times: int = 1) -> None:
        """Record good answers to *path*: its route may take the label of a route that is used far less."""
        route = self._template(path)
        if route in self._known:
            self._known[route] += times
            return
        count = self._others[route] = self._others.pop(route, 0) + times
        if len(self._others) > self._limit:
            self._others.popitem(last=False)
        least = min(self._known, key=self._known.__getitem__)
        if count > 2 * self._known[least]:
            self._others.pop(route, None)
            self._others[least] = self._known.pop(least)
            self._known[route] = count
            self._renamed(least, OTHER_ROUTE)  # at last, for it may record further answers


def _template_segment(segment: str, is_kept: Callable[[str], bool]) -> str:
    if not segment or is_kept(segment):
        return segment
    return "act_{id}" if AD_ACCOUNT.fullmatch(segment) else "{id}"


def is_word(segment: str) -> bool:
    """Whether *segment* is a word of Graph's, such as an edge's name, and no id or alias."""
    return _WORD.fullmatch(segment) is not None
