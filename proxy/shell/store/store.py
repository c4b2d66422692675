"""The store: puts entries in memory at once and on disk after the reply; its methods never raise."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from proxy.core.cache.clock_step import UncertainTimes, undated
from proxy.core.cache.encryption import BadSeal, CompressedBody, Sealer
from proxy.core.model import Entry, EntryMeta
from proxy.shell.store.corruption import Breaker
from proxy.shell.store.database import Database
from proxy.shell.store.disk import Disk, DiskTimeouts
from proxy.shell.store.group_writer import GroupBounds, GroupWriter
from proxy.shell.store.memory import ENTRY_COST, USE_COST, Index, Memory, size_of
from proxy.shell.store.read_queue import Loads, ReadResult
from proxy.shell.store.write_queue import DELETED, Deleted, WriteQueue

MIB = 2**20
INDEX_SHARE = 8
"""The index of the disk gets an eighth of the memory at the most; what it does not need is for entries."""
FILTER_SHARE = 8
"""An eighth of the index is a filter of all keys on disk: 1 MiB by default, enough for a million rows."""
USES_SHARE = 2
"""Half of the index is for uses of entries that are on disk alone: about as many as there are entries in memory."""
_RENEWED_A_TURN = 256
"""Entries of which the index gets the newer times in one turn of the event loop."""
OnEntry = Callable[[Entry | None], None]
"""Takes a loaded entry; None if there is none."""
_log = logging.getLogger("graph_sidecar.store")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The store's size limits and intervals."""

    memory_bytes: int = 64 * MIB
    disk_bytes: int = 1024 * MIB
    max_body_bytes: int = 2 * MIB
    queue_entries: int = 4096  # writes that may wait
    queue_bytes: int = 16 * MIB  # and their memory
    group_entries: int = 256  # writes in one transaction
    group_s: float = 0.05  # the longest wait for a group to fill
    maintain_s: float = 15.0  # between two checks of the disk
    rest_s: float = 30.0  # without use after a disk error
    rewrite_s: float = 3600.0  # after which a row that Graph confirms is written again
    free_floor_bytes: int = 64 * MIB  # left free on the file system for others
    read_s: float = 1.0  # timeout of a read, for which a caller waits
    work_s: float = 5.0  # timeout of writing and opening


