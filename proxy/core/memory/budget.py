"""A budget of bytes for what messages of one kind hold in memory together, and a message's share of it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

SMALL = 65_536
"""Bytes that every share may have, whatever others hold: about what the buffers of its connection take anyway."""


class Budget:
    """So many bytes in all. A share grows only while as much again stays free; a small one grows always.

    One share may thus have half of the budget, each of two that grow together a third
    (the dynamic thresholds of shared-memory switches: Choudhury and Hahne, 1998).
    """

    def __init__(self, limit: int) -> None:
        """Allow *limit* bytes."""
        self.limit = limit
        self.used = 0

    @property
    def largest(self) -> int:
        """The most bytes that one share can have."""
        return self.limit // 2

    def share(self) -> Share:
        """The share of one message, empty so far; leaving it gives its bytes back."""
        return Share(self)


class Share:
    """What one message holds of a budget."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        """Hold nothing yet."""
        self._budget = budget
        self.size = 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give all back."""
        self._budget.used -= self.size
        self.size = 0

    def grow(self, size: int) -> bool:
        """Take *size* more bytes; False, and nothing taken, where that would leave too little for others."""
        wanted = self.size + size
        if wanted > max(SMALL, self._budget.limit - self._budget.used - size):
            return False
        self.size += size
        self._budget.used += size
        return True
