"""Those who wait for company: one queue of reads that may leave together, and the flights that left it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from proxy.core import batching
from proxy.core.errors import Draining, Overloaded
from proxy.core.ledger import Bill
from proxy.core.messages import Reply, Request
from proxy.shell import bills


@dataclass(eq=False, slots=True)
class Waiting:
    """A read in a queue or a flight, and the reply that its caller waits for."""

    request: Request
    reply: asyncio.Future[Reply]
    since: float
    left: float = 0.0
    bill: Bill | None = field(default_factory=bills.current)

    def answer(self, reply: Reply, batch: str = "") -> None:
        """Hand over *reply*, if anybody still waits; what was waited for company here and further on adds up."""
        if not self.reply.done():
            waited = self.left - self.since + (reply.window_s or 0.0)
            self.reply.set_result(replace(reply, window_s=waited, batch=batch or reply.batch))

    def fail(self, error: BaseException) -> None:
        """Tell of *error* instead."""
        if not self.reply.done():
            self.reply.set_exception(error)


def fail_all(waiting: Sequence[Waiting], error: BaseException) -> None:
    """Tell whoever still waits of *error*."""
    for one in waiting:
        one.fail(error)


Fly = Callable[[Sequence[Waiting]], Coroutine[None, None, None]]

LimitsNow = Callable[[], batching.Limits]
"""What holds at this moment: a reload may change it."""


class Companies:
    """A Company for each key that somebody waits under: keys come and go with tokens, languages and objects."""

    def __init__(self, limits: LimitsNow, fly: Fly, clock: Callable[[], float]) -> None:
        """Let those of one key leave together, as *limits* say; *fly* sees to the replies of all that it is given."""
        self._limits = limits
        self._fly = fly
        self._clock = clock
        self._companies: dict[Hashable, Company] = {}

    async def join(self, key: Hashable, request: Request) -> Reply:
        """The reply to *request*, which waits under *key*. Raises Overloaded, and what *fly* fails it with."""
        company = self._companies.get(key)
        if company is None:
            company = self._companies[key] = Company(
                self._limits, self._fly, self._clock, lambda idle: self._forget(key, idle)
            )
        waiting = Waiting(request, asyncio.get_running_loop().create_future(), self._clock())
        company.add(waiting)
        try:
            return await waiting.reply
        finally:
            company.leave(waiting)
            self._forget(key, company)

    @property
    def queued(self) -> int:
        """Reads that have not left yet."""
        return sum(company.queued for company in self._companies.values())

    async def close(self) -> None:
        """Empty the queues and call the flights off; who still waits is told."""
        flights = [flight for company in tuple(self._companies.values()) for flight in company.end()]
        await asyncio.gather(*flights, return_exceptions=True)

    def _forget(self, key: Hashable, company: Company) -> None:
        """One with nothing to do is not kept."""
        if company.idle and self._companies.get(key) is company:
            del self._companies[key]


class Company:
    """One queue; `batching.due` says when those in it leave, *fly* what becomes of them."""

    def __init__(
        self, limits: LimitsNow, fly: Fly, clock: Callable[[], float], landed: Callable[[Company], None]
    ) -> None:
        """Begin with an empty queue; *landed* hears of each flight's end."""
        self._limits = limits
        self._fly = fly
        self._clock = clock
        self._on_landing = landed
        self._queue: OrderedDict[Waiting, None] = OrderedDict()  # ordered, and left from any place in one step
        self._flights: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.Handle | None = None

    @property
    def queued(self) -> int:
        """Reads that have not left yet."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nothing is in the air."""
        return not self._queue and not self._flights

    def add(self, waiting: Waiting) -> None:
        """Queue *waiting*. Raises Overloaded."""
        if len(self._queue) >= self._limits().queue:
            raise Overloaded(f"{len(self._queue)} requests wait for a place in a batch already (setting batch.queue)")
        self._queue[waiting] = None
        self._set_alarm()

    def leave(self, waiting: Waiting) -> None:
        """Give up the place of a read that nobody waits for any more; one that has left stays in its batch."""
        if waiting.reply.cancelled():
            self._queue.pop(waiting, None)

    def end(self) -> Sequence[asyncio.Task[None]]:
        """Empty the queue and call the flights off, which are returned."""
        while self._queue:
            self._queue.popitem(last=False)[0].fail(Draining("the sidecar is stopping"))
        for flight in self._flights:
            flight.cancel()
        return tuple(self._flights)

    def _set_alarm(self) -> None:
        """Leave when `batching.due` says: what is due at once, at the end of the loop's turn, with all of that turn."""
        if self._alarm is not None:
            self._alarm.cancel()
        now = self._clock()
        due = batching.due(
            len(self._queue),
            next(iter(self._queue)).since if self._queue else now,
            len(self._flights),
            self._limits(),
            now,
        )
        loop = asyncio.get_running_loop()
        if due is None:
            self._alarm = None
        elif due <= now:
            self._alarm = loop.call_soon(self._depart)
        else:
            self._alarm = loop.call_later(due - now, self._depart)

    def _depart(self) -> None:
        self._alarm = None
        self._take_off()
        self._set_alarm()

    def _take_off(self) -> None:
        count = min(len(self._queue), self._limits().slots)
        aboard = [self._queue.popitem(last=False)[0] for _ in range(count)]
        if not aboard:
            return
        now = self._clock()
        for one in aboard:
            one.left = now
        flight = asyncio.create_task(self._fly(aboard))
        self._flights.add(flight)
        flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._set_alarm()
        self._on_landing(self)
