"""A timer for work that nearly always ends before its deadline: to move the deadline is an assignment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Deadline:
    """Calls a function when a time has come; the event loop's timer stays set while the time moves on."""

    RESOLUTION_S = 0.001
    """Seconds that an event loop's timer may be early."""

    __slots__ = ("_loop", "_on_reached", "_timer", "at")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_reached: Callable[[], None]) -> None:
        """Call *on_reached* at no time yet."""
        self._loop = loop
        self._on_reached = on_reached
        self.at = inf  # no time; to be set to that alone, `set` is for all others
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Let the deadline be *at*, a time of the event loop's clock, instead of any before."""
        self.at = at
        if self._timer is None or at < self._timer.when():
            self._arm(at)

    def cancel(self) -> None:
        """Let there be no deadline, and no timer of the event loop's."""
        self.at = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer, at = None, self.at
        if at is inf:
            return
        if self._loop.time() + self.RESOLUTION_S < at:
            self._arm(at)
            return
        self.at = inf
        self._on_reached()
