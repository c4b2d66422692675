"""When a write last went to an object through the sidecar: what was read before it is not fresh after it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable


class Touches:
    """The times of writes by object, for a bounded number of objects; of what was forgotten the safe thing is said."""

    PLACES = 10_000

    def __init__(self) -> None:
        """Know of no write."""
        self._times: OrderedDict[str, float] = OrderedDict()
        self._floor = 0.0

    def touch(self, nodes: Iterable[str], now: float) -> None:
        """A write to *nodes* was answered at *now*; without a node it may have been to anything."""
        named = tuple(nodes)
        for node in named:
            self._times[node] = now
            self._times.move_to_end(node)
        if not named:
            self._floor = max(self._floor, now)
        while len(self._times) > self.PLACES:
            self._floor = max(self._floor, self._times.popitem(last=False)[1])

    def last(self, nodes: Iterable[str]) -> float:
        """The latest write that may have gone to any of *nodes*, epoch seconds; 0 for never."""
        return max([self._floor, *(self._times.get(node, 0.0) for node in nodes)])
