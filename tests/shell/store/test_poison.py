"""A directory prepared by somebody else: nothing in it runs, leads elsewhere, or stops the store."""

# ruff: noqa: ASYNC240 - the loop of a test serves nobody else

import os
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.shell.store.sqlite import FOREIGN, BadEntry, RawDisk
from tests.shell.store.samples import TOKEN, Open, entry, key, seen_as


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        """What pickle calls."""
        return (os.mkdir, (str(self.path), 0o700))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A path that exists only if planted code has run."""
    return tmp_path / "canary"


@pytest.fixture
async def filled(opened: Open, folder: Path) -> Path:
    """A folder with ten good rows, closed."""
    store = await opened()
    for number in range(10):
        store.put(key(number), TOKEN, entry(number))
    await store.close()
    return folder


def alter(folder: Path, sql: str, *values: object) -> None:
    """Run *sql* on the closed database."""
    database = sqlite3.connect(folder / "cache.db", isolation_level=None)
    database.execute(sql, values)
    database.close()


ROWS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a pickled value": ("mode = 4, value = ?", lambda path: pickle.dumps(Canary(path))),
    "a pickle in a file": ("mode = 4, value = NULL, filename = ?", lambda path: "../pickle"),
    "a file outside": ("mode = 2, value = NULL, filename = ?", lambda path: "../outside"),
    "a text file outside": ("mode = 3, value = NULL, filename = ?", lambda path: "../outside"),
    "a file beside a value": ("filename = ?", lambda path: "../outside"),
    "text": ("value = ?", lambda path: "text"),
    "a number": ("value = ?", lambda path: 7),
    "nothing": ("value = ?", lambda path: None),
    "another mode": ("mode = ?", lambda path: "x"),
    "foreign bytes": ("value = ?", lambda path: b"GPC1 foreign"),
    "no bytes": ("value = ?", lambda path: b""),
}


@pytest.mark.parametrize("name", ROWS)
async def test_a_planted_row_is_a_miss(filled: Path, canary: Path, opened: Open, name: str) -> None:
    """A row of another kind runs nothing, reads and unlinks no file, is counted and deleted; the others are served."""
    outside, planted = filled.parent / "outside", filled.parent / "pickle"
    outside.write_text("outside")
    planted.write_bytes(pickle.dumps(Canary(canary)))
    columns, value = ROWS[name]
    alter(filled, f"UPDATE Cache SET {columns} WHERE key = ?", value(canary), key(3))  # noqa: S608 - our own columns
    store = await opened()
    assert await store.load(key(3), TOKEN) is None
    await store.flush()
    assert store.stats()["bad_rows"] == 1
    assert store.stats()["disk_entries"] == 9
    assert [await store.load(key(number), TOKEN) for number in (2, 4)] == [entry(2), entry(4)]
    assert store.stats()["quarantines"] == 0
    assert outside.exists()
    assert planted.exists()
    assert not canary.exists()


async def test_a_planted_key_is_never_unpickled(filled: Path, canary: Path, opened: Open) -> None:
    """A pickled key runs nothing, neither on reading nor when the row is shed."""
    planted = pickle.dumps(Canary(canary))
    alter(filled, "UPDATE Cache SET raw = 0, key = ?, store_time = 0 WHERE key = ?", planted, key(3))
    store = await opened()
    assert await store.load(key(3), TOKEN) is None
    assert store._disk._database._rows.evict_oldest(5)  # type: ignore[union-attr]
    with pytest.raises(BadEntry):
        RawDisk("").get(b"", raw=False)
    assert not canary.exists()


async def test_a_row_under_another_key_is_a_miss(filled: Path, opened: Open) -> None:
    """A row that was moved to another key does not answer for it."""
    alter(filled, "DELETE FROM Cache WHERE key = ?", key(4))
    alter(filled, "UPDATE Cache SET key = ? WHERE key = ?", key(4), key(3))
    store = await opened()
    assert await store.load(key(4), TOKEN) is None
    assert store.stats()["bad_rows"] == 1


SCHEMAS = {
    "a trigger": "CREATE TRIGGER t AFTER DELETE ON Cache BEGIN DELETE FROM Cache; END",
    "a view": "CREATE VIEW v AS SELECT 1",
    "a table": "CREATE TABLE t (x)",
    "an index": "CREATE INDEX i ON Cache (value)",
    "another trigger": "CREATE TRIGGER Settings_count_insert AFTER INSERT ON Cache BEGIN SELECT 1; END",
    "a missing index": "DROP INDEX Cache_key_raw",
    "another table": "ALTER TABLE Cache ADD COLUMN more",
    "an attribute of the disk": "INSERT INTO Settings VALUES ('disk_x', 1)",
    "another folder": "INSERT INTO Settings VALUES ('_directory', '/tmp')",
    "another method": "INSERT INTO Settings VALUES ('get', 'x')",
    "another pragma": "INSERT INTO Settings VALUES ('sqlite_temp_store_directory', '/tmp')",
    "a setting of another type": "UPDATE Settings SET value = x'00' WHERE key = 'size_limit'",
    "a setting that is nothing": "UPDATE Settings SET value = NULL WHERE key = 'cull_limit'",
    "a count that is none": "UPDATE Settings SET value = 'many' WHERE key = 'count'",
}


@pytest.mark.parametrize("name", SCHEMAS)
async def test_a_planted_schema_or_setting_is_set_aside(filled: Path, opened: Open, name: str) -> None:
    """A database that this build would not have made is not used, but kept to look at."""
    alter(filled, SCHEMAS[name])
    store = await opened()
    assert store.stats()["quarantines"] == 1
    assert await store.load(key(1), TOKEN) is None
    assert list(filled.glob("cache.db.bad-*"))
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    assert store.stats()["disk_entries"] == 1


@pytest.mark.parametrize("setting", ["eviction_policy", "cull_limit", "sqlite_synchronous", "sqlite_journal_mode"])
async def test_a_known_setting_is_overridden(filled: Path, opened: Open, setting: str) -> None:
    """The file has no say in the settings: ours are passed, every one."""
    alter(filled, "UPDATE Settings SET value = 'x' WHERE key = ?", setting)
    store = await opened()
    assert await store.load(key(1), TOKEN) == entry(1)
    assert store.stats()["quarantines"] == 0


async def test_a_database_that_returns_no_space_is_set_aside(folder: Path, filled: Path, opened: Open) -> None:
    """Without auto-vacuum the limit on the file could not be kept."""
    database = sqlite3.connect(folder / "cache.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = delete")
    database.execute("PRAGMA auto_vacuum = 0")
    database.execute("VACUUM")
    database.close()
    store = await opened()
    assert store.stats()["quarantines"] == 1


def linked(path: Path) -> None:
    """Put a link to another database in the place of *path*."""
    path.rename(path.parent.parent / "elsewhere.db")
    path.symlink_to("../elsewhere.db")


def twice_named(path: Path) -> None:
    """Give the database a second name."""
    os.link(path, path.parent.parent / "second.db")


def a_folder(path: Path) -> None:
    """Put a folder in the place of *path*."""
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    """Put a pipe in the place of *path*."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("plant", [linked, twice_named, a_folder, a_pipe])
async def test_only_a_plain_file_is_opened(filled: Path, opened: Open, plant: Callable[[Path], None]) -> None:
    """A database that is a link, has two names, or is no file is put out of the way."""
    plant(filled / "cache.db")
    store = await opened()
    assert store.stats()["quarantines"] == 1
    assert store.stats()["breaker"] == "closed"
    store.put(key(1), TOKEN, entry(1))
    await store.flush()
    assert (filled / "cache.db").lstat().st_nlink == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away takes root")
