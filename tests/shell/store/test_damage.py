"""Files that are damaged, cut or taken away, closed or open: what is served is right, the rest is a miss."""

# ruff: noqa: ASYNC240 - the loop of a test serves nobody else

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.shell.store.samples import ROWS, TOKEN, Clock, Open, key, served, works

# --- damaged while closed ---


def header_zeroed(path: Path) -> None:
    """Damage the first hundred bytes."""
    _overwrite(path, 0, bytes(100))


def first_page_damaged(path: Path) -> None:
    """Damage the schema."""
    _overwrite(path, 100, os.urandom(3000))


def cut_to_half(path: Path) -> None:
    """Lose the second half."""
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def cut_within_a_page(path: Path) -> None:
    """Lose all but a bit of the first page."""
    os.truncate(path, 2000)


def a_text(path: Path) -> None:
    """Put a text in its place."""
    path.write_text("this is no database\n" * 500)


def garbage(path: Path) -> None:
    """Put noise in its place."""
    path.write_bytes(os.urandom(100_000))


@pytest.mark.parametrize("damage", [header_zeroed, first_page_damaged, cut_to_half, cut_within_a_page, a_text, garbage])
async def test_a_damaged_database_is_set_aside(filled: Path, opened: Open, damage: Callable[[Path], None]) -> None:
    """A file that is no whole database does not stop the start, serves nothing wrong, and is replaced."""
    damage(filled / "cache.db")
    store = await opened()
    assert await served(store) < ROWS
    await store.flush()
    assert await works(store)
    assert store.stats()["quarantines"] == 1
    assert len(list(filled.glob("cache.db.bad-*"))) == 1


@pytest.mark.parametrize("change", ["deleted", "emptied", "garbage in the log", "garbage in the index of the log"])
async def test_what_sqlite_mends_is_left_to_it(filled: Path, opened: Open, change: str) -> None:
    """An absent or empty database starts empty, and a foreign log is ignored; nothing is set aside for it."""
    match change:
        case "deleted":
            (filled / "cache.db").unlink()
        case "emptied":
            os.truncate(filled / "cache.db", 0)
        case "garbage in the log":
            (filled / "cache.db-wal").write_bytes(os.urandom(50_000))
        case _:
            (filled / "cache.db-shm").write_bytes(os.urandom(32_768))
    store = await opened()
    assert await served(store) == (ROWS if "log" in change else 0)
    assert await works(store)
    assert store.stats()["quarantines"] == 0


async def test_garbage_in_the_middle_costs_only_what_it_hit(filled: Path, opened: Open) -> None:
    """Some damaged pages are misses, right rows are still served, and after a few the file is replaced."""
    size = (filled / "cache.db").stat().st_size
    _overwrite(filled / "cache.db", size // 2 // 4096 * 4096, os.urandom(16_384))
    store = await opened()
    count = await served(store)
    assert 0 < count < ROWS
    await store.flush()
    assert await works(store)


async def test_flipped_bytes_in_a_value_are_a_miss(filled: Path, opened: Open) -> None:
    """SQLite hands out a changed value without a word; the seal notices, and the row is deleted."""
    path = filled / "cache.db"
    blob = _value(path, key(7))
    place = path.read_bytes().index(blob[200:260])
    _overwrite(path, place, bytes(byte ^ 0x55 for byte in blob[200:260]))
    store = await opened()
    assert await store.load(key(7), TOKEN) is None
    assert await served(store) == ROWS - 1
    await store.flush()
    assert store.stats()["bad_rows"] == 1
    assert store.stats()["disk_entries"] == ROWS - 1
    assert store.stats()["quarantines"] == 0


# --- damaged while open ---


@pytest.mark.parametrize("removal", ["folder", "database", "lock", "another database"])
async def test_files_that_vanish_are_noticed(filled: Path, opened: Open, removal: str) -> None:
    """Writes into unlinked files would succeed for ever; housekeeping sees it, and after a rest starts afresh."""
    clock = Clock()
    store = await opened(clock=clock, rest_s=30)
    assert await works(store)
    match removal:
        case "folder":
            shutil.rmtree(filled)
        case "database":
            (filled / "cache.db").unlink()
        case "lock":
            (filled / "lock").unlink()
        case _:
            shutil.copy(filled / "cache.db", filled / "copy")
            (filled / "copy").rename(filled / "cache.db")
    await store.maintain()
    assert store.stats()["breaker"] == "open"
    assert not await works(store)
    assert await store.load(key(1), TOKEN) is None
    clock.now += 29
    await store.maintain()
    assert store.stats()["breaker"] == "open"
    clock.now += 2
    await store.maintain()
    assert store.stats()["breaker"] == "closed"
    assert await works(store)
    assert (filled / "cache.db").exists()


async def test_a_file_cut_short_while_open_ends_nothing(filled: Path, opened: Open) -> None:
    """Were the file mapped into memory, a reader of the missing part would be killed by SIGBUS."""
    store = await opened()
    os.truncate(filled / "cache.db", 8192)
    assert await served(store) < ROWS
    await store.flush()
    for _ in range(3):
        await works(store)
    await store.maintain()
    assert await works(store)


async def test_a_database_damaged_while_open_is_replaced(filled: Path, opened: Open) -> None:
    """Damage that turns up under way empties the store at most; callers see misses."""
    store = await opened()
    size = (filled / "cache.db").stat().st_size
    _overwrite(filled / "cache.db", 4096, os.urandom(size - 4096))
    assert await served(store) < ROWS
    for _ in range(3):
        await works(store)
    assert await works(store)
    assert store.stats()["quarantines"] == 1


async def test_a_locked_database_is_a_rest(filled: Path, opened: Open) -> None:
    """Somebody who holds SQLite's lock from outside costs a second at the start, and no error."""
    database = sqlite3.connect(filled / "cache.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    clock = Clock()
    store = await opened(clock=clock)
    assert store.stats()["breaker"] == "open"
    assert not await works(store)
    database.execute("ROLLBACK")
    database.close()
    clock.now += 31
    await store.maintain()
    assert await works(store)
    assert await served(store) == ROWS


def _overwrite(path: Path, place: int, new: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(new)


def _value(path: Path, wanted: bytes) -> bytes:
    database = sqlite3.connect(path)
    ((value,),) = database.execute("SELECT value FROM Cache WHERE key = ?", (wanted,))
    database.close()
    return bytes(value)
