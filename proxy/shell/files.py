"""Opens, writes and replaces files that only this user may read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.core.routing.admin_access import MIN_TOKEN


def make_folder(path: Path) -> None:
    """Make the folder *path* and its missing parents with mode 0700."""
    if not path.parent.exists():
        make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def draft(path: Path, content: bytes) -> Iterator[Path]:
    """A temporary file beside *path* with *content*, synced to disk, for the caller to rename or link to *path*."""
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


def link_unless_exists(made: Path, path: Path) -> None:
    """Link the draft *made* to *path* unless *path* exists: of two processes that start at once the first wins."""
    try:
        os.link(made, path)
    except FileExistsError:
        pass  # the file of the other process is used


@contextmanager
def open_for_reading(path: Path) -> Iterator[int]:
    """A descriptor for reading *path*, which must not be a link. It does not block: a pipe must not hang the start."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def access_problem(status: os.stat_result) -> str:
    """Why a file with this *status* is not private to this user, "" if it is."""
    if not stat.S_ISREG(status.st_mode):
        return "it is not a file"
    if status.st_uid not in {0, os.geteuid()}:
        return f"it belongs to user {status.st_uid}"
    mode = stat.S_IMODE(status.st_mode)
    return f"its mode is {mode:04o}" if mode & 0o077 else ""


def mounted(path: Path) -> Path | None:
    """The file behind *path* if *path* is a key of a mounted Kubernetes Secret; None otherwise.

    A Secret's volume is a folder of links: `key` to `..data/key`, and `..data` to the folder of the newest version.
    The folder's owner made the links, so the owner must be root or this user, and no other user may rename in it.
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
    """True if only root and this user can replace a file in *folder*."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_open = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    return stat.S_ISDIR(status.st_mode) and status.st_uid in {0, os.geteuid()} and not is_open


def access_problem_of_mounted(status: os.stat_result) -> str:
    """As `access_problem` for a file in a mounted Secret, which our own group may read: `fsGroup` mounts it so."""
    if status.st_mode & stat.S_IRGRP and status.st_gid in {os.getegid(), *os.getgroups()}:
        return access_problem(os.stat_result((status.st_mode & ~stat.S_IRGRP, *status[1:])))
    return access_problem(status)


class TokenFileError(Exception):
    """The token file cannot be used; the text says why, without its contents."""


def read_token(file: Path) -> str:
    """The token in *file*. Raises TokenFileError."""
    try:
        token = file.read_text("ascii").strip()
    except OSError as error:
        raise TokenFileError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if len(token) < MIN_TOKEN or not token.isprintable() or " " in token:
        raise TokenFileError(f"{file}: must hold {MIN_TOKEN} or more letters, digits and signs on one line")
    return token
