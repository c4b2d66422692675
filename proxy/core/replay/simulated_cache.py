"""The cache of the simulation: which reads an entry answers, which go to Graph, and what is stored.

`shell/pipeline/cache` does the same with tasks and a store; both ask `cache.policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from proxy.core.cache import policy
from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.cache.key import Keys
from proxy.core.http import errors
from proxy.core.model import LOW_PRIORITY, Entry, Mode, Reply, Request
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.limiter import Limiter
from proxy.core.replay.event_queue import Done, EventQueue
from proxy.core.replay.simulated_rate_limiter import AskedRead, SimulatedCaller
from proxy.core.routing.rules import RuleBook


@dataclass(frozen=True, slots=True, eq=False)
class _Inquiry:
    """A read for Graph, and what its answer is judged by."""

    request: Request
    entry: Entry | None
    asked: float
    caller: SimulatedCaller
    done: Done


class SimulatedCache:
    """Answers reads from its entries, or passes them to *onward*, the rate limiter."""

    def __init__(
        self, rules: RuleBook, limiter: Limiter, keys: Keys, events: EventQueue, onward: Callable[[AskedRead], None]
    ) -> None:
        """Start empty; *events* is the clock."""
        self.invalidations = InvalidationIndex()
        self._rules, self._limiter, self._keys, self._events, self._onward = rules, limiter, keys, events, onward
        self._entries: dict[bytes, Entry] = {}
        self._invalidated: dict[bytes, float] = {}  # when an entry was, by its key
        self._in_background: set[bytes] = set()

    def hold(self, request: Request, asked: float) -> None:
        """Store an entry that was fetched at *asked*, before the log began."""
        answer = Reply(200, (("ETag", '"recorded"'),), b"{}")
        settled = policy.settle(request, None, answer, self._terms(request), asked)
        if settled is not None and settled.keep is not None:
            self._entries[self._keys.entry(request)] = settled.keep

    def invalidate(self, request: Request, when: float) -> None:
        """Record that a change at *when* ended the freshness of the entry of *request*."""
        key = self._keys.entry(request)
        self._invalidated[key] = max(when, self._invalidated.get(key, 0.0))

    def read(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        """Answer *request* from an entry, or with Graph's reply; *done* gets the reply."""
        entry, terms = self._stored(request), self._terms(request)
        plan = policy.plan(request, entry.meta if entry else None, terms, self._events.now)
        match plan:
            case policy.Refuse():
                done(errors.reply_of(errors.NotHeld("only-if-cached, and no fresh entry is stored")))
            case policy.Ask():
                self._ask(request.with_validator(plan.validator), entry, caller, done)
            case policy.Reuse():
                assert entry is not None  # noqa: S101 - nothing else is reused
                done(self._reuse(request, plan, entry, caller))

    def answer_held(self, request: Request, caller: SimulatedCaller) -> Reply | None:
        """Returns the reply to *request* from an entry, without asking Graph; None if there is none."""
        entry, terms = self._stored(request), self._terms(request)
        plan = policy.plan(request, entry.meta if entry else None, terms, self._events.now)
        return self._reuse(request, plan, entry, caller) if isinstance(plan, policy.Reuse) and entry else None

    def learn(self, request: Request, answer: Reply, asked: float) -> None:
        """Store *answer*, a part of the reply to a larger read that was sent at *asked*."""
        settled = policy.learn(request, self._stored(request), answer, self._terms(request), asked)
        if settled.keep is not None:
            self._entries[self._keys.entry(request)] = settled.keep

    def subject(self, request: Request) -> QuotaSubject:
        """Returns what decides under which limits *request* falls."""
        return QuotaSubject(self._keys.fingerprint(request.credential), request.path, request.query)

    def tags(self, request: Request) -> tuple[str, ...]:
        """Returns the cache tags of *request*."""
        return self.invalidations.tags_of(request, self._keys.fingerprint(request.credential))

    def _reuse(self, request: Request, plan: policy.Reuse, entry: Entry, caller: SimulatedCaller) -> Reply:
        if plan.in_background:
            self._revalidate(request.with_validator(policy.validator_for(entry.meta, request)), entry, caller)
        return policy.reuse(entry, plan, self._terms(request), self._events.now)

    def _revalidate(self, request: Request, entry: Entry, caller: SimulatedCaller) -> None:
        key = self._keys.entry(request)
        if key in self._in_background:
            return
        self._in_background.add(key)
        delayed = replace(request, priority=max(request.priority, LOW_PRIORITY))
        no_caller = SimulatedCaller(caller.line, caller.cost.for_background())
        self._ask(delayed, entry, no_caller, lambda _reply: self._in_background.discard(key))

    def _ask(self, request: Request, entry: Entry | None, caller: SimulatedCaller, done: Done) -> None:
        inquiry = _Inquiry(request, entry, self._events.now, caller, done)
        held_since = entry.meta.asked_at if entry else 0.0
        settle, halt = partial(self._settle, inquiry), partial(self._halt, inquiry)
        self._onward(AskedRead(request, self.subject(request), caller, held_since, settle, halt))

    def _settle(self, inquiry: _Inquiry, answer: Reply) -> None:
        if answer.mode is Mode.FAILED:
            inquiry.done(self._cover(inquiry, "stale-if-error") or answer)
            return
        terms = self._terms(inquiry.request)
        settled = policy.settle(inquiry.request, inquiry.entry, answer, terms, inquiry.asked)
        if settled is None:
            self._ask(inquiry.request.with_validator(""), None, inquiry.caller, inquiry.done)
            return
        if settled.keep is not None:
            self._entries[self._keys.entry(inquiry.request)] = settled.keep
        inquiry.done(settled.reply)

    def _halt(self, inquiry: _Inquiry, refusal: Reply) -> None:
        inquiry.done(self._cover(inquiry, "throttled") or refusal)

    def _cover(self, inquiry: _Inquiry, detail: str) -> Reply | None:
        terms, now, entry = self._terms(inquiry.request), self._events.now, inquiry.entry
        if entry and policy.may_cover(entry.meta, inquiry.request.directives, terms, now):
            return policy.cover(entry, terms, now, detail)
        return None

    def _stored(self, request: Request) -> Entry | None:
        return self._entries.get(self._keys.entry(request)) if self._rules.of(request).cache else None

    def _terms(self, request: Request) -> policy.Terms:
        fingerprint, proof = self._keys.fingerprint(request.credential), self._keys.proof(request.credential)
        pressure = self._limiter.pressure(self.subject(request), self._events.now)
        known = self.invalidations.invalidated_at(request, fingerprint)
        invalidated_at = max(known, self._invalidated.get(self._keys.entry(request), 0.0))
        return policy.Terms(self._rules.of(request), proof, invalidated_at, pressure)
