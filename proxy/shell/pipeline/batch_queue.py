"""Queues of reads that may share a batch, and the batches of each queue that Graph has not answered yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Container, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol, TypeAlias

from msgspec.structs import replace

from proxy.core.batch import window
from proxy.core.batch.answer_size import AnswerSize
from proxy.core.batch.fair_share import FairQueue, Kind
from proxy.core.batch.lanes import Lane, Route
from proxy.core.batch.request import batch_part
from proxy.core.http.errors import Cut, Draining, Overloaded
from proxy.core.model import Reply, Request
from proxy.core.quota.ledger import Payer, RequestCost
from proxy.core.routing.nodes import calls_of
from proxy.shell.pipeline.queued_group import QueuedGroup
from proxy.shell.upstream.fair_share import Member, Place, Places


class QueuedRead(Protocol):
    """A read in a queue, or in a batch that is under way."""

    request: Request
    slots: ClassVar[int]  # as how many slots of a batch it counts
    is_group: ClassVar[bool]  # False
    since: float
    left: float
    lane: Lane | None
    route: Route | None
    call: BatchCall | None

    def __hash__(self) -> int:
        """Return a hash of its identity."""

    @property
    def is_done(self) -> bool:
        """Whether it was answered, has failed, or nobody waits for it any more."""

    @property
    def part(self) -> bytes:
        """Return the read as an operation in the body of a batch."""

    def load(self) -> tuple[Payer | None, int]:
        """Return what its call is charged to, and as how many calls Graph counts it."""

    def take(self, slot: Any, answer: Any) -> bool:
        """Take *slot* of a batch's *answer* if that is an ordinary one, and answer all who wait."""

    @staticmethod
    def take_alike(reads: Sequence[Any], slots: Sequence[Any], answer: Any) -> Collection[int]:
        """Let those of the *reads* that are of this class take *slots* that are alike; return the places of these."""

    def answer(self, reply: Reply, batch: str = "") -> None:
        """Hand over *reply*, which came in *batch*."""

    def fail(self, error: BaseException) -> None:
        """Report *error* instead of a reply."""


@dataclass(eq=False, slots=True)
class PendingRead:
    """A read that a task waits for."""

    slots: ClassVar[int] = 1
    is_group: ClassVar[bool] = False
    request: Request
    reply: asyncio.Future[Reply]
    cost: RequestCost | None
    since: float
    left: float = 0.0
    lane: Lane | None = None
    route: Route | None = None
    call: BatchCall | None = None

    @property
    def is_done(self) -> bool:
        """Whether it was answered, has failed, or nobody waits for it any more."""
        return self.reply.done()

    @property
    def part(self) -> bytes:
        """Return the read as an operation in the body of a batch."""
        return batch_part(self.request)

    def load(self) -> tuple[Payer | None, int]:
        """Return what its call is charged to, and as how many calls Graph counts it."""
        return self.cost, calls_of(self.request.query)

    def take(self, _slot: Any, _answer: Any) -> bool:
        """Return False: the reply is made by the layers."""
        return False

    @staticmethod
    def take_alike(_reads: Sequence[Any], _slots: Sequence[Any], _answer: Any) -> Collection[int]:
        """Return (): the replies are made by the layers."""
        return ()

    def answer(self, reply: Reply, batch: str = "") -> None:
        """Hand over *reply*, if anybody still waits; the times spent in queues add up."""
        if not self.reply.done():
            waited = self.left - self.since + (reply.window_s or 0.0)
            lane = self.lane.name if self.lane and batch else reply.lane
            self.reply.set_result(replace(reply, window_s=waited, batch=batch or reply.batch, lane=lane))

    def fail(self, error: BaseException) -> None:
        """Report *error* instead of a reply."""
        if not self.reply.done():
            self.reply.set_exception(error)


Queued: TypeAlias = QueuedRead | QueuedGroup
"""What waits in a queue."""


def fail_all(reads: Sequence[Queued], error: BaseException) -> None:
    """Report *error* to all who still wait for one of *reads*."""
    for read in reads:
        read.fail(error)


class Work(Protocol):
    """What sees to the replies of a batch: a task, or an exchange with Graph that needs none."""

    def cancel(self) -> object:
        """Stop: nobody waits for a reply any more."""


