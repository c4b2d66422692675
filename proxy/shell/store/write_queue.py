"""Queues writes for the disk: bounded, readable while they wait; the newest write of a key replaces the older ones."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import repeat
from typing import Final, NamedTuple

from proxy.core.cache.encryption import CompressedBody
from proxy.core.model import Entry
from proxy.shell.store.memory import size_alone


class Deleted(Enum):
    """The answer for a key whose deletion is queued."""

    DELETED = "gone"


DELETED: Final = Deleted.DELETED


class QueuedWrite(NamedTuple):
    """A queued change of one row: an entry to encrypt for a token, or a deletion."""

    key: bytes
    token: str
    entry: Entry | None
    size: int = 0  # the bytes of memory that it takes
    compressed: CompressedBody | None = None  # what `encryption.compress` made of its body, if it was called before

    def __repr__(self) -> str:
        """The key alone, without token and body: a repr may end up in a traceback."""
        return f"Write({self.key.hex()[:8]})"


class WriteQueue:
    """The queue of writes. The event loop owns it; the writing thread is given whole groups."""

    def __init__(self, entries: int, limit: int) -> None:
        self._max_entries = entries
        self._max_bytes = limit
        self._bytes = 0
        self._waiting: dict[bytes, QueuedWrite] = {}
        self._being_written: dict[bytes, QueuedWrite] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._being_written)

    @property
    def waiting(self) -> int:
        """How many writes wait, without those that are being written now."""
        return len(self._waiting)

    @property
    def keys(self) -> list[bytes]:
        """The keys of all queued changes, those that are being written included."""
        return [*self._waiting, *self._being_written]

    def put(self, key: bytes, token: str, entry: Entry) -> bool:
        """Queue *entry*; False, with nothing queued for *key*, if the queue is full."""
        if key in self._waiting:
            self._remove(key)
        size = size_alone(entry)
        if len(self._waiting) >= self._max_entries or self._bytes + size > self._max_bytes:
            return False
        self._waiting[key] = QueuedWrite(key, token, entry, size)
        self._bytes += size
        return True

    def put_all(self, keys: Sequence[bytes], token: str, entries: Sequence[Entry]) -> bool:
        """Queue *entries* of *keys* of which no write waits; False, with nothing queued, if the queue is too full."""
        waiting, sizes = self._waiting, [size_alone(entry) for entry in entries]
        if len(waiting) + len(keys) > self._max_entries or self._bytes + sum(sizes) > self._max_bytes:
            return False
        if not waiting.keys().isdisjoint(keys):
            return False
        waiting.update(zip(keys, map(QueuedWrite, keys, repeat(token), entries, sizes), strict=True))
        self._bytes += sum(sizes)
        return True

    def note_compressed(self, key: bytes, body: bytes, compressed: CompressedBody) -> None:
        """Let the writing thread seal *compressed*, if *body* waits to be written under *key* and there is room."""
        write = self._waiting.get(key)
        if write is None or write.entry is None or write.entry.body is not body or write.compressed is not None:
            return
        more = 0 if compressed[1] is body else len(compressed[1])
        if self._bytes + more <= self._max_bytes:
            self._waiting[key] = write._replace(size=write.size + more, compressed=compressed)
            self._bytes += more

    def drop(self, key: bytes) -> bool:
        """Queue a deletion in place of any write; False if the queue is full for deletions too."""
        self._remove(key)
        if len(self._waiting) >= 2 * self._max_entries:
            return False
        self._waiting[key] = QueuedWrite(key, "", None)
        return True

    def find(self, key: bytes) -> Entry | Deleted | None:
        """Returns the queued change of *key*: its entry, DELETED, or None if no change is queued."""
        write = self._waiting.get(key) or self._being_written.get(key)
        if write is None:
            return None
        return DELETED if write.entry is None else write.entry

    def take(self, entries: int, limit: int) -> list[QueuedWrite]:
        """The oldest writes, as many as one group may have; they stay readable until settle()."""
        size = 0
        for key, write in self._waiting.items():
            size += write.size
            if self._being_written and (size > limit or len(self._being_written) >= entries):
                break
            self._being_written[key] = write
        for key in self._being_written:
            self._remove(key)
        return list(self._being_written.values())

    def settle(self, again: list[bytes]) -> None:
        """End the group that was taken; the keys in *again* are queued for deletion unless a newer write waits."""
        self._being_written = {}
        for key in again:
            self._waiting.setdefault(key, QueuedWrite(key, "", None))

    def clear(self) -> None:
        """Remove every write and every deletion."""
        self._waiting = {}
        self._being_written = {}
        self._bytes = 0

    def _remove(self, key: bytes) -> None:
        write = self._waiting.pop(key, None)
        if write is not None:
            self._bytes -= write.size
