"""What is not on disk is known without the disk, also where the index has no room for all rows or begins empty."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy.shell.store import Store
from tests.shell.store.samples import ROWS, TOKEN, Open, entry, key

MANY = 2000
"""More rows than a small index has room for."""


async def settled(store: Store) -> None:
    """Wait until the keys on disk are listed."""
    await store.flush()
    if store._listing is not None:
        await asyncio.wait((store._listing,), timeout=60)


def unknown(store: Store, numbers: range) -> int:
    """How many keys of *numbers* are known not to be on disk."""
    return sum(store.is_unknown(key(number)) for number in numbers)


async def test_after_a_restart_what_was_never_stored_is_unknown(filled: Path, opened: Open) -> None:
    """A first read of an object does not wait for the disk to say that it has nothing."""
    store = await opened()
    await settled(store)
    assert unknown(store, range(ROWS)) == 0
    assert unknown(store, range(ROWS, ROWS + 1000)) > 990
    assert [(await store.load(key(number), TOKEN)) is not None for number in range(5)] == [True] * 5
    assert await store.load(key(ROWS + 1), TOKEN) is None


async def test_what_is_stored_while_keys_are_listed_is_known(filled: Path, opened: Open) -> None:
    """Whether or not the listing finds its row."""
    store = await opened()
    store.put(key(ROWS), TOKEN, entry(ROWS))
    store.memory.clear()
    assert not store.is_unknown(key(ROWS + 1))  # until the keys are listed
    await settled(store)
    assert unknown(store, range(ROWS + 1)) == 0
    assert unknown(store, range(ROWS + 1, ROWS + 1000)) > 990


async def test_rows_that_the_index_has_no_room_for_are_known(opened: Open) -> None:
    """They are read from disk as ever; a read of another object is not."""
    store = await opened(memory_bytes=2**20)
    for number in range(MANY):
        store.put(key(number), TOKEN, entry(number))
    await settled(store)
    assert int(store.stats()["index_entries"]) < MANY
    assert unknown(store, range(MANY)) == 0
    assert unknown(store, range(MANY, MANY + 1000)) > 970
    assert await store.load(key(0), TOKEN) == entry(0)
    store.put(key(MANY), TOKEN, entry(MANY))
    await store.flush()
    store.memory.clear()
    assert not store.is_unknown(key(MANY))


async def test_after_a_purge_nothing_is_known(filled: Path, opened: Open) -> None:
    """The keys of the old database are forgotten with it."""
    store = await opened()
    await settled(store)
    store.purge()
    await settled(store)
    assert unknown(store, range(ROWS)) == ROWS
