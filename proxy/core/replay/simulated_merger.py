"""The merger of the simulation: reads of one object that differ in their fields wait for each other and become one.

`shell/pipeline/merger` does the same with tasks; both ask `merge.selection` and `merge.history`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from proxy.core.batch import window
from proxy.core.batch.window import GRAPH_LIMIT, Limits
from proxy.core.cache.key import Keys
from proxy.core.merge import projection, selection
from proxy.core.merge.history import MergeHistory
from proxy.core.model import Mode, Reply, Request
from proxy.core.replay.event_queue import Done, EventQueue
from proxy.core.replay.simulated_cache import SimulatedCache
from proxy.core.replay.simulated_rate_limiter import SimulatedCaller
from proxy.core.routing.rules import RuleBook


@dataclass(frozen=True, slots=True, eq=False)
class _MergeableRead:
    """A read that waits to be merged, or is part of a merged read."""

    request: Request
    names: selection.FieldNames
    caller: SimulatedCaller
    done: Done
    since: float


_MergeLane = tuple[Hashable, bool]
"""Reads of one family, and whether they are of low priority."""


@dataclass(slots=True, eq=False)
class _MergeQueue:
    waiting: list[_MergeableRead] = field(default_factory=list)
    in_flight: int = 0
    alarm: int = 0  # the number of the only alarm that counts


@dataclass(slots=True, eq=False)
class _Merged:
    """One merged read for all *reads* in it."""

    lane: _MergeLane
    request: Request
    names: selection.FieldNames
    reads: list[_MergeableRead]
    on_end: Callable[[], None]


class SimulatedMerger:
    """Merges reads where a rule allows it, and asks *cache*."""

    def __init__(self, cache: SimulatedCache, rules: RuleBook, limits: Limits, keys: Keys, events: EventQueue) -> None:
        """Start with no read waiting; *events* is the clock."""
        self._cache, self._rules, self._limits, self._keys, self._events = cache, rules, limits, keys, events
        self._history = MergeHistory()
        self._queues: dict[_MergeLane, _MergeQueue] = {}
        self._merged: dict[_MergeLane, list[_Merged]] = {}

    def read(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        """Answer *request* from the cache, merged with others, or alone."""
        if not self._rules.of(request).merge or (chosen := selection.selection(request)) is None:
            self._cache.read(request, caller, done)
        elif reply := self.answer_held(request, caller):
            done(reply)
        elif selection.may_share(request):
            self._join(_MergeableRead(request, chosen.names, caller, done, self._events.now))
        else:
            self._cache.read(request, caller, done)

    def answer_held(self, request: Request, caller: SimulatedCaller) -> Reply | None:
        """Returns the reply to *request* from an entry, of the same fields or of more; None if there is none."""
        return self._cache.answer_held(request, caller) or self._answer_from_superset(request, caller)

    def learn(self, request: Request, answer: Reply, asked: float) -> None:
        """Store *answer*, and note that it answers reads of fewer fields."""
        self._cache.learn(request, answer, asked)
        if chosen := selection.selection(request):
            own, fresh_s = chosen.names, self._rules.of(request).shared_s
            self._history.on_reply(self._family(request), own, answer, {own}, self._events.now, fresh_s=fresh_s)

    def close_flights(self, changed: Collection[str]) -> None:
        """Close the merged reads that carry a tag in *changed* (() means any tag): no later read joins them."""
        for lane, merged in list(self._merged.items()):
            if not changed or not set(changed).isdisjoint(self._cache.tags(merged[0].request)):
                del self._merged[lane]

    def _answer_from_superset(self, request: Request, caller: SimulatedCaller) -> Reply | None:
        chosen, rule = selection.selection(request), self._rules.of(request)
        if chosen is None:
            return None
        for names in self._history.supersets(self._family(request), chosen.names, self._events.now):
            more = selection.with_fields(request, names)
            whole = self._cache.answer_held(more, caller) if self._rules.of(more) == rule else None
            if whole and (reply := projection.project_reply(whole, names, chosen.names)):
                return replace(reply, detail="superset") if reply.mode is Mode.REUSED else reply
        return None

    def _family(self, request: Request) -> Hashable:
        return selection.family(request, self._rules.of(request), self._keys)

    def _join(self, one: _MergeableRead) -> None:
        family = self._family(one.request)
        lanes = [(family, False), (family, True)] if one.request.is_low_priority else [(family, False)]
        flights = (flight for lane in lanes for flight in self._merged.get(lane, ()) if one.names <= flight.names)
        if (flight := next(flights, None)) is not None:
            flight.reads.append(one)
            return
        self._queues.setdefault(lanes[-1], _MergeQueue()).waiting.append(one)
        self._set_alarm(lanes[-1])

    def _set_alarm(self, lane: _MergeLane) -> None:
        queue, now = self._queues[lane], self._events.now
        queue.alarm += 1
        number, oldest = queue.alarm, queue.waiting[0].since if queue.waiting else now
        limits = window.merge_limits(self._limits)
        due = window.due(len(queue.waiting), oldest, queue.in_flight, limits, now)
        if due is not None:
            left = max(due, oldest)
            turn_s = queue.waiting[0].caller.turn_s if left == oldest else 0.0
            self._events.at(left + turn_s, lambda: self._leave(lane, number, left))
        elif not queue.waiting and not queue.in_flight:
            del self._queues[lane]

    def _leave(self, lane: _MergeLane, number: int, left: float) -> None:
        queue = self._queues.get(lane)
        if queue is None or queue.alarm != number:
            return
        reads, queue.waiting = queue.waiting[:GRAPH_LIMIT], queue.waiting[GRAPH_LIMIT:]
        queue.in_flight += 1
        self._send(lane, reads, left)
        self._set_alarm(lane)

    def _send(self, lane: _MergeLane, waiting: Sequence[_MergeableRead], left: float) -> None:
        first, now = waiting[0].request, self._events.now
        family, rule = lane[0], self._rules.of(first)

        def may(names: selection.FieldNames) -> bool:
            return (
                self._history.may_merge(family, names, now)
                and self._rules.of(selection.with_fields(first, names)) == rule
            )

        wanted = self._history.wanted(family, now, rule.shared_s)
        groups = selection.merge_selections([one.names for one in waiting], wanted, may)
        pending = len(groups)

        def on_end() -> None:
            nonlocal pending
            pending -= 1
            if not pending:
                self._queues[lane].in_flight -= 1
                self._set_alarm(lane)

        for group in groups:
            reads = [waiting[index] for index in group.indices]
            flight = _Merged(lane, selection.with_fields(reads[0].request, group.names), group.names, reads, on_end)
            self._merged.setdefault(lane, []).append(flight)
            self._cache.read(flight.request, _caller_of(reads, left), partial(self._deliver, flight))

    def _deliver(self, flight: _Merged, answer: Reply) -> None:
        family, now = flight.lane[0], self._events.now
        self._forget(flight)
        unanswered = []
        for place, one in enumerate(flight.reads):
            part = projection.project_reply(answer, flight.names, one.names)
            if part is None:
                unanswered.append(one)
            else:
                one.done(projection.as_merged(part) if place else part)
        if unanswered:
            self._retry_alone(flight, unanswered)
            return
        if answer.mode is not Mode.FAILED:
            selections, fresh_s = {one.names for one in flight.reads}, self._rules.of(flight.request).shared_s
            self._history.on_reply(family, flight.names, answer, selections, now, fresh_s=fresh_s)
        flight.on_end()

    def _retry_alone(self, flight: _Merged, unanswered: Sequence[_MergeableRead]) -> None:
        alone: dict[selection.FieldNames, Reply | None] = {}
        to_come = len(unanswered)

        def answered(one: _MergeableRead, reply: Reply) -> None:
            nonlocal to_come
            alone[one.names] = None if reply.mode is Mode.FAILED else reply
            one.done(reply)
            to_come -= 1
            if not to_come:
                self._history.on_failure(flight.lane[0], flight.names, alone, self._events.now)
                flight.on_end()

        for one in unanswered:
            self._cache.read(one.request, one.caller, partial(answered, one))

    def _forget(self, flight: _Merged) -> None:
        flights = self._merged.get(flight.lane, [])
        if flight in flights:
            flights.remove(flight)
            if not flights:
                del self._merged[flight.lane]


def _caller_of(reads: Collection[_MergeableRead], left: float) -> SimulatedCaller:
    """Returns the caller of a merged read: the first read's cost record, and the first line with an error, if any."""
    first = next(iter(reads)).caller
    refused = next((one.caller.line for one in reads if one.caller.line.code), first.line)
    return SimulatedCaller(refused, first.cost, left)
