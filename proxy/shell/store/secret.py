"""The installation's secret: 32 bytes in a file of its own, made on first start."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from proxy.core.sealing import MASTER_BYTES
from proxy.shell.store.folder import make_private


class KeyFileError(Exception):
    """The key file is not one that can be trusted; the message says where it is and what is allowed."""


def load_or_make(path: Path | None) -> bytes:
    """The secret in *path*, made now if there is none; without a path one that lives as long as the process."""
    if path is None:
        return os.urandom(MASTER_BYTES)
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _refused(path, error.strerror or type(error).__name__) from None
    try:
        _make(path)
        return _read(path)
    except OSError as error:
        raise _refused(path, f"it cannot be made: {error.strerror or type(error).__name__}") from None


def _read(path: Path) -> bytes:
    # Not blocking: a pipe in this place must not hang the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check(path, os.fstat(descriptor))
        return os.read(descriptor, MASTER_BYTES)
    finally:
        os.close(descriptor)


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "it is not a file")
    if status.st_uid not in {0, os.geteuid()}:
        raise _refused(path, f"it belongs to user {status.st_uid}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise _refused(path, f"its mode is {stat.S_IMODE(status.st_mode):04o}")
    if status.st_size != MASTER_BYTES:
        raise _refused(path, f"it has {status.st_size} bytes")


def _make(path: Path) -> None:
    """Write a file aside and link it into place: of two starters one wins, and neither sees half a secret."""
    make_private(path.parent)
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(MASTER_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass  # the other starter was first: its secret is the one
    finally:
        draft.unlink()


def _refused(path: Path, reason: str) -> KeyFileError:
    return KeyFileError(
        f"key file {path}: {reason}; allowed is a plain file of {MASTER_BYTES} bytes, no link, "
        "owned by this user and readable by no other (mode 0600)"
    )
