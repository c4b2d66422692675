"""Texts that many have alike, of which one object is kept as long as anybody has it."""

from __future__ import annotations

BLOCK_COST = 250
"""Bytes that a text takes besides its own, with its place in the table."""


class SharedBlocks:
    """Texts by their value, each counted once, and how many have it."""

    def __init__(self) -> None:
        """Start with none."""
        self._texts: dict[bytes, tuple[bytes, int]] = {}

    def share(self, text: bytes) -> bytes:
        """Returns the object for *text*, which one more has from now on."""
        known, holders = self._texts.get(text, (text, 0))
        self._texts[known] = known, holders + 1
        return known

    def cost_of(self, text: bytes) -> int:
        """Returns the bytes that *text* would add."""
        return 0 if text in self._texts else len(text) + BLOCK_COST

    def release(self, text: bytes) -> int:
        """Note that one who had *text* has it no longer; returns the bytes that this sets free."""
        known, holders = self._texts[text]
        if holders > 1:
            self._texts[known] = known, holders - 1
            return 0
        del self._texts[text]
        return len(text) + BLOCK_COST
