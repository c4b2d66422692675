"""Writes that wait for the disk: of one key the newest wins, they are bounded, and they can be read meanwhile."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from proxy.core.model import Entry
from proxy.shell.store.memory import size_of


class Gone(Enum):
    """The answer for a key whose deletion is on its way."""

    GONE = "gone"


GONE: Final = Gone.GONE


class Write(NamedTuple):
    """One row to be: an entry to seal for a token, or a deletion."""

    key: bytes
    token: str
    entry: Entry | None

    def __repr__(self) -> str:
        """Neither token nor body: a queue may end in a traceback."""
        return f"Write({self.key.hex()[:8]})"


class WriteQueue:
    """The queue between the event loop, which owns it, and the writer's thread, which is handed whole groups."""

    def __init__(self, entries: int, limit: int) -> None:
        self._most = entries
        self._limit = limit
        self._bytes = 0
        self._waiting: dict[bytes, Write] = {}
        self._leaving: dict[bytes, Write] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._leaving)

    @property
    def waiting(self) -> int:
        """How many wait, without those that a thread is writing now."""
        return len(self._waiting)

    def put(self, key: bytes, token: str, entry: Entry) -> bool:
        """Queue *entry*; False, and nothing queued for the key, when there is no room."""
        self._remove(key)
        size = size_of(entry)
        if len(self._waiting) >= self._most or self._bytes + size > self._limit:
            return False
        self._waiting[key] = Write(key, token, entry)
        self._bytes += size
        return True

    def drop(self, key: bytes) -> bool:
        """Queue a deletion in place of any write; False when even deletions no longer find room."""
        self._remove(key)
        if len(self._waiting) >= 2 * self._most:
            return False
        self._waiting[key] = Write(key, "", None)
        return True

    def find(self, key: bytes) -> Entry | Gone | None:
        """What the disk will hold of *key*: its entry, GONE, or None for whatever is there already."""
        write = self._waiting.get(key) or self._leaving.get(key)
        if write is None:
            return None
        return GONE if write.entry is None else write.entry

    def take(self, entries: int, limit: int) -> list[Write]:
        """The longest waiting, as many as one group may hold; they stay readable until settled."""
        size = 0
        for key, write in self._waiting.items():
            size += 0 if write.entry is None else size_of(write.entry)
            if self._leaving and (size > limit or len(self._leaving) >= entries):
                break
            self._leaving[key] = write
        for key in self._leaving:
            self._remove(key)
        return list(self._leaving.values())

    def settle(self, again: list[bytes]) -> None:
        """The group that was taken has ended; the deletions named in *again* wait once more, unless overtaken."""
        self._leaving = {}
        for key in again:
            self._waiting.setdefault(key, Write(key, "", None))

    def clear(self) -> None:
        """Forget every write and every deletion."""
        self._waiting = {}
        self._leaving = {}
        self._bytes = 0

    def _remove(self, key: bytes) -> None:
        write = self._waiting.pop(key, None)
        if write is not None and write.entry is not None:
            self._bytes -= size_of(write.entry)
