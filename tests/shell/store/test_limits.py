"""Limits are hard, and never empty the cache."""

# ruff: noqa: ASYNC240 - the loop of a test serves nobody else

import sqlite3
from pathlib import Path

import pytest
from diskcache import Cache

from proxy.shell.store.directory import Directory
from proxy.shell.store.sqlite import RawDisk, Sqlite
from proxy.shell.store.verify import verify_database
from tests.shell.store.samples import MIB, TOKEN, Open, entry, folder_bytes, key


@pytest.mark.parametrize("limit, count, size", [(2, 2600, 1400), (8, 900, 20_000), (16, 60, 700_000)])
async def test_the_disk_limit_is_hard(opened: Open, folder: Path, limit: int, count: int, size: int) -> None:
    """At no group's end do all files together pass the limit, and in the end the newest rows fill most of it."""
    store = await opened(disk_bytes=limit * MIB, memory_bytes=0, queue_entries=10_000, queue_bytes=2**30)
    largest = 0
    for number in range(count):
        store.put(key(number), TOKEN, entry(number, size))
        if number % 64 == 63 or size > 100_000:
            await store.flush()
            largest = max(largest, folder_bytes(folder))
    await store.flush()
    assert largest <= limit * MIB
    stats = store.stats()
    kept = int(stats["disk_entries"])
    assert kept + int(stats["disk_evictions"]) == count == stats["writes"]
    assert kept * size > 0.35 * limit * MIB
    assert await store.load(key(count - 1), TOKEN) == entry(count - 1, size)
    assert await store.load(key(0), TOKEN) is None


async def test_the_index_does_not_promise_what_was_shed(opened: Open) -> None:
    """Who is told a validator finds the body that goes with it: rows that made room leave the index too."""
    store = await opened(disk_bytes=MIB, memory_bytes=0, queue_entries=10_000)
    for number in range(1500):
        store.put(key(number), TOKEN, entry(number, 1400))
    await store.flush()
    assert store.known_meta(key(0)) is None
    promised = [number for number in range(1500) if store.known_meta(key(number))]
    assert len(promised) == store.stats()["disk_entries"]
    assert len(promised) > 100
    assert all([await store.load(key(number), TOKEN) for number in promised])


async def test_the_longest_stored_leave_first(opened: Open) -> None:
    """A row that was written again outlives its neighbours."""
    store = await opened(disk_bytes=MIB, memory_bytes=0, queue_entries=10_000)
    for number in range(100):
        store.put(key(number), TOKEN, entry(number, 1400))
    await store.flush()
    store.put(key(0), TOKEN, entry(0, 1400, version=1))
    for number in range(100, 100 + int(_room(store.stats()["disk_bytes"])) - 50):
        store.put(key(number), TOKEN, entry(number, 1400))
    await store.flush()
    assert int(store.stats()["disk_evictions"]) > 0
    assert await store.load(key(1), TOKEN) is None
    assert await store.load(key(0), TOKEN) == entry(0, 1400, version=1)


def _room(taken: object) -> float:
    """How many rows a folder of 1 MiB has room for, 100 of which take *taken* bytes."""
    return 600_000 / (int(str(taken)) / 100)


async def test_a_smaller_limit_holds_from_the_start(opened: Open, folder: Path) -> None:
    """A database left over from a larger limit is cut to the new one on opening, not emptied."""
    store = await opened(disk_bytes=32 * MIB, queue_entries=10_000, queue_bytes=2**30)
    for number in range(2000):
        store.put(key(number), TOKEN, entry(number, 1400))
    await store.close()
    assert folder_bytes(folder) > 3 * MIB
    store = await opened(disk_bytes=2 * MIB)
    await store.close()
    assert folder_bytes(folder) <= 2 * MIB
    store = await opened(disk_bytes=2 * MIB)
    assert await store.load(key(1999), TOKEN) == entry(1999, 1400)


async def test_what_was_set_aside_counts(opened: Open, folder: Path) -> None:
    """Bad files kept for somebody to look at are within the limit, and only the newest lot is kept."""
    for turn in range(3):
        store = await opened(disk_bytes=4 * MIB, queue_entries=10_000, queue_bytes=2**30)
        for number in range(400 if turn < 2 else 3000):
            store.put(key(number), TOKEN, entry(number, 1400))
        await store.flush()
        assert folder_bytes(folder) <= 4 * MIB
        await store.close()
        assert len({path.name.partition(".bad-")[2] for path in folder.glob("*.bad-*")}) == min(turn, 1)
        _spoil(folder)
    await opened(disk_bytes=4 * MIB)
    assert not list(folder.glob("*.bad-*")), "one above a quarter of the limit is not kept"


async def test_a_row_above_a_quarter_is_not_written(opened: Open) -> None:
    """One entry does not push out all the others."""
    store = await opened(disk_bytes=2 * MIB, memory_bytes=0, max_body_bytes=10 * MIB)
    store.put(key(1), TOKEN, entry(1))
    store.put(key(2), TOKEN, entry(2, MIB))
    await store.flush()
    assert store.known_meta(key(1))
    assert store.known_meta(key(2)) is None
    assert store.stats()["writes_dropped"] == 1


