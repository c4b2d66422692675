"""A disk that does not answer costs a caller a moment once; memory goes on, and the disk is used when it is back."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from proxy.shell.store import Bounds, Store
from proxy.shell.store.directory import Directory
from proxy.shell.store.disk import DiskTimeouts
from proxy.shell.store.sqlite import Sqlite
from tests.shell.store.samples import ROWS, SEALER, TOKEN, Clock, Open, entry, key, served, works

SOON = {"read_s": 0.05, "work_s": 0.05}
"""Limits of a visit that a test may wait for."""


def limit(store: Store, seconds: float) -> Store:
    """From now on let a visit of *store* to its disk take so long."""
    disk = store._disk
    assert disk is not None
    disk._timeouts = DiskTimeouts(seconds, seconds)
    disk._reads._timeout_s = seconds
    return store


class Disk:
    """A disk of which some calls hang until it answers again."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.answers = threading.Event()
        self.calls = 0

    def hang(self, where: type, name: str) -> None:
        """From now on let *name* of *where* wait."""
        real: Callable[..., object] = getattr(where, name)

        def wait(*arguments: object, **named: object) -> object:
            self.calls += 1
            self.answers.wait()
            return real(*arguments, **named)

        self._patch.setattr(where, name, wait)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk that hangs when told, and answers at the end of the test."""
    made = Disk(monkeypatch)
    yield made
    made.answers.set()


async def come_back(store: Store) -> None:
    """Wait until no thread of the store waits for the disk."""
    async with asyncio.timeout(60):
        if store._listing is not None:
            await asyncio.wait((store._listing,))
        await asyncio.wait({*store._disk._unanswered, asyncio.ensure_future(asyncio.sleep(0))})  # type: ignore[union-attr]


async def back(store: Store, disk: Disk, clock: Clock) -> None:
    """The disk answers, its threads have come back, and its rest is over."""
    disk.answers.set()
    await come_back(store)
    limit(store, 60)
    clock.now += 31
    await store.maintain()


async def test_a_read_that_hangs_is_a_miss(filled: Path, opened: Open, disk: Disk) -> None:
    """All who read get a miss, those who come later at once; the disk is asked once, and is used again when back."""
    clock = Clock()
    store = limit(await opened(clock=clock), 0.05)
    disk.hang(Sqlite, "read")
    async with asyncio.timeout(60):
        found = await asyncio.gather(*(store.load(key(number), TOKEN) for number in range(200)))
        assert found == [None] * 200
        assert await served(store) == 0
    assert (disk.calls, store.stats()["breaker"], store.stats()["disk_troubles"]) == (1, "open", 1)
    clock.now += 31
    await store.maintain()
    assert (disk.calls, store.stats()["breaker"]) == (1, "open")
    await back(store, disk, clock)
    assert store.stats()["breaker"] == "closed"
    assert await served(store) == ROWS


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_loop_that_is_late_blames_no_disk(folder: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Where the process itself was busy for longer than a visit may take, what has come back meanwhile counts."""

    def be_busy() -> None:
        threading.Event().wait(0.2)  # holds up the loop, and no other thread

    async def read() -> None:
        store = Store(folder, SEALER, Bounds(group_s=3600, maintain_s=3600, free_floor_bytes=0))
        await store.open()
        store.put(key(1), TOKEN, entry(1))
        await store.flush()
        store.memory.clear()
        limit(store, 0.05)
        reading = asyncio.ensure_future(store.load(key(1), TOKEN))
        asyncio.get_running_loop().call_later(0, be_busy)
        assert await reading == entry(1)
        noting = asyncio.ensure_future(store.save_purges(b"orders"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0, be_busy)
        assert await noting
        assert store.stats()["breaker"] == "closed"
        limit(store, 60)
        await store.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(read())


async def test_a_write_that_hangs_holds_up_nothing(filled: Path, opened: Open, disk: Disk) -> None:
    """What is kept meanwhile is in memory; what was given up is not read in its older form when the disk is back."""
    clock = Clock()
    store = limit(await opened(clock=clock), 0.05)
    disk.hang(Sqlite, "write")
    newer = entry(1, 1400, version=1)
    store.put(key(1), TOKEN, newer)
    await store.flush()
    assert store.stats()["breaker"] == "open"
    assert await store.load(key(1), TOKEN) == newer
    assert await store.load(key(2), TOKEN) is None
    await back(store, disk, clock)
    await store.flush()
    store.memory.clear()
    assert await store.load(key(1), TOKEN) in (None, newer)
    assert await works(store)


async def test_a_lock_of_another_program_is_not_waited_for(filled: Path, opened: Open) -> None:
    """While somebody holds SQLite's lock, a write is given up sooner than SQLite does."""
    clock = Clock()
    store = limit(await opened(clock=clock), 0.05)
    with sqlite3.connect(filled / "cache.db", isolation_level=None) as stranger:
        stranger.execute("BEGIN EXCLUSIVE")
        store.put(key(9999), TOKEN, entry(9999))
        await store.flush()
        assert store.stats()["breaker"] == "open"
        stranger.execute("ROLLBACK")
    stranger.close()
    await come_back(store)
    limit(store, 60)
    clock.now += 31
    await store.maintain()
    assert await works(store)


@pytest.mark.parametrize("where, name", [(Directory, "enter"), (Sqlite, "read")], ids=["folder", "first read"])
async def test_a_disk_that_hangs_at_the_start(opened: Open, disk: Disk, where: type, name: str) -> None:
    """The store opens without it, says so once, and takes it when it answers."""
    clock = Clock()
    disk.hang(where, name)
    async with asyncio.timeout(60):
        store = await opened(clock=clock, **SOON)
        assert not await works(store)
    await back(store, disk, clock)
    assert await works(store)


@pytest.mark.parametrize("name", ["read", "write"])
async def test_the_end_waits_for_no_disk(
    filled: Path, opened: Open, disk: Disk, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A store whose disk hangs closes at once; its threads close what they hold when they wake, and end."""
    store = limit(await opened(), 0.05)
    disk.hang(Sqlite, name)
    store.put(key(9999), TOKEN, entry(9999))
    await store.load(key(1), TOKEN)
    await store.flush()
    await store.close()
    assert "did not close" not in caplog.text
    disk.answers.set()
    for thread in (store._disk._reader._thread, store._disk._writer._thread):  # type: ignore[union-attr]
        thread.join(60)
        assert not thread.is_alive()
    assert caplog.text.count("is not used for now") == 1


async def test_an_order_waits_for_no_disk(filled: Path, opened: Open, disk: Disk) -> None:
    """An order that cannot be written is told as that, and is written when the disk is back."""
    clock = Clock()
    store = limit(await opened(clock=clock), 0.05)
    disk.hang(Sqlite, "read")
    await store.load(key(1), TOKEN)
    assert not await store.save_purges(b"orders")
    await back(store, disk, clock)
    assert store._unsaved_purges is None
