"""The coalescer and the merger of a replica that shares: no read joins a call that may have begun before a write.

While the writes of all other replicas are known, a write closes the flights that it concerns. While a write of another
replica is open, or the log cannot be read, that is not certain: then a read joins only a call that begins after the
read came. So many identical reads make two calls, one after the other, and not a call each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TypedDict, Unpack

from proxy.core.batch.window import Limits
from proxy.core.cache.key import Keys
from proxy.core.merge.history import MergeHistory
from proxy.core.model import Reply, Request
from proxy.core.quota.ledger import RequestCost
from proxy.core.routing.rules import Rule
from proxy.shell import Layer
from proxy.shell.pipeline.coalescer import Coalescer
from proxy.shell.pipeline.merger import HeldReplies, Merger
from proxy.shell.valkey.shared import ENDS_AT, HAS_CAUGHT_UP, Shared

IsCertain = Callable[[Request], bool]
"""Returns whether each write that may change a read is known here as soon as it is answered."""


class SharedCoalescer(Coalescer):
    """A pipeline layer: `Coalescer` for one of several replicas."""

    def __init__(
        self,
        onward: Layer,
        key: Callable[[Request], Hashable],
        names: Callable[[Request], tuple[str, ...]],
        promote: Callable[[Request], None] = lambda _request: None,
        *,
        is_certain: IsCertain,
        shared: Shared,
    ) -> None:
        """As `Coalescer`; a read may join a flight that has left if *is_certain*; *shared* reads the log."""
        super().__init__(onward, key, names, promote)
        self._is_certain = is_certain
        self._shared = shared
        self._sent: dict[Hashable, asyncio.Task[Reply]] = {}

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        """Answer *request*; a read with no-cache or no-store joins no flight, and no read joins it."""
        if request.directives.forbids_sharing or self._is_certain(request):
            return await super().__call__(request, cost)
        ends_at = ENDS_AT.set(self._shared.ends_at)
        caught_up = HAS_CAUGHT_UP.set(await self._shared.catch_up(self._shared.budget_s))
        try:
            if self._is_certain(request):
                return await super().__call__(request, cost)
            return await self._join_next(request, cost)
        finally:
            HAS_CAUGHT_UP.reset(caught_up)
            ENDS_AT.reset(ends_at)

    async def _join_next(self, request: Request, cost: RequestCost | None) -> Reply:
        """Return the answer of a call that begins after *request* came."""
        key = self._key(request)
        place = ("next", key)
        flight = self.flights.get(place)
        if flight is not None:
            return (await self._wait(place, flight.own(place))).shared()
        before = self._sent.get(key)
        return await self._wait(place, self._start(place, request, self._after(before, place, request, cost)))

    async def _after(
        self,
        before: asyncio.Task[Reply] | None,
        place: tuple[str, Hashable],
        request: Request,
        cost: RequestCost | None,
    ) -> Reply:
        """Call Graph when *before* has ended; from then on no read joins."""
        if before is not None:
            await asyncio.wait([before])
        self.flights.pop(place, None)
        _, key = place
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - `_start` made it
        self._sent[key] = task
        try:
            return await self._onward(request, cost)
        finally:
            if self._sent.get(key) is task:
                del self._sent[key]


class MergerOptions(TypedDict):
    """The keyword arguments of `Merger`, but for its history."""

    keys: Keys
    rule: Callable[[Request], Rule]
    tags_of: Callable[[Request], tuple[str, ...]]
    limits: Limits
    clock: Callable[[], float]


class SharedMerger(Merger):
    """A pipeline layer: `Merger` for one of several replicas."""

    def __init__(
        self, cache: HeldReplies, *, is_certain: IsCertain, history: MergeHistory, **options: Unpack[MergerOptions]
    ) -> None:
        """As `Merger`; a read may be merged with others if *is_certain*."""
        super().__init__(cache, history=history, **options)
        self._is_certain = is_certain

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        """Answer *request*; it is sent alone while writes of other replicas may be unknown."""
        return await (super().__call__(request, cost) if self._is_certain(request) else self._cache(request, cost))
