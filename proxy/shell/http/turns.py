"""Splits long work into turns of the event loop, so that other requests are served in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

MOST_ITEMS = 50
"""Operations or replies that are seen to in one turn of the event loop: as many as a batch of Graph's holds."""

MOST_CHARACTERS = 2**17
"""Characters or bytes of theirs that are seen to in one turn."""


_OTHERS = 4
"""Turns that others have for one of long work: to answer a read takes several."""


async def pause() -> None:
    """Yield to the event loop for a few turns."""
    for _turn in range(_OTHERS):
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
