"""Lets identical requests in flight share one answer. A flight ends early when its last waiting caller has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Protocol

from proxy.core.model import Reply, Request
from proxy.core.quota.ledger import RequestCost
from proxy.shell import Layer


class UnderWay(Protocol):
    """Calls under way for one read, or for several that have a key each."""

    def own(self, key: Hashable) -> Joinable:
        """Return the flight that requests with this *key* join."""

    def names(self, key: Hashable) -> tuple[str, ...]:
        """Return the cache tags of the read with this *key*."""


class Joinable(UnderWay, Protocol):
    """A call, under way or about to be made, that identical requests may join."""

    has_time: bool  # whether it is of low priority
    waiting: int  # how many callers wait for it

    @property
    def is_over(self) -> bool:
        """Whether it has been answered, or has failed."""

    def future(self) -> asyncio.Future[Reply]:
        """Return the reply to come."""

    def cancel(self) -> None:
        """Cancel the call, because no caller waits any more."""


@dataclass(eq=False, slots=True)
class CoalescedFlight:
    """A call that a task makes."""

    reply: asyncio.Future[Reply]
    tags: tuple[str, ...]
    has_time: bool
    waiting: int = 0

    def own(self, _key: Hashable) -> CoalescedFlight:
        """Return the flight itself, which is of one read."""
        return self

    def names(self, _key: Hashable) -> tuple[str, ...]:
        """Return the cache tags of what it reads."""
        return self.tags

    @property
    def is_over(self) -> bool:
        """Whether it has been answered, or has failed."""
        return self.reply.done()

    def future(self) -> asyncio.Future[Reply]:
        """Return the reply to come."""
        return self.reply

    def cancel(self) -> None:
        """Cancel the call, because no caller waits any more."""
        self.reply.cancel()


class Coalescer:
    """A layer: joins a request to the flight of an identical one, or starts a flight."""

    def __init__(
        self,
        onward: Layer,
        key: Callable[[Request], Hashable],
        names: Callable[[Request], tuple[str, ...]],
        promote: Callable[[Request], None] = lambda _request: None,
    ) -> None:
        """Ask *onward* once for all requests of one *key* that are in flight together; *names* gives their cache tags.

        *promote* is called for a low-priority flight that a request of ordinary priority has joined.
        """
        self._onward = onward
        self._key = key
        self._names = names
        self._promote = promote
        self.flights: dict[Hashable, UnderWay] = {}
        """Calls under way that equal requests may join, by their keys."""

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        """Answer *request*; a read with no-cache or no-store joins no flight, and no read joins it."""
        if request.directives.forbids_sharing:
            return await self._onward(request, cost)
        key = self._key(request)
        found = self.flights.get(key)
        if found is None:
            return await self._wait(key, self._start(key, request, self._onward(request, cost)))
        flight = found.own(key)
        if flight.has_time and not request.is_low_priority:  # no read waits for one of lower priority
            flight.has_time = False
            self._promote(request)
        return (await self._wait(key, flight)).shared()

    def close(self, tags: Iterable[str]) -> None:
        """Close the flights with one of *tags* (all, without a tag) to requests that come after a write."""
        named = set(tags)
        for key, flight in list(self.flights.items()):
            if not named or not (names := flight.names(key)) or not named.isdisjoint(names):
                del self.flights[key]

    # --- for callers that no task waits for ---

    def names(self, request: Request) -> tuple[str, ...]:
        """Return the cache tags of *request*."""
        return self._names(request)

    def land(self, key: Hashable, flight: UnderWay) -> None:
        """Remove *flight*, which is over: no later request joins it."""
        if self.flights.get(key) is flight:
            del self.flights[key]

    def leave(self, key: Hashable, flight: Joinable) -> None:
        """Note that a caller has gone; the flight ends with the last one."""
        flight.waiting -= 1
        if not flight.waiting and not flight.is_over:
            self.land(key, flight)
            flight.cancel()

    def _start(self, key: Hashable, request: Request, asking: Awaitable[Reply]) -> CoalescedFlight:
        task = asyncio.ensure_future(asking)
        flight = self.flights[key] = CoalescedFlight(task, self._names(request), request.is_low_priority)
        task.add_done_callback(lambda _done: self._on_done(key, flight))
        return flight

    async def _wait(self, key: Hashable, flight: Joinable) -> Reply:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.future())
        finally:
            self.leave(key, flight)

    def _on_done(self, key: Hashable, flight: CoalescedFlight) -> None:
        """Forget *flight* before its callers wake: no request joins a flight that is over."""
        self.land(key, flight)
        if not flight.reply.cancelled():
            flight.reply.exception()  # looked at, so that a failure that everybody left is not reported as forgotten
