"""The memory tier: whole entries up to a number of bytes, and an index of the entries on disk."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from operator import is_
from sys import intern

import msgspec

from proxy.core.cache.clock_step import undated
from proxy.core.memory.key_filter import KeyFilter
from proxy.core.memory.shared_blocks import SharedBlocks
from proxy.core.model import USUAL_PROOFS, Entry, EntryMeta

ENTRY_COST = 500
"""Bytes of the objects around an entry's body (measured on 64-bit CPython 3.11, rounded up; a test checks it)."""
PROOFS_COST, PROOF_COST = 80, 64
"""Bytes that the digests of proofs of an entry take, and each of them; none if it is the usual one."""
ROW_COST = 260
"""Bytes that a row of the index takes with its key, but for the row's own text."""
HELD_ROW_COST = 165
"""Bytes that a row of the index takes whose entry is in memory, and which has its key from there."""
USE_COST = 280
"""Bytes that one remembered use of an entry on disk takes, with its key."""
NEW_USES_SHARE = 4
"""Of the remembered uses, those of entries that Graph just gave are a quarter at the most.

A crawl would take all of them, and room from entries, and what a program asks for again would not be here again.
"""
ONE_OF_NEW = 32
"""Of so many new entries that memory has no room for, one is put there all the same."""


def size_of(entry: Entry) -> int:
    """The bytes of memory that *entry* takes, without the block of its header fields, which it shares with others."""
    size = len(entry.body) + ENTRY_COST
    if (proofs := entry.meta.proofs) != USUAL_PROOFS:
        size += PROOFS_COST + PROOF_COST * len(proofs)
    return size + size // 5  # fragmentation of the allocator


def size_alone(entry: Entry) -> int:
    """The bytes of memory that *entry* takes if it shares nothing."""
    return size_of(entry) + len(entry.headers) + len(entry.headers) // 5


