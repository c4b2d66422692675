"""Recognises kinds of disk errors, and says when a failed disk is tried again."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple

import diskcache

DISK_ERRORS = (sqlite3.Error, OSError, diskcache.Timeout, ValueError)
"""Everything that disk, SQLite and diskcache raise; ValueError when a damaged index returns one key twice."""


class DiskTimeoutError(OSError):
    """The disk did not answer in time, and a thread still waits for it."""


class DiskTimeouts(NamedTuple):
    """Seconds that an operation on the disk may take; a longer one counts as a disk error."""

    read_s: float  # a read, for which a caller waits
    work_s: float  # writing and opening, for which no caller waits


def is_corrupt(error: BaseException) -> bool:
    """True if SQLite says that the file is damaged or is not a database."""
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

    @property
    def closed(self) -> bool:
        """True if no failure is remembered."""
        return self._until is None

    @property
    def due(self) -> bool:
        """True if the breaker is open and it is time to try again."""
        return self._until is not None and self._clock() >= self._until

    def trip(self) -> None:
        """Open the breaker, or keep it open for the full time from now."""
        self._until = self._clock() + self._seconds

    def reset(self) -> None:
        """Close the breaker."""
        self._until = None
