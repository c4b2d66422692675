"""A loop whose time is told and not waited for: what sleeps for half an hour is there at once.

Sockets on the loopback are real. Whenever none of them has anything to say, the clock jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

EPOCH = 1_800_000_000.0
"""Where the wall clock of a simulation begins, seconds since 1970."""

_LAST_LOOK_S = 0.000_2
"""What a thread or the kernel may take to hand over something that is on its way."""


class _Jumping(selectors.DefaultSelector):
    """A selector that never waits longer than for what is already on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        found = super().select(0)
        if found or timeout is None or timeout <= 0:
            return found or (super().select(None) if timeout is None else found)
        found = super().select(_LAST_LOOK_S)
        if not found:
            self.jumped += timeout
        return found


class Loop(asyncio.SelectorEventLoop):
    """An event loop in simulated seconds, which begin at nothing."""

    def __init__(self) -> None:
        """Begin."""
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Simulated seconds: nothing but the jumps."""
        return self._jumping.jumped

    def wall(self) -> float:
        """The same as a wall clock tells it."""
        return EPOCH + self.time()
