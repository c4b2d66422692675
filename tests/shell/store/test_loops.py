"""Which entries stay in memory, by the share of reads that find theirs there, beside a plain LRU cache of that size."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import pytest
from msgspec.structs import replace

from proxy.core.memory.shared_blocks import BLOCK_COST
from proxy.core.model import Entry, EntryMeta
from proxy.shell.store.memory import Memory, size_of
from proxy.shell.store.sqlite import Sqlite
from tests.shell.store.samples import TOKEN, Open, entry, key

PLACES = 300
ENTRY = Entry(EntryMeta("e", "batch", 0.0, may_be_fresh=True, proofs=()), b"", b"x" * 100)


def hits(memory: Memory, reads: Sequence[int], *, after: int) -> float:
    """The share of *reads* that find their entry in *memory*, without the first ones; the disk has all others."""
    stored, found = set[int](), 0
    for at, number in enumerate(reads):
        if memory.get(key(number)) is not None:
            found += at >= after
        elif number in stored:
            memory.admit(key(number), ENTRY)
        else:
            stored.add(number)
            memory.put(key(number), ENTRY)
    return found / (len(reads) - after)


def hits_of_lru(reads: Iterable[int], *, after: int) -> float:
    """The same for a plain LRU cache."""
    places, found, total = OrderedDict[int, None](), 0, 0
    for at, number in enumerate(reads):
        total += at >= after
        if number in places:
            places.move_to_end(number)
            found += at >= after
        else:
            places[number] = None
            if len(places) > PLACES:
                places.popitem(last=False)
    return found / total


def memory_of(places: int = PLACES) -> Memory:
    """A memory tier for so many entries, which remembers as many uses of others."""
    return Memory(places * size_of(ENTRY) + BLOCK_COST, remembered=places)


def loop(length: int, times: int) -> list[int]:
    """Each of so many entries in turn, again and again."""
    return [number for _ in range(times) for number in range(length)]


def zipf(exponent: float, count: int, entries: int = 2000) -> list[int]:
    """Reads of entries of which few are read often, and most are read seldom."""
    weights = [1 / (rank + 1) ** exponent for rank in range(entries)]
    return random.Random(1).choices(range(entries), weights, k=count)


@pytest.mark.parametrize("length", [PLACES + 10, PLACES * 3 // 2, PLACES * 5])
def test_a_loop_over_more_than_fits_finds_as_many_as_fit(length: int) -> None:
    """An LRU cache finds none of them: each is evicted just before it is read again."""
    reads = loop(length, 12)
    assert hits_of_lru(reads, after=2 * length) == 0
    assert hits(memory_of(), reads, after=2 * length) > 0.97 * PLACES / length


@pytest.mark.parametrize("exponent", [0.7, 0.9, 1.1])
def test_popular_entries_are_found_as_often_as_with_lru(exponent: float) -> None:
    """Also while many others are read, and after the popular ones have become others."""
    popular = zipf(exponent, 20_000)
    for reads in (
        popular,
        [number for at, each in enumerate(popular) for number in ((each, 10_000 + at) if at % 4 == 0 else (each,))],
        [*popular, *(number + 1000 for number in popular)],
    ):
        after = len(reads) // 4
        assert hits(memory_of(), reads, after=after) > hits_of_lru(reads, after=after) - 0.02


def test_a_working_set_that_moves_is_in_memory_from_its_second_use_on() -> None:
    """What was in memory before, and is not used any more, makes room."""
    memory, size = memory_of(), PLACES * 4 // 5
    for beginning in (0, size, 2 * size, 0, size, 2 * size):
        reads = [beginning + number for number in range(size)]
        for number in reads:
            if memory.get(key(number)) is None:
                memory.admit(key(number), ENTRY)
        for number in reads:
            if memory.get(key(number)) is None:
                assert memory.admit(key(number), ENTRY)
        assert all(memory.get(key(number)) is not None for number in reads)


def test_a_crawl_between_the_turns_of_a_loop_takes_no_places_of_it() -> None:
    """Of many entries that are read once, a few are put into memory; what they displace is back at its second use."""
    memory, crawled, found = memory_of(), 10_000, 0
    for number in range(PLACES):
        memory.put(key(number), ENTRY)
    for turn in range(12):
        for number in range(crawled, crawled + 5 * PLACES):
            memory.admit_new(key(number), ENTRY)
            assert len(memory._new_ghosts) <= PLACES // 4
        crawled += 5 * PLACES
        for number in range(PLACES):
            found += turn >= 6 and memory.get(key(number)) is not None
            if memory.peek(key(number)) is None:
                memory.admit(key(number), ENTRY)
    assert found > 0.7 * 6 * PLACES
    assert set(memory._new_ghosts) <= set(memory._ghosts)


def test_uses_of_entries_on_disk_are_remembered_within_bounds() -> None:
    """No more than the number given, and none that is older than each entry in memory: it decides nothing."""
    memory = Memory(10 * size_of(ENTRY) + BLOCK_COST, remembered=20)
    for number in range(10):
        memory.put(key(number), ENTRY)
    for number in range(100, 1000):
        assert not memory.admit(key(number), ENTRY)
        assert len(memory._ghosts) <= 20
        assert len(memory) == 10
    assert memory.admit(key(999), ENTRY)
    for number in range(10):
        memory.drop(key(number))
    assert len(memory) == 1
    assert not memory._ghosts
    memory.drop(key(999))
    assert (len(memory), memory.bytes) == (0, 0)


@pytest.mark.parametrize("confirm", [True, False], ids=["confirmed", "read"])
async def test_a_store_reads_only_what_memory_has_no_room_for(
    opened: Open, monkeypatch: pytest.MonkeyPatch, *, confirm: bool
) -> None:
    """A loop over more entries than fit, each confirmed by a 304 or not, takes from disk those that do not fit."""
    asked: list[bytes] = []
    read: Callable[[Sqlite, Sequence[bytes]], dict[bytes, bytes]] = Sqlite.read

    def watched(rows: Sqlite, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        asked.extend(keys)
        return read(rows, keys)

    store = await opened(memory_bytes=2**20)
    count = 0
    while not store.memory.evictions:
        store.put(key(count), TOKEN, entry(count))
        count += 1
    length = count + count // 2
    for number in range(count, length):
        store.put(key(number), TOKEN, entry(number))
    await store.flush()
    for number in loop(length, 2):  # what is on disk alone is noted, and that takes its part of the memory
        await store.load(key(number), TOKEN)
    fits = len(store.memory)
    assert fits > length // 2
    monkeypatch.setattr(Sqlite, "read", watched)
    for turn in range(3):
        asked.clear()
        for first in range(0, length, 50):
            numbers = range(first, min(length, first + 50))
            found = await asyncio.gather(*(store.load(key(number), TOKEN) for number in numbers))
            for number, each in zip(numbers, found, strict=True):
                assert each is not None
                assert each.body == entry(number).body
                if confirm:
                    store.renew(key(number), TOKEN, replace(each, meta=replace(each.meta, asked_at=2e9 + turn)))
        assert len(asked) == pytest.approx(length - fits, abs=10)
        assert len(store.memory) == pytest.approx(fits, abs=10)


async def test_reads_that_never_come_again_leave_memory_to_those_that_do(opened: Open) -> None:
    """A crawl goes past memory to the disk once that is full; what it reads twice is in memory all the same."""
    store = await opened(memory_bytes=2**20)
    count = 0
    while len(store.memory) == count:
        store.put(key(count), TOKEN, entry(count))
        count += 1
    for number in range(10_000, 10_000 + 2 * count):
        store.put(key(number), TOKEN, entry(number))
    await store.flush()
    kept = sum(store.memory.peek(key(number)) is not None for number in range(count))
    assert kept > 0.7 * count  # the index takes its part
    again = 10_000 + 2 * count - 2
    for number in (again, again + 1):
        assert await store.load(key(number), TOKEN) == entry(number)
        assert store.memory.peek(key(number)) == entry(number)


async def test_a_crawl_takes_the_place_of_what_is_not_used_any_more(opened: Open) -> None:
    """One of many new entries is in memory at once: so the old ones leave in the end."""
    store = await opened(memory_bytes=2**18)
    for number in range(100):
        store.put(key(number), TOKEN, entry(number))
    for number in range(10_000, 20_000):
        store.put(key(number), TOKEN, entry(number, 10))
    assert not any(store.memory.peek(key(number)) for number in range(100))
