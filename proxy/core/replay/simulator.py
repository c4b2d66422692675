"""The pipeline as a discrete-event simulation: what it would do with recorded reads, without Graph and without waiting.

Each layer of `shell/pipeline` has a section here, in the same order, and decides with the same functions. What happens
later is an event in the queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from msgspec.structs import replace

from proxy.core.batch import window
from proxy.core.batch.window import GRAPH_LIMIT, Limits
from proxy.core.cache import policy
from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.cache.key import FlightKey, Keys
from proxy.core.graph import errors as graph_errors
from proxy.core.http import errors
from proxy.core.merge import ids_split, projection, selection
from proxy.core.merge.history import MergeHistory
from proxy.core.model import ANSWERED_NOW, LOW_PRIORITY, Entry, Mode, Reply, Request
from proxy.core.observe.access_log import AccessLogEntry
from proxy.core.quota.bucket import Stages
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.ledger import RequestCost
from proxy.core.quota.limiter import RELEASED_PER_REPLY, Go, Halt, LimitChanges, Limiter, Verdict, Wait
from proxy.core.replay.counterfactual import SimulatedReply
from proxy.core.replay.event_queue import TURN_S, Done, EventQueue
from proxy.core.routing.rules import RuleBook


class Graph(Protocol):
    """The simulated Graph."""

    def answer(
        self, line: AccessLogEntry, request: Request, subject: QuotaSubject, now: float, *, held: float
    ) -> SimulatedReply:
        """Returns the reply to *request*, which the recorded *line* is about; the entry was fetched at *held*."""


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedCaller:
    """The caller of a simulated read: its line in the log, and its cost record."""

    line: AccessLogEntry
    cost: RequestCost
    left: float = -math.inf  # when its batch left, if later reads of the same turn of the event loop joined it

    @property
    def turn_s(self) -> float:
        """Seconds that such a turn of the event loop lasts."""
        return min(TURN_S, self.line.total_ms / 2000)


@dataclass(slots=True, eq=False)
class _SimulatedFlight:
    names: tuple[str, ...]
    is_low_priority: bool
    others: list[Done] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A read that waits to be merged, or is part of a merged read."""

    request: Request
    names: selection.FieldSet
    caller: SimulatedCaller
    done: Done
    since: float


_Lane = tuple[Hashable, bool]


@dataclass(slots=True, eq=False)
class _BatchQueue:
    waiting: list[_Waiting] = field(default_factory=list)
    in_flight: int = 0
    alarm: int = 0  # the number of the only alarm that counts


@dataclass(slots=True, eq=False)
class _Merged:
    """One merged read for all *reads* in it."""

    lane: _Lane
    request: Request
    names: selection.FieldSet
    reads: list[_Waiting]
    on_end: Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Inquiry:
    """A read to send to Graph, with what its answer is judged by."""

    request: Request
    entry: Entry | None
    terms: policy.Terms
    asked: float
    subject: QuotaSubject
    caller: SimulatedCaller
    done: Done


@dataclass(slots=True, eq=False)
class _DelayedRead:
    inquiry: _Inquiry
    since: float
    end: float
    alarm: int = 0
    bucket: BucketName | None = None  # the limit that it waits, or has waited, for
    is_sent: bool = False


