"""diskcache, restricted: bytes in, bytes out, no pickle, no files beside the database, no endless retry."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import NoReturn

import diskcache
from diskcache.core import MODE_RAW, UNKNOWN

PAGE_BYTES = 4096
LARGEST_VALUE = 2**29  # SQLite's own limit is 10**9 bytes; a body that large never gets here
FOREIGN = b""
"""The value of a row that this store did not write: it cannot be decrypted, so it is counted and deleted as bad."""


class BadEntry(OSError):  # noqa: N818 - diskcache takes an OSError for a miss
    """The database names something that this store never writes."""


class RawDisk(diskcache.Disk):  # type: ignore[misc]
    """Turns rows into bytes and nothing else: a planted row must not run code or name a file (CVE-2025-69872)."""

    def __init__(self, directory: str, **_ignored: object) -> None:
        super().__init__(directory, min_file_size=2**62, pickle_protocol=5)

    def hash(self, key: bytes) -> int:
        """A number for *key*; the base class would pickle the key to hash it."""
        return zlib.crc32(key)

    def put(self, key: object) -> tuple[memoryview, bool]:
        """The column value for a key, which is bytes."""
        if type(key) is not bytes:
            raise TypeError("a key is bytes")
        return sqlite3.Binary(key), True

    def get(self, key: object, raw: object) -> bytes:
        """The key of a row; the base class unpickles any that is not raw."""
        if not raw or type(key) is not bytes:
            raise BadEntry("a key of another kind")
        return key

    def store(self, value: object, read: object, key: object = UNKNOWN) -> tuple[int, int, None, memoryview]:  # noqa: ARG002
        """The column values for a value, which is bytes and stays in the database."""
        if read or type(value) is not bytes or len(value) > LARGEST_VALUE:
            raise TypeError("a value is bytes")
        return 0, MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
        """The value of a row, or FOREIGN for a row of another kind: never a pickle, never a file."""
        if mode != MODE_RAW or filename is not None or read or type(value) is not bytes:
            return FOREIGN
        return value

    def filename(self, *_args: object) -> NoReturn:
        """Raise: no value has a file."""
        raise BadEntry("no value has a file")

    def remove(self, _path: str) -> None:
        """Do nothing: a path that the database names must not be unlinked."""


_TOGETHER = 64
"""Rows that one statement writes: with a statement for each, SQLite takes up to a sixth more time."""


def _put(rows: int) -> str:
    """Returns the statement that stores so many *rows* as diskcache's `set` does, which looks for each first."""
    values = ",".join(["(?, 1, ?, ?, ?, ?, ?)"] * rows)
    return (
        f"INSERT INTO Cache(key, raw, store_time, access_time, tag, mode, value) VALUES {values}"  # noqa: S608 - marks
        " ON CONFLICT(key, raw) DO UPDATE SET store_time = excluded.store_time, expire_time = NULL,"
        " access_time = excluded.access_time, access_count = 0, tag = excluded.tag, size = 0, mode = excluded.mode,"
        " filename = NULL, value = excluded.value"
    )


_KEY = itemgetter(0)
_PUT, _PUT_TOGETHER = _put(1), _put(_TOGETHER)
_DELETE = "DELETE FROM Cache WHERE key = ? AND raw = 1"
_COUNT = "UPDATE Settings SET value = value + ? WHERE key = 'count'"

TRIGGERS = tuple(
    f"Settings_{what}" for what in ("count_insert", "count_delete", "size_insert", "size_update", "size_delete")
)
"""diskcache's triggers: each would update the Settings for each row that is written. `Sqlite` counts by itself."""

_NO_EXPIRY = (
    "DROP INDEX Cache_expire_time",
    "CREATE INDEX Cache_expire_time ON Cache (expire_time) WHERE expire_time IS NOT NULL",
)
"""Makes an index without rows of the one in which diskcache keeps every row: no row here expires by its time."""


READ_SIZES = (1, 4, 16, 64)
"""Of how many keys one statement reads the rows: few sizes, so that each statement is prepared once."""


def _select(keys: int) -> str:
    marks = ",".join("?" * keys)
    return f"SELECT key, mode, filename, value FROM Cache WHERE key IN ({marks}) AND raw = 1"  # noqa: S608 - marks


_SELECTS = {size: _select(size) for size in READ_SIZES}