class Store:
    """Stores entries in a bounded memory tier and, if there is a *directory*, in a bounded and encrypted disk tier.

    All of its state belongs to the event loop; the two threads get values and return values. So nothing here needs a
    lock, and `put`, `drop`, `in_memory` and `known_meta` never wait.
    """

    def __init__(
        self,
        directory: Path | None,
        sealer: Sealer,
        bounds: Bounds,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        restore_purges: Callable[[bytes | None], None] = lambda _text: None,
    ) -> None:
        """Open nothing yet; *restore_purges* gets the saved purge orders before a row is read, b"" if unreadable."""
        place = directory if bounds.disk_bytes > 0 else None
        index_bytes = 0 if place is None else max(bounds.memory_bytes // INDEX_SHARE, MIB // 4)
        filter_bytes = index_bytes // FILTER_SHARE
        remembered = index_bytes // USES_SHARE // USE_COST
        memory_bytes = max(0, bounds.memory_bytes - filter_bytes)
        self.memory = Memory(memory_bytes, self._on_evict, remembered=remembered, others=self._index_bytes)
        self._certain_bytes = memory_bytes - index_bytes  # of the memory, which the index never takes
        self._most_index_bytes = 0
        self._renewed: dict[bytes, str] = {}  # tokens by the keys of entries whose newer times the index does not have
        self._index = Index(index_bytes - filter_bytes - remembered * USE_COST, filter_bytes)
        self._pending = WriteQueue(bounds.queue_entries, bounds.queue_bytes)
        self._loads = Loads()
        self._disk: Disk | None = None
        self._writer: GroupWriter | None = None
        if place is not None:
            tier = Database(place, sealer, bounds.disk_bytes, bounds.free_floor_bytes)
            self._disk = Disk(
                tier, Breaker(bounds.rest_s, clock), self._on_open, DiskTimeouts(bounds.read_s, bounds.work_s)
            )
            group = GroupBounds(bounds.group_entries, tier.wal_bytes, bounds.group_s)
            self._writer = GroupWriter(self._pending, self._disk, group, now, self._on_gone)
        self._bounds = bounds
        self._clock = clock
        self._now = now
        self._uncertain = UncertainTimes()
        self._restore_purges = restore_purges
        self._unsaved_purges: bytes | None = None  # not on disk yet
        self._maintaining: asyncio.Task[None] | None = None
        self._listing: asyncio.Task[None] | None = None
        self._bad_rows = 0

    # --- reading ---

    def in_memory(self, key: bytes) -> Entry | None:
        """The entry of *key* if it is in memory."""
        return self.memory.get(key)

    def known_meta(self, key: bytes) -> EntryMeta | None:
        """The entry of *key* without its body, from memory or the index; the disk is not read."""
        entry = self.memory.peek(key)
        if entry is not None:
            return entry.meta
        known = self._index.get(key) if self._disk is not None and self._disk.ready else None
        return None if known is None else known.held

    def is_unknown(self, key: bytes) -> bool:
        """True if neither memory nor disk has an entry of *key*; the disk is not read."""
        if self._disk is not None and self._index.may_hold(key):  # or in the write queue
            return self.memory.entries.get(key) is None and self._pending.find(key) is DELETED
        return self.memory.entries.get(key) is None

    async def load(self, key: bytes, token: str) -> Entry | None:
        """The entry of *key* from memory, the write queue or disk; None if *token* does not decrypt it."""
        near = self._without_disk(key)
        if near is not None or self._disk is None or not self._index.may_hold(key):
            return None if near is DELETED else near
        loaded: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        self._read(self._disk, key, token, lambda entry: None if loaded.done() else loaded.set_result(entry))
        return await loaded

    def fetch(self, key: bytes, token: str, on_entry: OnEntry) -> None:
        """Let *on_entry* take what `load` returns, in a later turn of the event loop."""
        near = self._without_disk(key)
        if near is None and self._disk is not None and self._index.may_hold(key):
            self._read(self._disk, key, token, on_entry)
        else:
            asyncio.get_running_loop().call_soon(on_entry, None if near is DELETED else near)

    def _read(self, disk: Disk, key: bytes, token: str, on_entry: OnEntry) -> None:
        self._loads.begin(key)
        disk.read(key, token, partial(self._on_read, key, on_entry))

    # --- changing ---

    def put(self, key: bytes, token: str, entry: Entry, *, write: bool = True) -> bool:
        """Store *entry* in memory now and, if *write*, on disk later; True if memory or disk took it.

        It is not stored if it is too large, if neither memory nor disk has room, or if the entry that is held was
        asked for later: a slow reply must not take the place of a newer one.

        Without *write* the row on disk is still written again when it is older than `rewrite_s`: rows are deleted in
        the order of writing, and a row that Graph confirms again and again should stay. An entry that is on disk alone
        stays there: `fetch` has decided whether memory takes it.
        """
        if self._uncertain.until:
            entry = self._dated(entry)
        is_held, is_on_disk = self.memory.peek(key) is not None, key in self._index
        if (is_held or is_on_disk) and self._is_outdated(key, entry.meta):
            return False
        if len(entry.body) > self._bounds.max_body_bytes:
            self.drop(key)
            return False
        self._renewed.pop(key, None)
        if self._loads.under_way:
            self._loads.supersede(key)
        if write and not is_held:
            self._put_new(key, token, entry)
        else:
            if is_held or not is_on_disk:
                self.memory.put(key, entry)
            if self._writer is not None:
                self._put_on(self._writer, key, token, entry, write=write)
        self.memory.make_room()
        return self.memory.peek(key) is not None or key in self._index

    def put_all(self, keys: Sequence[bytes], token: str, entries: Sequence[Entry]) -> None:
        """Store *entries* of one *token*, which `will_take_all` has found to be the first of *keys*, as `put` does."""
        writer = self._writer
        if writer is None or self._uncertain.until or self._loads.under_way or not writer.put_all(keys, token, entries):
            for key, entry in zip(keys, entries, strict=True):
                self.put(key, token, entry)
            return
        now = self._clock()
        if self.memory.admit_all_new(keys, entries):
            self._index.put_all_held(keys, now)
        else:
            for key, entry in zip(keys, entries, strict=True):
                self._note_row(key, entry.meta, now)
        self.memory.make_room()

    def note_compressed(self, key: bytes, body: bytes, compressed: CompressedBody) -> None:
        """Take that *body*, which was just put under *key*, is already *compressed*: the disk need not do it again."""
        self._pending.note_compressed(key, body, compressed)

    def _put_new(self, key: bytes, token: str, entry: Entry) -> None:
        """Store *entry*, of which memory has none, on disk, and there as well; there in any case if not on disk."""
        writer, now = self._writer, self._clock()
        if writer is not None and writer.put(key, token, entry):
            self.memory.admit_new(key, entry)
            self._note_row(key, entry.meta, now)
            return
        if writer is not None:
            self._index.drop(key)
        self.memory.put(key, entry)

    def _index_bytes(self) -> int:
        """The most bytes that the index has taken, without its filter, with the uses of what is on disk alone.

        It forgets many at once. Entries that took the room until others come would leave again just before their use.
        """
        self._most_index_bytes = max(self._most_index_bytes, self._index.bytes + USE_COST * self.memory.uses)
        return self._most_index_bytes

    def will_take(self, key: bytes, entry: Entry, headers: int) -> bool:
        """Return whether `put` is certain to store *entry*, the first of *key*, with so many bytes of *headers*."""
        if self.memory.entries.get(key) is not None or key in self._index:
            return False
        size = len(entry.body)
        return size <= self._bounds.max_body_bytes and (
            2 * (size + headers + ENTRY_COST) <= self._certain_bytes or self.memory.has_room(entry, headers)
        )

    def will_take_all(self, keys: Sequence[bytes], entries: Sequence[Entry], headers: int) -> bool:
        """Return whether `put_all` is certain to store *entries*, the first of *keys*, as `will_take` does."""
        if len(set(keys)) < len(keys) or self.memory.has_any(keys) or self._index.has_any(keys):
            return False
        largest = max(entries, key=size_of)
        return len(largest.body) <= self._bounds.max_body_bytes and self.memory.has_room(largest, headers)

    def renew(self, key: bytes, token: str, entry: Entry) -> None:
        """Store *entry*, of which only the times are newer than those of the entry in memory: a 304 confirmed it.

        The index gets them when the entry leaves memory, and otherwise within `maintain_s`.
        """
        if self._uncertain.until:
            entry = self._dated(entry)
        if self._loads.under_way:
            self._loads.supersede(key)
        if not self.memory.renew(key, entry):
            self.put(key, token, entry, write=False)
        elif self._disk is not None:
            self._renewed[key] = token

    def renew_all(self, keys: Sequence[bytes], token: str, old: Sequence[Entry], new: Sequence[Entry]) -> None:
        """Store *new* entries of one *token* as `renew` does; all were asked for at one time, and so were the *old*."""
        if self._loads.under_way or self._uncertain.until or not self.memory.renew_all(keys, old, new):
            for key, entry in zip(keys, new, strict=True):
                self.renew(key, token, entry)
        elif self._disk is not None:
            self._renewed.update(dict.fromkeys(keys, token))

    def set_back(self, now: float, by: float) -> None:
        """Take away the times of all entries that were asked for after *now*: the clock was set back by *by* seconds.

        A change between now and then would have an earlier time than these entries.
        """
        self._uncertain.add(now, now + by)
        self.memory.undate(now)
        self._index.undate(now)

    def _dated(self, entry: Entry) -> Entry:
        """Return *entry*, without its time if the clock was set back after it was asked for."""
        if entry.meta.asked_at > self._now():
            return replace(entry, meta=undated(entry.meta))
        return entry

    def _is_outdated(self, key: bytes, meta: EntryMeta) -> bool:
        """Whether the entry of *key* was asked for later than one with *meta*; not if the clock was set back since."""
        entry = self.memory.peek(key)
        if entry is None:
            known = self._index.get(key)
            held = None if known is None else known.held
        else:
            held = entry.meta
        return held is not None and meta.asked_at < held.asked_at <= self._now()

    async def _note_renewed(self) -> None:
        """Bring the index up to date, a few entries in each turn of the event loop."""
        while self._renewed:
            too_old = self._clock() - self._bounds.rewrite_s
            for key in list(islice(self._renewed, _RENEWED_A_TURN)):
                token = self._renewed.pop(key)
                if self._index.is_held(key, too_old):
                    continue  # as most are: there is nothing to note, nor to write
                entry = self.memory.peek(key)
                if self._writer is not None and entry is not None:
                    self._put_on(self._writer, key, token, entry, write=False)
            await asyncio.sleep(0)

    def _on_evict(self, key: bytes, entry: Entry) -> None:
        token, written = self._renewed.pop(key, None), self._index.written_at(key)
        if token is not None and self._writer is not None:
            self._put_on(self._writer, key, token, entry, write=False)
        elif written is not None:
            self._index.put(key, entry.meta, written)

    def _put_on(self, writer: GroupWriter, key: bytes, token: str, entry: Entry, *, write: bool) -> None:
        now = self._clock()
        written = None if write else self._index.written_at(key)
        if not write and written is None:
            return
        if written is not None and now - written < self._bounds.rewrite_s:
            self._note_row(key, entry.meta, written)
        elif writer.put(key, token, entry):
            self._note_row(key, entry.meta, now)
        else:
            self._index.drop(key)

    def _note_row(self, key: bytes, meta: EntryMeta, written: float) -> None:
        """Let the index know that the entry of *key* is on disk."""
        if self.memory.peek(key) is not None:
            self._index.put_held(key, written)
        else:
            self._index.put(key, meta, written)

    def drop(self, key: bytes) -> None:
        """Remove *key* everywhere, queued writes included."""
        self._loads.supersede(key)
        self._renewed.pop(key, None)
        self.memory.drop(key)
        self._index.drop(key)
        if self._disk is not None and not self._pending.drop(key):
            self._erase(self._disk)  # more deletions than the queue takes: erase the database
        self._schedule_write()

    def purge(self) -> None:
        """Remove everything."""
        self._loads.supersede_all()
        self._renewed.clear()
        self.memory.clear()
        if self._disk is not None:
            self._erase(self._disk)

    async def save_purges(self, orders: bytes) -> bool:
        """Save purge *orders* in place of the earlier ones; True if the next run will find them.

        While the breaker is open they wait in memory, as the rows do.
        """
        self._unsaved_purges = orders
        if self._disk is not None and not await self._disk.save_purges(orders):
            return False
        if self._unsaved_purges is orders:
            self._unsaved_purges = None
        return True

    def save_at_end(self, notes: bytes) -> None:
        """Let `close` save *notes* in place of the purge orders."""
        self._unsaved_purges = notes

    # --- opening, maintaining, closing ---

    async def open(self) -> None:
        """Open the disk tier; if that fails, the store works without it."""
        if self._disk is None:
            return
        _log.info("SQLite %s", sqlite3.sqlite_version)
        await self._disk.open()
        self._maintaining = asyncio.get_running_loop().create_task(self._maintain_forever())

    async def flush(self) -> None:
        """Wait until every change so far is on disk or has failed."""
        if self._writer is not None:
            await self._note_renewed()
            await self._writer.flush()

    async def maintain(self) -> None:
        """Check the disk tier once, as the timer does."""
        if self._disk is None:
            return
        await self._note_renewed()
        for key in await self._disk.maintain():
            self._index.drop(key)
        self._list_keys()
        if self._unsaved_purges is not None:
            await self.save_purges(self._unsaved_purges)
        self._schedule_write()

    async def close(self, seconds: float = 5.0) -> None:
        """Flush and close; after *seconds* give up and log how many writes are lost."""
        if self._disk is None:
            return
        await self._stop_timers()
        try:
            async with asyncio.timeout(seconds):
                if self._unsaved_purges is not None:
                    await self.save_purges(self._unsaved_purges)
                await self.flush()
                await self._disk.close()
        except TimeoutError:
            _log.warning("the cache on disk did not close in %g s: %d writes are lost", seconds, len(self._pending))
            self._disk.abandon()

    def stats(self) -> dict[str, int | float | str]:
        """The store's numbers as they are now, by their /stats names."""
        disk, writer = self._disk, self._writer
        return {
            "memory_entries": len(self.memory),
            "memory_bytes": self.memory.bytes,
            "memory_evictions": self.memory.evictions,
            "index_entries": len(self._index),
            "queue_depth": len(self._pending),
            "writes": writer.rows if writer else 0,
            "writes_dropped": writer.dropped if writer else 0,
            "bad_rows": self._bad_rows,
            "disk_entries": disk.entries if disk else 0,
            "disk_bytes": disk.bytes if disk else 0,
            "disk_evictions": disk.evictions if disk else 0,
            "disk_troubles": disk.troubles if disk else 0,
            "quarantines": disk.quarantines if disk else 0,
            "breaker": disk.state if disk else "none",
            "other_key": disk.is_other_key if disk else False,
        }

    # --- loading ---

    def _without_disk(self, key: bytes) -> Entry | Deleted | None:
        """The entry from memory or the write queue, DELETED if its deletion is queued, None if only the disk knows."""
        if entry := self.memory.get(key):
            return entry
        waiting = self._pending.find(key)
        if waiting is None or waiting is DELETED:
            return waiting
        return self._promote(key, waiting)

    def _on_read(self, key: bytes, on_entry: OnEntry, found: ReadResult) -> None:
        """Hand *found* on, or what is in memory if that was replaced during the read."""
        if self._loads.end(key):
            near = self._without_disk(key)
            on_entry(None if near is DELETED else near)
        elif isinstance(found, Entry):
            on_entry(self._promote(key, found))
        else:
            if isinstance(found, BadSeal):
                self._bad_rows += 1
                self.drop(key)
            self._index.drop(key)
            on_entry(None)

    def _promote(self, key: bytes, entry: Entry) -> Entry:
        """Return *entry* as the index knows it, and keep it in memory if it was used lately."""
        if (held := self.memory.get(key)) is not None:
            return held
        entry = self._as_known(key, entry)
        written = self._index.written_at(key)
        if self.memory.admit(key, entry) and written is not None:
            self._index.put_held(key, written)
        self.memory.make_room()
        return entry

    def _as_known(self, key: bytes, entry: Entry) -> Entry:
        """Return *entry* with the metadata that the index has of it; note them there if it has none."""
        known = self._index.get(key)
        if known is not None and known.held.etag == entry.meta.etag:
            # Graph has confirmed this body since the row was written; only the index has the newer metadata.
            return entry if known.held == entry.meta else replace(entry, meta=known.held)
        if self._uncertain.until:
            entry = replace(entry, meta=self._uncertain.checked(entry.meta))
        self._index.put(key, entry.meta, self._clock() if known is None else known.written_at)
        return entry

    # --- writing after the reply ---

    def _on_open(self, saved_purges: bytes | None) -> None:
        """Note that the disk is open; if it is empty, the index is whole and a miss need not read the disk."""
        if self._disk is not None:
            self._uncertain.add(self._now(), self._disk.newest_at)
        self._restore_purges(saved_purges)
        self._index.forget_keys()
        self._index.is_whole = self._disk is not None and not self._disk.entries
        self._list_keys()
        self._schedule_write()

    def _list_keys(self) -> None:
        """Learn which keys are on disk, if the index does not know: until then every miss reads the disk."""
        if self._disk is not None and self._disk.ready and self._index.wants_listing(self._disk.entries):
            if self._listing is not None:
                self._listing.cancel()  # of the database before this one, if it still runs
            self._listing = asyncio.get_running_loop().create_task(self._list_keys_of(self._disk))

    async def _list_keys_of(self, disk: Disk) -> None:
        learned, is_complete = self._index.begin_listing(self._pending.keys), False
        try:
            is_complete = await disk.list_keys(learned.update)
        finally:
            self._index.end_listing(learned, is_complete=is_complete)

    def _schedule_write(self) -> None:
        if self._writer is not None:
            self._writer.schedule()

    def _on_gone(self, keys: Sequence[bytes]) -> None:
        """Note that rows of *keys* are not on disk after a group was written."""
        for key in keys:
            self._index.drop(key)
        self._list_keys()

    def _erase(self, disk: Disk) -> None:
        self._index.clear()
        self._most_index_bytes = 0
        self._pending.clear()
        disk.erase()

    async def _maintain_forever(self) -> None:
        while True:
            await asyncio.sleep(self._bounds.maintain_s)
            await self.maintain()

    async def _stop_timers(self) -> None:
        if self._writer is not None:
            self._writer.stop_waiting()
        running = [task for task in (self._maintaining, self._listing) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
