"""Reads and replaces the file of purge orders, which outlives the process; a crash leaves the old or the new file."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.shell.files import open_for_reading

FILE_NAME, DRAFT_NAME = "orders", "orders.new"
MAX_BYTES = 2**20


def write_purges(folder: Path, orders: bytes) -> None:
    """Replace the purge orders in *folder*; after the return a crash cannot undo it."""
    draft = folder / DRAFT_NAME
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
        file.write(orders)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / FILE_NAME)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_purges(folder: Path) -> bytes | None:
    """The purge orders in *folder*; None if none were saved, b"" if the file cannot be read."""
    try:
        with open_for_reading(folder / FILE_NAME) as descriptor:
            return os.read(descriptor, MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError:
        return b""
