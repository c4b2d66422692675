"""Reads of one thing that differ in their fields share one answer: what one caller's read told, another is not asked.

A read is answered from what is held for more fields; else it joins a flight that asks for more; else it waits for
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


_Lane = tuple[Hashable, bool]
"""A family, and whether its reads have time: nobody waits behind a read of lower priority (RFC 9218)."""


@dataclass(eq=False, slots=True)
class _Flight:
    """One read for all those *aboard*, on the first one's bill; who asks for no more than it does may still get on."""

    lane: _Lane
    request: Request
    names: selection.FieldSet
    answer: asyncio.Task[Reply]
    aboard: list[PendingRead] = field(default_factory=list)

    def board(self, one: PendingRead) -> None:
        """Take *one* aboard. The flight belongs to none of them: it ends early if all have left."""
        self.aboard.append(one)
        one.reply.add_done_callback(self._left)

    @property
    def is_left(self) -> bool:
        return all(one.reply.cancelled() for one in self.aboard)

    def _left(self, _reply: asyncio.Future[Reply]) -> None:
        if self.is_left:
            self.answer.cancel()


class Merger:
    """A layer: makes one read of many, where a rule lets it."""

    def __init__(
        self,
        cache: HeldReplies,
        *,
        keys: Keys,
        rule: Callable[[Request], Rule],
        touched_by: Callable[[Request], tuple[str, ...]],
        limits: window.Limits,
        clock: Callable[[], float],
    ) -> None:
        """Ask through *cache*; wait for company as *limits* say; *touched_by* names what it reads."""
        self._cache = cache
        self._keys = keys
        self._rule = rule
        self._touched_by = touched_by
        self._clock = clock
        self._lore = MergeHistory()
        self._companies = BatchQueues(lambda: window.merge_limits(limits), self._fly, clock)
        self._flights: dict[_Lane, list[_Flight]] = {}

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
        if own := _names(request):
            fresh_s = self._rule(request).shared_s
            self._lore.on_reply(self._family(request), own, answer, {own}, self._clock(), fresh_s=fresh_s)

    def close_flights(self, touched: Iterable[str]) -> None:
        """Let nobody get on the flights that read *touched* (none named: any flight), as the coalescer does."""
        named = set(touched)
        for lane, flights in list(self._flights.items()):
            if not named or not named.isdisjoint(self._touched_by(flights[0].request)):
                del self._flights[lane]

    async def close(self) -> None:
        """End what waits or is in the air."""
        await self._companies.close()

    def _merges(self, request: Request) -> bool:
        return self._rule(request).merge and selection.selection(request) is not None

    def _family(self, request: Request) -> Hashable:
        return selection.family(request, self._rule(request), self._keys)

    # --- what is held, and what is in the air ---

    async def _answer_from_more(self, request: Request) -> Reply | None:
        own = _names(request)
        for names in self._lore.supersets(self._family(request), own, self._clock()) if own else ():
            more = selection.with_fields(request, names)
            whole = await self._cache.answer_held(more) if self._rule(more) == self._rule(request) else None
            if whole and (reply := projection.project_reply(whole, names, own)):
                return replace(reply, detail="superset") if reply.mode is Mode.REUSED else reply
        return None

    async def _join(self, request: Request) -> Reply:
        own, family = _names(request), self._family(request)
        lanes = [(family, False), (family, True)] if request.is_low_priority else [(family, False)]
        flights = (flight for lane in lanes for flight in self._flights.get(lane, ()) if own <= flight.names)
        flight = next(flights, None)
        if flight is None:
            return await self._companies.join(lanes[-1], request)
        now = self._clock()
        one = PendingRead(request, asyncio.get_running_loop().create_future(), since=now, left=now)
        flight.board(one)
        if (call := flight.aboard[0].flight) is not None:
            call.join(one)
        return await one.reply

    # --- one read for many ---

    async def _fly(self, waiting: Sequence[PendingRead], _place: Place | None) -> None:
        """Ask for *waiting* until each has a reply or an error: nobody is left hanging."""
        flights: list[_Flight] = []
        try:
            flights += self._take_off(waiting)
            await asyncio.gather(*(self._land(flight) for flight in flights))
        except BaseException as fault:
            everybody = [*waiting, *(one for flight in flights for one in flight.aboard)]
            is_ours = isinstance(fault, Exception)
            fail_all(everybody, fault if is_ours else Cut("the read ended unanswered"))
            if not is_ours:
                raise

    def _take_off(self, waiting: Sequence[PendingRead]) -> list[_Flight]:
        """As few reads as may be for *waiting*, on their way."""
        first, now = waiting[0].request, self._clock()
        family, rule = self._family(first), self._rule(first)
        lane = family, first.is_low_priority

        def may(names: selection.FieldSet) -> bool:
            return self._lore.may_merge(family, names, now) and self._rule(selection.with_fields(first, names)) == rule

        wanted = self._lore.wanted(family, now, rule.shared_s)
        flights = []
        for group in selection.merge_selections([_names(one.request) for one in waiting], wanted, may):
            request = selection.with_fields(waiting[group.places[0]].request, group.names)
            with cost_context.charged_to(waiting[group.places[0]].bill):
                flight = _Flight(lane, request, group.names, asyncio.ensure_future(self._cache(request)))
            for place in group.places:
                flight.board(waiting[place])
            flights.append(flight)
        self._flights.setdefault(lane, []).extend(flights)
        return flights

    async def _land(self, flight: _Flight) -> None:
        try:
            answer: Reply | SidecarError = await flight.answer
        except SidecarError as error:
            answer = error
        except asyncio.CancelledError:
            if flight.is_left:
                return
            raise
        finally:
            self._forget(flight)
        left = self._hand_out(flight, answer)
        if isinstance(answer, Late):
            await asyncio.gather(*(self._cover(one, answer) for one in left))
        elif left:
            self._lore.on_failure(flight.lane[0], flight.names, await self._take_apart(left), self._clock())
        elif isinstance(answer, Reply):
            selections, fresh_s = {_names(one.request) for one in flight.aboard}, self._rule(flight.request).shared_s
            self._lore.on_reply(flight.lane[0], flight.names, answer, selections, self._clock(), fresh_s=fresh_s)

    def _hand_out(self, flight: _Flight, answer: Reply | SidecarError) -> list[PendingRead]:
        """Give each its part of *answer*; those are returned for whom there is none."""
        left = []
        for place, one in enumerate(flight.aboard):
            part = _part(answer, flight.names, _names(one.request))
            if part is None:
                left.append(one)
            elif isinstance(part, SidecarError):
                one.fail(part)
            else:
                one.answer(projection.as_merged(part) if place else part)
        return left

    async def _take_apart(self, left: Sequence[PendingRead]) -> dict[selection.FieldSet, Reply | None]:
        """Ask each for itself; Graph's answer to each selection, None where there is none."""
        replies = await asyncio.gather(*(self._ask_alone(one) for one in left))
        return {_names(one.request): reply for one, reply in zip(left, replies, strict=True)}

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

    def _forget(self, flight: _Flight) -> None:
        """Nobody gets on any more."""
        flights = self._flights.get(flight.lane, [])
        if flight in flights:
            flights.remove(flight)
            if not flights:
                del self._flights[flight.lane]


def _names(request: Request) -> selection.FieldSet:
    chosen = selection.selection(request)
    return chosen.names if chosen else frozenset()


def _part(
    answer: Reply | SidecarError, asked: selection.FieldSet, own: selection.FieldSet
) -> Reply | SidecarError | None:
    if isinstance(answer, Reply):
        return projection.project_reply(answer, asked, own)
    return answer if own == asked else None
