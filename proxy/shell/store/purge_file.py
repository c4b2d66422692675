"""A note beside the rows, for what must outlive the process: there whole, or as it was before."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.shell.files import opened

NAME, DRAFT = "orders", "orders.new"
LARGEST = 2**20


def write_purges(folder: Path, text: bytes) -> None:
    """Put *text* in the place of what was noted in *folder*; when this returns a crash cannot undo it."""
    draft = folder / DRAFT
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / NAME)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_purges(folder: Path) -> bytes | None:
    """What is noted in *folder*; None where nothing ever was. Whatever else lies there reads as nothing that opens."""
    try:
        with opened(folder / NAME) as descriptor:
            return os.read(descriptor, LARGEST)
    except FileNotFoundError:
        return None
    except OSError:
        return b""
