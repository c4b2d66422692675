"""Which routes ride together, as is learned from the times of calls."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from proxy.core.batch import lanes
from proxy.core.batch.lanes import (
    MOST_ROUTES,
    NAMES,
    QUICK_CALLS_TO_MOVE,
    RETRIAL_S,
    TOPS_S,
    TRIAL,
    Lane,
    Lanes,
    route_of,
)
from proxy.core.model import Request

QUICK, SLOW = 0.08, 2.0


def read(path: str, query: str = "") -> Request:
    """A read, known by its path and query."""
    return Request("graph.test", "v25.0", path, query)


def lane_of(found: Lanes, request: Request, now: float) -> Lane:
    """The lane of *request*."""
    return found.lane_of(route_of(request), now)


def landed(found: Lanes, requests: Sequence[Request], lane: Lane, left: float, seconds: float) -> None:
    """Let a call with *requests* have taken so many *seconds*."""
    found.landed({route_of(request) for request in requests}, len(requests), lane, left, seconds)


def late(found: Lanes, requests: Sequence[Request], lane: Lane, left: float) -> None:
    """Let a call with *requests* be late."""
    found.late({route_of(request) for request in requests}, lane, left)


NODE, FEED, ODD = read("/1"), read("/1/feed"), read("/1/oddities")


def taught(*calls: tuple[list[Request], float, float]) -> Lanes:
    """Lanes that heard of calls: what each held, when it left, how long it took; each in the lane of its first."""
    found = Lanes()
    landed(found, [read("/1/likes")], Lane(0), -1.0, QUICK)
    for requests, left, seconds in calls:
        landed(found, requests, lane_of(found, requests[0], left), left, seconds)
    return found


def names(found: Lanes, now: float, *requests: Request) -> list[str]:
    """The lanes of *requests*, as users see them."""
    return [lane_of(found, request, now).name for request in requests]


def test_at_the_start_edges_that_no_call_has_contained_share_batches_but_not_with_nodes() -> None:
    """A start costs one batch more; what it measures shares the batches of all quick reads."""
    found = Lanes()
    lanes_found = [lane_of(found, request, 0.0) for request in (NODE, FEED, ODD)]
    assert lanes_found[0] == lane_of(found, read("/2"), 0.0) == Lane(0)
    assert lanes_found[1] == lanes_found[2] != Lane(0)
    assert lanes_found[1].name == TRIAL
    landed(found, [FEED, ODD], lanes_found[1], 0.0, QUICK)
    assert [lane_of(found, request, 1.0) for request in (FEED, ODD, read("/2/feed"))] == [Lane(0)] * 3


def test_of_edges_that_no_call_has_contained_the_slow_one_is_found() -> None:
    """A call that is late gives each of its routes a trial, and nodes have waited for none of them."""
    found = Lanes()
    names(found, 0.0, NODE)
    late(found, [FEED, ODD], lane_of(found, ODD, 0.0), 0.0)
    tried = [lane_of(found, request, 1.0) for request in (FEED, ODD)]
    assert len({*tried, Lane(0)}) == 3
    landed(found, [FEED, ODD], Lane(0, lanes.UNSEEN), 0.0, SLOW)
    for request, lane, seconds in zip((FEED, ODD), tried, (QUICK, SLOW), strict=True):
        landed(found, [request], lane, 1.0, seconds)
    assert names(found, 4.0, NODE, FEED) == ["quick", "quick"]
    assert lane_of(found, ODD, 4.0).level == 1


def test_reads_of_one_edge_alone_stay_together_from_the_start() -> None:
    """There are no other reads that they could delay, so a start costs no batch more."""
    found = Lanes()
    assert {lane_of(found, read(f"/{number}/feed"), 0.0) for number in range(9)} == {Lane(0)}


def test_one_bad_batch_moves_the_only_route_that_no_quick_call_has_carried_since() -> None:
    """Those that were quick in calls that left later stay where they are."""
    found = taught(([NODE, FEED], 1.0, QUICK))
    landed(found, [NODE, FEED], Lane(0), 2.1, QUICK)
    landed(found, [NODE, FEED, ODD], Lane(0), 2.0, SLOW)
    assert names(found, 4.0, NODE, FEED) == ["quick", "quick"]
    assert lane_of(found, ODD, 4.0).level == 1


def test_where_several_may_be_the_slow_one_each_is_tried_alone() -> None:
    """A call of its own acquits a route, and convicts the one that is slow."""
    found = taught(([NODE, FEED, ODD], 2.0, SLOW))
    tried = [lane_of(found, request, 4.0) for request in (NODE, FEED, ODD)]
    assert [lane.name for lane in tried] == [TRIAL] * 3
    assert len(set(tried)) == 3
    for request, lane, seconds in zip((NODE, FEED, ODD), tried, (QUICK, QUICK, SLOW), strict=True):
        landed(found, [request], lane, 4.0, seconds)
    assert names(found, 7.0, NODE, FEED) == ["quick", "quick"]
    assert lane_of(found, ODD, 7.0).level == 1


def test_a_slow_route_is_confirmed_and_then_shares_its_lane() -> None:
    """Slow routes have company, too, once each has told of itself a few times."""
    found, other = taught(), read("/1/others")
    for request in (ODD, other):
        for turn in range(QUICK_CALLS_TO_MOVE):
            landed(found, [request], lane_of(found, request, 10.0 * turn), 10.0 * turn, SLOW)
    assert lane_of(found, ODD, 30.0) == lane_of(found, other, 30.0) == Lane(1)


def test_a_few_quick_calls_bring_it_back() -> None:
    """A route that was slow for a while is not kept apart."""
    found = taught(([ODD], 0.0, SLOW))
    for turn in range(QUICK_CALLS_TO_MOVE):
        assert lane_of(found, ODD, 5.0 + turn).level == 1
        landed(found, [ODD], lane_of(found, ODD, 5.0 + turn), 5.0 + turn, QUICK)
    assert lane_of(found, ODD, 20.0) == Lane(0)


def test_a_slow_route_among_others_is_tried_again_after_a_while() -> None:
    """Its mates may be the slow ones by now, and it would never know."""
    found = taught(*[([ODD], 10.0 * turn, SLOW) for turn in range(QUICK_CALLS_TO_MOVE)])
    assert lane_of(found, ODD, 30.0) == Lane(1)
    assert lane_of(found, ODD, 31.0 + RETRIAL_S).name == TRIAL


def test_what_is_late_moves_its_suspects_before_graph_has_answered() -> None:
    """Newcomers need not wait two seconds to learn what takes two seconds; a false alarm ends with the answer."""
    found = taught(*[([NODE, FEED], 0.1 * turn, QUICK) for turn in range(20)])
    assert 0.2 < found.late_after(Lane(0), 3) < 0.5
    landed(found, [NODE, FEED], Lane(0), 3.1, QUICK)
    late(found, [NODE, FEED, ODD], Lane(0), 3.0)
    assert names(found, 3.5, NODE, FEED, ODD) == ["quick", "quick", TRIAL]
    landed(found, [NODE, FEED, ODD], Lane(0), 3.0, 0.4)
    assert names(found, 4.0, ODD) == ["quick"]


def test_a_route_that_nobody_has_asked_for_rides_with_its_kind() -> None:
    """By its edge over all objects, or by the short list; an object's own slow fields count as edges."""
    found = taught(*[([ODD], 10.0 * turn, 9.0) for turn in range(QUICK_CALLS_TO_MOVE)])
    assert lane_of(found, read("/act_7/oddities"), 40.0).level == 3
    assert lane_of(found, read("/act_7/insights"), 40.0).level == 1
    wide = read("/7", "fields=id,insights.date_preset%28today%29%7Bspend%7D")
    assert lane_of(found, wide, 40.0).level == 1
    assert lane_of(found, read("/7", "fields=id,insights"), 40.0).level == 0
    assert lane_of(found, read("/7"), 40.0) == Lane(0)


