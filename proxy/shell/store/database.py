"""The disk tier as its two threads see it: open, read, write, make room. It raises; `disk` knows what that means."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from proxy.core.cache.encryption import BadSeal, Sealer
from proxy.core.model import Entry, EntryMeta
from proxy.shell.store import purge_file
from proxy.shell.store.breaker import is_corrupt
from proxy.shell.store.directory import LIVE, Directory
from proxy.shell.store.read_queue import Found, Wanted
from proxy.shell.store.sqlite import Sqlite
from proxy.shell.store.verify import Unfit, verify_database, verify_file
from proxy.shell.store.write_queue import Write

SMALLEST_DISK = 2**20
SHED_AT_ONCE = 256  # rows in one transaction: a reader's wait stays short
FLOOR_SHARE = 20  # of a small file system a twentieth is left to others, whatever the floor
LARGEST_ROW_SHARE = 4  # no row above a quarter of the disk's share: it would push out everything else
_NOTE = b"note"
"""What a note is sealed under; no row has a key that short."""

_log = logging.getLogger("graph_sidecar.store")


class Clear(Enum):
    """What to do with the database's files before they are opened."""

    NOTHING = "nothing"
    ASIDE = "aside"
    ERASE = "erase"


class NotOpen(OSError):  # noqa: N818 - said of a database
    """There is no database to ask."""


class WriteReport(NamedTuple):
    """What became of a group."""

    rows: int  # on disk now
    refused: list[bytes]  # entries that may not or need not be written; older rows of theirs are gone
    shed: list[bytes]  # rows that made room
    entries: int  # in the database
    bytes: int