async def test_on_a_full_file_system_nothing_is_written(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for the log itself, reading and deleting go on."""
    store = await opened(memory_bytes=0, free_floor_bytes=64 * MIB)
    store.put(key(1), TOKEN, entry(1))
    store.put(key(3), TOKEN, entry(3))
    await store.flush()
    monkeypatch.setattr(Directory, "space", lambda _: (1000, 2**40))
    store.put(key(2), TOKEN, entry(2))
    store.drop(key(3))
    await store.flush()
    assert await store.load(key(1), TOKEN) == entry(1)
    assert await store.load(key(2), TOKEN) is None
    assert store.known_meta(key(2)) is None
    assert store.stats()["writes_dropped"] == 1
    assert store.stats()["disk_entries"] == 1
    assert store.stats()["breaker"] == "closed"


async def test_on_a_nearly_full_file_system_the_store_does_not_grow(
    opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Below the floor new rows take the place of old ones, which the log tells once: the rest is left to others."""
    store = await opened(memory_bytes=0, free_floor_bytes=64 * MIB, queue_entries=10_000)
    for number in range(1000):
        store.put(key(number), TOKEN, entry(number, 1400))
    await store.flush()
    size = int(store.stats()["disk_bytes"])
    monkeypatch.setattr(Directory, "space", lambda _: (60 * MIB, 2**40))
    for number in range(1000, 3000):
        store.put(key(number), TOKEN, entry(number, 1400))
    await store.flush()
    assert 0.8 * size < int(store.stats()["disk_bytes"]) <= size
    assert await store.load(key(2999), TOKEN) == entry(2999, 1400)
    assert await store.load(key(0), TOKEN) is None
    assert caplog.text.count("is nearly full") == 1


async def test_a_small_file_system_is_used_all_the_same(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The floor is a twentieth at most: a volume smaller than the floor is no reason to keep nothing."""
    store = await opened(free_floor_bytes=64 * MIB)
    monkeypatch.setattr(Directory, "space", lambda _: (30 * MIB, 32 * MIB))
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    assert store.stats()["writes"] == 1


def test_culling_does_not_empty_a_database_that_keeps_its_pages(tmp_path: Path) -> None:
    """Free pages that are not returned do not count as used: who counts them deletes until nothing is left."""
    rows = Sqlite(str(tmp_path), MIB)
    rows.reset("sqlite_auto_vacuum", 0)
    rows._sql("VACUUM")
    assert rows._sql("PRAGMA auto_vacuum").fetchall() == [(0,)]
    rows.write(((key(number), bytes(1400)) for number in range(500)), lambda *_row: b"", 1.0)
    before = rows.live_bytes()
    assert len(rows.evict_oldest(250)) == 250
    assert 0.4 * before < rows.live_bytes() < 0.6 * before
    rows.close()


def _row(number: int) -> tuple[bytes, bytes]:
    return key(number), bytes(1400)


@pytest.mark.parametrize("is_older", [False, True])
def test_rows_are_counted_without_triggers(tmp_path: Path, *, is_older: bool) -> None:
    """The number of rows is right after each kind of change, also in a database that an older version made."""
    if is_older:
        rows = Cache(str(tmp_path), disk=RawDisk, eviction_policy="least-recently-stored", sqlite_auto_vacuum=1)
        for number in range(300):
            rows.set(*_row(number))
        rows.close()
        verify_database(tmp_path / "cache.db")
    rows = Sqlite(str(tmp_path), MIB)
    assert not rows._sql("SELECT * FROM sqlite_master WHERE type = 'trigger'").fetchall()
    rows.write((_row(number) for number in range(200)), lambda *_row: b"", 1.0)
    assert len(rows) == (300 if is_older else 200)
    rows.write((_row(number) for number in range(150, 400)), lambda *_row: b"", 2.0)
    assert len(rows) == 400
    rows.write([(key(1), None), (key(399), None), (key(1000), None), _row(400)], lambda *_row: b"", 3.0)
    assert len(rows) == 399
    assert rows.read([key(0), key(1), key(63), key(64), key(399), key(400)]).keys() == {
        key(number) for number in (0, 63, 64, 400)
    }
    assert len(rows.evict_oldest(50)) == 50
    assert len(rows) == 349 == rows._sql("SELECT COUNT(*) FROM Cache").fetchone()[0]
    rows.close()
    verify_database(tmp_path / "cache.db")


async def test_making_room_takes_place_before_the_transaction(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages come back at COMMIT only, so no row is shed while a group is being written."""
    seen, shed = [], Sqlite.evict_oldest

    def watched(rows: Sqlite, count: int) -> list[bytes]:
        seen.append(rows._txn_id)
        return shed(rows, count)

    monkeypatch.setattr(Sqlite, "evict_oldest", watched)
    store = await opened(disk_bytes=MIB, queue_entries=10_000)
    for number in range(1500):
        store.put(key(number), TOKEN, entry(number, 1400))
    await store.flush()
    assert set(seen) == {None}


def _spoil(folder: Path) -> None:
    database = sqlite3.connect(folder / "cache.db", isolation_level=None)
    database.execute("CREATE TABLE planted (x)")
    database.close()
