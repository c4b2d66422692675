"""The database's folder: private to this user, locked by one process, damaged files quarantined within bounds."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from proxy.shell.files import make_folder
from proxy.shell.store import purge_file

DATABASE = "cache.db"
LOCK = "lock"
DATABASE_FILES = frozenset({DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal"})
_QUARANTINED = re.compile(r"cache\.db(?:-wal|-shm|-journal)?\.bad-\d+")
_OTHER_FILES = frozenset(
    {LOCK, purge_file.FILE_NAME, purge_file.DRAFT_NAME, "lost+found"}
)  # a volume's root has the last


class UnusableDirectory(OSError):  # noqa: N818 - said of a folder
    """The folder cannot be used; the message names it and says what to do."""


class InUse(UnusableDirectory):
    """Another process has locked the folder."""


class Directory:
    """A folder that one process at a time may lock and use."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None
        self._database_identity: tuple[int, int] | None = None

    @property
    def database(self) -> Path:
        """The path of the database file."""
        return self.path / DATABASE

    def enter(self) -> None:
        """Make the folder if it is missing, check that only this user can use it, and lock it."""
        if os.path.expandvars(self.path) != str(self.path):
            raise UnusableDirectory(f"{self.path}: diskcache would take the $ for a variable, and open another folder")
        make_folder(self.path)
        self.path = follow_root_link(self.path, os.geteuid())
        self._check()
        self._take_lock()

    def leave(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = self._database_identity = None

    def make_database(self) -> None:
        """Make an empty database file of mode 0600; SQLite gives the files beside it the same mode."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(self.database, flags, 0o600))
        except FileExistsError:
            pass

    def remember_database(self) -> None:
        """Remember the device and inode of the database, for moved()."""
        self._database_identity = _identity(self.database)

    def moved(self) -> bool:
        """True if database or lock are no longer the files that were opened: writes would go into an unlinked file.

        The files are only looked up, never opened: closing a second descriptor would drop SQLite's own locks
        (sqlite.org/howtocorrupt.html, section 2.2).
        """
        if self._lock is None:
            return True
        held = os.fstat(self._lock)
        return _identity(self.database) != self._database_identity or _identity(self.path / LOCK) != (
            held.st_dev,
            held.st_ino,
        )

    def space(self) -> tuple[int, int]:
        """The bytes of the file system that this user may still fill, and its size."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    def quarantined_bytes(self) -> int:
        """The size of the quarantined files."""
        return sum(os.lstat(self.path / name).st_size for name in self._quarantined())

    def quarantine(self, largest: int) -> None:
        """Rename the database's files for inspection; only the newest set is kept, up to *largest* bytes."""
        now = time.time_ns()
        for name in DATABASE_FILES & set(_file_names(self.path)):
            (self.path / name).rename(self.path / f"{name}.bad-{now}")
        self._discard([name for name in self._quarantined() if not name.endswith(f".bad-{now}")])
        if self.quarantined_bytes() > largest:
            self._discard(self._quarantined())

    def erase(self) -> None:
        """Unlink the database's files: the only way to free space on a full disk."""
        self._discard(DATABASE_FILES)

    def _discard(self, names: Iterable[str]) -> None:
        for name in names:
            _remove(self.path / name)

    def _quarantined(self) -> list[str]:
        return [name for name in _file_names(self.path) if _QUARANTINED.fullmatch(name)]

    def _check(self) -> None:
        """Refuse a folder that is not this user's, and take other users' access away."""
        if why := refusal(self.path):
            raise UnusableDirectory(why)
        if stat.S_IMODE(os.lstat(self.path).st_mode) & 0o077:
            self.path.chmod(0o700)

    def _take_lock(self) -> None:
        """Take the lock; it lasts until leave() or until the process ends, even by a crash (flock(2))."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        lock = os.open(self.path / LOCK, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise InUse(f"{self.path} is in use by another process: give each its own folder") from None
        self._lock = lock


def refusal(path: Path) -> str:
    """Why the folder *path* cannot be used, and what to do; "" if it can be used."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a folder: name the folder itself, not a link to it"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to user {status.st_uid}: name a folder of our own inside it"
    foreign = [name for name in _file_names(path) if not _is_ours(name)]
    return f"{path} holds other files ({foreign[0]!r}): the cache needs a folder of its own" if foreign else ""


def follow_root_link(path: Path, user: int) -> Path:
    """The folder *path*, or the target of a link that root made at *path*, if *user* is not root.

    systemd makes such links (DynamicUser). No other user can have made one: the link belongs to root, and only root
    can write to its folder. The target must satisfy the same rules as any folder; a second link is not followed.
    """
    link, above = os.lstat(path), path.parent.stat()
    is_of_root = link.st_uid == above.st_uid == 0 and not stat.S_IMODE(above.st_mode) & 0o022
    return path.parent / path.readlink() if stat.S_ISLNK(link.st_mode) and is_of_root and user != 0 else path


def _file_names(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]


def _is_ours(name: str) -> bool:
    return name in DATABASE_FILES or name in _OTHER_FILES or _QUARANTINED.fullmatch(name) is not None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _remove(path: Path) -> None:
    """Remove a file, a link or an empty folder; whatever else was planted stays where it is."""
    try:
        path.unlink()
    except FileNotFoundError:
        pass
    except OSError:
        if not path.is_dir() or path.is_symlink():
            raise
        path.rmdir()
