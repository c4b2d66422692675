"""Opens, reads and writes one database and keeps it within its size. Errors are raised here and handled in `disk`."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from proxy.core.cache.encryption import NONCE_BYTES, BadSeal, Sealer
from proxy.core.memory.key_filter import KEY_BYTES
from proxy.core.model import Entry, EntryMeta
from proxy.shell.store import purge_file
from proxy.shell.store.corruption import Clear, is_unfit
from proxy.shell.store.directory import DATABASE_FILES, Directory
from proxy.shell.store.read_queue import KeyAndToken, ReadResult
from proxy.shell.store.sqlite import Sqlite
from proxy.shell.store.verify import Unfit, verify_database, verify_file
from proxy.shell.store.write_queue import QueuedWrite

SMALLEST_DISK = 2**20
EVICTED_AT_ONCE = 256  # rows in one transaction: a reader's wait stays short
FLOOR_SHARE = 20  # of a small file system a twentieth is left to others, whatever the floor
KEYS_AT_ONCE = 512  # keys that are listed in one trip to the reading thread: about a millisecond
LARGEST_ROW_SHARE = 4  # no row above a quarter of the disk's share: it would push out everything else
LOOKED_AT = 3  # rows by which the secret is recognised at the start
_PURGES = b"note"
"""The key under which the purge orders are sealed; no row has a key that short."""

_log = logging.getLogger("graph_sidecar.store")


class NotOpen(OSError):  # noqa: N818 - said of a database
    """No database is open."""


class WriteReport(NamedTuple):
    """What a write changed in the database."""

    rows: int  # written by this group
    refused: list[bytes]  # keys of entries that may not or need not be written; their older rows are deleted
    evicted: list[bytes]  # rows that made room
    entries: int  # in the database
    bytes: int


class Database:
    """One database in one folder, never larger than *limit* bytes in all.

    A sixteenth of *limit* (at most 4 MiB) is for the write-ahead log. Three such parts are reserved: for the log, for
    the group that is being written, and for free pages at the file's end that SQLite has not returned yet.
    """

    def __init__(self, path: Path, sealer: Sealer, limit: int, floor: int) -> None:
        self.wal_bytes = max(2**17, min(2**22, limit // 16))
        self._directory = Directory(path)
        self._sealer = sealer
        self._limit = max(limit, SMALLEST_DISK)
        self._floor = floor
        self._budget = 0
        self._ceiling: int | None = None  # the size at which a nearly full file system was met
        self._rows: Sqlite | None = None
        self.quarantines = 0
        self.newest_at = 0.0  # when the newest row was written that was there when this was opened
        self.is_other_key = False  # whether the rows were written with another secret than this one

    @property
    def path(self) -> Path:
        """The folder of the database's files."""
        return self._directory.path

    # --- the writer's thread ---

    def open(self, clear: Clear = Clear.NOTHING) -> WriteReport:
        """Lock the folder and open its database, or quarantine it if it is unfit. Raises DISK_ERRORS."""
        self.close()
        try:
            self._directory.enter()
            self._clear(clear)
            self._open_or_quarantine()
            self._directory.remember_database()
            self._look_at_key()
            self.newest_at = self._open_rows().newest_at()
            self._budget = self._limit - 3 * self.wal_bytes - 2**16 - self._directory.quarantined_bytes()
            return self._report(0, [], self._make_room(0, self._budget))
        except BaseException:
            self.close()
            raise

    def write(self, group: Sequence[QueuedWrite], now: float) -> WriteReport:
        """Write *group* in one transaction, after making room for it. No row is older than *now*, or than its entry."""
        rows, most = self._open_rows(), self._size_limit()
        nonces = os.urandom(NONCE_BYTES * len(group))
        starts = range(0, len(nonces), NONCE_BYTES)
        changes = [
            (write.key, self._sealed(write, nonces[at : at + NONCE_BYTES]))
            for at, write in zip(starts, group, strict=True)
        ]
        need = sum([_room_for(blob) for _, blob in changes if blob is not None])
        if need > most // 2:  # one group must not push out half of the entries
            changes, need, most = [(key, None) for key, _ in changes], 0, self._budget
        evicted = self._make_room(need, most)
        asked_at = [write.entry.meta.asked_at for write in group if write.entry is not None]
        rows.write(changes, self._sealer.mark, max(now, *asked_at, 0.0))
        refused = [key for (key, blob), write in zip(changes, group, strict=True) if blob is None and write.entry]
        return self._report(sum([blob is not None for _, blob in changes]), refused, evicted)

    def maintain(self) -> WriteReport:
        """Check that the files are still in place and within the size limit; old rows are deleted if not."""
        self._open_rows()
        if self._directory.moved():
            raise NotOpen("the database was moved or removed")
        return self._report(0, [], self._make_room(0, self._budget))

    def save_purges(self, orders: bytes) -> None:
        """Write the purge *orders* to a file beside the rows, in place of the earlier ones."""
        self._open_rows()
        entry = Entry(EntryMeta("", "", 0.0, may_be_fresh=False, proofs=()), b"", orders)
        purge_file.write_purges(self.path, self._sealer.seal(_PURGES, "", entry, os.urandom(NONCE_BYTES)))

    def saved_purges(self) -> bytes | None:
        """The purge orders that `save_purges` wrote, in an earlier run too; None if none, b"" if they are unreadable.

        A run that ends in order adds text after a line break; that text is returned once, then removed.
        """
        blob = purge_file.read_purges(self.path)
        if blob is None:
            return None
        try:
            found = self._sealer.unseal(_PURGES, "", blob).body
        except BadSeal:
            return b""
        orders, added_at_end, _ = found.partition(b"\n")
        if added_at_end:
            self.save_purges(orders)
        return found

    def close(self) -> None:
        """Close the writer's connection, which is the last one, and unlock the folder."""
        rows, self._rows = self._rows, None
        try:
            if rows is not None:
                rows.close()
        finally:
            self._directory.leave()

    def _look_at_key(self) -> None:
        """Find out by the newest rows whether they were written with this secret; say so if they were not."""
        rows = self._open_rows().newest(LOOKED_AT) if self._sealer.is_lasting else []
        self.is_other_key = bool(rows) and not any(self._sealer.is_marked(*row) for row in rows)
        if self.is_other_key:
            _log.warning(
                "the %d entries in %s are not of this cache.key_file: none can be opened; `cache purge` removes them",
                len(self._open_rows()),
                self.path,
            )

    def _clear(self, clear: Clear) -> None:
        if clear is Clear.QUARANTINE:
            self.quarantines += 1
            self._directory.quarantine(self._limit // 4)
        elif clear is Clear.ERASE:
            self._directory.erase()

    def _open_or_quarantine(self) -> None:
        try:
            self._verify_and_open()
        except (Unfit, sqlite3.DatabaseError) as error:
            if not is_unfit(error):
                raise
            _log.warning("the cache in %s starts empty: %s", self.path, error)
            self._clear(Clear.QUARANTINE)
            self._verify_and_open()

    def _verify_and_open(self) -> None:
        for name in DATABASE_FILES:
            verify_file(self.path / name)
        self._directory.make_database()
        verify_database(self._directory.database)
        self._rows = Sqlite(str(self.path), self.wal_bytes)

    # --- the reader's thread ---

    def read(self, wanted: Sequence[KeyAndToken]) -> list[ReadResult]:
        """For each key its entry, decrypted with the token; None if there is none; or the exception that it raised."""
        try:
            blobs: dict[bytes, bytes | Exception] = dict(self._read([key for key, _ in wanted]))
        except Exception as error:  # noqa: BLE001 - an error of one key must not fail the others
            blobs = {key: error for key, _ in wanted} if len(wanted) == 1 else self._read_each(wanted)
        return [self._unsealed(key, token, blobs.get(key)) for key, token in wanted]

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        return self._open_rows().read(keys)

    def _read_each(self, wanted: Sequence[KeyAndToken]) -> dict[bytes, bytes | Exception]:
        """Returns the sealed entry of each key that has one, read alone, or the exception that this raised."""
        found: dict[bytes, bytes | Exception] = {}
        for key, _ in wanted:
            try:
                found.update(self._read([key]))
            except Exception as error:  # noqa: BLE001 - as above
                found[key] = error
        return found

    def _unsealed(self, key: bytes, token: str, blob: bytes | Exception | None) -> ReadResult:
        if not isinstance(blob, bytes):
            return blob
        try:
            return self._sealer.unseal(key, token, blob)
        except Exception as error:  # noqa: BLE001 - as above
            return error

    def list_keys(self, last: bytes, take: Callable[[list[bytes]], None]) -> bytes:
        """Give *take* the next keys behind *last* in their order; the last of them, b"" if there are no more."""
        keys = self._open_rows().keys_after(last, KEYS_AT_ONCE)
        take([key for key in keys if len(key) == KEY_BYTES])  # a row with another key is not of this store
        return keys[-1] if len(keys) == KEYS_AT_ONCE else b""

    def connect_reader(self) -> None:
        """Open the reader's connection now, so that the first caller need not wait for it."""
        self._open_rows().read([b""])

    def close_reader(self) -> None:
        """Close the reader's connection while the writer still has its own."""
        if self._rows is not None:
            self._rows.close()

    # --- both ---

    def _open_rows(self) -> Sqlite:
        if self._rows is None:
            raise NotOpen("the database is not open")
        return self._rows

    def _sealed(self, write: QueuedWrite, nonce: bytes) -> bytes | None:
        if write.entry is None or not self._sealer.may_write(write.token, write.entry):
            return None
        blob = self._sealer.seal(write.key, write.token, write.entry, nonce, write.compressed)
        return blob if len(blob) <= self._budget // LARGEST_ROW_SHARE else None

    def _size_limit(self) -> int:
        """Bytes that the database may take: its size now if the file system is nearly full, 0 if it is full."""
        free, total = self._directory.space()
        if free >= min(self._floor, total // FLOOR_SHARE):
            self._ceiling = None
            return self._budget
        if self._ceiling is None:
            # Taken once: _room_for guesses high, so a ceiling taken for each group would sink with every group.
            self._ceiling = self._open_rows().live_bytes()
            _log.warning("the file system of %s is nearly full: the cache there grows no further", self.path)
        return min(self._budget, self._ceiling) if free > 3 * self.wal_bytes else 0

    def _make_room(self, need: int, limit: int) -> list[bytes]:
        """Delete the rows stored longest ago until *need* bytes fit into *limit*; never within a transaction.

        Pages come back at COMMIT: a loop inside one transaction would see no effect, and delete every row.
        """
        rows, evicted = self._open_rows(), list[bytes]()
        while (over := (live := rows.live_bytes()) + need - limit) > 0:
            count = len(rows) * over // live + 8
            keys = rows.evict_oldest(min(count, EVICTED_AT_ONCE))
            if not keys:
                break
            evicted += keys
        return evicted

    def _report(self, written: int, refused: list[bytes], evicted: list[bytes]) -> WriteReport:
        rows = self._open_rows()
        return WriteReport(written, refused, evicted, len(rows), rows.live_bytes())


def _room_for(blob: bytes) -> int:
    """Bytes that a row takes, with its share of half-filled pages and of the indexes."""
    return len(blob) + len(blob) // 4 + 512
