"""Those who wait for company: one queue of reads that may leave together, and the flights that left it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from proxy.core.batch import window
from proxy.core.batch.fair_share import FairQueue, Kind
from proxy.core.batch.lanes import Lane
from proxy.core.http.errors import Draining, Overloaded
from proxy.core.model import Reply, Request
from proxy.core.quota.ledger import RequestCost
from proxy.shell.pipeline import cost_context
from proxy.shell.upstream.fair_share import Place, Places, owner_of


@dataclass(eq=False, slots=True)
class PendingRead:
    """A read in a queue or a flight, and the reply that its caller waits for."""

    request: Request
    reply: asyncio.Future[Reply]
    since: float
    left: float = 0.0
    bill: RequestCost | None = field(default_factory=cost_context.current_cost)
    lane: Lane | None = None
    flight: Flight | None = None

    def answer(self, reply: Reply, batch: str = "") -> None:
        """Hand over *reply*, if anybody still waits; what was waited for company here and further on adds up."""
        if not self.reply.done():
            waited = self.left - self.since + (reply.window_s or 0.0)
            lane = self.lane.name if self.lane and batch else reply.lane
            self.reply.set_result(replace(reply, window_s=waited, batch=batch or reply.batch, lane=lane))

    def fail(self, error: BaseException) -> None:
        """Tell of *error* instead."""
        if not self.reply.done():
            self.reply.set_exception(error)


def fail_all(waiting: Sequence[PendingRead], error: BaseException) -> None:
    """Tell whoever still waits of *error*."""
    for one in waiting:
        one.fail(error)


@dataclass(eq=False, slots=True)
class Flight:
    """Those who left together, and the task that sees to their replies. It belongs to none of them."""

    aboard: Sequence[PendingRead]
    task: asyncio.Task[None]
    wake: Callable[[], None]
    is_late: bool = False  # then nothing waits for its end any more

    def be_late(self) -> None:
        """Let nobody wait for its end any more; who is aboard still does."""
        self.is_late = True
        self.wake()

    def join(self, waiting: PendingRead) -> None:
        """Take *waiting* aboard, who came when the others had left."""
        self.aboard = [*self.aboard, waiting]
        waiting.flight = self
        waiting.reply.add_done_callback(lambda reply: self.leave() if reply.cancelled() else None)

    def leave(self) -> None:
        """End at once if nobody is left who waits for a reply: Graph's answer, which counts all the same, is let go."""
        if all(one.reply.done() for one in self.aboard):
            self.task.cancel()


Fly = Callable[[Sequence[PendingRead], Place | None], Coroutine[None, None, None]]
"""Sees to the replies of those who left; the place, where there is one, is given back as soon as Graph has answered."""

LimitsNow = Callable[[], window.Limits]
"""What holds at this moment: a reload may change it."""


class BatchQueues:
    """A Company for each key that somebody waits under: keys come and go with tokens, languages and objects."""

    def __init__(self, limits: LimitsNow, fly: Fly, clock: Callable[[], float], places: Places | None = None) -> None:
        """Let those of one key leave together, as *limits* say; *fly* sees to the replies of all that it is given.

        A company leaves when one of *places* is free; None: whenever it is due.
        """
        self._limits = limits
        self._fly = fly
        self._clock = clock
        self._places = places
        self._companies: dict[Hashable, BatchQueue] = {}

    async def join(self, key: Hashable, request: Request, lane: Lane | None = None) -> Reply:
        """The reply to *request*, which waits under *key* in *lane*. Raises Overloaded, or what *fly* fails it with."""
        company = self._company(key)
        waiting = PendingRead(request, asyncio.get_running_loop().create_future(), self._clock(), lane=lane)
        company.add(waiting)
        try:
            return await waiting.reply
        finally:
            company.leave(waiting)
            self._forget(key, company)

    def enqueue(self, key: Hashable, waiting: PendingRead) -> None:
        """Let *waiting*, whose reply no task waits for, wait under *key*. Raises Overloaded."""
        company = self._company(key)
        company.add(waiting)

        def leave(_reply: asyncio.Future[Reply]) -> None:
            company.leave(waiting)
            self._forget(key, company)

        waiting.reply.add_done_callback(leave)

    def _company(self, key: Hashable) -> BatchQueue:
        company = self._companies.get(key)
        if company is None:
            company = self._companies[key] = BatchQueue(
                self._limits, self._fly, self._clock, lambda idle: self._forget(key, idle), self._places
            )
        return company

    @property
    def queued(self) -> int:
        """Reads that have not left yet."""
        return sum(company.queued for company in self._companies.values())

    async def close(self) -> None:
        """Empty the queues and call the flights off; who still waits is told."""
        flights = [flight for company in tuple(self._companies.values()) for flight in company.end()]
        await asyncio.gather(*flights, return_exceptions=True)

    def _forget(self, key: Hashable, company: BatchQueue) -> None:
        """One with nothing to do is not kept."""
        if company.idle and self._companies.get(key) is company:
            del self._companies[key]


