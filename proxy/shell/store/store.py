"""The store: entries in memory at once, on disk behind the reply, and never an error for who asks."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from proxy.core.cache.encryption import BadSeal, Sealer
from proxy.core.model import Entry, EntryMeta
from proxy.shell.store.breaker import Breaker, Limits
from proxy.shell.store.database import Database, WriteReport
from proxy.shell.store.disk import Disk
from proxy.shell.store.memory import Index, Memory
from proxy.shell.store.read_queue import Loads
from proxy.shell.store.write_queue import GONE, Gone, Write, WriteQueue

MIB = 2**20
INDEX_SHARE = 4
"""The index of what is on disk gets a quarter of the memory: as many rows again as entries of 2 KB, and half more."""
_log = logging.getLogger("graph_sidecar.store")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept, and when what is done about it."""

    memory_bytes: int = 64 * MIB
    disk_bytes: int = 1024 * MIB
    max_body_bytes: int = 2 * MIB
    queue_entries: int = 4096  # that wait to be written, and
    queue_bytes: int = 16 * MIB  # what they may take meanwhile
    group_entries: int = 64  # that are written in one transaction,
    group_s: float = 0.05  # so long after the first of them at the latest
    tend_s: float = 15.0  # from one look at the disk to the next
    rest_s: float = 30.0  # for which a disk in trouble is left alone
    rewrite_s: float = 3600.0  # after which an entry that Graph confirms is written again
    free_floor_bytes: int = 64 * MIB  # that others shall find free on the file system
    read_s: float = 1.0  # that a read of the disk may take, for which a caller waits
    work_s: float = 5.0  # that another visit may take: writing, opening


