"""Fair shares of connections, and queues that take turns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from math import inf
from operator import ne

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.batch.fair_share import FairQueue, Kind, Shares
from proxy.core.batch.window import Limits, queue_refusal


def filled(shares: Shares, kind: Kind, owner: str) -> int:
    """How many connections *owner* gets who takes all that it may."""
    taken = 0
    while shares.may_take(kind) and shares.may_take(owner):
        shares.take(kind, (owner,))
        taken += 1
    return taken


def test_one_after_the_other_finds_some_free() -> None:
    """However much a token, and then a kind of call, takes, there is something left for the next."""
    shares = Shares(64)
    assert filled(shares, Kind.BATCH, "ann") == 56
    assert filled(shares, Kind.BATCH, "bob") == 6
    assert filled(shares, Kind.BATCH, "cem") == 0
    assert filled(shares, Kind.SINGLE, "cem") == 1
    assert filled(shares, Kind.CARRIED, "dan") == 1


@pytest.mark.parametrize("count, lone", [(1, 1), (2, 1), (3, 1), (4, 2), (8, 6), (64, 56), (10_000, 8750)])
def test_what_a_lone_token_gets(count: int, lone: int) -> None:
    """Where there is one connection it is everybody's; where there are more a lone token leaves some."""
    assert filled(Shares(count), Kind.BATCH, "ann") == lone


@given(st.integers(1, 80), st.lists(st.tuples(st.sampled_from(list(Kind)), st.sampled_from("abcd"), st.booleans())))
def test_shares_add_up(count: int, moves: list[tuple[Kind, str, bool]]) -> None:
    """No more are given out than there are, calm means that everybody may, and in the end all are free."""
    shares, held = Shares(count), []
    for kind, owner, takes in moves:
        if shares.is_calm:
            assert shares.may_take(kind)
            assert shares.may_take(owner)
        if takes and shares.may_take(kind) and shares.may_take(owner):
            shares.take(kind, (owner,))
            held.append((kind, owner))
        elif held:
            gone = held.pop()
            shares.give_back(gone[0], gone[1])
        assert 0 <= shares.free == count - len(held)
    for gone in held:
        shares.give_back(gone[0], gone[1])
    assert shares._taken == {}


def queue(*items: str) -> FairQueue[str]:
    """Items that came one a second; the letter is the owner."""
    made: FairQueue[str] = FairQueue()
    for at, item in enumerate(items):
        made.add(item, item[0], float(at))
    return made


def anybody(_owner: object) -> bool:
    """Everybody may."""
    return True


def test_owners_take_turns() -> None:
    """One of each owner leaves before a second of any, each owner's in the order in which they came."""
    assert queue("a1", "a2", "a3", "b1", "c1", "b2").take(5, anybody, 9) == ["a1", "b1", "c1", "a2", "b2"]


def test_turns_go_on_where_they_ended() -> None:
    """Who has just left stands behind those who have not."""
    made = queue("a1", "a2", "b1", "c1")
    assert [made.take(1, anybody, 9), made.take(2, anybody, 9), made.take(9, anybody, 9)] == [
        ["a1"],
        ["b1", "c1"],
        ["a2"],
    ]
    assert len(made) == 0


def test_who_may_not_is_passed_over() -> None:
    """An owner that holds its share keeps nobody else from leaving, and is neither counted nor measured."""
    made = queue("a1", "a2", "b1")
    assert made.ready(50, lambda owner: owner != "a") == (1, 2.0)
    assert made.ready(50, lambda owner: owner == "z") == (0, inf)
    assert made.ready(50, None) == (3, 0.0)
    assert made.waited("c", lambda owner: owner != "a", 10) == 8
    assert made.take(9, lambda owner: owner != "a", 9) == ["b1"]
    assert made.waited("c", lambda owner: owner != "a", 10) == 0
    assert made.waited("a", anybody, 10) == 10


def test_a_newcomer_waits_as_long_as_who_stands_in_its_place() -> None:
    """One of many owners waits for its turn, one of few for those of its own that came before."""
    made = queue("a1", "b1", "a2", "b2")
    made.take(1, anybody, 5)
    assert (made.waited("a", anybody, 7), made.waited("b", anybody, 7), made.waited("c", anybody, 7)) == (5, 6, 6)


def test_what_waits_too_long_is_let_go() -> None:
    """The oldest are late first; what waits without a limit never is."""
    made = queue("a1", "b1", "a2")
    made.add("z", "z", inf)
    assert made.late(1.0) == ["a1", "b1"]
    assert made.late(50.0) == ["a2"]
    assert (made.late(1e9), len(made), made.clear(), len(made)) == ([], 1, ["z"], 0)


def test_who_leaves_leaves_no_trace() -> None:
    """A queue holds nothing of what is gone."""
    made = queue("a1", "b1")
    assert [made.discard(item) for item in ("a1", "a1", "b1")] == [True, False, True]
    assert made._queues == {}


@pytest.mark.parametrize(
    "queued, waited, word",
    [(9, 0.4, ""), (9, 0.6, "batch.queue_s"), (10, 0.0, "batch.queue "), (9, -1.0, ""), (0, 99.0, "batch.queue_s")],
)
def test_a_queue_is_bounded_by_count_and_by_time(queued: int, waited: float, word: str) -> None:
    """A newcomer is told at once where it would wait too long, as the one before it does."""
    told = queue_refusal(queued, waited, Limits(queue=10, queue_s=2.0)).replace(")", " ")
    assert (word in told) if word else not told


@dataclass(eq=False)
class Several:
    """An item that counts as several slots."""

    owner: str
    slots: int

    def split(self, slots: int) -> Several:
        """The first of its slots."""
        self.slots -= slots
        return Several(self.owner, slots)


CAME = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([1, 1, 2, 5, 20])), min_size=1, max_size=6)
CALLS = st.lists(st.tuples(CAME, st.sampled_from([1, 3, 7, 50]), st.sampled_from("abz")), min_size=1, max_size=6)


@given(CALLS)
def test_an_item_of_several_slots_leaves_as_so_many_items_would(
    calls: list[tuple[list[tuple[str, int]], int, str]],
) -> None:
    """Each owner has as many slots in each call, and stands in the same place afterwards."""
    several, ones = FairQueue(Several.split), FairQueue[Several]()
    for came, most, barred in calls:
        for owner, slots in came:
            several.add(Several(owner, slots), owner, 0.0, slots)
            for _ in range(slots):
                ones.add(Several(owner, 1), owner, 0.0)
        taken = [Counter[str](), Counter[str]()]
        for made, count in zip((several, ones), taken, strict=True):
            for item in made.take(most, partial(ne, barred), 1.0):
                count[item.owner] += item.slots
        assert taken[0] == taken[1]
        assert [*several._queues] == [*ones._queues]
        assert len(several) == len(ones) == several.ready(10**6, None)[0]
