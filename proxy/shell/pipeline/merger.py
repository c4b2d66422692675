"""Merges reads of one object that differ only in `fields`: one read asks Graph for the union of the fields.

A read is answered from a held reply with more fields. Otherwise it joins a read in flight that asks for more fields.
Otherwise it waits for other reads, as in the batch queue, and one read of all their fields is sent, stored and
revalidated like any other. Each caller gets the projection on its own fields. Where Graph refuses the merged read, or
its reply cannot be projected, each caller's read is sent alone, so that a bad field affects its own caller only.
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
from proxy.core.quota.ledger import RequestCost
from proxy.core.routing.rules import Rule
from proxy.shell.pipeline.batch_queue import BatchCall, BatchQueues, PendingRead, fail_all


class HeldReplies(Protocol):
    """The cache, as far as the merger uses it."""

    async def __call__(self, request: Request, cost: RequestCost | None) -> Reply:
        """Answer *request*, charged to *cost*. Raises a SidecarError."""

    async def answer_held(self, request: Request, cost: RequestCost | None) -> Reply | None:
        """Return a held reply that needs no wait for Graph (fresh, or stale as a rule allows); else None."""

    async def cover(self, request: Request) -> Reply | None:
        """Return the held reply where a rule allows it instead of an error of Graph's (stale-if-error); else None."""

    async def learn(self, request: Request, answer: Reply, asked: float) -> None:
        """Store *answer*, the part about *request* of the reply to another read that was sent at *asked*."""


_MergeLane = tuple[Hashable, bool]
"""A family of mergeable reads, and whether they are of low priority: no read waits for a lower one (RFC 9218)."""


@dataclass(eq=False, slots=True)
class _MergedRead:
    """One read in flight for all that are *waiting*, charged to the first; reads of no more fields may still join."""

    lane: _MergeLane
    request: Request
    names: selection.FieldNames
    answer: asyncio.Task[Reply]
    waiting: list[PendingRead] = field(default_factory=list)

    def add(self, one: PendingRead) -> None:
        """Add *one* to the callers of this read, which is cancelled when all of them have gone."""
        self.waiting.append(one)
        one.reply.add_done_callback(self._on_done)

    @property
    def is_abandoned(self) -> bool:
        return all(one.reply.cancelled() for one in self.waiting)

    def _on_done(self, _reply: asyncio.Future[Reply]) -> None:
        if self.is_abandoned:
            self.answer.cancel()


