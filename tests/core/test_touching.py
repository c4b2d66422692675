from hypothesis import given
from hypothesis import strategies as st

from proxy.core.touching import Touches


class Few(Touches):
    PLACES = 3


writes = st.lists(st.tuples(st.lists(st.sampled_from("abcdef"), max_size=3), st.integers(1, 50)), max_size=20)


def test_a_write_is_remembered() -> None:
    """What was read of an object before a write to it is known to be old."""
    touches = Touches()
    assert touches.last(("1",)) == 0
    touches.touch(("1", "2"), 10)
    touches.touch(("2",), 20)
    assert [touches.last(("1",)), touches.last(("2",)), touches.last(("1", "2")), touches.last(("3",))] == [
        10,
        20,
        20,
        0,
    ]


def test_a_write_to_who_knows_what() -> None:
    """A write that names no object may have been to any of them."""
    touches = Touches()
    touches.touch(("1",), 10)
    touches.touch((), 20)
    touches.touch((), 15)
    assert [touches.last(("1",)), touches.last(("3",)), touches.last(())] == [20, 20, 20]


@given(writes)
def test_what_is_forgotten_is_assumed(made: list[tuple[list[str], int]]) -> None:
    """With bounded memory a read is never called newer than a write to its object that went before."""
    touches, latest = Few(), dict.fromkeys("abcdef", 0)
    for nodes, now in made:
        touches.touch(nodes, now)
        for node in nodes or latest:
            latest[node] = max(now, latest[node] if not nodes else 0)
        assert all(touches.last((node,)) >= latest[node] for node in latest)
        assert len(touches._times) <= Few.PLACES
