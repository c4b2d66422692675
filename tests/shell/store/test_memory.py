import gc
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core.model import Entry, EntryMeta
from proxy.shell.store.memory import INDEX_ROW_COST, USE_COST, Index, Memory, size_of
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
        assert memory.bytes == sum(map(size_of, held)) <= 8000
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
    assert memory.bytes == size_of(entry(1, 5000, version=1))


def test_the_least_recently_used_leaves() -> None:
    """An entry that was asked for outlives one that was not."""
    memory = Memory(2 * size_of(entry(10)))
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


def test_what_the_index_is_said_to_cost_covers_what_it_costs() -> None:
    """The index's bound on bytes is one on the process's memory."""
    index = Index(INDEX_ROW_COST * 2000)
    size = _growth(lambda number: index.put(key(number), _fresh(number).meta, 1000.5 + number))
    assert len(index) == 2000
    assert size <= INDEX_ROW_COST * 2000


def test_what_a_remembered_use_is_said_to_cost_covers_what_it_costs() -> None:
    """The uses that are remembered are counted like rows of the index."""
    memory = Memory(size_of(entry(0)), remembered=2000)
    memory.put(key(10_000), entry(0))
    assert _growth(lambda number: memory.admit(key(number), _fresh(number))) <= USE_COST * 2000


def test_the_index_is_bounded() -> None:
    """The validators of more rows than fit push out those not asked for."""
    index = Index(INDEX_ROW_COST * 2)
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
