"""A queue of events in simulated time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

from proxy.core.model import Reply

TURN_S = 0.002
"""Seconds within which simulated reads leave together, like reads of one turn of the event loop.

A read waits at most half of the time that it took in the log.
"""

Done = Callable[[Reply], None]


class EventQueue:
    """Events in the time of the log, in their order."""

    def __init__(self) -> None:
        """Start without events."""
        self.now = 0.0
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Schedule *do* at *when*, or now if that is past."""
        heapq.heappush(self._planned, (max(when, self.now), next(self._number), do))

    def until(self, when: float) -> None:
        """Run every event that is due up to *when*."""
        while self._planned and self._planned[0][0] <= when:
            self.now, _, do = heapq.heappop(self._planned)
            do()
        if when < math.inf:
            self.now = max(self.now, when)
