"""A queue of events in simulated time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

from proxy.core.model import Reply

TURN_S = 0.002
"""Reads that come in within so many seconds leave together, as those of one turn of the event loop do.

Each is still answered as soon as it was, so none waits longer than half of what it took.
"""

Done = Callable[[Reply], None]


class EventQueue:
    """What happens when, in the time of the log."""

    def __init__(self) -> None:
        """Nothing is to happen."""
        self.now = 0.0
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do so then, or now if that is past."""
        heapq.heappush(self._planned, (max(when, self.now), next(self._number), do))

    def until(self, when: float) -> None:
        """Let everything happen that is due by then."""
        while self._planned and self._planned[0][0] <= when:
            self.now, _, do = heapq.heappop(self._planned)
            do()
        if when < math.inf:
            self.now = max(self.now, when)
