from hypothesis import given
from hypothesis import strategies as st

from proxy.core.model import Entry
from proxy.shell.store.memory import size_alone
from proxy.shell.store.write_queue import DELETED, Deleted, QueuedWrite, WriteQueue
from tests.shell.store.samples import TOKEN, entry, key


def test_the_newest_write_of_a_key_wins() -> None:
    """Two writes of one key become one row."""
    pending = WriteQueue(10, 2**20)
    pending.put(key(1), TOKEN, entry(1))
    pending.put(key(1), TOKEN, entry(1, version=1))
    assert [write.entry for write in pending.take(10, 2**20)] == [entry(1, version=1)]


def test_a_compressed_body_goes_with_the_write_it_was_made_of() -> None:
    """Another body of the same key, and one for which there is no room, is compressed by the writing thread."""
    older, newer = entry(1), entry(1, version=1)
    pending = WriteQueue(10, size_alone(newer) + 200)
    pending.put(key(1), TOKEN, newer)
    pending.note_compressed(key(1), older.body, (1, b"x"))
    pending.note_compressed(key(1), newer.body, (1, b"x" * 201))
    assert pending._waiting[key(1)].compressed is None
    pending.note_compressed(key(1), newer.body, (1, b"x" * 200))
    assert not pending.put(key(2), TOKEN, entry(2))
    assert [write.compressed for write in pending.take(10, 2**20)] == [(1, b"x" * 200)]
    assert pending.put(key(2), TOKEN, entry(2))


def test_a_deletion_beats_the_write_that_waits() -> None:
    """What was dropped is not written, and is known to be gone."""
    pending = WriteQueue(10, 2**20)
    pending.put(key(1), TOKEN, entry(1))
    pending.drop(key(1))
    assert pending.find(key(1)) is DELETED
    assert [write.entry for write in pending.take(10, 2**20)] == [None]


def test_a_group_stays_readable_until_it_is_settled() -> None:
    """A write in a thread's hands can be found, and what came after it comes first."""
    pending = WriteQueue(10, 2**20)
    pending.put(key(1), TOKEN, entry(1))
    pending.take(10, 2**20)
    assert pending.find(key(1)) == entry(1)
    pending.drop(key(1))
    assert pending.find(key(1)) is DELETED
    pending.settle([])
    assert len(pending) == 1


def test_entries_are_bounded_in_number_and_bytes() -> None:
    """A full queue takes no more entries, and keeps no older form of one it refused."""
    few, small = WriteQueue(2, 2**20), WriteQueue(100, 2 * size_alone(entry(1)))
    for pending in (few, small):
        assert [pending.put(key(number), TOKEN, entry(1)) for number in range(3)] == [True, True, False]
        assert not pending.put(key(0), TOKEN, entry(1, 10**6, version=1)) or pending is few
        pending.clear()
        assert pending.put(key(3), TOKEN, entry(1))


def test_deletions_are_bounded() -> None:
    """A queue that nobody empties does not grow by deletions either."""
    pending = WriteQueue(5, 2**20)
    assert [pending.drop(key(number)) for number in range(11)] == [True] * 10 + [False]


def test_a_failed_deletion_waits_again_unless_overtaken() -> None:
    """Keys handed back are deleted later, but a newer write of such a key stands."""
    pending = WriteQueue(10, 2**20)
    pending.put(key(1), TOKEN, entry(1))
    pending.put(key(2), TOKEN, entry(2))
    pending.take(10, 2**20)
    pending.put(key(2), TOKEN, entry(2, version=1))
    pending.settle([key(1), key(2)])
    assert pending.find(key(1)) is DELETED
    assert pending.find(key(2)) == entry(2, version=1)


def test_a_group_is_bounded_in_bytes_but_never_empty() -> None:
    """Large entries leave in small groups, the largest alone."""
    pending = WriteQueue(10, 2**20)
    for number in range(3):
        pending.put(key(number), TOKEN, entry(number, 10_000))
    sizes = []
    while group := pending.take(10, 15_000):
        sizes.append(len(group))
        pending.settle([])
    assert sizes == [1, 1, 1]


def test_a_write_does_not_show_its_token() -> None:
    """A queue in a traceback tells no secret."""
    assert TOKEN not in repr(QueuedWrite(key(1), TOKEN, entry(1)))


Step = tuple[str, int]
steps = st.lists(st.tuples(st.sampled_from(["put", "drop", "take", "settle"]), st.integers(0, 4)), max_size=40)


@given(steps)
def test_it_is_a_map_of_the_last_word_on_each_key(history: list[Step]) -> None:
    """After any history the queue answers what was last said of a key, until that has been written."""
    pending, said, taken = WriteQueue(100, 2**20), dict[bytes, Entry | Deleted](), dict[bytes, Entry | Deleted]()
    for version, (step, number) in enumerate(history):
        if step == "put":
            pending.put(key(number), TOKEN, entry(number, version=version))
            said[key(number)] = entry(number, version=version)
        elif step == "drop":
            pending.drop(key(number))
            said[key(number)] = DELETED
        elif step == "take" and not taken:
            pending.take(2, 2**20)
            taken = {each: said.pop(each) for each in list(pending._being_written)}
        elif step == "settle":
            pending.settle([])
            taken = {}
        for each in range(5):
            assert pending.find(key(each)) == said.get(key(each), taken.get(key(each)))