class BatchQueue:
    """One queue; `window.due` says when those in it leave, *fly* what becomes of them."""

    def __init__(
        self,
        limits: LimitsNow,
        fly: Fly,
        clock: Callable[[], float],
        landed: Callable[[BatchQueue], None],
        places: Places | None = None,
    ) -> None:
        """Begin with an empty queue; *landed* hears of each flight's end."""
        self._limits = limits
        self._fly = fly
        self._clock = clock
        self._on_landing = landed
        self._places = places
        self._queue: FairQueue[PendingRead] = FairQueue()
        self._flights: set[Flight] = set()
        self._alarm: asyncio.Handle | None = None

    @property
    def queued(self) -> int:
        """Reads that have not left yet."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nothing is in the air."""
        return not self._queue and not self._flights

    def add(self, waiting: PendingRead) -> None:
        """Queue *waiting*. Raises Overloaded."""
        owner, limits = owner_of(waiting.request.credential), self._limits()
        waited = self._queue.waited(owner, self._may, waiting.since) if self._is_in_line else 0.0
        if refusal := window.queue_refusal(len(self._queue), waited - self._window, limits):
            raise Overloaded(refusal)
        self._queue.add(waiting, owner, waiting.since)
        self._set_alarm()

    def leave(self, waiting: PendingRead) -> None:
        """Give up the place of a read that nobody waits for any more: in the queue, or of a flight all of whom left."""
        if not waiting.reply.cancelled():
            return
        if waiting.flight is not None:
            waiting.flight.leave()
        elif self._queue.discard(waiting):
            self._rest_if_empty()

    def end(self) -> Sequence[asyncio.Task[None]]:
        """Empty the queue and call the flights off, which are returned."""
        fail_all(self._queue.clear(), Draining("the sidecar is stopping"))
        self._rest_if_empty()
        for flight in self._flights:
            flight.task.cancel()
        return tuple(flight.task for flight in self._flights)

    def seize(self) -> bool:
        """Leave with those who may, on a place that is free; False if there are none."""
        return self._take_off()

    def served(self) -> bool:
        """Wait for the next place when `window.due` says so."""
        self._set_alarm()
        return False

    def look(self, now: float) -> None:
        """Let go of those who have waited for a place as long as they may."""
        limits = self._limits()
        fail_all(
            self._queue.late(now - limits.queue_s - self._window), Overloaded(window.queue_timeout_message(limits))
        )
        self._rest_if_empty()

    @property
    def _is_in_line(self) -> bool:
        """Whether a place is waited for."""
        return self._places is not None and self._places.waits(Kind.BATCH, self)

    @property
    def _window(self) -> float:
        return window.window_s(self._in_flight, self._limits())

    @property
    def _in_flight(self) -> int:
        """Flights that newcomers wait behind: those that are not late."""
        return sum(not flight.is_late for flight in self._flights)

    def _may(self, owner: Hashable) -> bool:
        return self._places is None or self._places.shares.may_take(owner)

    def _set_alarm(self) -> None:
        """Leave when `window.due` says: what is due at once, at the end of the loop's turn, with all of that turn."""
        if self._is_in_line and not self._may(Kind.BATCH):
            return  # the next place that is given back is offered
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        now, due = self._clock(), self._due()
        loop = asyncio.get_running_loop()
        if due is not None:
            self._alarm = loop.call_soon(self._depart) if due <= now else loop.call_later(due - now, self._depart)

    def _due(self) -> float | None:
        """When to leave, or to wait in line for a place; None if there is no reason to."""
        now, limits = self._clock(), self._limits()
        is_calm = self._places is None or self._places.shares.is_calm
        queued, oldest = self._queue.ready(limits.slots, None if is_calm else self._may)
        if not queued and self._queue:  # those who wait hold their shares already
            return None if self._is_in_line else now
        return window.due(queued, oldest, self._in_flight, limits, now)

    def _depart(self) -> None:
        self._alarm = None
        if self._places is None:
            self._take_off()
            self._set_alarm()
        elif self._queue:
            self._places.want(Kind.BATCH, self)

    def _take_off(self) -> bool:
        now = self._clock()
        aboard = self._queue.take(self._limits().slots, self._may, now)
        if not aboard:
            return False
        place = None
        if self._places is not None:
            place = self._places.take(Kind.BATCH, {owner_of(one.request.credential) for one in aboard})
        task = asyncio.create_task(self._fly(aboard, place))
        flight = Flight(aboard, task, self._set_alarm)
        for one in aboard:  # without places others may still get on, and whoever flies sees when all have left
            one.left, one.flight = now, None if self._places is None else flight
        self._flights.add(flight)
        task.add_done_callback(lambda _done: self._landed(flight, place))
        return True

    def _landed(self, flight: Flight, place: Place | None) -> None:
        self._flights.discard(flight)
        for one in flight.aboard:
            one.flight = None
        if place is not None:
            place.release()
        self._set_alarm()
        self._on_landing(self)

    def _rest_if_empty(self) -> None:
        if not self._queue and self._places is not None:
            self._places.forget(Kind.BATCH, self)
