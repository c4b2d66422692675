"""Random bytes for tokens and nonces, drawn from the system in larger pieces: a system call for each costs more."""

from __future__ import annotations

import os

_PIECE = 4096


class RandomBytes:
    """A source of random bytes, for one thread; no byte is given twice."""

    def __init__(self) -> None:
        """Start empty."""
        self._piece = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return *size* bytes, at most 4096, that were never given before."""
        start = self._at
        if start + size > len(self._piece):
            self._piece, start = os.urandom(_PIECE), 0
        self._at = start + size
        return self._piece[start : self._at]


take = RandomBytes().take
