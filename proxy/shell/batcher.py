"""Holds reads until they have company or must leave, sends them together, hands each its reply."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from proxy.core import batching
from proxy.core.errors import Cut, Draining, Overloaded, SidecarError
from proxy.core.messages import Channel, Credential, Reply, Request


class Upstream(Protocol):
    """What the batcher needs of the way to Graph."""

    async def batch(self, requests: Sequence[Request], top: Credential) -> Reply | batching.Call:
        """Graph's answer to a batch. Raises Unreachable."""

    async def single(self, request: Request) -> Reply:
        """Graph's answer to one read. Raises a SidecarError."""


class Witness(Protocol):
    """Who is told what the batcher did."""

    def sent(self, slots: int) -> None:
        """A batch of *slots* left."""

    def sent_alone(self) -> None:
        """A read left in a call of its own."""

    def asked_again(self, slots: int, cause: str) -> None:
        """*slots* reads of a batch have to be asked again."""


@dataclass(eq=False, slots=True)
class _Waiting:
    request: Request
    reply: asyncio.Future[Reply]
    since: float
    left: float = 0.0

    def answer(self, reply: Reply) -> None:
        if not self.reply.done():
            self.reply.set_result(replace(reply, window_s=self.left - self.since))

    def fail(self, error: BaseException) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


Fly = Callable[[Sequence[_Waiting]], Coroutine[None, None, None]]


class Batcher:
    """A layer, the last before Graph."""

    def __init__(
        self, upstream: Upstream, limits: batching.Limits, witness: Witness, clock: Callable[[], float]
    ) -> None:
        """Ask *upstream* within *limits*; *clock* gives monotonic seconds."""
        self._upstream = upstream
        self._limits = limits
        self._witness = witness
        self._clock = clock
        self._tops = batching.Tops()
        self._groups: dict[Hashable, _Group] = {}

    async def __call__(self, request: Request) -> Reply:
        """Answer *request*. Raises a SidecarError."""
        if request.channel is Channel.DIRECT:
            return await self._alone(request)
        group_key = batching.group_of(request, self._limits)
        group = self._groups.get(group_key)
        if group is None:
            group = self._groups[group_key] = _Group(
                self._limits, self._fly, self._clock, lambda idle: self._forget(group_key, idle)
            )
        waiting = _Waiting(request, asyncio.get_running_loop().create_future(), self._clock())
        group.add(waiting)
        try:
            return await waiting.reply
        finally:
            group.leave(waiting)
            self._forget(group_key, group)

    async def close(self) -> None:
        """End what is queued or in the air: after a drain nobody waits for it; whoever does all the same is told."""
        flights = [flight for group in tuple(self._groups.values()) for flight in group.end()]
        await asyncio.gather(*flights, return_exceptions=True)

    @property
    def queued(self) -> int:
        """Reads that wait for their batch."""
        return sum(group.queued for group in self._groups.values())

    def _forget(self, group_key: Hashable, group: _Group) -> None:
        """Groups come and go with tokens and languages; one with nothing to do is not kept."""
        if group.idle and self._groups.get(group_key) is group:
            del self._groups[group_key]

    async def _fly(self, waiting: Sequence[_Waiting], attempt: int = 0) -> None:
        """Ask Graph for *waiting* until each has a reply or an error: nobody is left hanging."""
        try:
            await self._ask(waiting, attempt)
        except SidecarError as error:
            _fail(waiting, error)
        except BaseException:
            _fail(waiting, Cut("the batch ended unanswered"))
            raise

    async def _ask(self, waiting: Sequence[_Waiting], attempt: int) -> None:
        requests = [one.request for one in waiting]
        top = self._tops.choose(requests, self._clock())
        if top is None:
            await self._all_alone(waiting)
            return
        self._witness.sent(len(requests))
        answer = await self._upstream.batch(requests, top)
        fates = batching.sort_out(requests, top, answer, attempt)
        if fates.refused_top:
            self._tops.refuse(top, fates.refused_top, self._clock())
        for at, reply in fates.replies.items():
            waiting[at].answer(reply)
        if fates.cause:
            self._witness.asked_again(len(requests) - len(fates.replies), fates.cause)
        parts = [self._fly([waiting[at] for at in part], attempt + 1) for part in fates.again]
        await asyncio.gather(*parts, self._all_alone([waiting[at] for at in fates.alone]))

    async def _all_alone(self, waiting: Sequence[_Waiting]) -> None:
        await asyncio.gather(*(self._rescue(one) for one in waiting))

    async def _rescue(self, one: _Waiting) -> None:
        """The direct call for a read that no batch would answer; its validator was given for another form of asking."""
        if one.reply.done():
            return
        try:
            one.answer(await self._alone(replace(one.request, channel=Channel.DIRECT, validator="")))
        except SidecarError as error:
            one.fail(error)

    async def _alone(self, request: Request) -> Reply:
        self._witness.sent_alone()
        return await self._upstream.single(request)


def _fail(waiting: Sequence[_Waiting], error: BaseException) -> None:
    for one in waiting:
        one.fail(error)


class _Group:
    """One queue of reads that may share a batch, and the flights that left it."""

    def __init__(
        self, limits: batching.Limits, fly: Fly, clock: Callable[[], float], landed: Callable[[_Group], None]
    ) -> None:
        self._limits = limits
        self._fly = fly
        self._clock = clock
        self._on_landing = landed
        self._queue: deque[_Waiting] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.Handle | None = None

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def idle(self) -> bool:
        return not self._queue and not self._flights

    def add(self, waiting: _Waiting) -> None:
        """Queue *waiting*. Raises Overloaded."""
        if len(self._queue) >= self._limits.queue:
            raise Overloaded(f"{len(self._queue)} requests wait for a place in a batch already (setting batch.queue)")
        self._queue.append(waiting)
        self._set_alarm()

    def leave(self, waiting: _Waiting) -> None:
        """Give up the place of a read that nobody waits for any more; one that has left stays in its batch."""
        if waiting.reply.cancelled() and waiting in self._queue:
            self._queue.remove(waiting)

    def end(self) -> Sequence[asyncio.Task[None]]:
        """Empty the queue and call the flights off, which are returned."""
        while self._queue:
            self._queue.popleft().fail(Draining("the sidecar is stopping"))
        for flight in self._flights:
            flight.cancel()
        return tuple(self._flights)

    def _set_alarm(self) -> None:
        """Leave when `batching.due` says: what is due at once, at the end of the loop's turn, with all of that turn."""
        if self._alarm is not None:
            self._alarm.cancel()
        now = self._clock()
        due = batching.due(
            len(self._queue), self._queue[0].since if self._queue else now, len(self._flights), self._limits, now
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
        count = min(len(self._queue), self._limits.slots)
        aboard = [self._queue.popleft() for _ in range(count)]
        if not aboard:
            return
        now = self._clock()
        for one in aboard:
            one.left = now
        flight = asyncio.ensure_future(self._fly(aboard))
        self._flights.add(flight)
        flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._set_alarm()
        self._on_landing(self)
