"""Identical requests in flight share one answer. A flight belongs to no caller: it ends early if nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass

from proxy.core.model import Reply, Request
from proxy.shell import Layer


@dataclass(eq=False, slots=True)
class CoalescedFlight:
    """A call, or what leads to one, and how many wait for its *reply*."""

    reply: asyncio.Future[Reply]
    names: tuple[str, ...]
    has_time: bool
    waiting: int = 0


class Coalescer:
    """A layer: joins a request to the flight of its twin, or starts one."""

    def __init__(
        self,
        onward: Layer,
        key: Callable[[Request], Hashable],
        names: Callable[[Request], tuple[str, ...]],
        urge: Callable[[Request], None] = lambda _request: None,
    ) -> None:
        """Tell twins by *key*, and by *names* what they read; ask *onward* once for all of them.

        *urge* is told of a flight that waits somewhere and no longer has time.
        """
        self._onward = onward
        self._key = key
        self._names = names
        self._urge = urge
        self._flights: dict[Hashable, CoalescedFlight] = {}

    async def __call__(self, request: Request) -> Reply:
        """Answer *request*; one that wants Graph's own word now joins nobody, and nobody joins it."""
        if request.directives.forbids_sharing:
            return await self._onward(request)
        key = self._key(request)
        flight = self._flights.get(key)
        if flight is None:
            return await self._wait(key, self._start(key, request))
        if flight.has_time and not request.is_low_priority:  # nobody waits behind a read of lower priority
            flight.has_time = False
            self._urge(request)
        return (await self._wait(key, flight)).shared()

    def close(self, touched: Iterable[str]) -> None:
        """Let nobody join the flights that read *touched* (none named: any flight): they may tell of before a write."""
        named = set(touched)
        for key, flight in list(self._flights.items()):
            if not named or not flight.names or not named.isdisjoint(flight.names):
                del self._flights[key]

    # --- for a caller that no task waits for ---

    def find(self, key: Hashable) -> CoalescedFlight | None:
        """The flight that a request of this *key* may join."""
        return self._flights.get(key)

    def lead(self, key: Hashable, request: Request) -> CoalescedFlight:
        """A flight that its caller answers by `land`; twins of *request* join it until then."""
        reply = asyncio.get_running_loop().create_future()
        flight = self._flights[key] = CoalescedFlight(reply, self._names(request), request.is_low_priority, waiting=1)
        return flight

    def land(self, key: Hashable, flight: CoalescedFlight, answer: Reply | BaseException) -> None:
        """Give those who wait in tasks their *answer*."""
        if not flight.reply.done():
            if isinstance(answer, BaseException):
                flight.reply.set_exception(answer)
            else:
                flight.reply.set_result(answer)
        self._forget(key, flight)

    def leave(self, key: Hashable, flight: CoalescedFlight) -> None:
        """One caller less waits; where there is none left, the flight ends."""
        flight.waiting -= 1
        if not flight.waiting and not flight.reply.done():
            self._forget(key, flight)
            flight.reply.cancel()

    def _start(self, key: Hashable, request: Request, asking: Awaitable[Reply] | None = None) -> CoalescedFlight:
        task = asyncio.ensure_future(asking or self._onward(request))
        flight = self._flights[key] = CoalescedFlight(task, self._names(request), request.is_low_priority)
        task.add_done_callback(lambda _done: self._forget(key, flight))
        return flight

    async def _wait(self, key: Hashable, flight: CoalescedFlight) -> Reply:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.reply)
        finally:
            self.leave(key, flight)

    def _forget(self, key: Hashable, flight: CoalescedFlight) -> None:
        """Leave the map before anyone wakes: a flight that has landed is joined by nobody."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.reply.done() and not flight.reply.cancelled():
            flight.reply.exception()  # looked at, so that a failure that everybody left is not reported as forgotten
