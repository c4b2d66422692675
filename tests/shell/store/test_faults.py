"""Whatever happens to the disk, callers see misses, memory goes on, and the store comes back by itself."""

# ruff: noqa: ASYNC221, ASYNC240 - the loop of a test serves nobody else

import asyncio
import errno
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.shell.store import Store
from tests.shell.store.samples import MIB, ROWS, TOKEN, Clock, Mount, Open, entry, folder_bytes, key, served, works
from tests.work import slowness

# --- the breaker ---


async def test_trouble_is_said_once_and_tried_again(
    filled: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While a disk is broken it is asked once in a while, not by every caller, and the log is not filled."""
    clock, calls = Clock(), []
    store = await opened(clock=clock, rest_s=10)

    def broken(*arguments: object) -> None:
        calls.append(arguments)
        raise OSError(5, "Input/output error")

    tier = store._disk._database  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        for name in ("_read", "write", "open"):
            patch.setattr(tier, name, broken)
        for turn in range(40):
            assert await store.load(key(turn), TOKEN) is None
            store.put(key(1000 + turn), TOKEN, entry(turn))
            await store.flush()
            clock.now += 1
            await store.maintain()
    assert 4 <= len(calls) <= 6
    assert caplog.text.count("is not used for now") == 1
    assert int(store.stats()["writes_dropped"]) >= 36
    clock.now += 11
    await store.maintain()
    assert store.stats()["breaker"] == "closed"
    assert await served(store) == ROWS


def failing(work: Callable[..., object], *errors: Exception) -> Callable[..., object]:
    """*work*, failing with each of *errors* in turn first."""
    rest = list(errors)

    def fail(*arguments: object) -> object:
        if rest:
            raise rest.pop(0)
        return work(*arguments)

    return fail


async def after_a_rest(store: Store, clock: Clock) -> None:
    """The disk has been left alone as long as trouble asks for, and is tried again."""
    clock.now += 31
    await store.maintain()


def damaged() -> sqlite3.DatabaseError:
    """What SQLite says of a damaged file."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


async def test_damage_that_a_write_finds_is_not_written_on(
    filled: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that meets a damaged page sets the file aside at once; the next one goes to a new file."""
    store = await opened()
    tier = store._disk._database  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        patch.setattr(tier, "write", failing(tier.write, damaged()))
        assert not await works(store)
    assert store.stats()["quarantines"] == 1
    assert store.stats()["breaker"] == "closed"
    assert await works(store)
    assert len(list(filled.glob("cache.db.bad-*"))) == 1


async def test_a_disk_that_damages_every_file_is_left_alone_for_a_while(
    filled: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file that is damaged before it held anything is a reason to rest, not to make files without end."""
    clock = Clock()
    store = await opened(clock=clock)
    tier = store._disk._database  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        errors = [damaged() for _ in range(5)]
        patch.setattr(tier, "write", failing(tier.write, *errors))
        for _ in range(4):
            assert not await works(store)
    assert store.stats()["quarantines"] == 1
    assert store.stats()["breaker"] == "open"
    await after_a_rest(store, clock)
    assert store.stats()["quarantines"] == 2
    assert await works(store)


async def test_a_disk_that_stays_full_costs_the_database(
    filled: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found full twice in a row, the database is removed: on a full disk nothing can be deleted from it."""
    clock = Clock()
    store = await opened(clock=clock)
    full = OSError(errno.ENOSPC, "No space left on device")
    tier = store._disk._database  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        patch.setattr(tier, "write", failing(tier.write, full, full))
        for rows in (ROWS, 0):
            assert not await works(store)
            clock.now += 31
            await store._disk.maintain()  # type: ignore[union-attr]
            assert await served(store) == rows
            store.memory.clear()
    store.memory.clear()
    assert await works(store)
    assert store.stats()["quarantines"] == 0


async def test_a_mistake_of_ours_is_a_miss_too(
    filled: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody foresaw reaches no caller either: it is told in full, and the disk rests."""
    clock = Clock()
    store = await opened(clock=clock)
    tier = store._disk._database  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        for name in ("_read", "write"):
            patch.setattr(tier, name, failing(getattr(tier, name), KeyError("never")))
        assert await store.load(key(1), TOKEN) is None
        await after_a_rest(store, clock)
        assert not await works(store)
    assert "Traceback" in caplog.text
    await after_a_rest(store, clock)
    assert await works(store)


async def test_a_purge_during_opening_is_not_forgotten(filled: Path, opened: Open) -> None:
    """A purge that comes while the database is being opened waits for its turn, and takes place."""
    store = await opened()
    opening = asyncio.create_task(store._disk.open())  # type: ignore[union-attr]
    await asyncio.sleep(0)
    store.purge()
    await opening
    assert await served(store) == 0
    await store.flush()
    assert store.stats()["disk_entries"] == 0
    assert await works(store)


async def test_a_failed_group_is_not_read_in_its_older_form(
    filled: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a newer version could not be written, the older row is a miss once the disk is back."""
    clock = Clock()
    store = await opened(clock=clock, memory_bytes=0)
    store.put(key(1), TOKEN, entry(1, version=1))
    tier = store._disk._database  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        patch.setattr(tier, "write", failing(tier.write, sqlite3.OperationalError("disk I/O error")))
        await store.flush()
    await after_a_rest(store, clock)
    assert await store.load(key(1), TOKEN) is None
    await store.flush()
    assert store.stats()["disk_entries"] == ROWS - 1


async def test_a_drop_during_a_rest_is_not_forgotten(filled: Path, opened: Open) -> None:
    """What was dropped while the disk was away is gone when it is back."""
    clock = Clock()
    store = await opened(clock=clock)
    (filled / "lock").unlink()
    await store.maintain()
    store.drop(key(1))
    await after_a_rest(store, clock)
    assert await store.load(key(1), TOKEN) is None
    await store.flush()
    assert store.stats()["disk_entries"] == ROWS - 1


async def test_a_purge_during_a_rest_is_not_forgotten(filled: Path, opened: Open) -> None:
    """What was purged while the disk was away is gone when it is back."""
    clock = Clock()
    store = await opened(clock=clock)
    (filled / "lock").unlink()
    await store.maintain()
    store.purge()
    await after_a_rest(store, clock)
    assert await served(store) == 0


# --- file systems ---


async def test_a_full_disk_costs_writes_only(mounted: Mount, opened: Open) -> None:
    """When the file system is full, callers go on from memory; then the database is given up to regain room."""
    clock = Clock()
    place = mounted("size=6m")
    store = await opened(place / "cache", clock=clock, queue_entries=10_000)
    for number in range(4000):
        store.put(key(number), TOKEN, entry(number, 1400))
        if number % 64 == 0:
            await store.flush()
    assert store.stats()["breaker"] == "open"
    assert store.in_memory(key(3999)) == entry(3999, 1400)
    assert await store.load(key(0), TOKEN) == entry(0, 1400)
    for _ in range(6):
        await after_a_rest(store, clock)
        if await works(store):
            break
    assert await works(store)
    assert folder_bytes(place / "cache") < 6 * MIB


async def test_a_disk_filled_by_others_is_waited_for(mounted: Mount, opened: Open) -> None:
    """Starting on a full file system is no error either, and ends when there is room."""
    clock = Clock()
    place = mounted("size=2m")
    (place / "others").write_bytes(bytes(2 * MIB - 8192))
    store = await opened(place / "cache", clock=clock)
    assert not await works(store)
    (place / "others").unlink()
    for _ in range(3):
        await after_a_rest(store, clock)
    assert await works(store)


async def test_a_read_only_file_system_costs_no_time(mounted: Mount, opened: Open) -> None:
    """A store that starts there, on rows or on nothing, does not spin: nothing is tried for ever."""
    place, clock = mounted("size=16m"), Clock()
    store = await opened(place / "cache")
    for number in range(ROWS):
        store.put(key(number), TOKEN, entry(number, 1400))
    await store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    spent = time.process_time()
    stores = [await opened(place / name, clock=clock) for name in ("cache", "other")]
    for store in stores:
        assert await served(store) == 0
        assert not await works(store)
        await after_a_rest(store, clock)
        assert store.stats()["breaker"] == "open"
    assert time.process_time() - spent < 2 * slowness()
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
    await after_a_rest(stores[0], clock)
    assert await served(stores[0]) == ROWS
    assert await works(stores[0])