class Store:
    """Keeps entries: a bounded memory tier, and behind it, if there is a *directory*, a bounded and sealed disk tier.

    All of its state belongs to the event loop; the two threads are handed values and give values back. So nothing here
    needs a lock, and `keep`, `drop`, `hot` and `held` never wait.
    """

    def __init__(
        self,
        directory: Path | None,
        sealer: Sealer,
        bounds: Bounds,
        *,
        clock: Callable[[], float] = time.monotonic,
        noted: Callable[[bytes | None], None] = lambda _text: None,
    ) -> None:
        """Keep entries; *noted* is told, before a row is read, what was noted beside them, b"" if that is illegible."""
        place = directory if bounds.disk_bytes > 0 else None
        index_bytes = 0 if place is None else max(bounds.memory_bytes // INDEX_SHARE, MIB // 4)
        self._memory = Memory(max(0, bounds.memory_bytes - index_bytes))
        self._index = Index(index_bytes)
        self._pending = WriteQueue(bounds.queue_entries, bounds.queue_bytes)
        self._loads = Loads()
        self._disk: Disk | None = None
        if place is not None:
            tier = Database(place, sealer, bounds.disk_bytes, bounds.free_floor_bytes)
            self._disk = Disk(tier, Breaker(bounds.rest_s, clock), self._opened, Limits(bounds.read_s, bounds.work_s))
            self._group_bytes = tier.wal_bytes
        self._bounds = bounds
        self._clock = clock
        self._noted = noted
        self._note: bytes | None = None  # that is not on disk yet
        self._timer: asyncio.TimerHandle | None = None
        self._draining: asyncio.Task[None] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._writes = self._writes_dropped = self._bad_rows = 0

    # --- asking ---

    def hot(self, key: bytes) -> Entry | None:
        """The entry, if it is in memory."""
        return self._memory.get(key)

    def held(self, key: bytes) -> EntryMeta | None:
        """What is known of the entry without reading the disk."""
        entry = self._memory.peek(key)
        if entry is not None:
            return entry.meta
        known = self._index.get(key) if self._disk is not None and self._disk.ready else None
        return None if known is None else known.held

    async def load(self, key: bytes, token: str) -> Entry | None:
        """The entry from memory, from the writes that wait, or from disk; None if it does not open for *token*."""
        near = self._near(key)
        if near is None and self._disk is not None and (key in self._index or not self._index.is_whole):
            return await self._load(self._disk, key, token)
        return None if near is GONE else near

    # --- telling ---

    def keep(self, key: bytes, token: str, entry: Entry, *, write: bool = True) -> bool:
        """Hold *entry*: in memory at once, on disk behind the reply; not *write*: only memory learns what is new.

        Whether it is held: not if it is too large, or if neither memory nor disk has room for it.

        A row is written again all the same when its last writing is an hour old: rows leave in the order of writing,
        and one that is confirmed again and again should stay.
        """
        if len(entry.body) > self._bounds.max_body_bytes:
            self.drop(key)
            return False
        self._loads.overtake(key)
        self._memory.put(key, entry)
        if self._disk is not None:
            self._keep_on(self._disk, key, token, entry, write=write)
        return self._memory.peek(key) is not None or key in self._index

    def _keep_on(self, disk: Disk, key: bytes, token: str, entry: Entry, *, write: bool) -> None:
        now = self._clock()
        known = self._index.get(key)
        if not write and known is not None and now - known.written < self._bounds.rewrite_s:
            self._index.put(key, entry.meta, known.written)
        elif write or known is not None:
            self._write(disk, key, token, entry, now)

    def drop(self, key: bytes) -> None:
        """Forget *key* everywhere; a write of it that still waits is not made."""
        self._loads.overtake(key)
        self._memory.drop(key)
        self._index.drop(key)
        if self._disk is not None and not self._pending.drop(key):
            self._forget(self._disk)  # deletions that find no room any more become one large one
        self._wake()

    def purge(self) -> None:
        """Forget everything."""
        self._loads.overtake_all()
        self._memory.clear()
        if self._disk is not None:
            self._forget(self._disk)

    async def note(self, text: bytes) -> bool:
        """Keep *text* beside the rows, in the place of what was noted before; whether the next run will hear of it.

        While the disk rests it waits for it, and so do the rows.
        """
        self._note = text
        if self._disk is not None and not await self._disk.note(text):
            return False
        if self._note is text:
            self._note = None
        return True

    # --- living ---

    async def open(self) -> None:
        """Open the disk tier; whatever is wrong with it, the store works without."""
        if self._disk is None:
            return
        _log.info("SQLite %s", sqlite3.sqlite_version)
        await self._disk.open()
        self._tending = asyncio.get_running_loop().create_task(self._tend_forever())

    async def flush(self) -> None:
        """Wait until everything that was kept or dropped so far is on disk, or given up."""
        if self._disk is None:
            return
        await self._disk.settled()
        while self._disk.ready and len(self._pending):
            self._start()
            if self._draining is not None:
                await asyncio.shield(self._draining)
            await self._disk.settled()

    async def tend(self) -> None:
        """One round of housekeeping, as the timer does it."""
        if self._disk is None:
            return
        for key in await self._disk.tend():
            self._index.drop(key)
        if self._note is not None:
            await self.note(self._note)
        self._wake()

    async def close(self, seconds: float = 5.0) -> None:
        """Flush and close; what is not done after *seconds* is left, and said."""
        if self._disk is None:
            return
        await self._stop_timers()
        try:
            async with asyncio.timeout(seconds):
                if self._note is not None:
                    await self.note(self._note)
                await self.flush()
                await self._disk.close()
        except TimeoutError:
            _log.warning("the cache on disk did not close in %g s: %d writes are lost", seconds, len(self._pending))
            self._disk.leave()

    def stats(self) -> dict[str, int | float | str]:
        """The numbers of now, by name."""
        disk = self._disk
        return {
            "memory_entries": len(self._memory),
            "memory_bytes": self._memory.bytes,
            "memory_evictions": self._memory.evictions,
            "index_entries": len(self._index),
            "queue_depth": len(self._pending),
            "writes": self._writes,
            "writes_dropped": self._writes_dropped,
            "bad_rows": self._bad_rows,
            "disk_entries": disk.entries if disk else 0,
            "disk_bytes": disk.bytes if disk else 0,
            "disk_evictions": disk.shed if disk else 0,
            "disk_troubles": disk.troubles if disk else 0,
            "quarantines": disk.quarantines if disk else 0,
            "breaker": disk.state if disk else "none",
        }

    # --- loading ---

    def _near(self, key: bytes) -> Entry | Gone | None:
        """What memory knows: the entry, GONE if the disk's row is not to be believed, None if only the disk can say."""
        if entry := self._memory.get(key):
            return entry
        waiting = self._pending.find(key)
        if waiting is not None and waiting is not GONE:
            self._memory.put(key, waiting)
        return waiting

    async def _load(self, disk: Disk, key: bytes, token: str) -> Entry | None:
        """From disk, unless something newer overtakes the reading."""
        self._loads.begin(key)
        entry, bad = None, False
        try:
            entry = await disk.read(key, token)
        except BadSeal:
            bad = True
        finally:
            overtaken = self._loads.end(key)
        if overtaken:
            near = self._near(key)
            return None if near is GONE else near
        if bad:
            self._bad_rows += 1
            self.drop(key)
        return self._promote(key, entry)

    def _promote(self, key: bytes, entry: Entry | None) -> Entry | None:
        if entry is None:
            self._index.drop(key)
            return None
        known = self._index.get(key)
        if known is not None and known.held.etag == entry.meta.etag:
            # Graph has confirmed this body since it was written; only the index has heard.
            entry = replace(entry, meta=known.held)
        self._memory.put(key, entry)
        self._index.put(key, entry.meta, self._clock() if known is None else known.written)
        return entry

    # --- writing behind ---

    def _opened(self, noted: bytes | None) -> None:
        """The disk is there; of an empty one everything is known, and a miss needs no trip to the reader's thread."""
        self._noted(noted)
        self._index.is_whole = self._disk is not None and not self._disk.entries
        self._wake()

    def _write(self, disk: Disk, key: bytes, token: str, entry: Entry, now: float) -> None:
        if disk.accepting and self._pending.put(key, token, entry):
            self._index.put(key, entry.meta, now)
            self._wake()
        else:
            self._index.drop(key)
            self._writes_dropped += 1

    def _wake(self) -> None:
        """See to it that a group leaves: now if it is full, else soon."""
        if self._draining is not None or self._disk is None or not self._disk.ready:
            return
        if self._pending.waiting >= self._bounds.group_entries:
            self._start()
        elif self._timer is None and self._pending.waiting:
            self._timer = asyncio.get_running_loop().call_later(self._bounds.group_s, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._draining is None and self._disk is not None:
            self._draining = asyncio.get_running_loop().create_task(self._drain(self._disk))

    async def _drain(self, disk: Disk) -> None:
        """Write group after group until none waits."""
        try:
            while disk.ready and (group := self._pending.take(self._bounds.group_entries, self._group_bytes)):
                self._settle(group, await disk.write(group))
        finally:
            self._draining = None

    def _settle(self, group: list[Write], report: WriteReport | None) -> None:
        """Take note of what became of *group*; a row whose writing failed must not be read in its older form."""
        lost = [write.key for write in group] if report is None else report.refused
        for key in lost:
            self._index.drop(key)
        for key in [] if report is None else report.shed:
            self._index.drop(key)
        self._writes += 0 if report is None else report.rows
        self._writes_dropped += sum(write.entry is not None for write in group) if report is None else len(lost)
        self._pending.settle(lost if report is None else [])

    def _forget(self, disk: Disk) -> None:
        self._index.clear()
        self._pending.clear()
        disk.erase()

    async def _tend_forever(self) -> None:
        while True:
            await asyncio.sleep(self._bounds.tend_s)
            await self.tend()

    async def _stop_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
