"""Writes that other replicas have sent and Graph has not answered yet: what they may change is in doubt meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

Names = tuple[str, ...]


class _Open(NamedTuple):
    nodes: Names
    who: bytes
    until: float


class OpenWrites:
    """The writes on their way, for a bounded number of them: beyond it everything is in doubt."""

    PLACES = 4096

    def __init__(
        self,
        written: Callable[[Names, bytes], Names],
        version: Callable[[], int],
        on_change: Callable[[int], None] = lambda _number: None,
    ) -> None:
        """Know of none; *written* names what a write to nodes changes, as far as is known in this *version*.

        *on_change* is told how many writes are on their way, each time that may have changed.
        """
        self._written = written
        self._version = version
        self._on_change = on_change
        self._open: dict[bytes, _Open] = {}
        self._names: frozenset[str] | None = frozenset()  # None for any
        self._made = version()

    def __len__(self) -> int:
        """How many writes are on their way."""
        return len(self._open)

    def open(self, write: bytes, nodes: Names, who: bytes, until: float) -> None:
        """*write* is on its way, until it is closed or *until* then."""
        self._open[write] = _Open(nodes, who, until)
        self._made = -1
        self._on_change(len(self._open))

    def close(self, write: bytes) -> None:
        """*write* was answered."""
        if self._open.pop(write, None) is not None:
            self._made = -1
            self._on_change(len(self._open))

    def expired(self, now: float) -> list[tuple[Names, bytes]]:
        """The writes that are given up *now*, whose replica has told no end of them: nodes and fingerprint of each."""
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
        """Whether a write on its way may change any of *names*; of () any does."""
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
