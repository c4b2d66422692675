import gc
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core.memory.shared_blocks import BLOCK_COST
from proxy.core.model import Entry, EntryMeta
from proxy.shell.store.memory import HELD_ROW_COST, ROW_COST, USE_COST, Index, Memory, size_alone, size_of
from tests.shell.store.samples import entry, key


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4000), st.booleans()), max_size=60))
def test_the_limit_holds_after_every_step(steps: list[tuple[int, int, bool]]) -> None:
    """Never more than the limit, and the count of bytes is the sum of what is there."""
    memory = Memory(8000)
    for number, size, drop in steps:
        if drop:
            memory.drop(key(number))
        else:
            memory.put(key(number), entry(number, size))
        held = [found for each in range(10) if (found := memory.peek(key(each)))]
        blocks = sum(len(found.headers) + BLOCK_COST for found in held)  # each entry has its own
        assert memory.bytes == sum(map(size_of, held)) + blocks <= 8000
        assert len(memory) == len(held)


def test_only_newer_times_are_taken_over_without_counting() -> None:
    """A 304 may confirm a body that another reply has replaced meanwhile, or come under one more proof."""
    memory, old = Memory(2**20), entry(1)
    memory.put(key(1), old)
    newer = replace(old.meta, asked_at=old.meta.asked_at + 1)
    assert memory.renew(key(1), Entry(newer, old.headers, old.body))
    assert memory.peek(key(1)) == Entry(newer, old.headers, old.body)
    assert not memory.renew(key(1), Entry(replace(newer, proofs=(b"proof",)), old.headers, old.body))
    memory.put(key(1), entry(1, 5000, version=1))
    assert not memory.renew(key(1), Entry(newer, old.headers, old.body))
    assert not memory.renew(key(2), old)
    assert memory.bytes == size_of(entry(1, 5000, version=1)) + len(old.headers) + BLOCK_COST


def test_the_least_recently_used_leaves() -> None:
    """An entry that was asked for outlives one that was not."""
    memory = Memory(2 * (size_of(entry(10)) + len(entry(10).headers) + BLOCK_COST))
    memory.put(key(10), entry(10))
    memory.put(key(11), entry(11))
    memory.get(key(10))
    memory.put(key(12), entry(12))
    assert memory.peek(key(10))
    assert memory.peek(key(11)) is None
    assert memory.evictions == 1


def test_an_entry_too_large_displaces_its_older_form() -> None:
    """What does not fit is not kept, and neither is what it replaces."""
    memory = Memory(3000)
    memory.put(key(1), entry(1))
    memory.put(key(1), entry(1, 5000, version=1))
    assert memory.peek(key(1)) is None
    assert memory.bytes == 0


def test_what_an_entry_is_said_to_cost_covers_what_it_costs() -> None:
    """The limit counts the objects around the bytes as well, so it holds for the process."""
    memory = Memory(2**30)
    size = _growth(lambda number: memory.put(key(number), _fresh(number)))
    assert 0.75 * memory.bytes < size <= memory.bytes
    assert memory.bytes - 2000 * BLOCK_COST < sum(size_alone(_fresh(number)) for number in range(2000))


def test_entries_with_equal_fields_share_them() -> None:
    """Graph's replies have the same fields but for the ETag; each entry takes its body and little more."""
    memory, fields = Memory(2**30), b"Content-Type: application/json\r\nETag: \r\nVary: Origin" * 8

    def act(number: int) -> None:
        fresh = _fresh(number)
        held = replace(fresh.meta, proofs=(b"".join(()),))
        memory.put(key(number), Entry(held, bytes(bytearray(fields)), fresh.body))

    size = _growth(act)
    assert 0.75 * memory.bytes < size <= memory.bytes <= 2000 * 1.2 * (2000 + 520)
    assert len({id(found.headers) for found in memory.entries.values() if found}) == 1
    for number in range(2000):
        memory.drop(key(number))
    assert memory.bytes == 0


def test_what_others_hold_leaves_less_room() -> None:
    """The limit is one for all: as others come to hold more, entries leave."""
    others = [0]
    memory = Memory(10 * size_of(entry(10)) + 10_000, others=lambda: others[0])
    for number in range(10, 20):
        memory.put(key(number), entry(number))
    assert len(memory) == 10
    others[0] = 10_000 + 5 * size_of(entry(10))
    memory.make_room()
    assert len(memory) < 5


def test_what_the_index_is_said_to_cost_covers_what_it_costs() -> None:
    """The index's bound on bytes is one on the process's memory."""
    index = Index(2**30)
    size = _growth(lambda number: index.put(key(number), _fresh(number).meta, 1000.5 + number))
    assert len(index) == 2000
    assert 0.75 * index.bytes < size <= index.bytes


def test_a_row_of_what_is_in_memory_is_a_time() -> None:
    """Its key is that of the entry, and the rest is there as well."""
    index, keys = Index(2**30), [key(number) for number in range(2000)]
    size = _growth(lambda number: index.put_held(keys[number], 1000.5 + number))
    assert size <= index.bytes == 2000 * HELD_ROW_COST
    assert index.written_at(keys[7]) == 1007.5
    assert index.get(keys[7]) is None
    assert keys[7] in index
    index.put(keys[7], entry(7).meta, 5.0)
    row = index.get(keys[7])
    assert row
    assert (row.held, row.written_at, index.written_at(keys[7])) == (entry(7).meta, 5.0, 5.0)
    index.put_held(keys[7], 6.0)
    for each in keys:
        index.drop(each)
    assert index.bytes == 0


def test_what_a_remembered_use_is_said_to_cost_covers_what_it_costs() -> None:
    """The uses that are remembered are counted like rows of the index."""
    memory = Memory(size_of(entry(0)), remembered=2000)
    memory.put(key(10_000), entry(0))
    assert _growth(lambda number: memory.admit(key(number), _fresh(number))) <= USE_COST * 2000


def test_the_index_is_bounded() -> None:
    """The validators of more rows than fit push out those not asked for."""
    index = Index(2 * (ROW_COST + 120))
    for number in range(2):
        index.put(key(number), entry(number).meta, 0)
    index.get(key(0))
    index.put(key(2), entry(2).meta, 0)
    assert len(index) == 2
    assert index.get(key(0))
    assert index.get(key(1)) is None


def _fresh(number: int) -> Entry:
    """An entry none of whose objects is shared, as one that was read from disk."""
    etag, channel = f'"{number:040x}"', b"batch".decode()
    held = EntryMeta(
        etag, channel, 1e9 + number, may_be_fresh=True, proofs=tuple(b"%16d" % (number + each) for each in range(4))
    )
    return Entry(held, b"%600d" % number, b"%2000d" % number)


def _growth(act: object) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(2000):
            act(number)  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
