"""Sends reads in batches, and hands each its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from msgspec.structs import replace

from proxy.core.batch import request as batch_request
from proxy.core.batch import response as batch_response
from proxy.core.batch import window
from proxy.core.batch.fair_share import Kind
from proxy.core.batch.lanes import QUICK, Lane, Lanes, Route, route_of
from proxy.core.fast_path.answer_template import AnswerTemplates
from proxy.core.fast_path.batch_answer import BatchAnswer
from proxy.core.http.errors import Cut, SidecarError
from proxy.core.model import Channel, Credential, Headers, Reply, Request
from proxy.core.quota.descriptors import one_node
from proxy.core.quota.ledger import GroupPayer, Payer, RequestCost, was_counted
from proxy.core.routing.nodes import calls_of
from proxy.shell.http.turns import in_turns
from proxy.shell.observe.faults import log_fault
from proxy.shell.pipeline.batch_contents import BatchContents
from proxy.shell.pipeline.batch_queue import BatchCall, BatchQueue, BatchQueues, Queued, QueuedRead, fail_all
from proxy.shell.pipeline.lane_timer import LaneTimer, TimedCall
from proxy.shell.upstream.client import StartedBatch
from proxy.shell.upstream.fair_share import Place, Places
from proxy.shell.upstream.http1 import OnSent
from proxy.shell.upstream.plain_exchange import Taker

_Answer = Reply | batch_response.BatchFailure


class Upstream(Protocol):
    """What the batcher needs of the way to Graph."""

    async def batch(
        self, requests: Sequence[Request], top: Credential, left: OnSent, parts: Sequence[bytes] = ()
    ) -> _Answer:
        """Graph's answer to a batch of *requests*, whose operations are *parts*. Raises Unreachable."""

    async def single(self, request: Request, left: OnSent) -> Reply:
        """Graph's answer to one read. Raises a SidecarError."""


