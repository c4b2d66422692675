"""Lanes of batches: Graph answers a batch when its slowest operation is done, so routes of one speed ride together.

How quick a route is, is learned from the calls that it was part of. A route is as quick as the quickest of them: a call
that takes long speaks only against those of its routes that no quick call has carried since. Where that leaves several,
each rides with itself alone until a call of its own has told which it was.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from proxy.core.memory.memo import memo
from proxy.core.model import Request
from proxy.core.observe import route_template
from proxy.core.routing.fields_param import field_names, fields_in

NAMES = ("quick", "medium", "slow", "slowest")
"""The lanes, each for calls that take about four times as long as those of the one before."""

TOPS_S = (0.5, 2.0, 8.0, inf)
"""Seconds that a call of each lane takes at most."""

TRIAL = "trial"
"""The name of the lane of a route that rides with itself alone, for its speed is in doubt."""

SLOW_EDGES = frozenset({"insights", "reachestimate", "delivery_estimate"})
"""Edges that Graph computes answers for: its pages on "Insights API" and "Delivery estimates" say that these take long.

Polls of asynchronous jobs (`/{report_run_id}`) are quick.
"""

MARGIN = 1.5
"""A route leaves its lane for a slower one only if a call took so many times what the lane allows."""

SLOT_S = 0.02
"""Seconds that each further operation of a batch may add without being slow itself."""

GOOD = 3
"""Calls of another speed after which a slow route is taken to have become quicker."""

AGAIN_S = 60
"""Seconds after which a slow route among others is tried alone again: the others may be the slow ones by now."""

LATE = 4
"""A call is late after so many times what 95 of 100 calls of its lane take."""

SUSPECTS = 16
"""Routes that are tried at once; where more are in doubt, Graph as a whole is slow."""

WARM = 8
"""Quick calls after which a route of an edge that was never asked for is tried alone first, once."""

ROUTES = 1024
"""Routes that are remembered, and as many edges."""

WIDEST = 8
"""Fields with fields of their own that a route is told apart by."""

_STEP = 0.2
_SHARE = 0.95


class Route(NamedTuple):
    """What calls are told apart by: host and path without ids, the fields with fields of their own, and its edges."""

    name: str
    edges: tuple[str, ...]


class Lane(NamedTuple):
    """What a batch holds one of; *route* is that on trial, or ""."""

    level: int
    route: str = ""

    @property
    def name(self) -> str:
        """The word for it in the log and in metrics."""
        return TRIAL if self.route else NAMES[self.level]


@dataclass(slots=True)
class _Speed:
    level: int
    trials: int = 0  # calls of its own that have yet to tell of its speed
    good: int = 0  # calls in a row that were quicker than its lane
    cleared: float = -inf  # when the last call left that was as quick as its lane
    suspected: float = -inf  # when the call left that put it on trial
    confirmed: float = 0.0  # when a call of its own told that it belongs here


@memo()
def route_of(host: str, path: str, query: str) -> Route:
    """The route of a read; a field with fields below it is an edge, too."""
    wide: tuple[str, ...] = ()
    if "fields=" in query and ("%7B" in query or "{" in query):
        wide = tuple(sorted({_word(name) for name in field_names(fields_in(query)) if "{" in name})[:WIDEST])
    _, _, last = path[1:].rpartition("/")
    edges = tuple(filter(route_template.is_word, (*([last] if "/" in path[1:] else []), *wide)))
    return Route(f"{host}{route_template.template(path)}{'?' if wide else ''}{','.join(wide)}", edges)


def _word(field: str) -> str:
    word = field.partition("{")[0].partition(".")[0].partition("(")[0]
    return word if route_template.is_word(word) else "…"


class Lanes:
    """How quick each route has been."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._speeds: OrderedDict[str, _Speed] = OrderedDict()
        self._edges: OrderedDict[str, int] = OrderedDict()  # the level that was learned last of each
        self._quick_calls = 0
        self._usual_s: dict[int, float] = {}  # what most calls of a level take

    def lane_of(self, request: Request, now: float) -> Lane:
        """The lane in which *request* rides."""
        route = route_of(request.host, request.path, request.query)
        speed = self._speed(route)
        if speed.level and not speed.trials and now - speed.confirmed > AGAIN_S:
            speed.trials, speed.confirmed = 1, now
        return Lane(speed.level, route.name if speed.trials else "")

    def late_after(self, lane: Lane, slots: int) -> float:
        """Seconds after which a batch of *lane* is late by the lane's own measure."""
        top, least = TOPS_S[lane.level], TOPS_S[max(0, lane.level - 1)] / 2
        usual = max(least, LATE * self._usual_s.get(lane.level, inf))
        return min(usual, MARGIN * top + _allowance(slots))

    def late(self, requests: Collection[Request], lane: Lane, left: float) -> None:
        """A batch of *lane* that *left* then is late: what may be the reason rides with nobody until that is known."""
        self._suspect(self._suspects(_routes(requests), left), lane, left)

    def landed(self, requests: Collection[Request], lane: Lane, left: float, seconds: float) -> None:
        """Graph has answered a call with these after so many seconds; one alone is in the lane of its route."""
        routes, took = _routes(requests), max(0.0, seconds - _allowance(len(requests)))
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
        """Those of *routes* that no call has carried quickly that left later than *left*."""
        if len(routes) == 1:
            return list(routes)
        return [route for route in routes if self._speed(route).cleared < left]

    @property
    def _has_one_route(self) -> bool:
        """Whether one route is all that is asked for: then there is nobody that it could hold up."""
        return len(self._speeds) == 1

    def _suspect(self, suspects: Collection[Route], lane: Lane, left: float) -> None:
        if lane.route or len(suspects) > SUSPECTS or self._has_one_route:
            return
        for route in suspects:
            speed = self._speed(route)
            speed.trials, speed.suspected = max(1, speed.trials), left

    def _was_quick(self, route: Route, level: int, left: float, *, is_alone: bool) -> None:
        """A call with *route* took as long as *level* does, which is no slower than the lane that it rode in."""
        speed = self._speed(route)
        if level > speed.level:  # the route has another lane by now, and its mates may have been the slow ones
            return
        speed.cleared = max(speed.cleared, left)
        self._remember_edges(route, speed.level)
        if level < speed.level:
            speed.good += 1
            if speed.good >= GOOD:
                self._move(route, level)
                speed.trials = 0
            return
        speed.good = 0
        if is_alone:
            speed.trials, speed.confirmed = max(0, speed.trials - 1), left
        elif left >= speed.suspected:
            speed.trials = 0

    def _was_slow(self, route: Route, level: int, now: float) -> None:
        """*route* alone can be the reason why a call took as long as *level* does."""
        speed = self._speed(route)
        if self._has_one_route:
            return
        if level > speed.level:
            self._move(route, level)
            speed.trials = GOOD - 1
        speed.confirmed, speed.good = now, 0

    def _move(self, route: Route, level: int) -> None:
        speed = self._speed(route)
        speed.level, speed.good = level, 0
        for edge in route.edges:
            self._edges.pop(edge, None)
        self._remember_edges(route, level)

    def _remember_edges(self, route: Route, level: int) -> None:
        """Take down the level of the edges of *route* of which nothing is known."""
        for edge in route.edges:
            self._edges.setdefault(edge, level)
        while len(self._edges) > ROUTES:
            self._edges.popitem(last=False)

    def _speed(self, route: Route) -> _Speed:
        speed = self._speeds.get(route.name)
        if speed is None:
            level = max(map(self._level_of_edge, route.edges), default=0)
            is_new = self._quick_calls >= WARM and any(edge not in self._edges for edge in route.edges)
            speed = self._speeds[route.name] = _Speed(level, trials=1 if level or is_new else 0)
            if len(self._speeds) > ROUTES:
                self._speeds.popitem(last=False)
        else:
            self._speeds.move_to_end(route.name)
        return speed

    def _level_of_edge(self, edge: str) -> int:
        return self._edges.get(edge, 1 if edge in SLOW_EDGES else 0)

    def _learn_usual(self, level: int, seconds: float) -> None:
        """Let what 95 of 100 calls of *level* take follow what one took."""
        usual = self._usual_s.get(level, seconds)
        up, down = 1 + _STEP * _SHARE, 1 - _STEP * (1 - _SHARE)
        self._usual_s[level] = max(usual * (up if seconds > usual else down), 0.001)


def _routes(requests: Iterable[Request]) -> set[Route]:
    return {route_of(request.host, request.path, request.query) for request in requests}


def _allowance(slots: int) -> float:
    return SLOT_S * (slots - 1)


def _level(seconds: float, own: int) -> int:
    """The level of a call that took so many *seconds* in a lane of level *own*, which it leaves only by a margin."""
    level = next(level for level, top in enumerate(TOPS_S) if seconds <= top)
    return own if level > own and seconds <= MARGIN * TOPS_S[own] else level
