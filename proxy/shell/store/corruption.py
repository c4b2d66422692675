"""Decides what becomes of the database after an error: a corrupt one is quarantined, any other error makes it rest.

    verification refuses it at opening             quarantined; an empty database is opened in its place
    a read meets a corrupt page                    a miss; after the third such read the database is quarantined
    a write meets corruption                       quarantined; a replacement never written to before this rests, too
    any other error, a timeout included            rests: memory only, until the breaker lets it be opened again
    no space left, twice in a row                  rests, and is erased before it is opened again

`disk` obeys, and `database` when it opens; `directory.quarantine` renames the files, and keeps the newest set within
a quarter of `cache.disk_mb`. Callers notice nothing but misses.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

import diskcache

from proxy.shell.store.verify import Unfit

BAD_READS = 3
"""Reads of a corrupt page after which the file is quarantined: one bad page must not cost all other entries."""

ERASE_AFTER_FULL = 2
"""Failures in a row for lack of space after which the database is erased."""

DISK_ERRORS = (sqlite3.Error, OSError, diskcache.Timeout, ValueError)
"""Everything that disk, SQLite and diskcache raise; ValueError when a corrupt index returns one key twice."""


class DiskTimeoutError(OSError):
    """The disk did not answer in time, and a thread still waits for it."""


class Clear(Enum):
    """How the database's files are cleared before they are opened."""

    NOTHING = "nothing"
    QUARANTINE = "aside"
    ERASE = "erase"


class Remedy(NamedTuple):
    """The decision about an error; with the defaults the read that met it is a miss, and nothing else happens."""

    clear: Clear = Clear.NOTHING
    rests: bool = False


class CorruptionPolicy:
    """Judges the errors of one database, in the order in which they come."""

    def __init__(self) -> None:
        self._bad_reads = 0
        self._full_in_a_row = 0
        self._is_unproven = False  # made in place of a quarantined database, and not yet written to

    def on_open(self, *, is_replacement: bool) -> None:
        """Note that a database was opened; *is_replacement*: in place of a quarantined one."""
        self._bad_reads, self._is_unproven = 0, is_replacement

    def on_write(self) -> None:
        """Note that a write succeeded."""
        self._full_in_a_row, self._is_unproven = 0, False

    def on_error(self, error: BaseException, *, reading: bool) -> Remedy:
        """Returns what follows from *error* of an open database; *reading*: a read met it."""
        if not is_corrupt(error):
            return self.on_open_error(error)
        if reading:
            self._bad_reads += 1
            if self._bad_reads < BAD_READS:
                return Remedy()
        return Remedy(Clear.QUARANTINE, rests=self._is_unproven)

    def on_open_error(self, error: BaseException) -> Remedy:
        """Returns what follows from *error* while the database was opened: a rest.

        SQLite cannot delete rows on a full disk, but the file can be unlinked.
        """
        self._full_in_a_row = self._full_in_a_row + 1 if is_full(error) else 0
        return Remedy(Clear.ERASE if self._full_in_a_row >= ERASE_AFTER_FULL else Clear.NOTHING, rests=True)


def is_unfit(error: BaseException) -> bool:
    """True if a database that met *error* while it was verified and opened is to be quarantined at once."""
    return isinstance(error, Unfit) or is_corrupt(error)


def is_corrupt(error: BaseException) -> bool:
    """True if SQLite says that the file is corrupt or is not a database."""
    return bool(_codes(error) & {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_full(error: BaseException) -> bool:
    """True if the file system has no space left."""
    if sqlite3.SQLITE_FULL in _codes(error):
        return True
    return any(isinstance(each, OSError) and each.errno in {errno.ENOSPC, errno.EDQUOT} for each in _chain(error))


def _codes(error: BaseException) -> set[int]:
    """SQLite's primary result codes of *error* and its causes: diskcache wraps the first error in its own."""
    return {getattr(each, "sqlite_errorcode", 0) & 0xFF for each in _chain(error)}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Breaker:
    """A circuit breaker: open for some seconds after a failure, then due for one try."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: float | None = None
        self.closed = True
        """Whether no failure is remembered."""

    @property
    def due(self) -> bool:
        """True if the breaker is open and it is time to try again."""
        return self._until is not None and self._clock() >= self._until

    def trip(self) -> None:
        """Open the breaker, or keep it open for the full time from now."""
        self._until, self.closed = self._clock() + self._seconds, False

    def reset(self) -> None:
        """Close the breaker."""
        self._until, self.closed = None, True
