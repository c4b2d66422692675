"""Looking at a database before it is opened for use: what this build would not have written is not used."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from proxy.shell.store.sqlite import PAGE_BYTES, Sqlite

METADATA = frozenset({"count", "size", "hits", "misses"})
FIRST_ANSWER_S = 1.0  # how long to wait for a lock that nobody but a stranger can hold


class Unfit(Exception):  # noqa: N818 - said of a database: unfit for use
    """The database is not one that this build made; its reason holds no contents."""


def verify_file(path: Path) -> None:
    """Raise Unfit unless *path* is absent or a plain file of ours with one name: links lead elsewhere."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise Unfit(f"{path.name} is not a plain file")
    if status.st_uid != os.geteuid():
        raise Unfit(f"{path.name} belongs to another user")


def verify_database(path: Path) -> None:
    """Raise Unfit unless the database is empty or has exactly the tables, triggers and settings of this build.

    SQLite's own errors pass through; a defensive reader distrusts the schema first (sqlite.org/security.html).
    """
    with _looking_at(path) as database:
        schema = _schema(database)
        if not schema:
            return
        if schema != reference()[0]:
            raise Unfit("the schema is not this build's")
        _verify_settings(database)
        _verify_space(database)


@cache
def reference() -> tuple[frozenset[tuple[object, ...]], frozenset[str]]:
    """The schema and the names of the settings that this build makes."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        _Blank(database)
        return _schema(database), frozenset(name for (name,) in database.execute("SELECT key FROM Settings"))
    finally:
        database.close()


class _Blank(Sqlite):
    """diskcache writing its schema into memory: no folder for scratch is needed, and none may be writable."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        super().__init__(os.sep, PAGE_BYTES)

    @property
    def _con(self) -> sqlite3.Connection:
        return self._database


@contextmanager
def _looking_at(path: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(path, timeout=FIRST_ANSWER_S, isolation_level=None)
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA cell_size_check = ON")
        # diskcache itself would wait a minute for a lock, and at full speed for a read-only file: ask here first.
        database.execute("BEGIN IMMEDIATE")
        yield database
        database.execute("ROLLBACK")
    finally:
        database.close()


def _schema(database: sqlite3.Connection) -> frozenset[tuple[object, ...]]:
    return frozenset(database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _verify_settings(database: sqlite3.Connection) -> None:
    """For every row here diskcache sets an attribute: an unknown name could lead it to another folder."""
    for name, value in database.execute("SELECT key, value FROM Settings"):
        if name not in reference()[1] or type(value) not in (int, str):
            raise Unfit("a setting is not this build's")
        if name in METADATA and type(value) is not int:
            raise Unfit("a counter is not a number")


def _verify_space(database: sqlite3.Connection) -> None:
    ((vacuum,),) = database.execute("PRAGMA auto_vacuum")
    ((page,),) = database.execute("PRAGMA page_size")
    if vacuum != 1 or page != PAGE_BYTES:
        raise Unfit("it does not give its space back")
