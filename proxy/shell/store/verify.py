"""Checks a database before it is used: a database that this build would not have written is refused."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from proxy.shell.store.sqlite import PAGE_BYTES, Sqlite

METADATA = frozenset({"count", "size", "hits", "misses"})
LOCK_TIMEOUT_S = 1.0  # for a lock that only a foreign process can have


Schema = frozenset[tuple[object, ...]]


class Unfit(Exception):  # noqa: N818 - said of a database: unfit for use
    """The database is not one that this build made; the message holds no contents."""


def verify_file(path: Path) -> None:
    """Raise Unfit unless *path* is missing or a plain file of this user with one name: links lead elsewhere."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise Unfit(f"{path.name} is not a plain file")
    if status.st_uid != os.geteuid():
        raise Unfit(f"{path.name} belongs to another user")


def verify_database(path: Path) -> None:
    """Raise Unfit unless the database is empty or has exactly the tables and settings of this or an older build.

    SQLite's own errors pass through; a defensive reader distrusts the schema first (sqlite.org/security.html).
    """
    with _opened_defensively(path) as database:
        schema = _schema(database)
        if not schema:
            return
        if schema - reference().triggers not in reference().schemas:
            raise Unfit("the schema is not this build's")
        _verify_settings(database)
        _verify_space(database)


class Reference(NamedTuple):
    """What this build makes."""

    schemas: tuple[Schema, ...]  # without triggers: that of a new database, and that of one of an older version
    triggers: Schema  # of older versions, and of a process that was killed while it opened the database
    settings: frozenset[str]  # their names


@cache
def reference() -> Reference:
    """The schema and the names of the settings that this build makes."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        older = _Blank(database).older
        triggers = frozenset(row for row in older if row[0] == "trigger")
        names = frozenset(name for (name,) in database.execute("SELECT key FROM Settings"))
        return Reference((_schema(database), older - triggers), triggers, names)
    finally:
        database.close()


class _Blank(Sqlite):
    """Makes diskcache write its schema into memory: there may be no folder that can be written."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.older: Schema = frozenset()
        super().__init__(os.sep, PAGE_BYTES)

    def make_lean(self) -> None:
        """Keep the schema as diskcache makes it, as older versions have it."""
        self.older = _schema(self._database)
        super().make_lean()

    @property
    def _con(self) -> sqlite3.Connection:
        return self._database


@contextmanager
def _opened_defensively(path: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None)
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA cell_size_check = ON")
        # diskcache itself would wait a minute for a lock, and at full speed for a read-only file: ask here first.
        database.execute("BEGIN IMMEDIATE")
        yield database
        database.execute("ROLLBACK")
    finally:
        database.close()


def _schema(database: sqlite3.Connection) -> Schema:
    return frozenset(database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _verify_settings(database: sqlite3.Connection) -> None:
    """Raise Unfit for a setting with an unknown name: diskcache sets an attribute for each, also its directory."""
    for name, value in database.execute("SELECT key, value FROM Settings"):
        if name not in reference().settings or type(value) not in (int, str):
            raise Unfit("a setting is not this build's")
        if name in METADATA and type(value) is not int:
            raise Unfit("a counter is not a number")


def _verify_space(database: sqlite3.Connection) -> None:
    ((vacuum,),) = database.execute("PRAGMA auto_vacuum")
    ((page,),) = database.execute("PRAGMA page_size")
    if vacuum != 1 or page != PAGE_BYTES:
        raise Unfit("it does not give its space back")
