"""What the stack would do with reads at the times at which they came: without Graph, without waiting.

Each layer of `shell` has its paragraph here, in their order, and decides by the functions that the layer itself asks.
What would happen later stands on the agenda.
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
from proxy.core.merge import ids, projection, selection
from proxy.core.merge.history import MergeHistory
from proxy.core.model import ANSWERED_NOW, LOW_PRIORITY, Entry, Mode, Reply, Request
from proxy.core.observe.access_log import AccessLogEntry
from proxy.core.quota.bucket import Stages
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.ledger import RequestCost
from proxy.core.quota.limiter import RELEASED_PER_REPLY, Go, Halt, LimitChanges, Limiter, Verdict, Wait
from proxy.core.replay.counterfactual import SupposedReply
from proxy.core.replay.event_queue import TURN_S, Done, EventQueue
from proxy.core.routing.rules import RuleBook


class Graph(Protocol):
    """Who answers."""

    def answer(
        self, told: AccessLogEntry, request: Request, asker: QuotaSubject, now: float, *, held: float
    ) -> SupposedReply:
        """What *request* is answered, for the sake of the line *told*; what is held was asked for at *held*."""


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedCaller:
    """For whose sake something is asked: the line about it, and the bill that it goes on."""

    told: AccessLogEntry
    bill: RequestCost
    left: float = -math.inf  # when a turn of the event loop let it leave, in which others were still coming in

    @property
    def turn_s(self) -> float:
        """How long such a turn lasts."""
        return min(TURN_S, self.told.total_ms / 2000)


@dataclass(slots=True, eq=False)
class _Flight:
    names: tuple[str, ...]
    has_time: bool
    others: list[Done] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A read that waits for company, or is aboard."""

    request: Request
    names: selection.FieldSet
    caller: SimulatedCaller
    done: Done
    since: float


_Lane = tuple[Hashable, bool]


@dataclass(slots=True, eq=False)
class _Company:
    queue: list[_Waiting] = field(default_factory=list)
    flying: int = 0
    alarm: int = 0  # the number of the one that counts


