"""Replies that are read whole share a budget of bytes; one that finds no room waits until others have been read."""

from __future__ import annotations

import asyncio
from types import TracebackType

from proxy.core.memory.budget import SMALL, Budget, Share

LONGEST_S = 5.0
"""Seconds that a reply waits for room, at most: those before it may be of a Graph that is slow to send."""


class _Turn:
    """The context in which one reply is read."""

    __slots__ = ("_share", "_turns")

    def __init__(self, turns: ReplyTurns) -> None:
        self._turns = turns
        self._share = turns.budget.share()

    def __enter__(self) -> Share:
        return self._share

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._turns.end(self._share)


class ReplyTurns:
    """Who may read on. One of those that wait may until it is read, up to half of the budget, so none waits in vain."""

    def __init__(self, budget: Budget) -> None:
        """Read within *budget*."""
        self.budget = budget
        self._favoured: Share | None = None  # of the reply whose turn it is
        self._waiting: dict[Share, None] = {}
        self._news: asyncio.Event | None = None

    def share(self) -> _Turn:
        """Returns the share of one reply while it is read; leaving its context gives its bytes back."""
        return _Turn(self)

    def end(self, share: Share) -> None:
        """Take back the bytes of *share*, whose reply has been read."""
        share.__exit__(None, None, None)
        if self._favoured is share:
            self._favoured = None
        if self._news is not None:
            self._wake_waiting()

    async def grow(self, share: Share, size: int) -> bool:
        """Returns whether *share* got *size* more bytes, perhaps after a wait."""
        if share.size + size > max(SMALL, self.budget.largest):
            return False
        if share is self._favoured:
            share.take(size)
            return True
        if share.grow(size):
            return True
        self._waiting[share] = None
        try:
            async with asyncio.timeout(LONGEST_S):
                while not share.grow(size):
                    if self._favoured is None and next(iter(self._waiting)) is share:
                        self._favoured = share
                        share.take(size)
                        break
                    await self._change()
        except TimeoutError:
            return False
        else:
            return True
        finally:
            del self._waiting[share]
            self._wake_waiting()

    async def _change(self) -> None:
        """Wait until a reply has been read."""
        if self._news is None:
            self._news = asyncio.Event()
        await self._news.wait()

    def _wake_waiting(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.set()
