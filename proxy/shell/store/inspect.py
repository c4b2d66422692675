"""Inspects and erases a cache folder that no sidecar uses now."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.shell.store.corruption import DISK_ERRORS
from proxy.shell.store.directory import DATABASE_FILES, Directory, InUse
from proxy.shell.store.verify import Unfit, verify_database, verify_file

_FOREIGN = "SELECT count(*) FROM Cache WHERE typeof(key) != 'blob' OR typeof(value) != 'blob' OR filename IS NOT NULL"


class FolderError(Exception):
    """The folder cannot be inspected; the text says why."""


@dataclass(frozen=True, slots=True)
class FolderReport:
    """The contents of a cache folder; `problems` is empty if all of it is intact and this build's."""

    entries: int = 0
    bytes: int = 0
    problems: tuple[str, ...] = ()


def inspect_folder(path: Path, *, thoroughly: bool) -> FolderReport:
    """Count the entries in *path*; *thoroughly* reads all of them and reports problems. Raises FolderError."""
    with _entered(path) as folder:
        if folder is None or not folder.database.exists():
            return FolderReport()
        try:
            for name in DATABASE_FILES:
                verify_file(folder.path / name)
            verify_database(folder.database)
            return _count(folder.database, thoroughly=thoroughly)
        except (Unfit, sqlite3.DatabaseError) as error:
            return FolderReport(problems=(str(error),))


def erase_folder(path: Path) -> FolderReport:
    """Remove all entries of *path*; a report of what was removed. Raises FolderError."""
    found = inspect_folder(path, thoroughly=False)
    with _entered(path) as folder:
        if folder is not None:
            folder.erase()
    return found


@contextmanager
def _entered(path: Path) -> Iterator[Directory | None]:
    """The folder at *path*, locked so that no sidecar starts on it meanwhile; None, and none is made, if missing."""
    if not path.exists():
        yield None
        return
    folder = Directory(path)
    try:
        folder.enter()
        yield folder
    except InUse:
        raise FolderError(f"{path} is in use by another process: if that is a sidecar, name its --admin") from None
    except DISK_ERRORS as error:
        raise FolderError(str(error)) from None
    finally:
        folder.leave()


def _count(database: Path, *, thoroughly: bool) -> FolderReport:
    with closing(sqlite3.connect(database, isolation_level=None)) as rows:
        rows.execute("PRAGMA trusted_schema = OFF")
        entries, size = rows.execute("SELECT count(*), coalesce(sum(length(value)), 0) FROM Cache").fetchone()
        return FolderReport(entries, size, tuple(_problems(rows)) if thoroughly else ())


def _problems(rows: sqlite3.Connection) -> Iterator[str]:
    for (finding,) in rows.execute("PRAGMA integrity_check(10)"):
        if finding != "ok":
            yield finding
    ((foreign,),) = rows.execute(_FOREIGN).fetchall()
    if foreign:
        yield f"{foreign} rows are not of this store's kind"
