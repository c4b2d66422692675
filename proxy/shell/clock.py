"""The machine's time of day, which may be wrong for a while and may be set back."""

from __future__ import annotations

import logging
from collections.abc import Callable

_log = logging.getLogger("graph_sidecar")

SLEW_S = 1.0
"""Seconds that the clock may go back unnoticed: until it has caught up the time stands still."""

OnClockSetBack = Callable[[float, float], None]
"""Called with the time now, and by how many seconds the clock was set back."""


class TimeOfDay:
    """Seconds since 1970; subscribers are called when the clock is set back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Read *clock*."""
        self.clock = clock  # what a clock that was set back shows, before anybody has noticed
        self._latest = clock()
        self._set_back_s = 0.0  # seconds by which the clock was set back in all
        self._subscribers: list[OnClockSetBack] = []

    def subscribe(self, *subscribers: OnClockSetBack) -> None:
        """Call *subscribers* each time the clock is set back."""
        self._subscribers.extend(subscribers)

    def __call__(self) -> float:
        """Seconds since 1970 by the machine's clock."""
        now = self.clock()
        if self._latest - now > SLEW_S:
            self._step(now)
        self._latest = max(self._latest, now)
        return self._latest

    def steady(self) -> float:
        """Seconds that never go back; only differences between them mean anything."""
        return self() + self._set_back_s

    def _step(self, now: float) -> None:
        by, self._latest = self._latest - now, now
        self._set_back_s += by
        _log.warning("the clock was set back by %.0f s: times from the future count as now", by)
        for on_set_back in self._subscribers:
            on_set_back(now, by)