@dataclass(eq=False, slots=True)
class BatchCall:
    """Reads that left together, and the work that sees to their replies. It belongs to none of them."""

    reads: Sequence[Any]  # each of them is a Queued
    queue: BatchQueue
    place: Place | None = None
    work: Work | None = None
    is_late: bool = False  # then it no longer delays the next batch, nor widens its window

    def be_late(self) -> None:
        """Stop delaying the next batch; the reads in this one still wait for its end."""
        self.is_late = True
        self.queue.wake()

    def join(self, read: PendingRead) -> None:
        """Add *read*, which came after the others had left."""
        self.reads = [*self.reads, read]
        read.call = self
        read.reply.add_done_callback(lambda reply: self.leave() if reply.cancelled() else None)

    def leave(self) -> None:
        """End at once if nobody waits for a reply any more; Graph's answer, which counts all the same, is dropped."""
        if all(read.is_done for read in self.reads):
            self.cancel()

    def cancel(self) -> None:
        """End at once."""
        if self.work is not None:
            self.work.cancel()

    def follow(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Return a task that does *work*, with which the call ends."""
        self.work = task = asyncio.create_task(work)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # perhaps before it began
            fail_all(self.reads, Cut("the batch ended unanswered"))
        self.end()

    def end(self) -> None:
        """End: each read has a reply or an error."""
        self.work = None
        for read in self.reads:
            read.call = None
        if self.place is not None:
            self.release()
        self.queue.on_end(self)

    def end_soon(self) -> None:
        """End two turns of the event loop later: callers who ask anew as soon as they are answered leave together."""
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self.end)

    def release(self) -> None:
        """Give the place back: Graph has answered."""
        place, self.place = self.place, None
        if place is not None:
            place.release()


Start = Callable[[BatchCall], None]
"""Sees to the replies of the reads of a call, and ends the call; gives its place back as soon as Graph has answered."""


MOST_IDLE = 64
"""The most queues that are kept while nothing waits in them."""


class BatchQueues:
    """A queue for each group of reads that may share a batch: groups come and go with tokens, languages and objects."""

    def __init__(
        self, limits: window.Limits, start: Start, clock: Callable[[], float], places: Places | None = None
    ) -> None:
        """Let the reads of one group leave together, as *limits* say, when one of *places* is free; None: when due.

        *start* sees to the replies of all reads of a call.
        """
        self._limits = limits
        self._start = start
        self._clock = clock
        self._places = places
        self._queues: dict[Hashable, BatchQueue] = {}
        self._kept: dict[Hashable, BatchQueue] = {}  # those that were idle last, which may be busy again

    async def join(
        self,
        group: Hashable,
        request: Request,
        cost: RequestCost | None,
        lane: Lane | None = None,
        route: Route | None = None,
    ) -> Reply:
        """Return the reply to *request*, which waits in *group*. Raises Overloaded, and what *send* fails it with."""
        reply = asyncio.get_running_loop().create_future()
        read = PendingRead(request, reply, cost, self._clock(), lane=lane, route=route)
        queue = self.enqueue(group, read)
        try:
            return await read.reply
        finally:
            if read.reply.cancelled():
                queue.give_up(read)

    def enqueue(self, group: Hashable, read: QueuedRead) -> BatchQueue:
        """Let *read* wait in *group*; return its queue, to `give_up` the read. Raises Overloaded."""
        queue = self.queue(group)
        queue.add(read)
        return queue

    def queue(self, group: Hashable) -> BatchQueue:
        """Return the queue of *group*."""
        queue = self._queues.get(group)
        if queue is None:
            queue = self._queues[group] = BatchQueue(
                self._limits, self._start, self._clock, partial(self._on_idle, group), self._places
            )
        return queue

    @property
    def queued(self) -> int:
        """How many reads have not left yet."""
        return sum(queue.queued for queue in self._queues.values())

    async def close(self) -> None:
        """Empty the queues and cancel the calls; all who still wait are told."""
        calls = [call for queue in tuple(self._queues.values()) for call in queue.close()]
        await asyncio.gather(*calls, return_exceptions=True)

    def _on_idle(self, group: Hashable, queue: BatchQueue) -> None:
        """Keep *queue* for a while if it is idle; forget the one that has been kept longest, if there are many."""
        if group in self._kept or not queue.is_idle:
            return
        self._kept[group] = queue
        if len(self._kept) > MOST_IDLE:
            oldest = next(iter(self._kept))
            kept = self._kept.pop(oldest)
            if kept.is_idle:
                kept.is_open = False
                del self._queues[oldest]


class BatchQueue:
    """One queue; `window.due` says when its reads leave, *start* what becomes of them."""

    def __init__(
        self,
        limits: window.Limits,
        start: Start,
        clock: Callable[[], float],
        on_idle: Callable[[BatchQueue], None],
        places: Places | None = None,
    ) -> None:
        """Start empty; *on_idle* is called when nothing may be left to do."""
        self._limits = limits
        self._start = start
        self._clock = clock
        self._on_idle = on_idle
        self._places = places
        self._line: Container[Member] = () if places is None else places.line(Kind.BATCH)
        self._queue: FairQueue[Queued] = FairQueue(_split)
        self._calls: set[BatchCall] = set()
        self._alarm: asyncio.Handle | None = None
        self.is_open = True  # whether reads of its group still come here
        self._leaves_now = False  # whether the alarm is for the end of this turn of the event loop
        self.answer_size = AnswerSize()

    @property
    def queued(self) -> int:
        """How many reads have not left yet."""
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether no read waits and no call is under way."""
        return not self._queue.slots and not self._calls

    def add(self, read: Queued) -> None:
        """Queue *read*. Raises Overloaded."""
        credential, limits, queued, slots = read.request.credential, self._limits, self._queue.slots, read.slots
        owner, waited = "" if credential is None else credential.token, 0.0  # as `owner_of` says
        if self in self._line:
            waited = self._queue.waited(owner, self._may, read.since) - self._window
        is_long = waited or queued + slots > limits.queue
        if is_long and (refusal := window.queue_refusal(queued + slots - 1, waited, limits)):
            raise Overloaded(refusal)
        self._queue.add(read, owner, read.since, slots)
        if self._alarm is None or (not self._leaves_now and queued + slots >= limits.slots):
            self._set_alarm()

    def give_up(self, read: Queued) -> None:
        """Remove a read that nobody waits for: from the queue, or from a call, which ends if all reads have gone."""
        if read.call is not None:
            read.call.leave()
        elif self._queue.discard(read):
            self._rest_if_empty()
        self._on_idle(self)

    def shrink(self, group: QueuedGroup) -> None:
        """Count *group* as its slots, which have become fewer."""
        self._queue.shrink(group, group.slots)

    def close(self) -> Sequence[asyncio.Task[None]]:
        """Empty the queue and cancel the calls, which are returned."""
        fail_all(self._queue.clear(), Draining("the sidecar is stopping"))
        self._rest_if_empty()
        calls = tuple(self._calls)
        for call in calls:
            call.cancel()
        return [call.work for call in calls if isinstance(call.work, asyncio.Task)]

    def start_next(self) -> bool:
        """Send the reads that may leave, on a connection that is free; return whether there were any."""
        now, places = self._clock(), self._places
        may = None if places is None or places.shares.is_calm else self._may
        reads = self._queue.take(min(self._limits.slots, self.answer_size.slots), may, now)
        if not reads:
            return False
        place = None if places is None else places.take(Kind.BATCH, _owners(reads))
        call = BatchCall(reads, self, place)
        self._calls.add(call)
        waited_for = None if places is None else call  # without places others may still join: see the merger
        for read in reads:
            read.left, read.call = now, waited_for
        self._start(call)
        return True

    def wake(self) -> None:
        """Leave when the reads that wait are due: one call less delays them."""
        self._set_alarm()

    def wants_more(self) -> bool:
        """Return False: the next connection is waited for when `window.due` says so."""
        if self._queue.slots or self._alarm is not None:
            self._set_alarm()
        return False

    def fail_late(self, now: float) -> None:
        """Fail the reads that have waited for a connection as long as they may."""
        limits = self._limits
        fail_all(
            self._queue.late(now - limits.queue_s - self._window), Overloaded(window.queue_timeout_message(limits))
        )
        self._rest_if_empty()
        self._on_idle(self)

    @property
    def _window(self) -> float:
        return window.window_s(self._in_flight, self._limits)

    @property
    def _in_flight(self) -> int:
        """How many calls later reads wait for: those that are not late."""
        return sum([not call.is_late for call in self._calls])

    def _may(self, owner: Hashable) -> bool:
        return self._places is None or self._places.shares.may_take(owner)

    def _set_alarm(self) -> None:
        """Leave when `window.due` says: if that is now, at the end of the loop's turn, with all reads of that turn."""
        if not self._queue.slots and self._alarm is None:
            return
        if self in self._line and not self._may(Kind.BATCH):
            return  # the next connection that is given back is offered
        if self._alarm is not None:
            if self._leaves_now:
                return  # an alarm that is set anew waits a turn more, and so for ever while calls end in each turn
            self._alarm.cancel()
            self._alarm = None
        loop, is_calm = asyncio.get_running_loop(), self._places is None or self._places.shares.is_calm
        if is_calm and not self._calls and self._queue.slots:  # as `window.due` says
            self._leaves_now, self._alarm = True, loop.call_soon(self._depart)
            return
        now, limits = self._clock(), self._limits
        queued, oldest = self._queue.ready(limits.slots, None if is_calm else self._may)
        if not queued and self._queue.slots:  # those who wait hold their shares already
            due = None if self in self._line else now  # to wait in line
        else:
            due = window.due(queued, oldest, self._in_flight if self._calls else 0, limits, now)
        if due is not None:
            self._leaves_now = due <= now
            self._alarm = loop.call_soon(self._depart) if due <= now else loop.call_later(due - now, self._depart)

    def _depart(self) -> None:
        self._alarm = None
        if self._places is None:
            self.start_next()
            self._set_alarm()
        elif self._queue.slots:
            self._places.want(Kind.BATCH, self)

    def on_end(self, call: BatchCall) -> None:
        """Note that *call* has ended."""
        self._calls.discard(call)
        if self._queue.slots or self._alarm is not None:
            self._set_alarm()
        elif not self._calls:
            self._on_idle(self)

    def _rest_if_empty(self) -> None:
        if not self._queue.slots and self._places is not None:
            self._places.forget(Kind.BATCH, self)


def _owners(reads: Sequence[Queued]) -> set[Hashable]:
    """Return the owners of the shares that a call of *reads* uses, as `owner_of` says for each."""
    return {credential.token if (credential := read.request.credential) is not None else "" for read in reads}


def _split(read: Queued, slots: int) -> Queued:
    """Return the first *slots* of a group of reads as a group."""
    if not isinstance(read, QueuedGroup):
        raise TypeError(f"{type(read).__name__} is one read")
    return read.split(slots)