@pytest.mark.parametrize(
    "slots, seconds, is_slow", [(1, 0.7, False), (1, 0.8, True), (50, 1.7, False), (50, 1.8, True)]
)
def test_a_full_batch_may_take_longer(slots: int, seconds: float, *, is_slow: bool) -> None:
    """Nothing says that Graph performs fifty operations as soon as one."""
    found = taught()
    landed(found, [read(f"/{number}") for number in range(slots)], Lane(0), 0.0, seconds)
    assert (lane_of(found, NODE, 1.0).level > 0) is is_slow


def test_when_all_are_slow_graph_is_slow_and_nobody_is_tried() -> None:
    """To tell them apart would cost a call for each."""
    many = [read(f"/1/edge_{chr(97 + number)}") for number in range(lanes.MOST_SUSPECTS + 1)]
    found = taught((many, 0.0, 5.0))
    assert len({lane_of(found, request, 6.0) for request in many}) == 1


def test_an_edge_that_was_never_asked_for_is_tried_alone_once() -> None:
    """Where others are known to be quick; a start, objects of a known edge, and plain nodes cost no call."""
    found = taught(*[([NODE, FEED], 0.1 * turn, QUICK) for turn in range(lanes.WARM_UP_CALLS)])
    assert names(found, 2.0, ODD, read("/act_5/feed"), read("/me")) == [TRIAL, "quick", "quick"]
    landed(found, [ODD], lane_of(found, ODD, 2.0), 2.0, QUICK)
    assert names(found, 3.0, ODD, read("/act_5/oddities")) == ["quick", "quick"]