class CallObserver(Protocol):
    """A call while it is on its way."""

    @property
    def id(self) -> str:
        """The name that log and traces give it."""

    def begin(self) -> None:
        """It is made ready."""

    def end(self, kind: type[BaseException] | None = None) -> None:
        """It was answered, or will not be, for an error of this *kind*."""

    def __enter__(self) -> Self:
        """It is made ready."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """It was answered, or will not be."""

    def left(self) -> None:
        """It has left."""

    def answered(self, counted: Sequence[bool]) -> None:
        """Graph has answered; of which of its loads it has *counted* the calls for certain."""


class BatcherObserver(Protocol):
    """Who is told what the batcher did."""

    def batch(
        self, loads: Sequence[tuple[Payer | None, int]], lane: str, groups: Sequence[GroupPayer] = ()
    ) -> CallObserver:
        """A batch of this *lane* is made ready, a load for each of its slots, but for those of *groups*, the last."""

    def single(self, cost: Payer | None, calls: int) -> CallObserver:
        """A read is made ready to leave in a call of its own."""

    def asked_again(self, slots: int, cause: str) -> None:
        """*slots* reads of a batch have to be asked again."""


OnBatchReply = Callable[[Credential, Reply, str], None]
"""Takes the reply to a batch with this token on top, and the path of what all its slots are about."""


StartBatch = Callable[[Request, Credential, Sequence[bytes], Taker], StartedBatch | None]
"""Sends a batch if a connection is kept: `UpstreamClient.start_batch`."""


class QueueOfRead(NamedTuple):
    """The queue in which a read waited, its lane and route, and the version of the lanes for which that holds."""

    queue: BatchQueue
    lane: Lane | None
    route: Route
    version: int


class Batcher:
    """A layer, the last before Graph."""

    def __init__(
        self,
        upstream: Upstream,
        limits: window.Limits,
        observer: BatcherObserver,
        clock: Callable[[], float],
        places: Places,
        *,
        on_reply: OnBatchReply = lambda _top, _reply, _path: None,
        start: StartBatch = lambda _first, _top, _parts, _taker: None,
    ) -> None:
        """Ask *upstream* within *limits*, each call in one of *places*; *clock* gives monotonic seconds.

        *on_reply* takes the replies to batches: usage in a batch's own reply belongs to the token of the whole batch.
        *start* sends a batch at once, where it can; else a task sends the batch.
        """
        self._upstream = upstream
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._places = places
        self._on_reply = on_reply
        self._tops = batch_request.LeadTokens()
        self._lanes = LaneTimer(Lanes(), clock)
        self._start_batch = start
        self._queues = BatchQueues(limits, self._start, clock, places)
        self._templates = AnswerTemplates()

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        """Answer *request*. Raises a SidecarError."""
        if request.channel is Channel.DIRECT:
            return await self._alone(request, cost, ignores_queue_limit=False)
        route, lane = self._route(request)
        return await self._queues.join(window.group_of(request, self._limits, lane), request, cost, lane, route)

    def enqueue(self, read: QueuedRead, known: QueueOfRead | None = None) -> QueueOfRead:
        """Let *read* wait for a batch; no task waits for its reply. Raises Overloaded.

        *known* is the queue of the same read the last time; return the queue of this time.
        """
        if known is None or known.version != self._lanes.lanes.version or not known.queue.is_open:
            known = self.queue_of(read.request)
        read.lane, read.route = known.lane, known.route
        known.queue.add(read)
        return known

    def queue_of(self, request: Request, known: QueueOfRead | None = None) -> QueueOfRead:
        """Return the queue in which *request* waits; *known* is that of the same read the last time."""
        if known is not None and known.version == self._lanes.lanes.version and known.queue.is_open:
            return known
        limits = self._limits
        route, lane = self._route(request)
        queue = self._queues.queue(window.group_of(request, limits, lane))
        return QueueOfRead(queue, lane, route, self._lanes.lanes.version if lane is None or lane == QUICK else -1)

    async def close(self) -> None:
        """Cancel what is queued or under way: after a drain no caller waits; any that still does gets an error."""
        await self._queues.close()
        self._lanes.close()

    @property
    def queued(self) -> int:
        """Reads that wait for their batch."""
        return self._queues.queued

    def _route(self, request: Request) -> tuple[Route, Lane | None]:
        """Return the route of *request*, and its lane now, if there are lanes."""
        route = route_of(request)
        return route, self._lanes.lanes.lane_of(route, self._clock()) if self._limits.lanes else None

    def _start(self, call: BatchCall) -> None:
        """Send the batch of *call*, without a task if a connection is kept."""
        started = None
        try:
            contents, work = BatchContents(call.reads), StartedCall(self, call)
            top = self._tops.choose(contents.requests, self._clock())
            if top is not None:
                started = self._start_batch(contents.requests[0], top, contents.parts, work)
            if top is None or started is None:
                call.follow(self._send(contents, call.place))
            else:
                work.begin(self.prepare(contents, top, 0), started)
        except Exception as fault:  # noqa: BLE001 - each read's caller is told, and asks anew
            if started is not None:
                started.close()
            log_fault(fault)
            fail_all(call.reads, fault)
            call.end()

    async def _send(self, contents: BatchContents, place: Place | None, attempt: int = 0) -> None:
        """Ask Graph for the reads in *contents* until each has a reply or an error: nobody waits in vain."""
        await _until_done(contents.queued, lambda: self._ask(contents, place, attempt))

    async def _ask(self, contents: BatchContents, place: Place | None, attempt: int) -> None:
        requests = contents.requests
        top = self._tops.choose(requests, self._clock())
        if top is None:
            if place is not None:
                place.release()
            await self._all_alone([contents.read(at) for at in range(contents.size)])
            return
        batch = self.prepare(contents, top, attempt)
        batch.sending.begin()
        await self.finish(batch, lambda: self._call(requests, contents.parts, top, place, batch.left))

    def prepare(self, contents: BatchContents, top: Credential, attempt: int) -> Batch:
        """Return a batch of *contents* that is about to be sent with the token of *top*."""
        lane, queued = contents.queued[0].lane, contents.queued
        name = lane.name if lane else ""
        sending = self._observer.batch(contents.loads(), name, contents.groups)
        timed = TimedCall(self._lanes, contents.routes, contents.size, lane, partial(_be_late, queued))
        return Batch(contents, top, attempt, sending, timed, lane=name)

    async def finish(self, batch: Batch, answering: Callable[[], Awaitable[_Answer]]) -> None:
        """Wait for the answer to *batch*, hand it out, and ask again for reads to which there is none."""
        await self.ask_again(batch, self.hand_out(batch, await self._answered(batch, answering)))

    @staticmethod
    async def _answered(batch: Batch, answering: Callable[[], Awaitable[_Answer]]) -> _Answer:
        try:
            return await answering()
        except BaseException as error:
            batch.end(error)
            raise

    def hand_out(self, batch: Batch, answer: _Answer) -> Handed:
        """Give the reads of *batch* their slots of *answer* if these are ordinary; say what becomes of the others."""
        contents, answered = batch.contents, None
        try:
            if isinstance(answer, Reply) and answer.status == 200:
                answered = BatchAnswer(answer, batch.top, batch.sending.id, batch.lane, self._templates)
            if isinstance(answer, Reply) and (answered is None or answered.may_have_usage):
                self._on_reply(batch.top, answer, one_node(contents.requests))
            taken = batch_response.NONE_ANSWERED if answered is None else _take_slots(contents, answered)
            outcomes = batch_response.resolve(contents.requests, batch.top, answer, batch.attempt, taken)
            batch.sending.answered(outcomes.counted)
            call = contents.queued[0].call
            if call is not None and (answered is None or call.queue.answer_size.slots <= contents.size):
                call.queue.answer_size.on_answer(contents.size, answer, self._limits.answer_bytes)
        finally:
            batch.timed.end(answer)
            batch.end(None)
        return Handed(outcomes, taken)

    async def ask_again(self, batch: Batch, handed: Handed) -> None:
        """Give the reads of *batch* the replies that are left, and ask again for those to which there is none."""
        (outcomes, taken), contents = handed, batch.contents
        if len(taken) == contents.size:
            return
        if outcomes.refused_lead:
            self._tops.refuse(batch.top, outcomes.refused_lead, self._clock())
        async for at, reply in in_turns(outcomes.replies.items(), _size):
            contents.read(at).answer(reply, batch.sending.id)
        if outcomes.cause:
            self._observer.asked_again(contents.size - len(outcomes.replies) - len(taken), outcomes.cause)
        if outcomes.batches or outcomes.singles:
            again = [[read for read in map(contents.read, part) if not read.is_done] for part in outcomes.batches]
            parts_again = [self._send(BatchContents(part), None, batch.attempt + 1) for part in again if part]
            await asyncio.gather(*parts_again, self._all_alone([*map(contents.read, outcomes.singles)]))

    async def _call(
        self, requests: Sequence[Request], parts: Sequence[bytes], top: Credential, place: Place | None, left: OnSent
    ) -> _Answer:
        """Graph's answer, asked on *place* or on the next that is free. What is asked again waits for the next."""
        if place is None:
            async with self._places.one(Kind.BATCH, top):
                return await self._upstream.batch(requests, top, left, parts)
        try:
            return await self._upstream.batch(requests, top, left, parts)
        finally:
            place.release()

    async def _all_alone(self, reads: Sequence[QueuedRead]) -> None:
        await asyncio.gather(*(self._rescue(read) for read in reads))

    async def _rescue(self, read: QueuedRead) -> None:
        """Ask alone for a read that no batch answered; without its validator, for its ETag is of the batch channel."""
        if read.is_done:
            return
        try:
            cost, _ = read.load()
            read.answer(await self._alone(replace(read.request, channel=Channel.DIRECT, validator=""), cost))
        except SidecarError as error:
            read.fail(error)

    async def _alone(self, request: Request, cost: Payer | None, *, ignores_queue_limit: bool = True) -> Reply:
        with self._observer.single(cost, calls_of(request.query)) as sending:
            async with self._places.one(Kind.SINGLE, request.credential, ignores_queue_limit=ignores_queue_limit):
                route, lane = self._route(request)
                timed = TimedCall(self._lanes, lambda: (route,), 1, lane)
                try:
                    reply = await self._upstream.single(request, partial(_leave, sending, timed))
                except BaseException as error:
                    timed.end(error)
                    raise
                timed.end(reply)
            sending.answered([was_counted(reply)])
        return reply


