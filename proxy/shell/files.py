"""Files that the sidecar alone may read: opened, written and replaced whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.core.routing.admin_access import MIN_TOKEN


def make_folder(path: Path) -> None:
    """Make the folder *path* and the parents that lack, for our eyes only."""
    if not path.parent.exists():
        make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def draft(path: Path, content: bytes) -> Iterator[Path]:
    """A file beside *path* with *content*, safely on disk, to be put in its place while this lasts."""
    made = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield made
    finally:
        made.unlink(missing_ok=True)


def put_first(made: Path, path: Path) -> None:
    """Put the draft *made* at *path* unless somebody was first: of two that start at once, neither sees half a file."""
    try:
        os.link(made, path)
    except FileExistsError:
        pass  # what the other has put there is what holds


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of *path*, no link, for reading. Not blocking: a pipe in this place must not hang the start."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def fault(status: os.stat_result) -> str:
    """Why a file with this *status* is not ours alone, "" if it is."""
    if not stat.S_ISREG(status.st_mode):
        return "it is not a file"
    if status.st_uid not in {0, os.geteuid()}:
        return f"it belongs to user {status.st_uid}"
    mode = stat.S_IMODE(status.st_mode)
    return f"its mode is {mode:04o}" if mode & 0o077 else ""


def mounted(path: Path) -> Path | None:
    """The file that *path* is in a mounted Kubernetes Secret; None where it is anything else.

    A Secret's volume is a folder of links: `key` to `..data/key`, and `..data` to the folder of the newest version.
    Whoever owns the folder has put them there, so it has to be root or us, and nobody else may rename in it.
    """
    try:
        if str(path.readlink()) != f"..data/{path.name}":
            return None
        version = str((path.parent / "..data").readlink())
    except OSError:
        return None
    if not version.startswith("..") or "/" in version or version == "..":
        return None
    folders = (path.parent, path.parent / version)
    return folders[1] / path.name if all(map(_is_kept, folders)) else None


def _is_kept(folder: Path) -> bool:
    """Whether nobody but root and us may put another file in the place of one in *folder*."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_open = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    return stat.S_ISDIR(status.st_mode) and status.st_uid in {0, os.geteuid()} and not is_open


def fault_of_mounted(status: os.stat_result) -> str:
    """As `fault`, of a file in a mounted Secret: our own group may read it, too, for `fsGroup` gives it to us so."""
    if status.st_mode & stat.S_IRGRP and status.st_gid in {os.getegid(), *os.getgroups()}:
        return fault(os.stat_result((status.st_mode & ~stat.S_IRGRP, *status[1:])))
    return fault(status)


class TokenFileError(Exception):
    """The file cannot be used; the text says why, and not what is in it."""


def read_token(file: Path) -> str:
    """The token that *file* holds. Raises TokenFileError."""
    try:
        token = file.read_text("ascii").strip()
    except OSError as error:
        raise TokenFileError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if len(token) < MIN_TOKEN or not token.isprintable() or " " in token:
        raise TokenFileError(f"{file}: must hold {MIN_TOKEN} or more letters, digits and signs on one line")
    return token