def test_one_route_alone_holds_nobody_up() -> None:
    """Where all reads are of one route, they have all the company that there is, whatever a call takes."""
    found = Lanes()
    late(found, [NODE], lane_of(found, NODE, 0.0), 0.0)
    assert lane_of(found, NODE, 1.0) == Lane(0)
    landed(found, [NODE], Lane(0), 0.0, SLOW)
    assert lane_of(found, NODE, 2.0) == Lane(0)
    landed(found, [FEED], Lane(0), 3.0, QUICK)
    landed(found, [NODE], Lane(0), 3.0, SLOW)
    assert lane_of(found, NODE, 5.0).level == 1


def test_no_more_routes_are_remembered_than_have_a_place() -> None:
    """Callers choose how many there are."""
    found = Lanes()
    for number in range(3 * MOST_ROUTES):
        word = "".join(chr(97 + int(digit)) for digit in str(number))
        landed(found, [read(f"/1/{word}")], Lane(0), 0.0, SLOW)
    assert len(found._speeds) == len(found._edges) == MOST_ROUTES


def test_lanes_are_each_about_four_times_the_one_before() -> None:
    """So that no read waits for one that takes much more than four times as long, once both are known."""
    assert [after / before for before, after in pairwise(TOPS_S[:-1])] == [4.0, 4.0]
    assert len(NAMES) == len(TOPS_S)


@dataclass
class Call:
    """A call in simulated time."""

    lane: Lane
    left: float
    requests: list[Request] = field(default_factory=list)
    is_late: bool = False

    def took(self, slow: str) -> float:
        return SLOW if any(request.path == slow for request in self.requests) else QUICK


@pytest.mark.parametrize("path", ["/act_9/insights", "/1/oddities"])
def test_few_quick_reads_wait_for_slow_ones(path: str) -> None:
    """One read of a hundred takes 2 s: hardly a quick one rides with it, those before it is known among them."""
    chance, found, calls, held = random.Random(7), Lanes(), list[Call](), 0
    quick = [read(f"/{number}{edge}") for number in range(50) for edge in ("", "/feed", "/posts")]
    for turn in range(1000):
        now = 0.02 * turn
        for call in calls:
            if call.left + call.took(path) <= now:
                landed(found, call.requests, call.lane, call.left, call.took(path))
            elif not call.is_late and now - call.left >= found.late_after(call.lane, len(call.requests)):
                call.is_late = True
                late(found, call.requests, call.lane, call.left)
        calls = [call for call in calls if call.left + call.took(path) > now]
        groups: dict[Lane, Call] = {}
        for _ in range(12):
            request = read(path) if chance.random() < 0.01 else chance.choice(quick)
            lane = lane_of(found, request, now)
            groups.setdefault(lane, Call(lane, now)).requests.append(request)
        calls += groups.values()
        held += sum(call.took(path) == SLOW for call in groups.values() for each in call.requests if each.path != path)
    assert held < 12_000 / 200