class Sqlite(diskcache.Cache):  # type: ignore[misc]
    """The rows of one database, with one connection for each thread."""

    def __init__(self, directory: str, wal_bytes: int) -> None:
        try:
            super().__init__(directory, timeout=5, disk=RawDisk, **_diskcache_settings(wal_bytes))
            self.make_lean()
        except BaseException:
            self.close()
            raise

    def make_lean(self) -> None:
        """Remove what diskcache makes for uses that are not made here, and what costs time with every row.

        A table that has rows keeps its index of times: to make another, SQLite would read the whole table.
        """
        with self.transact():
            for name in TRIGGERS:
                self._sql(f"DROP TRIGGER IF EXISTS {name}")
            if not self._last_row():
                for statement in _NO_EXPIRY:
                    self._sql(statement)

    def write(
        self, changes: Iterable[tuple[bytes, bytes | None]], mark: Callable[[bytes, bytes], bytes], now: float
    ) -> None:
        """Store or delete all of *changes* at *now*, in one transaction: all, or none; each row with its *mark*."""
        kept, gone = [], []
        for key, blob in changes:
            if blob is None:
                gone.append((key,))
            elif len(blob) > LARGEST_VALUE:
                raise TypeError("a value is bytes")
            else:
                kept.append((key, now, now, mark(key, blob), MODE_RAW, blob))
        kept.sort(key=_KEY)  # keys that lie side by side in the index are written one after the other
        alone = len(kept) % _TOGETHER
        with self.transact():
            removed = self._con.executemany(_DELETE, gone).rowcount if gone else 0
            last = self._last_row()
            for first in range(alone, len(kept), _TOGETHER):
                self._con.execute(_PUT_TOGETHER, list(chain.from_iterable(kept[first : first + _TOGETHER])))
            self._con.executemany(_PUT, kept[:alone])
            self._count(self._last_row() - last - removed)

    def _last_row(self) -> int:
        """Returns the number of the last row, 0 for none; each new row gets the next one, a replaced row keeps its."""
        ((last,),) = self._sql("SELECT MAX(rowid) FROM Cache").fetchall()
        return last or 0

    def _count(self, more: int) -> None:
        """Count so many *more* rows, in the transaction that writes or deletes them."""
        if more:
            self._sql(_COUNT, (more,))

    def read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Returns the values of those of the *keys*, 64 at most, that have a row; FOREIGN for a row of another kind."""
        size = next(size for size in READ_SIZES if len(keys) <= size)
        rows = self._sql(_SELECTS[size], [*keys, *[keys[-1]] * (size - len(keys))]).fetchall()
        fetch = self._disk.fetch
        return {key: fetch(mode, filename, value, read=False) for key, mode, filename, value in rows}

    def newest_at(self) -> float:
        """Returns when the newest row was stored, in epoch seconds; 0 if there is none."""
        ((newest,),) = self._sql("SELECT MAX(store_time) FROM Cache").fetchall()
        return newest if isinstance(newest, float) else 0.0

    def newest(self, count: int) -> list[tuple[bytes, bytes, bytes]]:
        """Returns key, value and mark of the *count* rows stored last; rows of older versions have no mark."""
        found = self._sql(
            "SELECT key, value, tag FROM Cache WHERE typeof(key) = 'blob' AND typeof(value) = 'blob'"
            " AND typeof(tag) = 'blob' ORDER BY store_time DESC LIMIT ?",
            (count,),
        )
        rows: list[tuple[bytes, bytes, bytes]] = found.fetchall()
        return rows

    def keys_after(self, last: bytes, count: int) -> list[bytes]:
        """Returns the next *count* keys behind *last* in their order, from the index of keys alone."""
        found = self._sql("SELECT key FROM Cache WHERE key > ? ORDER BY key LIMIT ?", (last, count)).fetchall()
        return [key for (key,) in found if type(key) is bytes]

    def evict_oldest(self, count: int) -> list[bytes]:
        """Delete the *count* rows that were stored longest ago; returns their keys.

        diskcache's cull() returns no keys, and the index must not keep keys of deleted rows.
        """
        with self.transact():
            oldest = self._sql("SELECT key FROM Cache ORDER BY store_time LIMIT ?", (count,)).fetchall()
            deleted = self._sql(
                "DELETE FROM Cache WHERE rowid IN (SELECT rowid FROM Cache ORDER BY store_time LIMIT ?)",
                (count,),
            )
            self._count(-deleted.rowcount)
        return [key for (key,) in oldest]

    def live_bytes(self) -> int:
        """The size of the pages in use.

        Free pages that SQLite has not returned yet do not count: if they did, deleting would not shrink the number,
        and the store would delete until it is empty.
        """
        ((pages,),) = self._sql("PRAGMA page_count").fetchall()
        ((free,),) = self._sql("PRAGMA freelist_count").fetchall()
        return int(pages - free) * int(self._page_size)


def _diskcache_settings(wal_bytes: int) -> dict[str, int | str]:
    """All settings of diskcache: a setting that is not passed would be taken from the file."""
    return {
        "statistics": 0,  # or every read becomes a write
        "tag_index": 0,
        "eviction_policy": "least-recently-stored",  # least recently used makes every read a write
        "size_limit": 2**62,  # the database makes room itself, before it writes
        "cull_limit": 0,
        "sqlite_auto_vacuum": 1,  # a deleted row gives its pages back
        "sqlite_cache_size": 64,
        "sqlite_journal_mode": "wal",
        # A mapped file turns an I/O error or a truncation by others into SIGBUS (sqlite.org/mmap.html).
        "sqlite_mmap_size": 0,
        "sqlite_synchronous": 1,  # with WAL: power loss may drop the last commits, it does not corrupt
        "sqlite_trusted_schema": 0,
        "sqlite_cell_size_check": 1,
        "sqlite_wal_autocheckpoint": wal_bytes // PAGE_BYTES,
        "sqlite_journal_size_limit": wal_bytes,
        "disk_min_file_size": 2**30,
        "disk_pickle_protocol": 5,
    }
