"""Entries, keys and a clock for the tests of the store."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.core.cache.encryption import Sealer
from proxy.core.model import Entry, EntryMeta
from proxy.shell.store import Store

MASTER = bytes(range(32))
SEALER = Sealer(MASTER)
UNSEALED = Sealer(MASTER, sealed=False)
TOKEN = "EAABsbCS1234ZD-a-caller's-token"
MIB = 2**20
ROWS = 300

Open = Callable[..., Awaitable[Store]]
"""Opens a store in the test's folder; what is not said is quiet and has room."""
Mount = Callable[[str], Path]
"""Mounts a tmpfs with these options."""


def key(number: int) -> bytes:
    """The key of entry *number*."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=32).digest()


def entry(number: int, size: int = 600, *, version: int = 0) -> Entry:
    """Entry *number*, of *size* bytes that do not compress; each *version* of it differs."""
    held = EntryMeta(f'"etag-{number}-{version}"', "batch", 1e9 + version, may_be_fresh=True, proofs=())
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


async def served(store: Store) -> int:
    """How many rows are read; each must be the right one."""
    count = 0
    for number in range(ROWS):
        found = await store.load(key(number), TOKEN)
        assert found in (None, entry(number, 1400))
        count += found is not None
    return count


async def works(store: Store) -> bool:
    """Whether the store keeps something on disk now."""
    before = store.stats()["writes"]
    store.put(key(9999), TOKEN, entry(9999))
    assert store.in_memory(key(9999)) == entry(9999)
    await store.flush()
    return store.stats()["writes"] == int(before) + 1


async def restarted(store: Store, opened: Open, **arguments: object) -> Store:
    """The same folder under a new store, whose memory is empty."""
    await store.close()
    return await opened(**arguments)