class Simulator:
    """The simulated pipeline; `read` and `wrote` take what comes in at the current time of the event queue."""

    def __init__(
        self, rules: RuleBook, stages: Stages, limits: Limits, graph: Graph, keys: Keys, *, shared: bool
    ) -> None:
        """Simulate these settings with an empty cache; *shared* means that all tokens belong to one app."""
        self.events = EventQueue()
        self.waited_s: list[float] = []  # of reads that the rate limiter delayed
        self._rules, self._limits, self._graph, self._keys = rules, limits, graph, keys
        self._quota = Limiter(stages, shared=shared)
        self._invalidations, self._history = InvalidationIndex(), MergeHistory()
        self._entries: dict[bytes, Entry] = {}
        self._flights: dict[FlightKey, _SimulatedFlight] = {}
        self._queues: dict[_Lane, _BatchQueue] = {}
        self._merged: dict[_Lane, list[_Merged]] = {}
        self._in_background: set[bytes] = set()
        self._delayed: dict[FlightKey, list[_DelayedRead]] = {}
        self._lines: dict[BucketName | None, list[_DelayedRead]] = {}

    def hold(self, request: Request, asked: float) -> None:
        """Store an entry that was fetched at *asked*, before the log began."""
        answer = Reply(200, (("ETag", '"recorded"'),), b"{}")
        settled = policy.settle(request, None, answer, self._terms(request), asked)
        if settled is not None and settled.keep is not None:
            self._entries[self._keys.entry(request)] = settled.keep

    def wrote(self, nodes: Iterable[str], request: Request) -> None:
        """Record that a write to *nodes* with the token of *request* was answered."""
        changed = set(
            self._invalidations.record_write(nodes, self._keys.fingerprint(request.credential), self.events.now)
        )
        for key, flight in list(self._flights.items()):
            if not changed or not flight.names or not changed.isdisjoint(flight.names):
                del self._flights[key]
        for lane, merged in list(self._merged.items()):
            if not changed or not changed.isdisjoint(self._tags(merged[0].request)):
                del self._merged[lane]

    # --- reader ---

    def read(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        """Take a read that comes in; *done* is called with its reply."""
        subject = self._asker(request)

        def answered(reply: Reply) -> None:
            self._quota.on_delivered_reply(subject, reply, self.events.now)
            done(reply)

        self._coalesce(self._quota.mark_after_refusal(request, subject), caller, answered)

    # --- coalescer ---

    def _coalesce(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        if request.directives.forbids_sharing:
            self._split_ids(request, caller, done)
            return
        key = self._keys.flight(request)
        if (flight := self._flights.get(key)) is not None:
            if flight.is_low_priority and not request.is_low_priority:
                flight.is_low_priority = False
                self._promote(key)
            flight.others.append(done)
            return
        flight = self._flights[key] = _SimulatedFlight(self._tags(request), request.is_low_priority)

        def on_end(reply: Reply) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]
            done(reply)
            for other in flight.others:
                other(reply.shared())

        self._split_ids(request, caller, on_end)

    # --- several ---

    def _split_ids(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        parts = ids_split.parts(request) if "ids=" in request.query else None
        if parts is None or not all(ids_split.may_be_held(part, self._rules.of(part)) for part in parts.values()):
            self._merge(request, caller, done)
            return
        looked = {each: self._answer_from_cache(part, caller) for each, part in parts.items()}
        held = {each: reply for each, reply in looked.items() if reply is not None}
        missing = {each: part for each, part in parts.items() if each not in held}
        if not missing:
            done(ids_split.join_replies(parts, held, {}))
            return
        asked_at = self.events.now

        def answered(answer: Reply) -> None:
            found = ids_split.split_reply(answer, missing)
            if found is None:
                if not held or graph_errors.is_trouble(answer):
                    done(answer)
                else:
                    self._merge(request, caller, done)
                return
            if answer.mode in ANSWERED_NOW:
                for each, part in missing.items():
                    self._learn(part, found[each], asked_at)
            done(ids_split.join_replies(parts, held, found) if held else answer)

        self._merge(ids_split.with_ids(request, missing) if held else request, caller, answered)

    # --- merger ---

    def _merge(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        if not self._rules.of(request).merge or (chosen := selection.selection(request)) is None:
            self._read_through_cache(request, caller, done)
        elif reply := self._answer_from_cache(request, caller):
            done(reply)
        elif selection.may_share(request):
            self._join_merge_queue(_Waiting(request, chosen.names, caller, done, self.events.now))
        else:
            self._read_through_cache(request, caller, done)

    def _answer_from_cache(self, request: Request, caller: SimulatedCaller) -> Reply | None:
        return self._answer_exact(request, caller) or self._answer_from_superset(request, caller)

    def _answer_from_superset(self, request: Request, caller: SimulatedCaller) -> Reply | None:
        chosen, rule = selection.selection(request), self._rules.of(request)
        if chosen is None:
            return None
        for names in self._history.supersets(self._family(request), chosen.names, self.events.now):
            more = selection.with_fields(request, names)
            whole = self._answer_exact(more, caller) if self._rules.of(more) == rule else None
            if whole and (reply := projection.project_reply(whole, names, chosen.names)):
                return replace(reply, detail="superset") if reply.mode is Mode.REUSED else reply
        return None

    def _family(self, request: Request) -> Hashable:
        return selection.family(request, self._rules.of(request), self._keys)

    def _join_merge_queue(self, one: _Waiting) -> None:
        family = self._family(one.request)
        lanes = [(family, False), (family, True)] if one.request.is_low_priority else [(family, False)]
        flights = (flight for lane in lanes for flight in self._merged.get(lane, ()) if one.names <= flight.names)
        if (flight := next(flights, None)) is not None:
            flight.reads.append(one)
            return
        self._queues.setdefault(lanes[-1], _BatchQueue()).waiting.append(one)
        self._set_alarm(lanes[-1])

    def _set_alarm(self, lane: _Lane) -> None:
        queue, now = self._queues[lane], self.events.now
        queue.alarm += 1
        number, oldest = queue.alarm, queue.waiting[0].since if queue.waiting else now
        limits = window.merge_limits(self._limits)
        due = window.due(len(queue.waiting), oldest, queue.in_flight, limits, now)
        if due is not None:
            left = max(due, oldest)
            turn_s = queue.waiting[0].caller.turn_s if left == oldest else 0.0
            self.events.at(left + turn_s, lambda: self._leave(lane, number, left))
        elif not queue.waiting and not queue.in_flight:
            del self._queues[lane]

    def _leave(self, lane: _Lane, number: int, left: float) -> None:
        queue = self._queues.get(lane)
        if queue is None or queue.alarm != number:
            return
        reads, queue.waiting = queue.waiting[:GRAPH_LIMIT], queue.waiting[GRAPH_LIMIT:]
        queue.in_flight += 1
        self._send_merged(lane, reads, left)
        self._set_alarm(lane)

    def _send_merged(self, lane: _Lane, waiting: Sequence[_Waiting], left: float) -> None:
        first, now = waiting[0].request, self.events.now
        family, rule = lane[0], self._rules.of(first)

        def may(names: selection.FieldSet) -> bool:
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
            reads = [waiting[place] for place in group.places]
            flight = _Merged(lane, selection.with_fields(reads[0].request, group.names), group.names, reads, on_end)
            self._merged.setdefault(lane, []).append(flight)
            self._read_through_cache(flight.request, _caller_of(reads, left), partial(self._deliver, flight))

    def _deliver(self, flight: _Merged, answer: Reply) -> None:
        family, now = flight.lane[0], self.events.now
        self._forget(flight)
        left = []
        for place, one in enumerate(flight.reads):
            part = projection.project_reply(answer, flight.names, one.names)
            if part is None:
                left.append(one)
            else:
                one.done(projection.as_merged(part) if place else part)
        if left:
            self._retry_alone(flight, left)
            return
        if answer.mode is not Mode.FAILED:
            selections, fresh_s = {one.names for one in flight.reads}, self._rules.of(flight.request).shared_s
            self._history.on_reply(family, flight.names, answer, selections, now, fresh_s=fresh_s)
        flight.on_end()

    def _retry_alone(self, flight: _Merged, left: Sequence[_Waiting]) -> None:
        alone: dict[selection.FieldSet, Reply | None] = {}
        to_come = len(left)

        def answered(one: _Waiting, reply: Reply) -> None:
            nonlocal to_come
            alone[one.names] = None if reply.mode is Mode.FAILED else reply
            one.done(reply)
            to_come -= 1
            if not to_come:
                self._history.on_failure(flight.lane[0], flight.names, alone, self.events.now)
                flight.on_end()

        for one in left:
            self._read_through_cache(one.request, one.caller, partial(answered, one))

    def _forget(self, flight: _Merged) -> None:
        flights = self._merged.get(flight.lane, [])
        if flight in flights:
            flights.remove(flight)
            if not flights:
                del self._merged[flight.lane]

    # --- cache ---

    def _read_through_cache(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        entry, terms = self._stored(request), self._terms(request)
        plan = policy.plan(request, entry.meta if entry else None, terms, self.events.now)
        match plan:
            case policy.Refuse():
                done(errors.reply_of(errors.NotHeld("nothing that is held will do")))
            case policy.Ask():
                self._limit(self._inquiry(request.with_validator(plan.validator), entry, caller, done))
            case policy.Reuse():
                assert entry is not None  # noqa: S101 - nothing else is reused
                done(self._reuse(request, plan, entry, caller))

    def _answer_exact(self, request: Request, caller: SimulatedCaller) -> Reply | None:
        entry, terms = self._stored(request), self._terms(request)
        plan = policy.plan(request, entry.meta if entry else None, terms, self.events.now)
        return self._reuse(request, plan, entry, caller) if isinstance(plan, policy.Reuse) and entry else None

    def _reuse(self, request: Request, plan: policy.Reuse, entry: Entry, caller: SimulatedCaller) -> Reply:
        if plan.in_background:
            self._revalidate(request.with_validator(policy.validator_for(entry.meta, request)), entry, caller)
        return policy.reuse(entry, plan, self._terms(request), self.events.now)

    def _revalidate(self, request: Request, entry: Entry, caller: SimulatedCaller) -> None:
        key = self._keys.entry(request)
        if key in self._in_background:
            return
        self._in_background.add(key)
        delayed = replace(request, priority=max(request.priority, LOW_PRIORITY))
        nobody = SimulatedCaller(caller.line, caller.cost.for_background())
        self._limit(self._inquiry(delayed, entry, nobody, lambda _reply: self._in_background.discard(key)))

    def _inquiry(self, request: Request, entry: Entry | None, caller: SimulatedCaller, done: Done) -> _Inquiry:
        terms = self._terms(request)
        return _Inquiry(request, entry, terms, self.events.now, self._asker(request), caller, done)

    def _asker(self, request: Request) -> QuotaSubject:
        return QuotaSubject(self._keys.fingerprint(request.credential), request.path, request.query)

    def _stored(self, request: Request) -> Entry | None:
        return self._entries.get(self._keys.entry(request)) if self._rules.of(request).cache else None

    def _terms(self, request: Request) -> policy.Terms:
        fingerprint, now = self._keys.fingerprint(request.credential), self.events.now
        pressure = self._quota.pressure(QuotaSubject(fingerprint, request.path, request.query), now)
        touched, proof = self._invalidations.invalidated_at(request, fingerprint), self._keys.proof(request.credential)
        return policy.Terms(self._rules.of(request), proof, touched, pressure)

    def _tags(self, request: Request) -> tuple[str, ...]:
        return self._invalidations.tags_of(request, self._keys.fingerprint(request.credential))

    def _settle(self, inquiry: _Inquiry, answer: Reply) -> None:
        if answer.mode is Mode.FAILED:
            inquiry.done(self._cover(inquiry, "stale-if-error") or answer)
            return
        terms = self._terms(inquiry.request)
        settled = policy.settle(inquiry.request, inquiry.entry, answer, terms, inquiry.asked)
        if settled is None:
            self._limit(self._inquiry(inquiry.request.with_validator(""), None, inquiry.caller, inquiry.done))
            return
        if settled.keep is not None:
            self._entries[self._keys.entry(inquiry.request)] = settled.keep
        inquiry.done(settled.reply)

    def _learn(self, request: Request, answer: Reply, asked: float) -> None:
        settled = policy.learn(request, self._stored(request), answer, self._terms(request), asked)
        if settled.keep is not None:
            self._entries[self._keys.entry(request)] = settled.keep
        if chosen := selection.selection(request):
            own, fresh_s = chosen.names, self._rules.of(request).shared_s
            self._history.on_reply(self._family(request), own, answer, {own}, self.events.now, fresh_s=fresh_s)

    def _cover(self, inquiry: _Inquiry, detail: str) -> Reply | None:
        terms, now, entry = self._terms(inquiry.request), self.events.now, inquiry.entry
        if entry and policy.may_cover(entry.meta, inquiry.request.directives, terms, now):
            return policy.cover(entry, terms, now, detail)
        return None

    # --- rate limiter ---

    def _limit(self, inquiry: _Inquiry) -> None:
        now = self.events.now
        verdict = self._quota.admit(
            inquiry.subject, inquiry.request.priority, now, after_refusal=inquiry.request.after_refusal
        )
        if not isinstance(verdict, Wait):
            self._go(inquiry, verdict)
            return
        delayed = _DelayedRead(inquiry, now, now + self._quota.stages.longest_wait_s)
        self._delayed.setdefault(self._keys.flight(inquiry.request), []).append(delayed)
        self._wait_in_line(delayed, verdict)

    def _wait_in_line(self, delayed: _DelayedRead, wait: Wait) -> None:
        """Wait in line until the limiter is asked again; the first in line is woken when its time has come."""
        line = self._lines.setdefault(wait.bucket, [])
        line.insert(0 if delayed.bucket else len(line), delayed)
        delayed.bucket = wait.bucket
        delayed.alarm += 1
        number, end = delayed.alarm, delayed.end
        when = min(self.events.now + wait.seconds, end) if line[0] is delayed else end
        self.events.at(when, lambda: self._ask_again(delayed) if delayed.alarm == number else None)

    def _ask_again(self, delayed: _DelayedRead, *, promoted: bool = False) -> None:
        if delayed.is_sent:
            return
        now, request = self.events.now, delayed.inquiry.request
        delayed.alarm += 1
        _drop(self._lines, delayed.bucket, delayed)
        has_waited = promoted or now >= delayed.end
        verdict = self._quota.admit(
            delayed.inquiry.subject, request.priority, now, has_waited=has_waited, after_refusal=request.after_refusal
        )
        if isinstance(verdict, Wait):
            self._wait_in_line(delayed, verdict)
            return
        delayed.is_sent = True
        _drop(self._delayed, self._keys.flight(request), delayed)
        self.waited_s.append(now - delayed.since)
        self._go(delayed.inquiry, verdict, delayed.bucket)

    def _wake(self, bucket: BucketName | None, count: int) -> None:
        for delayed in self._lines.get(bucket, [])[:count]:
            self.events.at(self.events.now, partial(self._ask_again, delayed))

    def _promote(self, key: FlightKey) -> None:
        for delayed in list(self._delayed.get(key, ())):
            self._ask_again(delayed, promoted=True)

    def _go(self, inquiry: _Inquiry, verdict: Verdict, released: BucketName | None = None) -> None:
        if isinstance(verdict, Halt):
            inquiry.done(self._cover(inquiry, "throttled") or verdict.reply)
            self._wake(released, RELEASED_PER_REPLY)
        elif isinstance(verdict, Go):
            self._send(inquiry, verdict.probes, released)

    def _on_limit_changes(self, news: LimitChanges) -> None:
        if news.stopped:  # from the last on, because a read that goes on waiting moves to the front
            for delayed in [delayed for line in self._lines.values() for delayed in reversed(line)]:
                self._ask_again(delayed)
        elif news.eased:
            for bucket in list(self._lines):
                self._wake(bucket, 1)

    # --- Graph ---

    def _send(self, inquiry: _Inquiry, probes: tuple[BucketName, ...], released: BucketName | None) -> None:
        held = inquiry.entry.meta.asked_at if inquiry.entry else 0.0
        answer = self._graph.answer(inquiry.caller.line, inquiry.request, inquiry.subject, self.events.now, held=held)
        inquiry.caller.cost.send(answer.calls - answer.uncertain)
        inquiry.caller.cost.send(answer.uncertain, is_counted=False)
        now, left = self.events.now, inquiry.caller.left
        began = left if now - left < 2 * TURN_S else now  # unless the rate limiter delayed it

        def on_end() -> None:
            if answer.reply.mode is Mode.FAILED:
                self._quota.on_no_reply(probes, self.events.now)
            else:
                self._on_limit_changes(self._quota.on_reply(inquiry.subject, answer.reply, self.events.now, probes))
            self._settle(inquiry, answer.reply)
            self._wake(released, RELEASED_PER_REPLY)

        self.events.at(began + answer.seconds, on_end)


def _drop(kept: dict[Any, list[_DelayedRead]], key: Any, delayed: _DelayedRead) -> None:
    """Remove *delayed* from those under *key*."""
    kept[key].remove(delayed)
    if not kept[key]:
        del kept[key]


def _caller_of(reads: Collection[_Waiting], left: float) -> SimulatedCaller:
    """Returns the caller of a merged read: the first read's cost record, and the first line with an error, if any."""
    first = next(iter(reads)).caller
    refused = next((one.caller.line for one in reads if one.caller.line.code), first.line)
    return SimulatedCaller(refused, first.cost, left)
