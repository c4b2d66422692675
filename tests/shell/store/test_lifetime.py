"""Queue, timers, and the end: what the store does by itself."""

import asyncio
import gc
import os
import threading
from pathlib import Path

import pytest

from tests.shell.store.samples import MIB, TOKEN, Open, entry, key, restarted


async def test_a_full_queue_drops_and_counts(opened: Open) -> None:
    """A disk that cannot follow costs writes, never waiting; memory has them all the same."""
    store = await opened(queue_entries=10)
    for number in range(30):
        store.put(key(number), TOKEN, entry(number))
    assert store.stats()["writes_dropped"] == 20
    assert store.in_memory(key(29)) == entry(29)
    await store.flush()
    assert store.stats()["disk_entries"] == 10


async def test_too_many_deletions_become_one(opened: Open) -> None:
    """When deletions too find no room the whole disk tier starts empty: nothing dropped may come back."""
    store = await opened(queue_entries=5)
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    for number in range(100, 111):
        store.drop(key(number))
    await store.flush()
    assert store.stats()["disk_entries"] == 0
    assert store.in_memory(key(1)) == entry(1)


async def test_a_group_leaves_when_it_is_full_or_after_a_while(opened: Open) -> None:
    """64 entries go at once; fewer go when the timer says so, without anybody's asking."""
    store = await opened(group_entries=4)
    for number in range(4):
        assert store._writer is not None
        assert not store._writer.is_writing
        store.put(key(number), TOKEN, entry(number))
    assert store._writer is not None
    assert store._writer.is_writing
    await store.flush()
    store = await restarted(store, opened, group_s=0)
    store.put(key(9), TOKEN, entry(9))
    while store.stats()["writes"] == 0:  # noqa: ASYNC110 - the store tells nobody when it has written
        await asyncio.sleep(0)
    assert store.stats()["queue_depth"] == 0


async def test_housekeeping_comes_by_itself(opened: Open) -> None:
    """The timer looks after the disk without anybody's asking."""
    store = await opened(maintain_s=0.001)
    seen = asyncio.Event()
    tend = store._disk.maintain  # type: ignore[union-attr]

    async def watched() -> list[bytes]:
        seen.set()
        return await tend()

    store._disk.maintain = watched  # type: ignore[method-assign,union-attr]
    async with asyncio.timeout(60):
        await seen.wait()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are looked up in /proc")
async def test_closing_leaves_no_thread_no_file_and_no_task(opened: Open, folder: Path) -> None:
    """After close nothing of the store is alive."""
    store = await opened()
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    store.memory.clear()
    await store.load(key(1), TOKEN)
    assert all(not os.get_inheritable(number) for number in _descriptors(folder))
    assert _descriptors(folder)
    await store.close()
    gc.collect()
    assert _descriptors(folder) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("store")]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_twice_and_using_what_is_closed_is_harmless(opened: Open) -> None:
    """A late caller during shutdown gets misses, not errors."""
    store = await opened()
    store.put(key(1), TOKEN, entry(1))
    await store.close()
    await store.close()
    store.put(key(2), TOKEN, entry(2))
    store.drop(key(3))
    store.purge()
    await store.flush()
    await store.maintain()
    assert await store.load(key(1), TOKEN) is None


async def test_closing_waits_no_longer_than_told(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that hangs does not hold up the end; what is lost is said."""
    store = await opened()
    hanging = threading.Event()
    store._disk._writer.submit(hanging.wait)  # type: ignore[union-attr]
    store.put(key(1), TOKEN, entry(1))
    await store.close(0.01)
    hanging.set()
    assert "1 writes are lost" in caplog.text


async def test_the_numbers_of_the_store(opened: Open) -> None:
    """The numbers tell one number for each thing that can be full, lost or broken."""
    store = await opened(memory_bytes=MIB)
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    stats = store.stats()
    assert stats["memory_entries"] == stats["index_entries"] == stats["disk_entries"] == stats["writes"] == 1
    assert 600 < int(stats["memory_bytes"]) < 2000
    assert int(stats["disk_bytes"]) > 4096
    assert stats["breaker"] == "closed"
    zero = {"queue_depth", "writes_dropped", "bad_rows", "disk_evictions", "memory_evictions", "quarantines"}
    assert {name: stats[name] for name in zero} == dict.fromkeys(zero, 0)


def _descriptors(folder: Path) -> list[int]:
    """The descriptors of this process that lead into *folder*."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            if str(link.readlink()).startswith(str(folder)):
                found.append(int(link.name))
        except FileNotFoundError:
            continue  # the one that listed the folder
    return found
