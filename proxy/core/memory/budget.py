"""A budget of bytes for all messages of one kind in memory, and the share of each message."""

from __future__ import annotations

from types import TracebackType
from typing import Self

SMALL = 65_536
"""Bytes that every share may have, however full the budget is: about as much as a connection's buffers take anyway."""


class Budget:
    """A limit of bytes. A share may grow only while as much as its new size stays free; a small one always may.

    So one share can take half of the budget, and each of two growing shares a third
    (dynamic thresholds of shared-memory switches: Choudhury and Hahne, 1998).
    """

    def __init__(self, limit: int) -> None:
        """Allow *limit* bytes."""
        self.limit = limit
        self.used = 0

    @property
    def largest(self) -> int:
        """The most bytes that one share can have."""
        return self.limit // 2

    def has_room(self, size: int) -> bool:
        """Returns whether a share of *size* bytes that is given back at once would be granted."""
        return size <= max(SMALL, self.limit - self.used - size)

    def share(self) -> Share:
        """Returns an empty share for one message; leaving its context gives the bytes back."""
        return Share(self)


class Share:
    """The bytes that one message takes from a budget."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        """Start with no bytes."""
        self._budget = budget
        self.size = 0

    def __enter__(self) -> Self:
        """Returns the share itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give all bytes back."""
        self.end()

    def end(self) -> None:
        """Give all bytes back."""
        self._budget.used -= self.size
        self.size = 0

    def grow(self, size: int) -> bool:
        """Take *size* more bytes; returns False and takes nothing if that would leave too little for others."""
        wanted = self.size + size
        if wanted > max(SMALL, self._budget.limit - self._budget.used - size):
            return False
        self.size += size
        self._budget.used += size
        return True

    def take(self, size: int) -> None:
        """Take *size* more bytes, whatever is free; for the one share whose turn it is."""
        self.size += size
        self._budget.used += size
