"""The pipeline as a discrete-event simulation: what it would do with recorded reads, without Graph and without waiting.

A read passes the same layers as in `shell/pipeline`, which decide with the same functions: the coalescer and the
splitter of `?ids=` here, then `simulated_merger`, `simulated_cache` and `simulated_rate_limiter`. What happens later is
an event in the queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.core.batch.window import Limits
from proxy.core.cache.key import FlightKey, Keys
from proxy.core.cache.tags import UNKNOWN_OBJECT
from proxy.core.graph import errors as graph_errors
from proxy.core.merge import ids_split
from proxy.core.model import ANSWERED_NOW, Reply, Request
from proxy.core.quota.bucket import Stages
from proxy.core.quota.limiter import Limiter
from proxy.core.replay.event_queue import Done, EventQueue
from proxy.core.replay.simulated_cache import SimulatedCache
from proxy.core.replay.simulated_merger import SimulatedMerger
from proxy.core.replay.simulated_rate_limiter import Graph, SimulatedCaller, SimulatedRateLimiter
from proxy.core.routing.rules import RuleBook


@dataclass(slots=True, eq=False)
class _SimulatedFlight:
    names: tuple[str, ...]
    is_low_priority: bool
    others: list[Done] = field(default_factory=list)


class Simulator:
    """The simulated pipeline; `read` and `wrote` take what comes in at the current time of the event queue."""

    def __init__(
        self, rules: RuleBook, stages: Stages, limits: Limits, graph: Graph, keys: Keys, *, shared: bool
    ) -> None:
        """Simulate these settings with an empty cache; *shared* means that all tokens belong to one app."""
        self.events = EventQueue()
        self._rules, self._keys = rules, keys
        self._limiter = Limiter(stages, shared=shared)
        self._rate_limiter = SimulatedRateLimiter(self._limiter, graph, keys, self.events)
        self._cache = SimulatedCache(rules, self._limiter, keys, self.events, self._rate_limiter.take)
        self._merger = SimulatedMerger(self._cache, rules, limits, keys, self.events)
        self._flights: dict[FlightKey, _SimulatedFlight] = {}

    @property
    def waited_s(self) -> list[float]:
        """The seconds for which each read waited that the rate limiter delayed."""
        return self._rate_limiter.waited_s

    def hold(self, request: Request, asked: float) -> None:
        """Store an entry that was fetched at *asked*, before the log began."""
        self._cache.hold(request, asked)

    def wrote(self, nodes: Iterable[str], request: Request) -> None:
        """Record that a write to *nodes* with the token of *request* was answered."""
        fingerprint = self._keys.fingerprint(request.credential)
        tags = self._cache.invalidations.tags_of_write(nodes, fingerprint)
        changed = [name for name in tags if name != UNKNOWN_OBJECT]  # the log tells which reads of names it concerns
        self._cache.invalidations.invalidate(changed, self.events.now)
        for key, flight in list(self._flights.items()):
            if not changed or not flight.names or not set(changed).isdisjoint(flight.names):
                del self._flights[key]
        self._merger.close_flights(changed)

    def invalidate(self, request: Request, when: float) -> None:
        """Record that a change at *when* ended the freshness of the entry of *request*."""
        self._cache.invalidate(request, when)

    def read(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        """Take a read that comes in; *done* is called with its reply."""
        subject = self._cache.subject(request)

        def answered(reply: Reply) -> None:
            self._limiter.on_delivered_reply(subject, reply, self.events.now)
            done(reply)

        self._coalesce(self._limiter.mark_after_refusal(request, subject), caller, answered)

    def _coalesce(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        if request.directives.forbids_sharing:
            self._split_ids(request, caller, done)
            return
        key = self._keys.flight(request)
        if (flight := self._flights.get(key)) is not None:
            if flight.is_low_priority and not request.is_low_priority:
                flight.is_low_priority = False
                self._rate_limiter.promote(key)
            flight.others.append(done)
            return
        flight = self._flights[key] = _SimulatedFlight(self._cache.tags(request), request.is_low_priority)

        def on_end(reply: Reply) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]
            done(reply)
            for other in flight.others:
                other(reply.shared())

        self._split_ids(request, caller, on_end)

    def _split_ids(self, request: Request, caller: SimulatedCaller, done: Done) -> None:
        parts = ids_split.reads_by_id(request) if "ids=" in request.query else None
        if parts is None or not all(ids_split.may_be_held(part, self._rules.of(part)) for part in parts.values()):
            self._merger.read(request, caller, done)
            return
        looked = {each: self._merger.answer_held(part, caller) for each, part in parts.items()}
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
                    self._merger.read(request, caller, done)
                return
            if answer.mode in ANSWERED_NOW:
                for each, part in missing.items():
                    self._merger.learn(part, found[each], asked_at)
            done(ids_split.join_replies(parts, held, found) if held else answer)

        self._merger.read(ids_split.with_ids(request, missing) if held else request, caller, answered)
