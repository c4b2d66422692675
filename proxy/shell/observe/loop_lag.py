"""Measures four times a second how late the event loop is, and begins a new minute of the quantiles each minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

BEAT_S = 0.25
BEATS_A_MINUTE = int(60 / BEAT_S)


class LoopLag(Protocol):
    """The counters that get each lag."""

    def lagged(self, seconds: float) -> None:
        """Record that the event loop was so many *seconds* late."""

    def rotate(self) -> None:
        """Begin a new minute."""


@asynccontextmanager
async def pulse(heart: LoopLag, waited_s: Callable[[], float] = lambda: 0.0) -> AsyncIterator[None]:
    """Measure while the context lasts; *waited_s* gives how long requests wait for their turn, which counts as lag."""
    task = asyncio.ensure_future(_beat(heart, waited_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _beat(heart: LoopLag, waited_s: Callable[[], float]) -> None:
    time = asyncio.get_running_loop().time
    while True:
        for _ in range(BEATS_A_MINUTE):
            due = time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            heart.lagged(max(0.0, time() - due) + waited_s())
        heart.rotate()
