"""Reads of one thing that differ in their fields share one answer: what one caller's read told, another is not asked.

A read is answered from what is held for more fields; else it joins a read that asks for more; else it waits for
company, as a batch does, and leaves with it as one read of all their fields, which is held and revalidated like any
other. Each caller gets its own part. Where Graph refuses such a read, or says what is not understood, each is asked
alone: one caller's bad field is its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from proxy.core.batch import window
from proxy.core.cache.key import Keys
from proxy.core.http.errors import Cut, Late, SidecarError
from proxy.core.merge import projection, selection
from proxy.core.merge.history import MergeHistory
from proxy.core.model import Mode, Reply, Request
from proxy.core.routing.rules import Rule
from proxy.shell.pipeline import cost_context
from proxy.shell.pipeline.batch_queue import BatchQueues, PendingRead, fail_all
from proxy.shell.upstream.fair_share import Place


class HeldReplies(Protocol):
    """What the merger needs of the next layer."""

    async def __call__(self, request: Request) -> Reply:
        """Answer *request*. Raises a SidecarError."""

    async def answer_held(self, request: Request) -> Reply | None:
        """The reply to *request* for which nobody has to wait for Graph; None where there is none."""

    async def cover(self, request: Request) -> Reply | None:
        """What is held of *request*, where a rule lets it stand in for an answer that Graph could not give."""

    async def learn(self, request: Request, answer: Reply, asked: float) -> None:
        """Hold what Graph said of *request* in *answer* to another read, asked for at *asked*."""


_MergeLane = tuple[Hashable, bool]
"""A family, and whether its reads have time: nobody waits behind a read of lower priority (RFC 9218)."""


@dataclass(eq=False, slots=True)
class _MergedRead:
    """One read for all those *aboard*, on the first one's bill; who asks for no more than it does may still get on."""

    lane: _MergeLane
    request: Request
    names: selection.FieldSet
    answer: asyncio.Task[Reply]
    waiting: list[PendingRead] = field(default_factory=list)

    def add(self, one: PendingRead) -> None:
        """Take *one* aboard. The read belongs to none of them: it ends early if all have left."""
        self.waiting.append(one)
        one.reply.add_done_callback(self._on_done)

    @property
    def is_abandoned(self) -> bool:
        return all(one.reply.cancelled() for one in self.waiting)

    def _on_done(self, _reply: asyncio.Future[Reply]) -> None:
        if self.is_abandoned:
            self.answer.cancel()


