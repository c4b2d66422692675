"""Inspects and erases a cache folder that no sidecar uses now."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.core.cache.encryption import Sealer
from proxy.shell.store.corruption import DISK_ERRORS
from proxy.shell.store.directory import DATABASE_FILES, Directory, InUse
from proxy.shell.store.verify import Unfit, verify_database, verify_file

_FOREIGN = "SELECT count(*) FROM Cache WHERE typeof(key) != 'blob' OR typeof(value) != 'blob' OR filename IS NOT NULL"

_MARKED = (
    "SELECT key, value, tag FROM Cache"
    " WHERE typeof(key) = 'blob' AND typeof(value) = 'blob' AND typeof(tag) = 'blob' AND filename IS NULL"
)


class FolderError(Exception):
    """The folder cannot be inspected; the text says why."""


@dataclass(frozen=True, slots=True)
class FolderReport:
    """The contents of a cache folder; `problems` is empty if all of it is intact and this build's."""

    entries: int = 0
    bytes: int = 0
    problems: tuple[str, ...] = ()
    checked: int = 0  # entries that were found to be of the key
    unmarked: int = 0  # entries of older versions, which do not tell of what key they are


def inspect_folder(path: Path, *, thoroughly: bool, sealer: Sealer | None = None) -> FolderReport:
    """Count the entries in *path*; *thoroughly* reads all of them and reports problems. Raises FolderError.

    A *sealer* says which of them were written with its secret.
    """
    with _entered(path) as folder:
        if folder is None or not folder.database.exists():
            return FolderReport()
        try:
            for name in DATABASE_FILES:
                verify_file(folder.path / name)
            verify_database(folder.database)
            return _count(folder.database, thoroughly=thoroughly, sealer=sealer)
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


def _count(database: Path, *, thoroughly: bool, sealer: Sealer | None) -> FolderReport:
    with closing(sqlite3.connect(database, isolation_level=None)) as rows:
        rows.execute("PRAGMA trusted_schema = OFF")
        entries, size = rows.execute("SELECT count(*), coalesce(sum(length(value)), 0) FROM Cache").fetchone()
        found = FolderReport(entries, size, tuple(_problems(rows)) if thoroughly else ())
        return _with_marks(found, rows, sealer) if sealer is not None else found


def _with_marks(found: FolderReport, rows: sqlite3.Connection, sealer: Sealer) -> FolderReport:
    """Returns *found* with what the marks of all entries say."""
    marked = checked = 0
    for key, blob, mark in rows.execute(_MARKED):
        marked += 1
        checked += sealer.is_marked(key, blob, mark)
    problems = found.problems
    if wrong := marked - checked:
        problems = (
            *problems,
            f"{wrong} of {marked} entries are of another cache.key_file, or damaged",
        )
    return replace(found, problems=problems, checked=checked, unmarked=found.entries - marked)


def _problems(rows: sqlite3.Connection) -> Iterator[str]:
    for (finding,) in rows.execute("PRAGMA integrity_check(10)"):
        if finding != "ok":
            yield finding
    ((foreign,),) = rows.execute(_FOREIGN).fetchall()
    if foreign:
        yield f"{foreign} rows are not of this store's kind"
