"""Writes of other replicas that Graph has not answered yet: meanwhile no entry that they may change is fresh."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from proxy.core.cache.tags import Tags


class _Open(NamedTuple):
    nodes: tuple[str, ...]
    who: bytes
    until: float


class OpenWrites:
    """A bounded number of open writes; with more of them, any entry may be changed."""

    PLACES = 4096

    def __init__(
        self,
        written: Callable[[Tags, bytes], Tags],
        version: Callable[[], int],
        on_change: Callable[[int], None] = lambda _number: None,
    ) -> None:
        """Start without writes; *written* returns the tags that a write changes, as known in *version*.

        *on_change* is called with the number of open writes whenever it may have changed.
        """
        self._written = written
        self._version = version
        self._on_change = on_change
        self._open: dict[bytes, _Open] = {}
        self._names: frozenset[str] | None = frozenset()  # None for any
        self._made = version()

    def __len__(self) -> int:
        """Returns the number of open writes."""
        return len(self._open)

    def open(self, write: bytes, nodes: tuple[str, ...], who: bytes, until: float) -> None:
        """Record that *write* was sent; it is open until it is closed, or until the time *until*."""
        self._open[write] = _Open(nodes, who, until)
        self._made = -1
        self._on_change(len(self._open))

    def close(self, write: bytes) -> None:
        """Record that *write* was answered."""
        if self._open.pop(write, None) is not None:
            self._made = -1
            self._on_change(len(self._open))

    def expired(self, now: float) -> list[tuple[tuple[str, ...], bytes]]:
        """Close the writes whose time is over *now*; returns the nodes and the fingerprint of each."""
        over = {write: each for write, each in self._open.items() if each.until <= now}
        for write in over:
            self.close(write)
        return [(each.nodes, each.who) for each in over.values()]

    def clear(self) -> None:
        """Forget all of them."""
        self._open.clear()
        self._made = -1
        self._on_change(0)

    def cover(self, names: Iterable[str]) -> bool:
        """Returns whether an open write may change any of the tags *names*; () means any tag."""
        if not self._open:
            return False
        if self._made != (version := self._version()):
            self._names, self._made = self._all_names(), version
        if self._names is None:
            return True
        named = tuple(names)
        return not named or not self._names.isdisjoint(named)

    def _all_names(self) -> frozenset[str] | None:
        if len(self._open) > self.PLACES:
            return None
        found: set[str] = set()
        for each in self._open.values():
            names = self._written(each.nodes, each.who)
            if not names:
                return None
            found.update(names)
        return frozenset(found)
