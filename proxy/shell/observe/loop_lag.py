"""Looks four times a second how late the event loop comes to what is due, and once a minute lets quantiles forget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

BEAT_S = 0.25
BEATS_A_MINUTE = int(60 / BEAT_S)


class LoopLag(Protocol):
    """Called with each lag."""

    def lagged(self, seconds: float) -> None:
        """The event loop came so much later to something than it was due."""

    def rotate(self) -> None:
        """A minute has passed."""


@asynccontextmanager
async def pulse(heart: LoopLag, waited_s: Callable[[], float] = lambda: 0.0) -> AsyncIterator[None]:
    """Beat while the context lasts; requests that have come wait *waited_s* before the event loop takes them up."""
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
