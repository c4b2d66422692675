"""Splits long work into turns of the event loop, so that other requests are served in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

MOST_ITEMS = 50
"""The most operations or replies that are processed in one turn of the event loop: as many as one batch holds."""

MOST_CHARACTERS = 2**17
"""The most characters or bytes that are processed in one turn."""


_PAUSE_TURNS = 4
"""Turns of the event loop between two turns of long work: other reads take several turns to answer."""


async def pause() -> None:
    """Yield to the event loop for a few turns."""
    for _turn in range(_PAUSE_TURNS):
        await asyncio.sleep(0)


async def in_turns(items: Iterable[T], size: Callable[[T], int]) -> AsyncIterator[T]:
    """Yield *items*, with a pause for the event loop after a bounded number or total *size* of them."""
    count = total = 0
    for item in items:
        if count >= MOST_ITEMS or total >= MOST_CHARACTERS:
            await pause()
            count = total = 0
        count += 1
        total += size(item)
        yield item


class PerTurn:
    """Calls functions in their order, at once but for those beyond *most* in one turn of the event loop."""

    def __init__(self, most: int) -> None:
        """Call at most *most* functions in a turn."""
        self._most = most
        self._count = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._turn: asyncio.Handle | None = None

    def call(self, function: Callable[[], None]) -> None:
        """Call *function* now or in one of the next turns."""
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._go_on)
        if self._count < self._most and not self._waiting:
            self._count += 1
            function()
        else:
            self._waiting.append(function)

    def _go_on(self) -> None:
        self._turn, self._count = None, min(self._most, len(self._waiting))
        if self._count:
            self._turn = asyncio.get_running_loop().call_soon(self._go_on)
        for _ in range(self._count):
            self._waiting.popleft()()
