import json

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.cache.invalidation import LEARNED_AT_ONCE, InvalidationIndex
from proxy.core.cache.tags import UNKNOWN_OBJECT, TagIndex
from proxy.core.model import Request
from tests.core.samples import request

ANN = b"a" * 16


class Few(InvalidationIndex):
    CAPACITY = 3


class Forgetful(InvalidationIndex):
    """Everything that is bounded is bounded to almost nothing."""

    CAPACITY = 4

    def __init__(self) -> None:
        super().__init__()
        self._tags = FewKin()


class FewKin(TagIndex):
    CAPACITY = 3
    NAME_CAPACITY = 1


writes = st.lists(st.tuples(st.lists(st.sampled_from("abcdef"), max_size=3), st.integers(1, 50)), max_size=20)


def page(*ids: str) -> bytes:
    """A body that lists *ids*."""
    return json.dumps({"data": [{"id": each} for each in ids]}).encode()


def edge(number: int) -> Request:
    """A read of one of some edges."""
    return request(f"limit={number}", path=f"/act_{number % 3}/ads")


def test_a_write_is_remembered() -> None:
    """What was read of an object before a write to it is known to be old."""
    invalidations = InvalidationIndex()
    assert invalidations.latest(("1",)) == 0
    invalidations.invalidate(("1", "2"), 10)
    invalidations.invalidate(("2",), 20)
    invalidations.invalidate(("2",), 15)  # of two changes the later counts, whichever is told first
    assert [invalidations.latest(names) for names in (("1",), ("2",), ("1", "2"), ("3",))] == [10, 20, 20, 0]


def test_a_refused_token_is_a_change_of_all_that_it_reads() -> None:
    """What one token fetched is old once Graph refuses it; what others fetched is as it was."""
    invalidations = InvalidationIndex()
    invalidations.record_refused_token(ANN, 10)
    assert [invalidations.invalidated_at(read, ANN) for read in (edge(1), edge(2))] == [10, 10]
    assert invalidations.invalidated_at(edge(1), b"b" * 16) == 0


def test_a_write_to_who_knows_what() -> None:
    """A write that names no object may have been to any of them."""
    invalidations = InvalidationIndex()
    invalidations.invalidate(("1",), 10)
    invalidations.invalidate((), 20)
    invalidations.invalidate((), 15)
    assert [invalidations.latest(("1",)), invalidations.latest(("3",)), invalidations.latest(())] == [20, 20, 20]


def test_lists_change_with_what_they_list() -> None:
    """A list that was learned from is touched by a write to what it lists."""
    invalidations = InvalidationIndex()
    invalidations.on_stored(b"k", edge(1), ANN, page("11"), asked=5)
    assert invalidations.record_write(("11",), ANN, 10) == ("11", UNKNOWN_OBJECT, "/act_1/ads")
    assert invalidations.invalidated_at(edge(1), ANN) == 10
    assert not invalidations.must_learn(b"k", 5)


def test_a_list_of_an_earlier_run() -> None:
    """What was never learned from is looked at once something has changed since it was asked for, and not before."""
    invalidations = InvalidationIndex()
    assert not invalidations.must_learn(b"k", 5)
    invalidations.record_write(("99",), ANN, 4)
    assert not invalidations.must_learn(b"k", 5)
    invalidations.record_write(("11",), ANN, 10)
    assert invalidations.must_learn(b"k", 5)
    assert invalidations.invalidated_at(edge(1), ANN) == 0
    invalidations.learn(b"k", edge(1), ANN, page("11"), asked=5)
    assert invalidations.invalidated_at(edge(1), ANN) == 10
    assert not invalidations.must_learn(b"k", 5)
    invalidations.learn(b"l", edge(2), ANN, page("12"), asked=5)
    assert invalidations.invalidated_at(edge(2), ANN) == 0


def test_a_large_body_is_learned_from_later() -> None:
    """A body that is long to read is not read as it comes in, and what its forerunner taught no longer counts."""
    invalidations = InvalidationIndex()
    invalidations.on_stored(b"k", edge(1), ANN, page("11"), asked=5)
    invalidations.record_write(("11",), ANN, 10)
    invalidations.on_stored(b"k", edge(1), ANN, page("12") + b" " * LEARNED_AT_ONCE, asked=10)
    assert invalidations.must_learn(b"k", 10)


@given(writes)
def test_what_is_forgotten_is_assumed(made: list[tuple[list[str], int]]) -> None:
    """With bounded memory a read is never called newer than a write to its object that went before."""
    invalidations, latest = Few(), dict.fromkeys("abcdef", 0)
    for nodes, now in made:
        invalidations.invalidate(nodes, now)
        for node in nodes or latest:
            latest[node] = max(now, latest[node])
        assert all(invalidations.latest((node,)) >= latest[node] for node in latest)
        assert len(invalidations._times) <= Few.CAPACITY


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("keep"), st.integers(0, 5), st.lists(st.sampled_from(["11", "12", "13"]), max_size=3)),
            st.tuples(st.just("write"), st.sampled_from(["11", "12", "13", "act_1", "act_2"])),
        ),
        max_size=40,
    )
)
def test_a_touched_object_is_never_fresh(steps: list[tuple[object, ...]]) -> None:
    """However little is remembered, what shows a changed object is known to be old; answers may be late by a write."""
    invalidations, held = Forgetful(), dict[int, tuple[float, tuple[str, ...]]]()
    changed: dict[str, float] = {}
    for now, (what, *about) in enumerate(steps, 1):
        if what == "write":
            (node,) = about
            invalidations.record_write((str(node),), ANN, now)
            changed[str(node)] = now
        else:
            number, ids = about
            assert isinstance(number, int)
            assert isinstance(ids, list)
            asked = now - 1.5  # before the write of the step before was answered
            held[number] = asked, (f"act_{number % 3}", *ids)
            invalidations.on_stored(b"%d" % number, edge(number), ANN, page(*ids), asked)
        for number, (asked, shown) in held.items():
            if invalidations.must_learn(b"%d" % number, asked):
                invalidations.learn(b"%d" % number, edge(number), ANN, page(*shown[1:]), asked)
            since = max(changed.get(node, 0.0) for node in shown)
            assert since < asked or invalidations.invalidated_at(edge(number), ANN) >= asked
