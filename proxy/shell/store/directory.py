"""The folder of the database: ours alone, one process at a time, bad files set aside within bounds."""

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
LIVE = frozenset({DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal"})
_ASIDE = re.compile(r"cache\.db(?:-wal|-shm|-journal)?\.bad-\d+")
_OTHERS = frozenset({LOCK, purge_file.NAME, purge_file.DRAFT, "lost+found"})  # a volume's root has the last


class Refused(OSError):  # noqa: N818 - said of a folder
    """The folder cannot be used as it is; the message names it and what to do."""


class InUse(Refused):
    """Another process is in the folder."""


class Directory:
    """One folder, entered by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None
        self._seen: tuple[int, int] | None = None

    @property
    def database(self) -> Path:
        """The file of the entries."""
        return self.path / DATABASE

    def enter(self) -> None:
        """Make the folder, make sure that it is ours alone, and lock it."""
        if os.path.expandvars(self.path) != str(self.path):
            raise Refused(f"{self.path}: diskcache would take the $ for a variable, and open another folder")
        make_folder(self.path)
        self.path = behind_link(self.path, os.geteuid())
        self._check()
        self._hold()

    def leave(self) -> None:
        """Unlock it."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = self._seen = None

    def make_database(self) -> None:
        """Make an empty database file that only we may read; SQLite gives its companions the same mode."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(self.database, flags, 0o600))
        except FileExistsError:
            pass

    def remember(self) -> None:
        """Note which file the database is, so that moved() can tell."""
        self._seen = _identity(self.database)

    def moved(self) -> bool:
        """Whether database or lock are no longer the files that were opened: writes would go into nowhere.

        The files are asked about, never opened: closing a second descriptor would drop SQLite's own locks
        (sqlite.org/howtocorrupt.html, section 2.2).
        """
        if self._lock is None:
            return True
        held = os.fstat(self._lock)
        return _identity(self.database) != self._seen or _identity(self.path / LOCK) != (held.st_dev, held.st_ino)

    def space(self) -> tuple[int, int]:
        """The bytes that this file system still has for such as us, and all of its bytes."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    def aside_bytes(self) -> int:
        """The size of what was set aside."""
        return sum(os.lstat(self.path / name).st_size for name in self._aside())

    def set_aside(self, largest: int) -> None:
        """Rename the database's files for somebody to look at; only the newest lot is kept, if it is not too large."""
        now = time.time_ns()
        for name in LIVE & set(_names(self.path)):
            (self.path / name).rename(self.path / f"{name}.bad-{now}")
        self._discard([name for name in self._aside() if not name.endswith(f".bad-{now}")])
        if self.aside_bytes() > largest:
            self._discard(self._aside())

    def erase(self) -> None:
        """Unlink the database's files: the one way to regain room on a full disk."""
        self._discard(LIVE)

    def _discard(self, names: Iterable[str]) -> None:
        for name in names:
            _remove(self.path / name)

    def _aside(self) -> list[str]:
        return [name for name in _names(self.path) if _ASIDE.fullmatch(name)]

    def _check(self) -> None:
        """Refuse a folder that is not ours alone, and close one that others could look into."""
        if why := refusal(self.path):
            raise Refused(why)
        if stat.S_IMODE(os.lstat(self.path).st_mode) & 0o077:
            self.path.chmod(0o700)

    def _hold(self) -> None:
        """Take the lock; it lasts until leave() or until the process ends, however it ends (flock(2))."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        lock = os.open(self.path / LOCK, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise InUse(f"{self.path} is in use by another process: give each its own folder") from None
        self._lock = lock


def refusal(path: Path) -> str:
    """Why the folder *path* cannot be used, and what to do, "" if it can."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a folder: name the folder itself, not a link to it"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to user {status.st_uid}: name a folder of our own inside it"
    foreign = [name for name in _names(path) if not _is_ours(name)]
    return f"{path} holds other files ({foreign[0]!r}): the cache needs a folder of its own" if foreign else ""


def behind_link(path: Path, user: int) -> Path:
    """The folder *path*, or the one to which a link of root's leads there, for a *user* who is not root.

    systemd makes such links (DynamicUser). Nobody else can have made one: it belongs to root, and only root writes to
    the folder it is in. The target is held to the same rules as any folder; a second link is not followed.
    """
    link, above = os.lstat(path), path.parent.stat()
    is_of_root = link.st_uid == above.st_uid == 0 and not stat.S_IMODE(above.st_mode) & 0o022
    return path.parent / path.readlink() if stat.S_ISLNK(link.st_mode) and is_of_root and user != 0 else path


def _names(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]


def _is_ours(name: str) -> bool:
    return name in LIVE or name in _OTHERS or _ASIDE.fullmatch(name) is not None


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