class Merger:
    """A pipeline layer that merges reads where a rule allows it."""

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
        """Ask *cache*; queue reads within *limits*; *tags_of* gives the cache tags of a read."""
        self._cache = cache
        self._keys = keys
        self._rule = rule
        self._tags_of = tags_of
        self._clock = clock
        self._history = history or MergeHistory()
        self._limits, self._merging = limits, window.merge_limits(limits)
        self._queues = BatchQueues(self._merging, self._depart, clock)
        self._in_flight: dict[_MergeLane, list[_MergedRead]] = {}

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        """Answer *request*. Raises what the cache raises, and Overloaded."""
        if not self._merges(request):
            return await self._cache(request, cost)
        if reply := await self.answer_held(request, cost):
            return reply
        return await (self._join(request, cost) if selection.may_share(request) else self._cache(request, cost))

    async def answer_held(self, request: Request, cost: RequestCost | None) -> Reply | None:
        """Return the held reply to *request*, or a projection of a held reply with more fields; else None."""
        return await self._cache.answer_held(request, cost) or await self._answer_from_more(request, cost)

    async def learn(self, request: Request, answer: Reply, asked: float) -> None:
        """Store *answer*, and note that it can answer reads of *request* with fewer fields."""
        await self._cache.learn(request, answer, asked)
        if own := _field_set(request):
            fresh_s = self._rule(request).shared_s
            self._history.on_reply(self._family(request), own, answer, {own}, self._clock(), fresh_s=fresh_s)

    def close_flights(self, tags: Iterable[str]) -> None:
        """Close the flights that carry one of *tags* (all, if *tags* is empty): no later read joins them."""
        named = set(tags)
        for lane, reads in list(self._in_flight.items()):
            if not named or not named.isdisjoint(self._tags_of(reads[0].request)):
                del self._in_flight[lane]

    async def close(self) -> None:
        """Cancel the reads that are queued or in flight."""
        await self._queues.close()

    def _merges(self, request: Request) -> bool:
        return self._rule(request).merge and selection.selection(request) is not None

    def _family(self, request: Request) -> Hashable:
        return selection.family(request, self._rule(request), self._keys)

    # --- held replies and reads in flight ---

    async def _answer_from_more(self, request: Request, cost: RequestCost | None) -> Reply | None:
        own = _field_set(request)
        for names in self._history.supersets(self._family(request), own, self._clock()) if own else ():
            more = selection.with_fields(request, names)
            if self._rule(more) != self._rule(request):
                continue
            whole = await self._cache.answer_held(more, cost)
            if whole and (reply := projection.project_reply(whole, names, own)):
                return replace(reply, detail="superset") if reply.mode is Mode.REUSED else reply
        return None

    async def _join(self, request: Request, cost: RequestCost | None) -> Reply:
        own, family = _field_set(request), self._family(request)
        lanes = [(family, False), (family, True)] if request.is_low_priority else [(family, False)]
        reads = (read for lane in lanes for read in self._in_flight.get(lane, ()) if own <= read.names)
        read = next(reads, None)
        if read is None:
            self._merging.replace(window.merge_limits(self._limits))  # a reload may have changed them
            return await self._queues.join(lanes[-1], request, cost)
        now = self._clock()
        one = PendingRead(request, asyncio.get_running_loop().create_future(), cost, since=now, left=now)
        read.add(one)
        if (call := read.waiting[0].call) is not None:
            call.join(one)
        return await one.reply

    # --- the merged read ---

    def _depart(self, call: BatchCall) -> None:
        """Start a task that answers every read of *call*."""
        call.follow(self._send(call.reads))

    async def _send(self, waiting: Sequence[PendingRead]) -> None:
        """Answer every read of *waiting*, with a reply or an error, whatever happens."""
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
        """Start as few reads as rules and the merge history allow to answer *waiting*; return them."""
        first, now = waiting[0].request, self._clock()
        family, rule = self._family(first), self._rule(first)
        lane = family, first.is_low_priority

        def may(names: selection.FieldNames) -> bool:
            return (
                self._history.may_merge(family, names, now) and self._rule(selection.with_fields(first, names)) == rule
            )

        wanted = self._history.wanted(family, now, rule.shared_s)
        reads = []
        for group in selection.merge_selections([_field_set(one.request) for one in waiting], wanted, may):
            payer = waiting[group.indices[0]]
            request = selection.with_fields(payer.request, group.names)
            read = _MergedRead(lane, request, group.names, asyncio.ensure_future(self._cache(request, payer.cost)))
            for index in group.indices:
                read.add(waiting[index])
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
        """Answer each waiting read with its projection of *answer*; return those for which there is none."""
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

    async def _ask_each(self, left: Sequence[PendingRead]) -> dict[selection.FieldNames, Reply | None]:
        """Send each read alone; return the reply to each field set, None where there was none."""
        replies = await asyncio.gather(*(self._ask_alone(one) for one in left))
        return {_field_set(one.request): reply for one, reply in zip(left, replies, strict=True)}

    async def _cover(self, one: PendingRead, late: Late) -> None:
        """Answer *one* with its own held reply, else with *late*: a late read is not sent again."""
        reply = await self._cache.cover(one.request)
        if reply is None:
            one.fail(late)
        else:
            one.answer(reply)

    async def _ask_alone(self, one: PendingRead) -> Reply | None:
        if one.reply.done():
            return None
        try:
            reply = await self._cache(one.request, one.cost)
        except SidecarError as error:
            one.fail(error)
            return None
        one.answer(reply)
        return reply

    def _close_one(self, read: _MergedRead) -> None:
        """Close *read*: no later read joins it."""
        reads = self._in_flight.get(read.lane, [])
        if read in reads:
            reads.remove(read)
            if not reads:
                del self._in_flight[read.lane]


def _field_set(request: Request) -> selection.FieldNames:
    chosen = selection.selection(request)
    return chosen.names if chosen else frozenset()


def _own_part(
    answer: Reply | SidecarError, asked: selection.FieldNames, own: selection.FieldNames
) -> Reply | SidecarError | None:
    if isinstance(answer, Reply):
        return projection.project_reply(answer, asked, own)
    return answer if own == asked else None
