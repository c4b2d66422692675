"""What can go wrong with a disk, which kinds there are, and when it is asked again."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple

import diskcache

TROUBLE = (sqlite3.Error, OSError, diskcache.Timeout, ValueError)
"""Everything that disk, SQLite and diskcache raise; ValueError where a damaged index yields one key twice."""


class Unanswered(OSError):  # noqa: N818 - said of a disk
    """The disk has not answered in time, and a thread waits for it yet."""


class Limits(NamedTuple):
    """Seconds that a visit to the disk may take; one that takes longer is trouble."""

    read_s: float  # a caller waits for it
    work_s: float  # nobody does: writing, opening


def is_corrupt(error: BaseException) -> bool:
    """Whether SQLite says that the file is damaged or no database at all."""
    return bool(_codes(error) & {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_full(error: BaseException) -> bool:
    """Whether there is no room left on the file system."""
    if sqlite3.SQLITE_FULL in _codes(error):
        return True
    return any(isinstance(each, OSError) and each.errno in {errno.ENOSPC, errno.EDQUOT} for each in _chain(error))


def _codes(error: BaseException) -> set[int]:
    """SQLite's primary result codes along the chain: diskcache hides the first error behind its own."""
    return {getattr(each, "sqlite_errorcode", 0) & 0xFF for each in _chain(error)}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Breaker:
    """Keeps callers away from something broken for a while, then lets one try."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: float | None = None

    @property
    def closed(self) -> bool:
        """Whether all is well."""
        return self._until is None

    @property
    def due(self) -> bool:
        """Whether it is open and the time to try has come."""
        return self._until is not None and self._clock() >= self._until

    def trip(self) -> None:
        """Open, or stay open for a full time more."""
        self._until = self._clock() + self._seconds

    def reset(self) -> None:
        """Close."""
        self._until = None
