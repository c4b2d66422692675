"""Entries, keys and a clock for the tests of the store."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.core.messages import Entry, Held
from proxy.core.sealing import Sealer

MASTER = bytes(range(32))
SEALER = Sealer(MASTER)
UNSEALED = Sealer(MASTER, sealed=False)
TOKEN = "EAABsbCS1234ZD-a-caller's-token"
MIB = 2**20


def key(number: int) -> bytes:
    """The key of entry *number*."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=32).digest()


def entry(number: int, size: int = 600, *, version: int = 0) -> Entry:
    """Entry *number*, of *size* bytes that do not compress; each *version* of it differs."""
    held = Held(f'"etag-{number}-{version}"', "batch", 1e9 + version, lasting=True, proofs=())
    body = b"body-%d-%d-" % (number, version) + random.Random(number * 1000 + version).randbytes(size)
    return Entry(held, b"Content-Type: application/json\r\nx-fb-rev: %d" % number, body)


def folder_bytes(path: Path) -> int:
    """What all files in *path* take."""
    return sum(file.stat().st_size for file in path.iterdir())


def contents(path: Path) -> bytes:
    """All bytes of all files in *path*."""
    return b"\n".join(file.read_bytes() for file in path.iterdir() if file.is_file())


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def seen_as(path: Path, mode: int) -> Iterator[None]:
    """*path* with another mode for a while."""
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(before)