def _take_slots(contents: BatchContents, answer: BatchAnswer) -> Collection[int]:
    """Let each read take its slot, where that is an ordinary one; return the places of those that did."""
    try:
        return contents.take(answer)
    finally:
        answer.end()


class Handed(NamedTuple):
    """What becomes of the reads in a batch, and the places of those that have taken their slots."""

    outcomes: batch_response.Outcomes
    taken: Collection[int]


class Batch:
    """One batch on its way, and who counts and measures the call."""

    __slots__ = ("attempt", "contents", "is_over", "lane", "sending", "timed", "top")

    def __init__(
        self,
        contents: BatchContents,
        top: Credential,
        attempt: int,
        sending: CallObserver,
        timed: TimedCall,
        *,
        lane: str,
    ) -> None:
        """Send *contents* with the token of *top*; *attempt* counts the batches that they were in before."""
        self.lane = lane
        self.contents = contents
        self.top = top
        self.attempt = attempt
        self.sending = sending
        self.timed = timed
        self.is_over = False

    def left(self) -> None:
        """Note that the head was written."""
        self.sending.left()
        self.timed.left()

    def end(self, error: BaseException | None) -> None:
        """End with an answer that was handed out, or for an *error*; a second call does nothing."""
        if self.is_over:
            return
        self.is_over = True
        if error is None:
            self.sending.end()
        else:
            self.timed.end(error)
            self.sending.end(type(error))


