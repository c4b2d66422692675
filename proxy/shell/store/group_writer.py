"""Writes what is queued to the disk in groups, after the replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from proxy.core.model import Entry
from proxy.shell.store.disk import Disk
from proxy.shell.store.write_queue import QueuedWrite, WriteQueue


class GroupBounds(NamedTuple):
    """When a group of writes is full, and how long it waits until then."""

    entries: int
    size: int  # in bytes; a group has one write at least
    longest_s: float


class GroupWriter:
    """Writes what is queued to the disk, group after group."""

    def __init__(
        self,
        queue: WriteQueue,
        disk: Disk,
        bounds: GroupBounds,
        now: Callable[[], float],
        on_gone: Callable[[Sequence[bytes]], None],
    ) -> None:
        """Write to *disk* what waits in *queue*; *on_gone* takes the keys that are not on disk after a group."""
        self.dropped = 0
        """Entries that are not on disk, because the queue was full or writing failed."""
        self.rows = 0
        """Rows that were written."""
        self._queue = queue
        self._disk = disk
        self._bounds = bounds
        self._now = now
        self._on_gone = on_gone
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None

    def put(self, key: bytes, token: str, entry: Entry) -> bool:
        """Write *entry* later; False, with nothing to be written under *key*, if there are too many writes."""
        if self._disk.accepting and self._queue.put(key, token, entry):
            self.schedule()
            return True
        self.dropped += 1
        return False

    def put_all(self, keys: Sequence[bytes], token: str, entries: Sequence[Entry]) -> bool:
        """Write *entries* later; False, with nothing done, if there are too many writes."""
        if not self._disk.accepting or not self._queue.put_all(keys, token, entries):
            return False
        self.schedule()
        return True

    def schedule(self) -> None:
        """Write what is queued: now if it fills a group, else after `longest_s`."""
        if self._work is not None:
            return
        is_full = self._queue.waiting >= self._bounds.entries
        if (self._timer is not None and not is_full) or not self._disk.ready:
            return
        if is_full:
            self._start()
        elif self._queue.waiting:
            self._timer = asyncio.get_running_loop().call_later(self._bounds.longest_s, self._start)

    async def flush(self) -> None:
        """Wait until every change so far is on disk or has failed."""
        await self._disk.settled()
        while self._disk.ready and len(self._queue):
            self._start()
            if self._work is not None:
                await asyncio.shield(self._work)
            await self._disk.settled()

    def stop_waiting(self) -> None:
        """Wait no longer for a group to fill."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def is_writing(self) -> bool:
        """Whether a group is being written."""
        return self._work is not None

    def _start(self) -> None:
        self.stop_waiting()
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Write group after group until the queue is empty."""
        try:
            while self._disk.ready and (group := self._queue.take(self._bounds.entries, self._bounds.size)):
                await self._write_group(group)
        finally:
            self._work = None

    async def _write_group(self, group: list[QueuedWrite]) -> None:
        """Write *group*; if a write failed, the older version of its row must not be read."""
        report = await self._disk.write(group, self._now())
        if report is None:
            lost: Sequence[bytes] = [write.key for write in group]
            gone, again = lost, [*lost]
            self.dropped += sum(write.entry is not None for write in group)
        else:
            lost, again = report.refused, []
            gone = [*lost, *report.evicted]
            self.dropped += len(lost)
            self.rows += report.rows
        self._queue.settle(again)
        self._on_gone(gone)