@dataclass(slots=True, eq=False)
class _Merged:
    """One read for all those *aboard*."""

    lane: _Lane
    request: Request
    names: selection.FieldSet
    aboard: list[_Waiting]
    landed: Callable[[], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Inquiry:
    """A question for Graph, and what its answer is to be held against."""

    request: Request
    entry: Entry | None
    terms: policy.Terms
    asked: float
    asker: QuotaSubject
    caller: SimulatedCaller
    done: Done


@dataclass(slots=True, eq=False)
class _Patient:
    inquiry: _Inquiry
    since: float
    end: float
    alarm: int = 0
    pool: BucketName | None = None  # that it waits for, or has
    has_gone: bool = False


class Simulator:
    """The stack; `read` and `wrote` take what comes at the agenda's time."""

    def __init__(
        self, rules: RuleBook, stages: Stages, limits: Limits, graph: Graph, keys: Keys, *, shared: bool
    ) -> None:
        """Decide by these settings, with nothing held; *shared*: all tokens are of one app."""
        self.agenda = EventQueue()
        self.waited_s: list[float] = []  # of reads that were paced
        self._rules, self._limits, self._graph, self._keys = rules, limits, graph, keys
        self._quota = Limiter(stages, shared=shared)
        self._touches, self._lore = InvalidationIndex(), MergeHistory()
        self._entries: dict[bytes, Entry] = {}
        self._flights: dict[FlightKey, _Flight] = {}
        self._companies: dict[_Lane, _Company] = {}
        self._merged: dict[_Lane, list[_Merged]] = {}
        self._behind: set[bytes] = set()
        self._patients: dict[FlightKey, list[_Patient]] = {}
        self._lines: dict[BucketName | None, list[_Patient]] = {}

    def hold(self, request: Request, asked: float) -> None:
        """It was held before the log began, asked for at *asked*."""
        answer = Reply(200, (("ETag", '"recorded"'),), b"{}")
        settled = policy.settle(request, None, answer, self._terms(request), asked)
        if settled is not None and settled.keep is not None:
            self._entries[self._keys.entry(request)] = settled.keep

    def wrote(self, nodes: Iterable[str], request: Request) -> None:
        """A write to *nodes* was answered, with the token of *request*."""
        changed = set(self._touches.record_write(nodes, self._keys.fingerprint(request.credential), self.agenda.now))
        for key, flight in list(self._flights.items()):
            if not changed or not flight.names or not changed.isdisjoint(flight.names):
                del self._flights[key]
        for lane, merged in list(self._merged.items()):
            if not changed or not changed.isdisjoint(self._named(merged[0].request)):
                del self._merged[lane]

    # --- reader ---

    def read(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        """A read comes in; *done* gets its reply."""
        asker = self._asker(request)

        def answered(reply: Reply) -> None:
            self._quota.on_delivered_reply(asker, reply, self.agenda.now)
            done(reply)

        self._coalesce(self._quota.mark_after_refusal(request, asker), caller, answered)

    # --- coalescer ---

    def _coalesce(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        if request.directives.forbids_sharing:
            self._several(request, caller, done)
            return
        key = self._keys.flight(request)
        if (flight := self._flights.get(key)) is not None:
            if flight.has_time and not request.is_low_priority:
                flight.has_time = False
                self._urge(key)
            flight.others.append(done)
            return
        flight = self._flights[key] = _Flight(self._named(request), request.is_low_priority)

        def landed(reply: Reply) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]
            done(reply)
            for other in flight.others:
                other(reply.shared())

        self._several(request, caller, landed)

    # --- several ---

    def _several(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        parts = ids.parts(request) if "ids=" in request.query else None
        if parts is None or not all(ids.may_be_held(part, self._rules.of(part)) for part in parts.values()):
            self._merge(request, caller, done)
            return
        looked = {each: self._answer_held(part, caller) for each, part in parts.items()}
        held = {each: reply for each, reply in looked.items() if reply is not None}
        missing = {each: part for each, part in parts.items() if each not in held}
        if not missing:
            done(ids.join_replies(parts, held, {}))
            return
        asked_at = self.agenda.now

        def answered(answer: Reply) -> None:
            found = ids.split_reply(answer, missing)
            if found is None:
                if not held or graph_errors.is_trouble(answer):
                    done(answer)
                else:
                    self._merge(request, caller, done)
                return
            if answer.mode in ANSWERED_NOW:
                for each, part in missing.items():
                    self._learn(part, found[each], asked_at)
            done(ids.join_replies(parts, held, found) if held else answer)

        self._merge(ids.with_ids(request, missing) if held else request, caller, answered)

    # --- merger ---

    def _merge(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        if not self._rules.of(request).merge or (chosen := selection.selection(request)) is None:
            self._look(request, caller, done)
        elif reply := self._answer_held(request, caller):
            done(reply)
        elif selection.may_share(request):
            self._join(_Waiting(request, chosen.names, caller, done, self.agenda.now))
        else:
            self._look(request, caller, done)

    def _answer_held(self, request: Request, caller: SimulatedCaller) -> Reply | None:
        return self._answer_own(request, caller) or self._answer_from_more(request, caller)

    def _answer_from_more(self, request: Request, caller: SimulatedCaller) -> Reply | None:
        chosen, rule = selection.selection(request), self._rules.of(request)
        if chosen is None:
            return None
        for names in self._lore.supersets(self._family(request), chosen.names, self.agenda.now):
            more = selection.with_fields(request, names)
            whole = self._answer_own(more, caller) if self._rules.of(more) == rule else None
            if whole and (reply := projection.project_reply(whole, names, chosen.names)):
                return replace(reply, detail="superset") if reply.mode is Mode.REUSED else reply
        return None

    def _family(self, request: Request) -> Hashable:
        return selection.family(request, self._rules.of(request), self._keys)

    def _join(self, one: _Waiting) -> None:
        family = self._family(one.request)
        lanes = [(family, False), (family, True)] if one.request.is_low_priority else [(family, False)]
        flights = (flight for lane in lanes for flight in self._merged.get(lane, ()) if one.names <= flight.names)
        if (flight := next(flights, None)) is not None:
            flight.aboard.append(one)
            return
        self._companies.setdefault(lanes[-1], _Company()).queue.append(one)
        self._set_alarm(lanes[-1])

    def _set_alarm(self, lane: _Lane) -> None:
        company, now = self._companies[lane], self.agenda.now
        company.alarm += 1
        number, oldest = company.alarm, company.queue[0].since if company.queue else now
        limits = window.merge_limits(self._limits)
        due = window.due(len(company.queue), oldest, company.flying, limits, now)
        if due is not None:
            left = max(due, oldest)
            turn_s = company.queue[0].caller.turn_s if left == oldest else 0.0
            self.agenda.at(left + turn_s, lambda: self._depart(lane, number, left))
        elif not company.queue and not company.flying:
            del self._companies[lane]

    def _depart(self, lane: _Lane, number: int, left: float) -> None:
        company = self._companies.get(lane)
        if company is None or company.alarm != number:
            return
        aboard, company.queue = company.queue[:GRAPH_LIMIT], company.queue[GRAPH_LIMIT:]
        company.flying += 1
        self._take_off(lane, aboard, left)
        self._set_alarm(lane)

    def _take_off(self, lane: _Lane, waiting: Sequence[_Waiting], left: float) -> None:
        first, now = waiting[0].request, self.agenda.now
        family, rule = lane[0], self._rules.of(first)

        def may(names: selection.FieldSet) -> bool:
            return (
                self._lore.may_merge(family, names, now) and self._rules.of(selection.with_fields(first, names)) == rule
            )

        wanted = self._lore.wanted(family, now, rule.shared_s)
        groups = selection.merge_selections([one.names for one in waiting], wanted, may)
        in_the_air = len(groups)

        def landed() -> None:
            nonlocal in_the_air
            in_the_air -= 1
            if not in_the_air:
                self._companies[lane].flying -= 1
                self._set_alarm(lane)

        for group in groups:
            aboard = [waiting[place] for place in group.places]
            flight = _Merged(lane, selection.with_fields(aboard[0].request, group.names), group.names, aboard, landed)
            self._merged.setdefault(lane, []).append(flight)
            self._look(flight.request, _of_all(aboard, left), partial(self._land, flight))

    def _land(self, flight: _Merged, answer: Reply) -> None:
        family, now = flight.lane[0], self.agenda.now
        self._forget(flight)
        left = []
        for place, one in enumerate(flight.aboard):
            part = projection.project_reply(answer, flight.names, one.names)
            if part is None:
                left.append(one)
            else:
                one.done(projection.as_merged(part) if place else part)
        if left:
            self._take_apart(flight, left)
            return
        if answer.mode is not Mode.FAILED:
            selections, fresh_s = {one.names for one in flight.aboard}, self._rules.of(flight.request).shared_s
            self._lore.on_reply(family, flight.names, answer, selections, now, fresh_s=fresh_s)
        flight.landed()

    def _take_apart(self, flight: _Merged, left: Sequence[_Waiting]) -> None:
        alone: dict[selection.FieldSet, Reply | None] = {}
        to_come = len(left)

        def answered(one: _Waiting, reply: Reply) -> None:
            nonlocal to_come
            alone[one.names] = None if reply.mode is Mode.FAILED else reply
            one.done(reply)
            to_come -= 1
            if not to_come:
                self._lore.on_failure(flight.lane[0], flight.names, alone, self.agenda.now)
                flight.landed()

        for one in left:
            self._look(one.request, one.caller, partial(answered, one))

    def _forget(self, flight: _Merged) -> None:
        flights = self._merged.get(flight.lane, [])
        if flight in flights:
            flights.remove(flight)
            if not flights:
                del self._merged[flight.lane]

    # --- cache ---

    def _look(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        entry, terms = self._held(request), self._terms(request)
        plan = policy.plan(request, entry.meta if entry else None, terms, self.agenda.now)
        match plan:
            case policy.Refuse():
                done(errors.reply_of(errors.NotHeld("nothing that is held will do")))
            case policy.Ask():
                self._govern(self._inquiry(request.with_validator(plan.validator), entry, caller, done))
            case policy.Reuse():
                assert entry is not None  # noqa: S101 - nothing else is reused
                done(self._reuse(request, plan, entry, caller))

    def _answer_own(self, request: Request, caller: SimulatedCaller) -> Reply | None:
        entry, terms = self._held(request), self._terms(request)
        plan = policy.plan(request, entry.meta if entry else None, terms, self.agenda.now)
        return self._reuse(request, plan, entry, caller) if isinstance(plan, policy.Reuse) and entry else None

    def _reuse(self, request: Request, plan: policy.Reuse, entry: Entry, caller: SimulatedCaller) -> Reply:
        if plan.in_background:
            self._ask_behind(request.with_validator(policy.validator_for(entry.meta, request)), entry, caller)
        return policy.reuse(entry, plan, self._terms(request), self.agenda.now)

    def _ask_behind(self, request: Request, entry: Entry, caller: SimulatedCaller) -> None:
        key = self._keys.entry(request)
        if key in self._behind:
            return
        self._behind.add(key)
        patient = replace(request, priority=max(request.priority, LOW_PRIORITY))
        nobody = SimulatedCaller(caller.told, caller.bill.for_background())
        self._govern(self._inquiry(patient, entry, nobody, lambda _reply: self._behind.discard(key)))

    def _inquiry(self, request: Request, entry: Entry | None, caller: SimulatedCaller, done: Done) -> _Inquiry:
        terms = self._terms(request)
        return _Inquiry(request, entry, terms, self.agenda.now, self._asker(request), caller, done)

    def _asker(self, request: Request) -> QuotaSubject:
        return QuotaSubject(self._keys.fingerprint(request.credential), request.path, request.query)

    def _held(self, request: Request) -> Entry | None:
        return self._entries.get(self._keys.entry(request)) if self._rules.of(request).cache else None

    def _terms(self, request: Request) -> policy.Terms:
        fingerprint, now = self._keys.fingerprint(request.credential), self.agenda.now
        pressure = self._quota.pressure(QuotaSubject(fingerprint, request.path, request.query), now)
        touched, proof = self._touches.invalidated_at(request, fingerprint), self._keys.proof(request.credential)
        return policy.Terms(self._rules.of(request), proof, touched, pressure)

    def _named(self, request: Request) -> tuple[str, ...]:
        return self._touches.tags_of(request, self._keys.fingerprint(request.credential))

    def _settle(self, inquiry: _Inquiry, answer: Reply) -> None:
        if answer.mode is Mode.FAILED:
            inquiry.done(self._cover(inquiry, "stale-if-error") or answer)
            return
        terms = self._terms(inquiry.request)
        settled = policy.settle(inquiry.request, inquiry.entry, answer, terms, inquiry.asked)
        if settled is None:
            self._govern(self._inquiry(inquiry.request.with_validator(""), None, inquiry.caller, inquiry.done))
            return
        if settled.keep is not None:
            self._entries[self._keys.entry(inquiry.request)] = settled.keep
        inquiry.done(settled.reply)

    def _learn(self, request: Request, answer: Reply, asked: float) -> None:
        settled = policy.learn(request, self._held(request), answer, self._terms(request), asked)
        if settled.keep is not None:
            self._entries[self._keys.entry(request)] = settled.keep
        if chosen := selection.selection(request):
            own, fresh_s = chosen.names, self._rules.of(request).shared_s
            self._lore.on_reply(self._family(request), own, answer, {own}, self.agenda.now, fresh_s=fresh_s)

    def _cover(self, inquiry: _Inquiry, detail: str) -> Reply | None:
        terms, now, entry = self._terms(inquiry.request), self.agenda.now, inquiry.entry
        if entry and policy.may_cover(entry.meta, inquiry.request.directives, terms, now):
            return policy.cover(entry, terms, now, detail)
        return None

    # --- governor ---

    def _govern(self, inquiry: _Inquiry) -> None:
        now = self.agenda.now
        verdict = self._quota.admit(
            inquiry.asker, inquiry.request.priority, now, after_refusal=inquiry.request.after_refusal
        )
        if not isinstance(verdict, Wait):
            self._go(inquiry, verdict)
            return
        patient = _Patient(inquiry, now, now + self._quota.stages.longest_wait_s)
        self._patients.setdefault(self._keys.flight(inquiry.request), []).append(patient)
        self._stand(patient, verdict)

    def _stand(self, patient: _Patient, wait: Wait) -> None:
        """Stand in line until there is reason to ask again: the first until its time has come."""
        line = self._lines.setdefault(wait.bucket, [])
        line.insert(0 if patient.pool else len(line), patient)
        patient.pool = wait.bucket
        patient.alarm += 1
        number, end = patient.alarm, patient.end
        when = min(self.agenda.now + wait.seconds, end) if line[0] is patient else end
        self.agenda.at(when, lambda: self._ask_again(patient) if patient.alarm == number else None)

    def _ask_again(self, patient: _Patient, *, urged: bool = False) -> None:
        if patient.has_gone:
            return
        now, request = self.agenda.now, patient.inquiry.request
        patient.alarm += 1
        _drop(self._lines, patient.pool, patient)
        has_waited = urged or now >= patient.end
        verdict = self._quota.admit(
            patient.inquiry.asker, request.priority, now, has_waited=has_waited, after_refusal=request.after_refusal
        )
        if isinstance(verdict, Wait):
            self._stand(patient, verdict)
            return
        patient.has_gone = True
        _drop(self._patients, self._keys.flight(request), patient)
        self.waited_s.append(now - patient.since)
        self._go(patient.inquiry, verdict, patient.pool)

    def _wake(self, pool: BucketName | None, count: int) -> None:
        for patient in self._lines.get(pool, [])[:count]:
            self.agenda.at(self.agenda.now, partial(self._ask_again, patient))

    def _urge(self, key: FlightKey) -> None:
        for patient in list(self._patients.get(key, ())):
            self._ask_again(patient, urged=True)

    def _go(self, inquiry: _Inquiry, verdict: Verdict, waited_for: BucketName | None = None) -> None:
        if isinstance(verdict, Halt):
            inquiry.done(self._cover(inquiry, "throttled") or verdict.reply)
            self._wake(waited_for, RELEASED_PER_REPLY)
        elif isinstance(verdict, Go):
            self._send(inquiry, verdict.probes, waited_for)

    def _heard(self, news: LimitChanges) -> None:
        if news.stopped:  # the last first, for who has to go on waiting steps to the front
            for patient in [patient for line in self._lines.values() for patient in reversed(line)]:
                self._ask_again(patient)
        elif news.eased:
            for pool in list(self._lines):
                self._wake(pool, 1)

    # --- Graph ---

    def _send(self, inquiry: _Inquiry, probes: tuple[BucketName, ...], waited_for: BucketName | None) -> None:
        held = inquiry.entry.meta.asked_at if inquiry.entry else 0.0
        answer = self._graph.answer(inquiry.caller.told, inquiry.request, inquiry.asker, self.agenda.now, held=held)
        inquiry.caller.bill.send(answer.calls - answer.uncertain)
        inquiry.caller.bill.send(answer.uncertain, is_counted=False)
        now, left = self.agenda.now, inquiry.caller.left
        began = left if now - left < 2 * TURN_S else now  # unless it had to wait for the quota

        def landed() -> None:
            if answer.reply.mode is Mode.FAILED:
                self._quota.on_no_reply(probes, self.agenda.now)
            else:
                self._heard(self._quota.on_reply(inquiry.asker, answer.reply, self.agenda.now, probes))
            self._settle(inquiry, answer.reply)
            self._wake(waited_for, RELEASED_PER_REPLY)

        self.agenda.at(began + answer.seconds, landed)


def _drop(kept: dict[Any, list[_Patient]], key: Any, patient: _Patient) -> None:
    """*patient* is no longer among those that are kept under *key*."""
    kept[key].remove(patient)
    if not kept[key]:
        del kept[key]


def _of_all(aboard: Collection[_Waiting], left: float) -> SimulatedCaller:
    """On the first one's bill; it is told what the first was told who was told of an error."""
    first = next(iter(aboard)).caller
    refused = next((one.caller.told for one in aboard if one.caller.told.code), first.told)
    return SimulatedCaller(refused, first.bill, left)