async def test_a_file_of_another_user_is_set_aside(filled: Path, opened: Open) -> None:
    """A database that somebody else owns can change under our hands."""
    os.chown(filled / "cache.db", 12345, 12345)
    assert (await opened()).stats()["quarantines"] == 1


@pytest.mark.parametrize("name", ["cache.db-wal", "cache.db-shm", "lock"])
async def test_a_linked_companion_is_not_followed(filled: Path, opened: Open, name: str) -> None:
    """No file is written through a link under one of the database's names."""
    target = filled.parent / "target"
    target.write_text("target")
    (filled / name).unlink(missing_ok=True)
    (filled / name).symlink_to(target)
    store = await opened()
    store.put(key(20), TOKEN, entry(20))
    await store.flush()
    assert target.read_text() == "target"
    assert store.in_memory(key(20)) == entry(20)


async def test_a_folder_that_holds_other_things_is_left_alone(
    folder: Path, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody's home given by mistake is neither closed off nor written to."""
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    (folder / "letter.txt").write_text("dear")
    store = await opened()
    store.put(key(1), TOKEN, entry(1))
    assert await store.load(key(1), TOKEN) == entry(1)
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]
    assert folder.stat().st_mode & 0o777 == 0o755
    assert "letter.txt" in caplog.text
    assert store.stats()["breaker"] == "open"


async def test_a_folder_is_never_taken_for_another(
    folder: Path, opened: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that diskcache would expand is refused: the rows would lie where nobody looked."""
    monkeypatch.setenv("ELSEWHERE", "elsewhere")
    store = await opened(folder / "$ELSEWHERE")
    assert store.stats()["breaker"] == "open"
    assert "$" in caplog.text
    assert not folder.exists()


async def test_a_link_to_a_folder_is_refused(folder: Path, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """The folder is named itself: a link could be pointed elsewhere."""
    (folder.parent / "real").mkdir()
    folder.symlink_to("real")
    await opened()
    assert "not a link" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away takes root")
async def test_another_users_folder_is_refused(folder: Path, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that another user owns is not used, and the way out is said."""
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    await opened()
    assert "belongs to user 12345: name a folder of our own inside it" in caplog.text


async def test_the_folder_is_ours_alone(folder: Path, opened: Open) -> None:
    """A new folder and all its files are closed to others; an older one of ours becomes so."""
    await opened()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    other = folder.parent / "older"
    other.mkdir()
    with seen_as(other, 0o755):
        await opened(other)
        assert other.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "call",
    [
        lambda disk: disk.put("text"),
        lambda disk: disk.put(bytearray(b"x")),
        lambda disk: disk.store("text", read=False),
        lambda disk: disk.store(b"x", read=True),
        lambda disk: disk.filename(b"k", b"v"),
        lambda disk: disk.get("text", raw=True),
    ],
)
def test_nothing_but_bytes_goes_through(call: Callable[[RawDisk], object]) -> None:
    """The only way into the database is bytes under bytes."""
    with pytest.raises((TypeError, BadEntry)):
        call(RawDisk("/nonexistent"))


def test_what_is_foreign_reads_as_nothing(tmp_path: Path) -> None:
    """The disk class itself opens no file and unlinks none."""
    (tmp_path / "file").write_text("x")
    disk = RawDisk(str(tmp_path))
    assert disk.fetch(1, "file", b"value", read=False) == FOREIGN
    disk.remove("file")
    assert (tmp_path / "file").exists()
    assert disk.hash(b"k") == disk.hash(b"k")