class Database:
    """One database in one folder, never larger than *limit* bytes in all.

    Of *limit* a sixteenth (at most 4 MiB) is the write-ahead log's; three such parts are set apart for the log, the
    group that is being written and the file's end that is not yet returned.
    """

    def __init__(self, path: Path, sealer: Sealer, limit: int, floor: int) -> None:
        self.wal_bytes = max(2**17, min(2**22, limit // 16))
        self._folder = Directory(path)
        self._sealer = sealer
        self._limit = max(limit, SMALLEST_DISK)
        self._floor = floor
        self._budget = 0
        self._ceiling: int | None = None  # the size at which a nearly full file system was met
        self._rows: Sqlite | None = None
        self.quarantines = 0

    @property
    def path(self) -> Path:
        """Where the files are."""
        return self._folder.path

    # --- the writer's thread ---

    def open(self, clear: Clear = Clear.NOTHING) -> WriteReport:
        """Enter the folder and open what is there, or set it aside if it is unfit. Raises TROUBLE."""
        self.close()
        try:
            self._folder.enter()
            self._clear(clear)
            self._open_fit()
            self._folder.remember()
            self._budget = self._limit - 3 * self.wal_bytes - 2**16 - self._folder.aside_bytes()
            return self._report(0, [], self._make_room(0, self._budget))
        except BaseException:
            self.close()
            raise

    def write(self, group: Sequence[Write]) -> WriteReport:
        """Store a whole group in one transaction, room having been made before it."""
        rows, most = self._open_rows(), self._most()
        changes = [(write.key, self._sealed(write)) for write in group]
        need = sum(_room_for(blob) for _, blob in changes if blob is not None)
        if need > most // 2:  # no group is worth half of all that is there
            changes, need, most = [(key, None) for key, _ in changes], 0, self._budget
        shed = self._make_room(need, most)
        rows.write(changes)
        refused = [key for (key, blob), write in zip(changes, group, strict=True) if blob is None and write.entry]
        return self._report(sum(blob is not None for _, blob in changes), refused, shed)

    def maintain(self) -> WriteReport:
        """Look whether the files are still ours and within bounds."""
        self._open_rows()
        if self._folder.moved():
            raise NotOpen("the database was moved or removed")
        return self._report(0, [], self._make_room(0, self._budget))

    def note(self, text: bytes) -> None:
        """Keep *text* beside the rows, in the place of what was noted before."""
        self._open_rows()
        entry = Entry(EntryMeta("", "", 0.0, may_be_fresh=False, proofs=()), b"", text)
        purge_file.write_purges(self.path, self._sealer.seal(_NOTE, "", entry, os.urandom(12)))

    def noted(self) -> bytes | None:
        """What was noted, by an earlier run too: None for nothing, and nothing that can be read is b""."""
        blob = purge_file.read_purges(self.path)
        if blob is None:
            return None
        try:
            return self._sealer.unseal(_NOTE, "", blob).body
        except BadSeal:
            return b""

    def close(self) -> None:
        """Close the writer's connection, the last one, and leave the folder."""
        rows, self._rows = self._rows, None
        try:
            if rows is not None:
                rows.close()
        finally:
            self._folder.leave()

    def _clear(self, clear: Clear) -> None:
        if clear is Clear.ASIDE:
            self.quarantines += 1
            self._folder.set_aside(self._limit // 4)
        elif clear is Clear.ERASE:
            self._folder.erase()

    def _open_fit(self) -> None:
        try:
            self._verify_and_open()
        except (Unfit, sqlite3.DatabaseError) as error:
            if not isinstance(error, Unfit) and not is_corrupt(error):
                raise
            _log.warning("the cache in %s starts empty: %s", self.path, error)
            self._clear(Clear.ASIDE)
            self._verify_and_open()

    def _verify_and_open(self) -> None:
        for name in LIVE:
            verify_file(self.path / name)
        self._folder.make_database()
        verify_database(self._folder.database)
        self._rows = Sqlite(str(self.path), self.wal_bytes)

    # --- the reader's thread ---

    def read(self, wanted: Sequence[Wanted]) -> list[Found]:
        """For each key the entry, opened for its token: None if there is none, or what is wrong with it."""
        found: list[Found] = []
        for key, token in wanted:
            try:
                found.append(self._read(key, token))
            except Exception as error:  # noqa: BLE001 - one key's trouble is not its neighbours'
                found.append(error)
        return found

    def _read(self, key: bytes, token: str) -> Entry | None:
        blob = self._open_rows().get(key)
        return None if blob is None else self._sealer.unseal(key, token, blob)

    def read_nothing(self) -> None:
        """Connect this thread now, not at the first caller's expense."""
        self._open_rows().get(b"")

    def hang_up(self) -> None:
        """Close this thread's connection, while the writer still has its own."""
        if self._rows is not None:
            self._rows.close()

    # --- both ---

    def _open_rows(self) -> Sqlite:
        if self._rows is None:
            raise NotOpen("the database is not open")
        return self._rows

    def _sealed(self, write: Write) -> bytes | None:
        if write.entry is None or not self._sealer.may_write(write.token, write.entry):
            return None
        blob = self._sealer.seal(write.key, write.token, write.entry, os.urandom(12))
        return blob if len(blob) <= self._budget // LARGEST_ROW_SHARE else None

    def _most(self) -> int:
        """How large the database may be: on a nearly full file system no larger than now, on a full one nothing."""
        free, total = self._folder.space()
        if free >= min(self._floor, total // FLOOR_SHARE):
            self._ceiling = None
            return self._budget
        if self._ceiling is None:
            # Once: needs are guessed high, and it would sink with every group.
            self._ceiling = self._open_rows().live_bytes()
            _log.warning("the file system of %s is nearly full: the cache there grows no further", self.path)
        return min(self._budget, self._ceiling) if free > 3 * self.wal_bytes else 0

    def _make_room(self, need: int, most: int) -> list[bytes]:
        """Delete the rows stored longest ago until *need* bytes fit into *most*; never within a transaction.

        Pages come back at COMMIT: who culls inside one sees no effect and goes on until the last row.
        """
        rows, shed = self._open_rows(), list[bytes]()
        while (over := (live := rows.live_bytes()) + need - most) > 0:
            count = len(rows) * over // live + 8
            keys = rows.shed(min(count, SHED_AT_ONCE))
            if not keys:
                break
            shed += keys
        return shed

    def _report(self, written: int, refused: list[bytes], shed: list[bytes]) -> WriteReport:
        rows = self._open_rows()
        return WriteReport(written, refused, shed, len(rows), rows.live_bytes())


def _room_for(blob: bytes) -> int:
    """What a row takes, its share of half-filled pages and of the indexes with it."""
    return len(blob) + len(blob) // 4 + 512
