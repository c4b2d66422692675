"""What is kept in memory: whole entries up to a number of bytes, and the validators of what is on disk."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

import msgspec

from proxy.core.model import Entry, EntryMeta

ENTRY_COST = 700
"""What the objects around an entry's bytes take (measured on 64-bit CPython 3.11, rounded up; a test holds it)."""
KNOWN_COST = 420
"""What one row of the index takes at most, its key and four digests of proofs included."""


def size_of(entry: Entry) -> int:
    """The bytes of memory that *entry* takes."""
    size = len(entry.body) + len(entry.headers) + ENTRY_COST + 64 * len(entry.meta.proofs)
    return size + size // 5  # what the allocator loses between blocks that come and go


class Memory:
    """Entries by key, the least recently used leaving first; never more than *limit* bytes."""

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self.evictions = 0
        self._limit = limit
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Entry | None:
        """The entry, now the most recently used."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def peek(self, key: bytes) -> Entry | None:
        """The entry, its age as it was."""
        return self._entries.get(key)

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep *entry* in place of what was there; one larger than the whole tier only displaces."""
        self.drop(key)
        size = size_of(entry)
        if size > self._limit:
            return
        self._entries[key] = entry
        self.bytes += size
        while self.bytes > self._limit:
            self._evict()

    def drop(self, key: bytes) -> None:
        """Forget *key*, known or not."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= size_of(entry)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0

    def _evict(self) -> None:
        _, entry = self._entries.popitem(last=False)
        self.bytes -= size_of(entry)
        self.evictions += 1


class Known(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the index says of one row: its entry without the body, and when the row was last written."""

    held: EntryMeta
    written: float


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Known).decode


class Index:
    """What is known to be on disk (or on its way), so that a validator can be sent while the body is still read.

    Never more than *limit* bytes: a row is one packed string, for the objects that it stands for take twice as much.
    """

    def __init__(self, limit: int) -> None:
        self.is_whole = False  # whether every row of the disk is in it: then there is no need to look
        self._most = limit // KNOWN_COST
        self._rows: dict[bytes, bytes] = {}  # the least recently used first

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def get(self, key: bytes) -> Known | None:
        """What is known of *key*; asking keeps it longer."""
        row = self._rows.pop(key, None)
        if row is None:
            return None
        self._rows[key] = row
        return _unpack(row)

    def put(self, key: bytes, held: EntryMeta, written: float) -> None:
        """Learn that *key* is on disk."""
        self._rows.pop(key, None)
        self._rows[key] = _pack(Known(held, written))
        if len(self._rows) > self._most:
            self._shed()

    def drop(self, key: bytes) -> None:
        """Forget *key*, known or not."""
        self._rows.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self.is_whole = False

    def _shed(self) -> None:
        """Forget the oldest sixteenth: a dict finds its first key slowly once many before it are gone."""
        self.is_whole = False
        for key in list(islice(self._rows, 1 + len(self._rows) // 16)):
            del self._rows[key]