class Memory:
    """Entries up to a number of bytes, the least recently used evicted first, with LIRS' rule for what the disk has.

    LIRS (Jiang and Zhang, SIGMETRICS 2002): an entry read from disk takes the place of another only if it was asked for
    before, after the last use of the entry that it evicts. So a loop over more entries than fit evicts nothing, and
    the hits are as many as fit; and entries that a program turns to are here from their second use on.
    """

    def __init__(
        self,
        limit: int,
        on_evict: Callable[[bytes, Entry], None] = lambda _key, _entry: None,
        *,
        remembered: int = 0,
        others: Callable[[], int] = lambda: 0,
    ) -> None:
        """Start empty; *on_evict* gets each entry that has to make room.

        So many uses of entries that are on disk alone are *remembered*. What *others* hold is a part of the limit.
        """
        self.bytes = 0
        """The bytes that the entries take."""
        self.evictions = 0
        self._others = others
        self._fields = SharedBlocks()
        self._refused = 0  # entries of Graph's that were not admitted
        self._limit = limit
        self._remembered = remembered
        self._on_evict = on_evict
        # LIRS' stack: all by their last use. None stands for an entry on disk; the first is never one of these.
        self._stack: OrderedDict[bytes, Entry | None] = OrderedDict()
        self._ghosts: dict[bytes, None] = {}  # those on disk, in the same order
        self._new_ghosts: dict[bytes, None] = {}  # those of them that were used once, when Graph gave them
        self.entries: Mapping[bytes, Entry | None] = self._stack  # to look here is no use of an entry

    def __len__(self) -> int:
        return len(self._stack) - len(self._ghosts)

    @property
    def uses(self) -> int:
        """How many uses of entries on disk are remembered."""
        return len(self._ghosts)

    def get(self, key: bytes) -> Entry | None:
        """The entry of *key*, which becomes the most recently used."""
        entry = self._stack.get(key)
        if entry is not None:
            self._stack.move_to_end(key)
        return entry

    def get_all(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """The entries of *keys*, which become the most recently used."""
        found = list(map(self._stack.get, keys))
        if None in found:
            keys = [key for key, entry in zip(keys, found, strict=True) if entry is not None]
        deque(map(self._stack.move_to_end, keys), maxlen=0)
        return found

    def peek(self, key: bytes) -> Entry | None:
        """The entry of *key*, without marking it as used."""
        return self._stack.get(key)

    def renew(self, key: bytes, entry: Entry) -> bool:
        """Put *entry* in place of the old one if only the times differ, and are newer; False if not, or without one."""
        old = self._stack.get(key)
        if old is None or old.body is not entry.body or old.headers is not entry.headers:
            return False
        if old.meta.proofs != entry.meta.proofs or entry.meta.asked_at < old.meta.asked_at:
            return False
        self._stack[key] = entry
        return True

    def renew_all(self, keys: Sequence[bytes], old: Sequence[Entry], new: Sequence[Entry]) -> bool:
        """Put *new* entries, of which only the times differ, in place of the *old*; False if not all *old* are here."""
        if not all(map(is_, map(self._stack.get, keys), old)) or new[0].meta.asked_at < old[0].meta.asked_at:
            return False
        self._stack.update(zip(keys, new, strict=True))
        return True

    def put(self, key: bytes, entry: Entry) -> None:
        """Store *entry* in place of the old one; an entry larger than the whole tier only removes the old one."""
        if key in self._stack:
            self.drop(key)
        size = self._cost_of(entry)
        if size > self._limit:
            return
        self._place(key, entry, size)
        self.make_room()

    def _place(self, key: bytes, entry: Entry, size: int) -> None:
        """Store *entry*, which adds *size* bytes, under a *key* that is not here."""
        self._stack[key] = self._with_shared_parts(entry)
        self.bytes += size

    def make_room(self) -> None:
        """Evict entries until these and what others hold are within the limit."""
        while self._stack and self.bytes > self._limit - self._others():
            self._evict()
        if self._ghosts:
            self._forget_older()

    def has_room(self, entry: Entry, headers: int) -> bool:
        """Return whether `put` holds *entry*, with so many more bytes of *headers*, whatever has to leave for it."""
        return size_of(entry) + 2 * headers <= self._limit - self._others()

    def admit(self, key: bytes, entry: Entry) -> bool:
        """Store *entry*, which the disk has, if there is room or LIRS' rule allows; returns whether it is here."""
        size = self._cost_of(entry)
        if key in self._stack:
            self.put(key, entry)
        elif self.bytes + size > self._limit - self._others():
            self._remember(key)
            return False
        else:
            self._place(key, entry, size)
        return self._stack.get(key) is not None

    def admit_new(self, key: bytes, entry: Entry) -> None:
        """Store *entry*, which Graph just gave and the disk gets, if there is room; one of many in any case.

        So reads that never come again evict few entries, and entries that are not used any more leave in the end
        (bimodal insertion: Qureshi and others, ISCA 2007).
        """
        is_known = key in self._stack
        if not self.admit(key, entry):
            if not is_known:
                self._remember_new(key)
            self._refused += 1
            if self._refused % ONE_OF_NEW == 0:
                self.put(key, entry)

    def admit_all_new(self, keys: Sequence[bytes], entries: Sequence[Entry]) -> bool:
        """Store *entries* that Graph just gave and that the disk gets, as `admit_new` does; return if all are here.

        What others hold is looked at once.
        """
        limit, is_whole = self._limit - self._others(), True
        for key, entry in zip(keys, entries, strict=True):
            size = self._cost_of(entry)
            if self.bytes + size <= limit:
                self._place(key, entry, size)
                continue
            self._remember(key)
            self._remember_new(key)
            self._refused += 1
            if self._refused % ONE_OF_NEW == 0:
                self.put(key, entry)
            else:
                is_whole = False
        return is_whole

    def has_any(self, keys: Sequence[bytes]) -> bool:
        """Return whether any of *keys* is known, as an entry or a remembered use."""
        return not self._stack.keys().isdisjoint(keys)

    def undate(self, now: float) -> None:
        """Take away the times of entries that were asked for after *now*."""
        for key, entry in self._stack.items():
            if entry is not None and entry.meta.asked_at > now:
                self._stack[key] = Entry(undated(entry.meta), entry.headers, entry.body)

    def drop(self, key: bytes) -> None:
        """Remove *key* if it is here."""
        entry = self._stack.pop(key, None)
        if entry is not None:
            self._release_entry(entry)
            self._forget_older()
        else:
            self._ghosts.pop(key, None)
            self._new_ghosts.pop(key, None)

    def clear(self) -> None:
        """Remove everything."""
        self._stack.clear()
        self._ghosts.clear()
        self._new_ghosts.clear()
        self._fields = SharedBlocks()
        self.bytes = 0

    def _with_shared_parts(self, entry: Entry) -> Entry:
        """Return *entry* with those objects that it has alike with others, of which one is kept."""
        meta, fields = entry.meta, self._fields.share(entry.headers)
        channel, proofs = intern(meta.channel), USUAL_PROOFS if meta.proofs == USUAL_PROOFS else meta.proofs
        if fields is entry.headers and channel is meta.channel and proofs is meta.proofs:
            return entry
        shared = EntryMeta(meta.etag, channel, meta.asked_at, meta.may_be_fresh, proofs, meta.expires)
        return Entry(shared, fields, entry.body)

    def _release_entry(self, entry: Entry) -> None:
        self.bytes -= size_of(entry) + self._fields.release(entry.headers)

    def _cost_of(self, entry: Entry) -> int:
        """Return the bytes that *entry* would add."""
        return size_of(entry) + self._fields.cost_of(entry.headers)

    def _evict(self) -> None:
        key, entry = self._stack.popitem(last=False)
        if entry is None:
            del self._ghosts[key]
            self._new_ghosts.pop(key, None)
            return
        self._release_entry(entry)
        self.evictions += 1
        self._on_evict(key, entry)

    def _remember(self, key: bytes) -> None:
        """Note that the entry of *key*, which is on disk alone, is used now."""
        if not self._stack:
            return
        self._stack[key] = self._ghosts[key] = None
        if len(self._ghosts) > self._remembered:
            self._forget_oldest(self._ghosts)

    def _remember_new(self, key: bytes) -> None:
        """Note that *key*, whose use was just remembered, was not used before."""
        if key in self._ghosts:
            self._new_ghosts[key] = None
            if len(self._new_ghosts) > self._remembered // NEW_USES_SHARE:
                self._forget_oldest(self._new_ghosts)

    def _forget_oldest(self, ghosts: dict[bytes, None]) -> None:
        """Forget a sixteenth of *ghosts*: a dict finds its first key slowly once many before it were removed."""
        for oldest in list(islice(ghosts, 1 + len(ghosts) // 16)):
            del self._stack[oldest], self._ghosts[oldest]
            self._new_ghosts.pop(oldest, None)

    def _forget_older(self) -> None:
        """Forget the uses before that of the entry to be evicted next: they decide nothing."""
        while self._ghosts and (first := next(iter(self._stack))) in self._ghosts:
            del self._stack[first], self._ghosts[first]
            self._new_ghosts.pop(first, None)


class IndexRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A row on disk as the index knows it: its entry without the body, and when the row was last written."""

    held: EntryMeta
    written_at: float


_encode_row = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(IndexRow).decode


class Index:
    """The entries on disk or in the write queue, without bodies: a validator can be sent while the body is still read.

    Its rows never take more than *limit* bytes. A row is one packed string: its objects would take twice as much. Of an
    entry that is in memory, too, it is only the time at which it was written. The keys of rows that it has no room for
    are in a filter, so that a read of what is not on disk need not look there.
    """

    def __init__(self, limit: int, filter_bytes: int = 4096) -> None:
        self.is_whole = False  # True if every row on disk is in the index: then a miss need not read the disk
        self._filter_bytes = filter_bytes
        self._limit = limit
        self.bytes = 0
        """The bytes that the rows take."""
        self._rows: dict[bytes, bytes | float] = {}  # the least recently used first
        self._filter: KeyFilter | None = None  # of all rows on disk; None: not all of them are known
        self._learned: KeyFilter | None = None  # of the rows on disk that were listed so far
        self._added: list[bytes] = []  # what was put since the listing began

    def may_hold(self, key: bytes) -> bool:
        """Whether *key* may be on disk or in the write queue; False is certain."""
        if key in self._rows:
            return True
        return not self.is_whole and (self._filter is None or key in self._filter)

    def wants_listing(self, entries: int) -> bool:
        """Whether all keys on disk, where there are so many *entries*, should be listed: anew, if most of them left."""
        known = self._filter
        if self.is_whole or self._learned is not None:
            return False
        return known is None or (known.is_crowded and known.added > 2 * entries)

    def begin_listing(self, queued: Sequence[bytes]) -> KeyFilter:
        """Returns a filter for all keys on disk, which belongs to the thread that lists them until `end_listing`.

        The keys *queued* for writing may come to lie where the thread has passed.
        """
        self._learned, self._added = KeyFilter(self._filter_bytes), list(queued)
        return self._learned

    def end_listing(self, learned: KeyFilter, *, is_complete: bool) -> None:
        """Use the filter *learned* if it holds all keys on disk, and is not of an earlier database."""
        if self._learned is not learned:
            return
        if is_complete:
            learned.update(self._added)
            self._filter = learned
        self._learned, self._added = None, []

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def get(self, key: bytes) -> IndexRow | None:
        """The row of *key*, which becomes the most recently used; None for an entry that is in memory."""
        row = self._rows.get(key)
        if not isinstance(row, bytes):
            return None
        del self._rows[key]
        self._rows[key] = row
        return _decode_row(row)

    def written_at(self, key: bytes) -> float | None:
        """When the row of *key* was last written to disk; None if that is not known."""
        row = self._rows.get(key)
        return _decode_row(row).written_at if isinstance(row, bytes) else row

    def is_held(self, key: bytes, too_old: float) -> bool:
        """Return whether the entry of *key* is in memory, and its row on disk was written after *too_old*."""
        row = self._rows.get(key)
        return isinstance(row, float) and row > too_old

    def put(self, key: bytes, held: EntryMeta, written: float) -> None:
        """Record that *key* is on disk."""
        self._take_away(key)
        self._add(key, _encode_row(IndexRow(held, written)))

    def put_held(self, key: bytes, written: float) -> None:
        """Record that *key* is on disk, whose entry is in memory; the row is put anew when it leaves memory."""
        if isinstance(self._rows.get(key), float):
            self._rows[key] = written
        else:
            self._take_away(key)
            self._add(key, written)

    def put_all_held(self, keys: Sequence[bytes], written: float) -> None:
        """Record that *keys*, of which there is no row yet, are on disk as `put_held` does."""
        for key in keys:
            self._note_key(key)
        self._rows.update(dict.fromkeys(keys, written))
        self.bytes += len(keys) * _size_of_row(written)
        if self.bytes > self._limit:
            self._evict()

    def has_any(self, keys: Sequence[bytes]) -> bool:
        """Return whether there is a row of any of *keys*."""
        return not self._rows.keys().isdisjoint(keys)

    def _add(self, key: bytes, row: bytes | float) -> None:
        self._rows[key] = row
        self.bytes += _size_of_row(row)
        if self.bytes > self._limit:
            self._evict()

    def _take_away(self, key: bytes) -> None:
        row = self._rows.pop(key, None)
        if row is None:
            self._note_key(key)
        else:
            self.bytes -= _size_of_row(row)

    def undate(self, now: float) -> None:
        """Take away the times of entries that were asked for after *now*."""
        for key, packed in self._rows.items():
            if not isinstance(packed, bytes):
                continue
            row = _decode_row(packed)
            if row.held.asked_at > now:
                self._rows[key] = newer = _encode_row(IndexRow(undated(row.held), row.written_at))
                self.bytes += len(newer) - len(packed)

    def drop(self, key: bytes) -> None:
        """Remove *key* if it is here."""
        row = self._rows.pop(key, None)
        if row is not None:
            self.bytes -= _size_of_row(row)

    def clear(self) -> None:
        """Remove everything."""
        self._rows.clear()
        self.bytes = 0
        self.forget_keys()

    def forget_keys(self) -> None:
        """Know no longer what may be on disk: another database is opened."""
        self.is_whole = False
        self._filter = self._learned = None
        self._added = []

    def _note_key(self, key: bytes) -> None:
        if self._filter is not None:
            self._filter.add(key)
        if self._learned is not None:
            self._added.append(key)

    def _evict(self) -> None:
        """Remove the oldest sixteenth at once: a dict finds its first key slowly once many before it were removed."""
        self.is_whole = False
        for key in list(islice(self._rows, 1 + len(self._rows) // 16)):
            self.bytes -= _size_of_row(self._rows.pop(key))


def _size_of_row(row: bytes | float) -> int:
    return ROW_COST + len(row) if isinstance(row, bytes) else HELD_ROW_COST
