"""A folder of entries that no sidecar uses now: what it holds, whether it is whole, and its end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.shell.store.breaker import TROUBLE
from proxy.shell.store.directory import LIVE, Directory, InUse
from proxy.shell.store.verify import Unfit, verify_database, verify_file

_FOREIGN = "SELECT count(*) FROM Cache WHERE typeof(key) != 'blob' OR typeof(value) != 'blob' OR filename IS NOT NULL"


class FolderError(Exception):
    """The folder cannot be looked at; the text says why."""


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What lies in a folder; `wrong` is empty where all of it is whole and ours."""

    entries: int = 0
    bytes: int = 0
    wrong: tuple[str, ...] = ()


def look(path: Path, *, thoroughly: bool) -> FolderReport:
    """Count what *path* holds; *thoroughly* reads all of it, and what is wrong is told. Raises FolderError."""
    with _entered(path) as folder:
        if folder is None or not folder.database.exists():
            return FolderReport()
        try:
            for name in LIVE:
                verify_file(folder.path / name)
            verify_database(folder.database)
            return _count(folder.database, thoroughly=thoroughly)
        except (Unfit, sqlite3.DatabaseError) as error:
            return FolderReport(wrong=(str(error),))


def erase(path: Path) -> FolderReport:
    """Remove all entries of *path*; what there was. Raises FolderError."""
    found = look(path, thoroughly=False)
    with _entered(path) as folder:
        if folder is not None:
            folder.erase()
    return found


@contextmanager
def _entered(path: Path) -> Iterator[Directory | None]:
    """The folder, locked, so that no sidecar starts on it meanwhile; None where there is none, and none is made."""
    if not path.exists():
        yield None
        return
    folder = Directory(path)
    try:
        folder.enter()
        yield folder
    except InUse:
        raise FolderError(f"{path} is in use by another process: if that is a sidecar, name its --admin") from None
    except TROUBLE as error:
        raise FolderError(str(error)) from None
    finally:
        folder.leave()


def _count(database: Path, *, thoroughly: bool) -> FolderReport:
    with closing(sqlite3.connect(database, isolation_level=None)) as rows:
        rows.execute("PRAGMA trusted_schema = OFF")
        entries, size = rows.execute("SELECT count(*), coalesce(sum(length(value)), 0) FROM Cache").fetchone()
        return FolderReport(entries, size, tuple(_wrong(rows)) if thoroughly else ())


def _wrong(rows: sqlite3.Connection) -> Iterator[str]:
    for (said,) in rows.execute("PRAGMA integrity_check(10)"):
        if said != "ok":
            yield said
    ((foreign,),) = rows.execute(_FOREIGN).fetchall()
    if foreign:
        yield f"{foreign} rows are not of this store's kind"