class StartedCall:
    """A batch that left without a task. A task is made if the answer is not plain, or if reads are asked again."""

    __slots__ = ("_batch", "_batcher", "_call", "_started")

    def __init__(self, batcher: Batcher, call: BatchCall) -> None:
        """Be the work of *call*."""
        self._batcher = batcher
        self._call = call

    def begin(self, batch: Batch, started: StartedBatch) -> None:
        """Take that *batch* was sent."""
        self._batch = batch
        self._started = started
        self._call.work = self
        batch.sending.begin()
        batch.left()

    def take(self, fields: Headers, body: bytes) -> None:
        """Hand out Graph's answer with these *fields* and this *body*, which has come whole."""
        self._call.release()
        try:
            handed = self._batcher.hand_out(self._batch, self._started.reply(fields, body))
        except Exception as fault:  # noqa: BLE001 - each read's caller is told, and asks anew
            log_fault(fault)
            self._fail(fault)
            return
        if len(handed.taken) == self._batch.contents.size:
            self._call.end_soon()
        else:
            self._follow(lambda: self._batcher.ask_again(self._batch, handed))

    def read_on(self) -> None:
        """Let a task await the answer."""
        self._follow(self._await_answer)

    async def _await_answer(self) -> None:
        await self._batcher.finish(self._batch, self._answer)

    async def _answer(self) -> _Answer:
        try:
            return await self._started.answer()
        finally:
            self._call.release()

    def _follow(self, work: Callable[[], Awaitable[None]]) -> None:
        self._call.follow(_until_done(self._batch.contents.queued, work)).add_done_callback(lambda _done: self._close())

    def cancel(self) -> None:
        """End at once: nobody waits for a reply any more, or the sidecar ends."""
        self._close()
        self._fail(Cut("the batch ended unanswered"))

    def _close(self) -> None:
        """Close the connection if nobody has taken it over, as a task that was cancelled before it began."""
        self._started.close()
        self._batch.end(asyncio.CancelledError())

    def _fail(self, error: Exception) -> None:
        fail_all(self._batch.contents.queued, error)
        self._call.end()


async def _until_done(queued: Sequence[Queued], work: Callable[[], Awaitable[None]]) -> None:
    """Do *work*, after which each of *queued* has a reply or an error: nobody waits in vain."""
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - each read's caller is told, and asks anew after a fault of ours
        fail_all(queued, error)
    except BaseException:
        fail_all(queued, Cut("the batch ended unanswered"))
        raise


def _leave(sending: CallObserver, timed: TimedCall) -> None:
    """Note that the head of a call was written."""
    sending.left()
    timed.left()


def _be_late(queued: Sequence[Queued]) -> None:
    """Let later reads not wait for the call that *queued* are in."""
    for call in {each.call for each in queued}:
        if call is not None:
            call.be_late()


def _size(answered: tuple[int, Reply]) -> int:
    """The bytes of a reply, all of which its caller's own task goes through."""
    return len(answered[1].body)
