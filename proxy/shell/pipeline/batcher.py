"""Sends reads in batches, and hands each its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from msgspec.structs import replace

from proxy.core.batch import request as batch_request
from proxy.core.batch import response as batch_response
from proxy.core.batch import window
from proxy.core.batch.fair_share import Kind
from proxy.core.batch.lanes import QUICK, Lane, Lanes
from proxy.core.fast_path.answer_template import AnswerTemplates
from proxy.core.fast_path.batch_answer import BatchAnswer, batch_answer
from proxy.core.http.errors import Cut, SidecarError
from proxy.core.model import Channel, Credential, Reply, Request
from proxy.core.quota.descriptors import one_node
from proxy.core.quota.ledger import GroupPayer, Payer, RequestCost, was_counted
from proxy.core.routing.nodes import calls_of
from proxy.shell.http.turns import in_turns
from proxy.shell.pipeline.batch_contents import BatchContents
from proxy.shell.pipeline.batch_queue import BatchQueue, BatchQueues, Queued, QueuedRead, fail_all
from proxy.shell.pipeline.lane_timer import LaneTimer
from proxy.shell.upstream.fair_share import Place, Places
from proxy.shell.upstream.http1 import OnSent


class Upstream(Protocol):
    """What the batcher needs of the way to Graph."""

    async def batch(
        self, requests: Sequence[Request], top: Credential, left: OnSent, parts: Sequence[bytes] = ()
    ) -> Reply | batch_response.BatchFailure:
        """Graph's answer to a batch of *requests*, whose operations are *parts*. Raises Unreachable."""

    async def single(self, request: Request, left: OnSent) -> Reply:
        """Graph's answer to one read. Raises a SidecarError."""


class CallObserver(Protocol):
    """A call while it is on its way."""

    @property
    def id(self) -> str:
        """The name that log and traces give it."""

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


class QueueOfRead(NamedTuple):
    """The queue in which a read waited, its lane, and the version of the lanes for which that holds."""

    queue: BatchQueue
    lane: Lane | None
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
    ) -> None:
        """Ask *upstream* within *limits*, each call in one of *places*; *clock* gives monotonic seconds.

        *on_reply* takes the replies to batches: usage in a batch's own reply belongs to the token of the whole batch.
        """
        self._upstream = upstream
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._places = places
        self._on_reply = on_reply
        self._tops = batch_request.LeadTokens()
        self._lanes = LaneTimer(Lanes(), clock)
        self._queues = BatchQueues(lambda: limits, self._send, clock, places)
        self._templates = AnswerTemplates()

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        """Answer *request*. Raises a SidecarError."""
        if request.channel is Channel.DIRECT:
            return await self._alone(request, cost, ignores_queue_limit=False)
        lane = self._lanes.lane_of(request) if self._limits.lanes else None
        return await self._queues.join(window.group_of(request, self._limits, lane), request, cost, lane)

    def enqueue(self, read: QueuedRead, known: QueueOfRead | None = None) -> QueueOfRead:
        """Let *read* wait for a batch; no task waits for its reply. Raises Overloaded.

        *known* is the queue of the same read the last time; return the queue of this time.
        """
        found = self.queue_of(read.request, known)
        read.lane = found.lane
        found.queue.add(read)
        return found

    def queue_of(self, request: Request, known: QueueOfRead | None = None) -> QueueOfRead:
        """Return the queue in which *request* waits; *known* is that of the same read the last time."""
        if known is not None and known.version == self._lanes.lanes.version and known.queue.is_open:
            return known
        limits = self._limits
        lane = self._lanes.lane_of(request) if limits.lanes else None
        queue = self._queues.queue(window.group_of(request, limits, lane))
        return QueueOfRead(queue, lane, self._lanes.lanes.version if lane is None or lane == QUICK else -1)

    async def close(self) -> None:
        """Cancel what is queued or under way: after a drain no caller waits; any that still does gets an error."""
        await self._queues.close()

    @property
    def queued(self) -> int:
        """Reads that wait for their batch."""
        return self._queues.queued

    async def _send(self, queued: Sequence[Queued], place: Place | None, attempt: int = 0) -> None:
        """Ask Graph for the reads in *queued* until each has a reply or an error: nobody waits in vain."""
        try:
            await self._ask(queued, place, attempt)
        except Exception as error:  # noqa: BLE001 - each read's caller is told, and asks anew after a fault of ours
            fail_all(queued, error)
        except BaseException:
            fail_all(queued, Cut("the batch ended unanswered"))
            raise

    async def _ask(self, queued: Sequence[Queued], place: Place | None, attempt: int) -> None:
        contents, lane = BatchContents(queued), queued[0].lane
        requests = contents.requests
        top = self._tops.choose(requests, self._clock())
        if top is None:
            if place is not None:
                place.release()
            await self._all_alone([contents.read(at) for at in range(len(contents))])
            return
        name = lane.name if lane else ""
        with self._observer.batch(contents.loads(), name, contents.groups) as sending:
            with self._lanes.call(requests, lane, sending.left, lambda: _be_late(queued)) as timed:
                answer = await self._call(requests, contents.parts, top, place, timed.left)
                timed.answered(answer)
            if isinstance(answer, Reply):
                self._on_reply(top, answer, one_node(requests))
            taken = self._hand_out(contents, batch_answer(answer, top, sending.id, name, self._templates))
            outcomes = batch_response.resolve(requests, top, answer, attempt, taken)
            sending.answered(outcomes.counted)
        if len(taken) == len(contents):
            return
        if outcomes.refused_lead:
            self._tops.refuse(top, outcomes.refused_lead, self._clock())
        async for at, reply in in_turns(outcomes.replies.items(), _size):
            contents.read(at).answer(reply, sending.id)
        if outcomes.cause:
            self._observer.asked_again(len(requests) - len(outcomes.replies) - len(taken), outcomes.cause)
        if outcomes.batches or outcomes.singles:
            again = [[read for read in map(contents.read, part) if not read.is_done] for part in outcomes.batches]
            parts_again = [self._send(part, None, attempt + 1) for part in again if part]
            await asyncio.gather(*parts_again, self._all_alone([*map(contents.read, outcomes.singles)]))

    @staticmethod
    def _hand_out(contents: BatchContents, answer: BatchAnswer | None) -> Collection[int]:
        """Let each read take its slot, where that is an ordinary one; return the places of those that did."""
        if answer is None:
            return batch_response.NONE_ANSWERED
        try:
            return contents.take(answer)
        finally:
            answer.end()

    async def _call(
        self, requests: Sequence[Request], parts: Sequence[bytes], top: Credential, place: Place | None, left: OnSent
    ) -> Reply | batch_response.BatchFailure:
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
                lane = self._lanes.lane_of(request) if self._limits.lanes else None
                with self._lanes.call((request,), lane, sending.left) as timed:
                    reply = await self._upstream.single(request, timed.left)
                    timed.answered(reply)
            sending.answered([was_counted(reply)])
        return reply


def _be_late(queued: Sequence[Queued]) -> None:
    """Let later reads not wait for the call that *queued* are in."""
    for call in {each.call for each in queued}:
        if call is not None:
            call.be_late()


def _size(answered: tuple[int, Reply]) -> int:
    """The bytes of a reply, all of which its caller's own task goes through."""
    return len(answered[1].body)
