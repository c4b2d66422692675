"""What a replica knows of the log: where each name was changed, and what it does not know any more."""

from __future__ import annotations

from proxy.core.shared.log_index import LogIndex
from proxy.core.shared.open_writes import OpenWrites
from proxy.core.shared.store_clock import StoreClock
from proxy.core.shared.wire import Id, Position

LOG = b"l" * 16


def index() -> LogIndex:
    """Index."""
    made = LogIndex()
    made.begin(LOG, Id(10, 0))
    return made


def test_a_name_was_last_changed_by_its_newest_record() -> None:
    """A name was last changed by its newest record."""
    log = index()
    log.note(("a", "b"), Id(20, 0))
    log.note(("a",), Id(30, 1))
    assert (log.last(("a", "x")), log.last(("b",)), log.last(("x",))) == (Id(30, 1), Id(20, 0), Id(0, 0))
    assert log.last(()) == Id(30, 1)  # what is about anything


def test_a_record_without_a_name_changed_everything() -> None:
    """A record without a name changed everything."""
    log = index()
    log.note((), Id(20, 0))
    assert log.last(("x",)) == Id(20, 0)


def test_a_forgotten_name_counts_as_changed_last_of_all_that_were_forgotten(monkeypatch: object) -> None:
    """A forgotten name counts as changed last of all that were forgotten."""
    log = index()
    for number in range(log.PLACES + 5):
        log.note((f"n{number}",), Id(100 + number, 0))
    assert log.last(("n0",)) >= Id(104, 0)


def test_only_positions_of_this_log_within_its_reach_are_known() -> None:
    """Only positions of this log within its reach are known."""
    log = index()
    assert log.knows(Position(LOG, Id(10, 0)))
    assert not log.knows(Position(LOG, Id(9, 9)))
    assert not log.knows(Position(b"x" * 16, Id(50, 0)))


def test_a_gap_in_a_senders_numbers_is_a_lost_record() -> None:
    """A gap in a senders numbers is a lost record."""
    log = index()
    told = [(b"a", 5), (b"a", 6), (b"b", 1), (b"a", 6), (b"a", 8), (b"b", 2), (b"a", 9)]
    assert [log.missed(*each) for each in told] == [False, False, False, False, True, False, False]


def test_another_log_is_known_from_its_beginning() -> None:
    """Another log is known from its beginning."""
    log = index()
    log.note(("a",), Id(20, 0))
    log.begin(b"x" * 16, Id(0, 0))
    assert log.last(("a",)) == Id(0, 0)
    assert not log.missed(b"a", 9)


def writes(places: dict[str, tuple[str, ...]], version: list[int]) -> OpenWrites:
    """Writes."""
    return OpenWrites(
        lambda nodes, _who: tuple(name for node in nodes for name in (node, *places.get(node, ()))), lambda: version[0]
    )


def test_what_a_write_on_its_way_may_change_is_in_doubt_until_it_is_closed() -> None:
    """What a write on its way may change is in doubt until it is closed."""
    open_ = writes({"1": ("/act/ads",)}, [0])
    open_.open(b"w", ("1",), b"f", 60)
    assert [open_.cover(names) for names in (("1",), ("/act/ads", "x"), ("2",), ())] == [True, True, False, True]
    open_.close(b"w")
    assert not open_.cover(("1",))
    assert len(open_) == 0


def test_a_list_that_is_learned_meanwhile_is_in_doubt_too() -> None:
    """A list that is learned meanwhile is in doubt too."""
    places: dict[str, tuple[str, ...]] = {}
    version = [0]
    open_ = writes(places, version)
    open_.open(b"w", ("1",), b"f", 60)
    assert not open_.cover(("/act/ads",))
    places["1"], version[0] = ("/act/ads",), 1
    assert open_.cover(("/act/ads",))


def test_a_write_to_anything_leaves_nothing_certain() -> None:
    """A write to anything leaves nothing certain."""
    open_ = writes({}, [0])
    open_.open(b"w", (), b"f", 60)
    assert open_.cover(("x",))


def test_a_write_whose_end_nobody_tells_is_given_up() -> None:
    """A write whose end nobody tells is given up."""
    open_ = writes({}, [0])
    open_.open(b"w", ("1",), b"f", 60)
    assert open_.expired(59) == []
    assert open_.expired(60) == [(("1",), b"f")]
    assert not open_.cover(("1",))


def test_by_the_stores_clock_nothing_seems_younger_than_it_is() -> None:
    """By the stores clock nothing seems younger than it is."""
    writer, reader = StoreClock(), StoreClock()
    writer.set(1000.0, sent=5.0, received=5.2)
    reader.set(1002.0, sent=70.0, received=70.3)
    asked = writer.at(age=0.0, now=6.0)  # a second after the writer's question: 1000.8 to 1001.0
    assert asked + 1e-9 >= 1000.8
    assert reader.age(asked, now=70.3) >= 1.5
