"""Reads the installation's secret, 32 bytes in a file of its own, and makes it on the first start."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.core.cache.encryption import MASTER_BYTES
from proxy.shell import files


class KeyFileError(Exception):
    """The key file cannot be trusted; the message says where it is and what is allowed."""


def load_or_make_key(path: Path | None) -> bytes:
    """The secret in *path*, made now if the file is missing; without a path a secret for this process alone."""
    if path is None:
        return os.urandom(MASTER_BYTES)
    try:
        return _read_key(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _refused(path, error.strerror or type(error).__name__) from None
    try:
        _make_key(path)
        return _read_key(path)
    except OSError as error:
        raise _refused(path, f"it cannot be made: {error.strerror or type(error).__name__}") from None


def _read_key(path: Path) -> bytes:
    secret = files.mounted(path)
    with files.open_for_reading(secret or path) as descriptor:
        status = os.fstat(descriptor)
        if why := files.access_problem(status) if secret is None else files.access_problem_of_mounted(status):
            raise _refused(path, why)
        if status.st_size != MASTER_BYTES:
            raise _refused(path, f"it has {status.st_size} bytes")
        return os.read(descriptor, MASTER_BYTES)


def _make_key(path: Path) -> None:
    """Make the key file; of two processes that start at once, both then use the secret of the first."""
    files.make_folder(path.parent)
    with files.draft(path, os.urandom(MASTER_BYTES)) as made:
        files.link_unless_exists(made, path)


def _refused(path: Path, reason: str) -> KeyFileError:
    return KeyFileError(
        f"key file {path}: {reason}; allowed is a plain file of {MASTER_BYTES} bytes, no link, "
        "owned by this user and readable by no other (mode 0600), or that file in a mounted Kubernetes Secret"
    )
