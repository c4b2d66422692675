"""Keeps one object for texts that many entries have alike, as long as any entry has the text."""

from __future__ import annotations

BLOCK_COST = 250
"""Bytes that a text takes besides its own, with its place in the table."""


class SharedBlocks:
    """Texts by value, with the number of entries that have each."""

    def __init__(self) -> None:
        """Start with none."""
        self._texts: dict[bytes, tuple[bytes, int]] = {}

    def share(self, text: bytes) -> bytes:
        """Returns the one object for *text*, and counts one more entry that has it."""
        known, holders = self._texts.get(text, (text, 0))
        self._texts[known] = known, holders + 1
        return known

    def cost_of(self, text: bytes) -> int:
        """Returns the bytes that *text* would add."""
        return 0 if text in self._texts else len(text) + BLOCK_COST

    def release(self, text: bytes) -> int:
        """Count one entry less that has *text*; returns the bytes that this frees."""
        known, holders = self._texts[text]
        if holders > 1:
            self._texts[known] = known, holders - 1
            return 0
        del self._texts[text]
        return len(text) + BLOCK_COST
