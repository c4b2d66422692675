"""The time of day, as far as a machine knows: it may be wrong for a while, and set back."""

from __future__ import annotations

import logging
from collections.abc import Callable

_log = logging.getLogger("graph_sidecar")

SLEW_S = 1.0
"""Seconds that a clock may go back unnoticed: what seems to be ahead for so long is right by itself a moment later."""

SetBack = Callable[[float, float], None]
"""Told the time that it is now, and by how many seconds the clock was set back."""


class TimeOfDay:
    """Epoch seconds; whoever keeps times is told when the clock is set back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Read *clock*."""
        self._clock = clock
        self._latest = clock()
        self._lost = 0.0  # seconds by which the clock was set back in all
        self._told: list[SetBack] = []

    def tell(self, *keepers: SetBack) -> None:
        """Tell *keepers* each time that the clock is set back."""
        self._told.extend(keepers)

    def __call__(self) -> float:
        """Seconds since 1970, as the machine has it."""
        now = self._clock()
        if now >= self._latest:
            self._latest = now
        elif self._latest - now > SLEW_S:
            self._step(now)
        return now

    def steady(self) -> float:
        """Seconds that never go back, for differences alone."""
        return self() + self._lost

    def _step(self, now: float) -> None:
        by, self._latest = self._latest - now, now
        self._lost += by
        _log.warning("the clock was set back by %.0f s: times from the future count as now", by)
        for keeper in self._told:
            keeper(now, by)