class Merger:
    """A layer: makes one read of many, where a rule lets it."""

    def __init__(
        self,
        cache: HeldReplies,
        *,
        keys: Keys,
        rule: Callable[[Request], Rule],
        tags_of: Callable[[Request], tuple[str, ...]],
        limits: window.Limits,
        clock: Callable[[], float],
        history: MergeHistory | None = None,
    ) -> None:
        """Ask through *cache*; wait for company as *limits* say; *tags_of* names what it reads."""
        self._cache = cache
        self._keys = keys
        self._rule = rule
        self._tags_of = tags_of
        self._clock = clock
        self._history = history or MergeHistory()
        self._queues = BatchQueues(lambda: window.merge_limits(limits), self._send, clock)
        self._in_flight: dict[_MergeLane, list[_MergedRead]] = {}

    async def __call__(self, request: Request) -> Reply:
        """Answer *request*. Raises what the cache raises, and Overloaded."""
        if not self._merges(request):
            return await self._cache(request)
        if reply := await self.answer_held(request):
            return reply
        return await (self._join(request) if selection.may_share(request) else self._cache(request))

    async def answer_held(self, request: Request) -> Reply | None:
        """The reply to *request* for which nobody waits for Graph: its own, else a part of what is held for more."""
        return await self._cache.answer_held(request) or await self._answer_from_more(request)

    async def learn(self, request: Request, answer: Reply, asked: float) -> None:
        """Graph said *answer* of *request* in its answer to another read: from now on a part of it answers less."""
        await self._cache.learn(request, answer, asked)
        if own := _field_set(request):
            fresh_s = self._rule(request).shared_s
            self._history.on_reply(self._family(request), own, answer, {own}, self._clock(), fresh_s=fresh_s)

    def close_flights(self, tags: Iterable[str]) -> None:
        """Let nobody get on the reads that read *tags* (none named: any read), as the coalescer does."""
        named = set(tags)
        for lane, reads in list(self._in_flight.items()):
            if not named or not named.isdisjoint(self._tags_of(reads[0].request)):
                del self._in_flight[lane]

    async def close(self) -> None:
        """End what waits or is in the air."""
        await self._queues.close()

    def _merges(self, request: Request) -> bool:
        return self._rule(request).merge and selection.selection(request) is not None

    def _family(self, request: Request) -> Hashable:
        return selection.family(request, self._rule(request), self._keys)

    # --- what is held, and what is in the air ---

    async def _answer_from_more(self, request: Request) -> Reply | None:
        own = _field_set(request)
        for names in self._history.supersets(self._family(request), own, self._clock()) if own else ():
            more = selection.with_fields(request, names)
            whole = await self._cache.answer_held(more) if self._rule(more) == self._rule(request) else None
            if whole and (reply := projection.project_reply(whole, names, own)):
                return replace(reply, detail="superset") if reply.mode is Mode.REUSED else reply
        return None

    async def _join(self, request: Request) -> Reply:
        own, family = _field_set(request), self._family(request)
        lanes = [(family, False), (family, True)] if request.is_low_priority else [(family, False)]
        reads = (read for lane in lanes for read in self._in_flight.get(lane, ()) if own <= read.names)
        read = next(reads, None)
        if read is None:
            return await self._queues.join(lanes[-1], request)
        now = self._clock()
        one = PendingRead(request, asyncio.get_running_loop().create_future(), since=now, left=now)
        read.add(one)
        if (call := read.waiting[0].flight) is not None:
            call.join(one)
        return await one.reply

    # --- one read for many ---

    async def _send(self, waiting: Sequence[PendingRead], _place: Place | None) -> None:
        """Ask for *waiting* until each has a reply or an error: nobody is left hanging."""
        reads: list[_MergedRead] = []
        try:
            reads += self._start(waiting)
            await asyncio.gather(*(self._finish(read) for read in reads))
        except BaseException as fault:
            everybody = [*waiting, *(one for read in reads for one in read.waiting)]
            is_ours = isinstance(fault, Exception)
            fail_all(everybody, fault if is_ours else Cut("the read ended unanswered"))
            if not is_ours:
                raise

    def _start(self, waiting: Sequence[PendingRead]) -> list[_MergedRead]:
        """As few reads as may be for *waiting*, on their way."""
        first, now = waiting[0].request, self._clock()
        family, rule = self._family(first), self._rule(first)
        lane = family, first.is_low_priority

        def may(names: selection.FieldSet) -> bool:
            return (
                self._history.may_merge(family, names, now) and self._rule(selection.with_fields(first, names)) == rule
            )

        wanted = self._history.wanted(family, now, rule.shared_s)
        reads = []
        for group in selection.merge_selections([_field_set(one.request) for one in waiting], wanted, may):
            request = selection.with_fields(waiting[group.places[0]].request, group.names)
            with cost_context.charged_to(waiting[group.places[0]].bill):
                read = _MergedRead(lane, request, group.names, asyncio.ensure_future(self._cache(request)))
            for place in group.places:
                read.add(waiting[place])
            reads.append(read)
        self._in_flight.setdefault(lane, []).extend(reads)
        return reads

    async def _finish(self, read: _MergedRead) -> None:
        try:
            answer: Reply | SidecarError = await read.answer
        except SidecarError as error:
            answer = error
        except asyncio.CancelledError:
            if read.is_abandoned:
                return
            raise
        finally:
            self._close_one(read)
        left = self._distribute(read, answer)
        if isinstance(answer, Late):
            await asyncio.gather(*(self._cover(one, answer) for one in left))
        elif left:
            self._history.on_failure(read.lane[0], read.names, await self._ask_each(left), self._clock())
        elif isinstance(answer, Reply):
            selections, fresh_s = {_field_set(one.request) for one in read.waiting}, self._rule(read.request).shared_s
            self._history.on_reply(read.lane[0], read.names, answer, selections, self._clock(), fresh_s=fresh_s)

    def _distribute(self, read: _MergedRead, answer: Reply | SidecarError) -> list[PendingRead]:
        """Give each its part of *answer*; those are returned for whom there is none."""
        left = []
        for place, one in enumerate(read.waiting):
            part = _own_part(answer, read.names, _field_set(one.request))
            if part is None:
                left.append(one)
            elif isinstance(part, SidecarError):
                one.fail(part)
            else:
                one.answer(projection.as_merged(part) if place else part)
        return left

    async def _ask_each(self, left: Sequence[PendingRead]) -> dict[selection.FieldSet, Reply | None]:
        """Ask each for itself; Graph's answer to each selection, None where there is none."""
        replies = await asyncio.gather(*(self._ask_alone(one) for one in left))
        return {_field_set(one.request): reply for one, reply in zip(left, replies, strict=True)}

    async def _cover(self, one: PendingRead, late: Late) -> None:
        """Answer from what is held for *one* itself, where a rule allows: what is late is not asked again."""
        reply = await self._cache.cover(one.request)
        if reply is None:
            one.fail(late)
        else:
            one.answer(reply)

    async def _ask_alone(self, one: PendingRead) -> Reply | None:
        if one.reply.done():
            return None
        try:
            with cost_context.charged_to(one.bill):
                reply = await self._cache(one.request)
        except SidecarError as error:
            one.fail(error)
            return None
        one.answer(reply)
        return reply

    def _close_one(self, read: _MergedRead) -> None:
        """Nobody gets on any more."""
        reads = self._in_flight.get(read.lane, [])
        if read in reads:
            reads.remove(read)
            if not reads:
                del self._in_flight[read.lane]


def _field_set(request: Request) -> selection.FieldSet:
    chosen = selection.selection(request)
    return chosen.names if chosen else frozenset()


def _own_part(
    answer: Reply | SidecarError, asked: selection.FieldSet, own: selection.FieldSet
) -> Reply | SidecarError | None:
    if isinstance(answer, Reply):
        return projection.project_reply(answer, asked, own)
    return answer if own == asked else None
