"""Lanes of batches: Graph answers a batch when its slowest operation is done, so a batch holds routes of one speed.

The speed of a route is learned from the calls that contained the route. A route is as quick as its quickest call: a
slow call is evidence only against those of its routes that no quick call has contained since. If several routes are
left, each of them gets batches of its own until a call of one route has shown which route is slow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from proxy.core.memory.memo import memo
from proxy.core.merge.selection import of_any_id
from proxy.core.model import Request
from proxy.core.observe import route_template
from proxy.core.routing.fields_param import field_names, fields_in

NAMES = ("quick", "medium", "slow", "slowest")
"""The lanes, each for calls that take about four times as long as those of the one before."""

TOPS_S = (0.5, 2.0, 8.0, inf)
"""Seconds that a call of each lane takes at most."""

TRIAL = "trial"
"""The name of the lane of a route whose speed is not known, or in doubt."""

UNSEEN = "…"
"""In the place of a route: all routes of edges that no call has contained yet. They share batches with each other."""

SLOW_EDGES = frozenset({"insights", "reachestimate", "delivery_estimate"})
"""Edges that Graph computes answers for: its pages on "Insights API" and "Delivery estimates" say that these take long.

Polls of asynchronous jobs (`/{report_run_id}`) are quick.
"""

MARGIN = 1.5
"""A route moves to a slower lane only if a call took longer than this times the limit of its lane."""

SLOT_S = 0.02
"""Seconds that each further operation of a batch may add without being slow itself."""

QUICK_CALLS_TO_MOVE = 3
"""Quicker calls in a row after which a slow route moves to a quicker lane."""

RETRIAL_S = 60
"""Seconds after which a slow route gets a batch of its own again: other routes of its batches may be the slow ones."""

LATE_FACTOR = 4
"""A call is late after this times what 95 of 100 calls of its lane take."""

MOST_SUSPECTS = 16
"""The most routes that are suspected at once; if there are more, Graph as a whole is slow."""

WARM_UP_CALLS = 8
"""Quick calls after which a route of an edge that no call has contained gets a batch of its own first.

Before them, which is at the start, such routes share batches with each other, but not with other routes.
"""

MOST_ROUTES = 1024
"""Routes that are remembered, and as many edges."""

MOST_WIDE_FIELDS = 8
"""The most fields with fields of their own that are part of a route."""

_STEP = 0.2
_SHARE = 0.95


class Route(NamedTuple):
    """A kind of reads: host, path without ids, and the fields with fields of their own; and the edges among these."""

    name: str
    edges: tuple[str, ...]


class Lane(NamedTuple):
    """Reads of one lane may share a batch: a speed, and the *route* on trial, UNSEEN, or ""."""

    level: int  # of the speed: the index in NAMES and TOPS_S
    route: str = ""

    @property
    def name(self) -> str:
        """Return the lane's name in the log and in metrics."""
        return TRIAL if self.route else NAMES[self.level]


QUICK = Lane(0)
"""The lane of reads about which no call has shown anything yet."""


@dataclass(slots=True)
class _Speed:
    level: int
    trials: int = 0  # calls with this route alone that are still to be measured
    good: int = 0  # calls in a row that were quicker than its lane
    cleared: float = -inf  # when the last call was sent that was as quick as its lane
    suspected: float = -inf  # when the call was sent that put it on trial
    confirmed: float = 0.0  # when a call with this route alone showed that its lane is right


def route_of(request: Request) -> Route:
    """Return the route of *request*; a field with fields of its own is an edge, too."""
    return _route(request.host, of_any_id(request.path), request.query)


@memo()
def _route(host: str, path: str, query: str) -> Route:
    wide: tuple[str, ...] = ()
    if "fields=" in query and ("%7B" in query or "{" in query):
        wide = tuple(sorted({_word(name) for name in field_names(fields_in(query)) if "{" in name})[:MOST_WIDE_FIELDS])
    _, _, last = path[1:].rpartition("/")
    edges = tuple(filter(route_template.is_word, (*([last] if "/" in path[1:] else []), *wide)))
    return Route(f"{host}{route_template.template(path)}{'?' if wide else ''}{','.join(wide)}", edges)


def _word(field: str) -> str:
    word = field.partition("{")[0].partition(".")[0].partition("(")[0]
    return word if route_template.is_word(word) else "…"


