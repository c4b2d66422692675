"""A Bloom filter of the keys of entries: says for certain that a key was never added, in a few bits for each key."""

from __future__ import annotations

import struct
from collections.abc import Iterable

_places = struct.Struct("<4I").unpack_from
KEY_BYTES = 32
"""The length of keys: digests, whose first 16 bytes are four places in the filter."""
_CROWDED = 8
"""Bits for each key below which more than one of 40 other keys is taken for one that was added."""


class KeyFilter:
    """A set of keys that forgets none; it may take a key that was never added for one of its own."""

    __slots__ = ("_bits", "_mask", "added")

    def __init__(self, limit: int) -> None:
        """Start empty, in at most *limit* bytes."""
        size = 1 << (max(limit, 1).bit_length() - 1)
        self._bits = bytearray(size)
        self._mask = 8 * size - 1
        self.added = 0
        """How many distinct keys were added, to within those that were taken for others."""

    def __contains__(self, key: bytes) -> bool:
        bits, mask = self._bits, self._mask
        for place in _places(key):
            at = place & mask
            if not bits[at >> 3] & 1 << (at & 7):
                return False
        return True

    def add(self, key: bytes) -> None:
        """Add *key*."""
        if key in self:
            return
        self.added += 1
        bits, mask = self._bits, self._mask
        for place in _places(key):
            at = place & mask
            bits[at >> 3] |= 1 << (at & 7)

    def update(self, keys: Iterable[bytes]) -> None:
        """Add all *keys*."""
        for key in keys:
            self.add(key)

    @property
    def is_crowded(self) -> bool:
        """Whether it takes too many keys for its own."""
        return self.added * _CROWDED > self._mask