class Lanes:
    """The measured speed of each route."""

    def __init__(self) -> None:
        """Start without measurements."""
        self._speeds: OrderedDict[str, _Speed] = OrderedDict()
        self._edges: OrderedDict[str, int] = OrderedDict()  # the level that was learned last for each
        self._quick_calls = 0
        self._usual_s: dict[int, float] = {}  # what 95 of 100 calls of a level take
        self.version = 0  # it changes whenever a route of the quickest lane may have got another one

    def lane_of(self, route: Route, now: float) -> Lane:
        """Return the lane of the reads of *route*."""
        speed = self._speed(route)
        if speed.level and not speed.trials and now - speed.confirmed > RETRIAL_S:
            speed.trials, speed.confirmed = 1, now
        if speed.trials:
            return Lane(speed.level, route.name)
        return Lane(speed.level, UNSEEN if self._is_unseen(route) and not self._has_one_route else "")

    def late_after(self, lane: Lane, slots: int) -> float:
        """Return the seconds after which a batch of *lane* is late, compared with other batches of its speed."""
        top, least = TOPS_S[lane.level], TOPS_S[max(0, lane.level - 1)] / 2
        usual = max(least, LATE_FACTOR * self._usual_s.get(lane.level, inf))
        return min(usual, MARGIN * top + SLOT_S * (slots - 1))

    def late(self, routes: Collection[Route], lane: Lane, left: float) -> None:
        """Learn that a batch of *lane*, sent when it *left*, is late: *routes* that may be the reason get trials."""
        self._suspect(self._suspects(routes, left), lane, left)

    def landed(self, routes: Collection[Route], slots: int, lane: Lane, left: float, seconds: float) -> None:
        """Learn from a call of so many *slots* with these *routes*: Graph answered *seconds* after the call *left*."""
        took = max(0.0, seconds - SLOT_S * (slots - 1))
        level = _level(took, lane.level)
        if level <= lane.level:
            self._quick_calls += lane.level == 0
            self._learn_usual(lane.level, seconds)
            for route in routes:
                self._was_quick(route, level, left, is_alone=len(routes) == 1)
            return
        suspects = self._suspects(routes, left)
        if len(suspects) == 1:
            self._was_slow(suspects[0], level, left + seconds)
        else:
            self._suspect(suspects, lane, left)

    def _suspects(self, routes: Collection[Route], left: float) -> list[Route]:
        """Return those of *routes* that were not part of a quick call that was sent after *left*."""
        if len(routes) == 1:
            return list(routes)
        return [route for route in routes if self._speed(route).cleared < left]

    @property
    def _has_one_route(self) -> bool:
        """Whether all reads are of one route: then there are no other reads that it could delay."""
        return len(self._speeds) == 1

    def _suspect(self, suspects: Collection[Route], lane: Lane, left: float) -> None:
        if lane.route not in {"", UNSEEN} or len(suspects) > MOST_SUSPECTS or self._has_one_route:
            return
        for route in suspects:
            speed = self._speed(route)
            speed.trials, speed.suspected = max(1, speed.trials), left
        self.version += 1

    def _was_quick(self, route: Route, level: int, left: float, *, is_alone: bool) -> None:
        """Learn that a call with *route* was of *level*, which is no slower than the call's lane."""
        speed = self._speed(route)
        if level > speed.level:  # the route has another lane by now, and other routes may have been the slow ones
            return
        speed.cleared = max(speed.cleared, left)
        if route.edges:
            self._remember_edges(route, speed.level)
        if level < speed.level:
            speed.good += 1
            if speed.good >= QUICK_CALLS_TO_MOVE:
                self._move(route, level)
                speed.trials = 0
            return
        speed.good = 0
        if is_alone:
            speed.trials, speed.confirmed = max(0, speed.trials - 1), left
        elif left >= speed.suspected:
            speed.trials = 0

    def _was_slow(self, route: Route, level: int, now: float) -> None:
        """Learn that *route* is the reason why a call that was answered at *now* was of *level*."""
        speed = self._speed(route)
        if self._has_one_route:
            return
        if level > speed.level:
            self._move(route, level)
            speed.trials = QUICK_CALLS_TO_MOVE - 1
        speed.confirmed, speed.good = now, 0

    def _move(self, route: Route, level: int) -> None:
        speed = self._speed(route)
        speed.level, speed.good = level, 0
        self.version += 1
        for edge in route.edges:
            self._edges.pop(edge, None)
        self._remember_edges(route, level)

    def _remember_edges(self, route: Route, level: int) -> None:
        """Remember *level* for those edges of *route* that no call has contained before."""
        for edge in route.edges:
            if edge not in self._edges:
                self._edges[edge] = level
                self.version += 1
        while len(self._edges) > MOST_ROUTES:
            self._edges.popitem(last=False)

    def _speed(self, route: Route) -> _Speed:
        speed = self._speeds.get(route.name)
        if speed is None:
            level = max(map(self._level_of_edge, route.edges), default=0)
            is_new = self._quick_calls >= WARM_UP_CALLS and self._is_unseen(route)
            speed = self._speeds[route.name] = _Speed(level, trials=1 if level or is_new else 0)
            self.version += 1
            if len(self._speeds) > MOST_ROUTES:
                self._speeds.popitem(last=False)
        else:
            self._speeds.move_to_end(route.name)
        return speed

    def _is_unseen(self, route: Route) -> bool:
        """Whether *route* has an edge that no measured call has contained."""
        return any(edge not in self._edges for edge in route.edges)

    def _level_of_edge(self, edge: str) -> int:
        return self._edges.get(edge, 1 if edge in SLOW_EDGES else 0)

    def _learn_usual(self, level: int, seconds: float) -> None:
        """Adjust the estimate of what 95 of 100 calls of *level* take to a call that took *seconds*."""
        usual = self._usual_s.get(level, seconds)
        up, down = 1 + _STEP * _SHARE, 1 - _STEP * (1 - _SHARE)
        self._usual_s[level] = max(usual * (up if seconds > usual else down), 0.001)


def _level(seconds: float, own: int) -> int:
    """Return the level of a call of *seconds*; just above the limit of its *own* lane it is still of that level."""
    level = bisect_left(TOPS_S, seconds)
    return own if level > own and seconds <= MARGIN * TOPS_S[own] else level
