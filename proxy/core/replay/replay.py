"""Replays recorded traffic under other settings: what it would have cost, and how old its replies would have been.

The log entries (`access_log.AccessLogEntry`) hold ids, fingerprints and hashes alone, so no token and no body is known
here. The `simulator` decides with the same functions as the running sidecar, `counterfactual` answers in Graph's place,
and two ledgers count: the calls as they were, and as they would have been.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from proxy.core.batch.window import Limits
from proxy.core.cache.key import Keys
from proxy.core.graph import ids as graph_ids
from proxy.core.graph.throttles import THROTTLED
from proxy.core.http import cache_control
from proxy.core.memory.memo import MEMO_BYTES, memo
from proxy.core.model import CacheDirectives, Credential, Mode, Reply, Request
from proxy.core.observe.access_log import AccessLogEntry
from proxy.core.quota import ledger, limiter
from proxy.core.quota.bucket import Stages
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.ledger import Ledger, RequestCost
from proxy.core.replay.counterfactual import Counterfactual
from proxy.core.replay.simulated_rate_limiter import SimulatedCaller
from proxy.core.replay.simulator import Simulator
from proxy.core.routing import classify
from proxy.core.routing.query import join_pairs
from proxy.core.routing.rules import RuleBook

LONGEST_REPLY_S = 120.0
"""Seconds for which an earlier read may still follow: a line is written when its reply is."""

_KEYS = Keys(bytes(32))
"""Keys without a secret: the hashes in the log are keyed already."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A line of the log and the time of its answer, in epoch seconds."""

    answered_at: float
    logged: AccessLogEntry

    @property
    def asked_at(self) -> float:
        """When the request came in, in epoch seconds."""
        return self.answered_at - self.logged.total_ms / 1000


@dataclass(slots=True)
class Tally:
    """The counts of one route, or of all, besides calls."""

    reads: int = 0
    throttled_then: int = 0  # recorded replies that were a throttle
    throttled: int = 0
    outdated: int = 0  # replies that were older than Graph's known answer at that time
    oldest_s: float = 0.0

    def add(self, other: Tally) -> None:
        """Add the counts of *other*."""
        self.reads += other.reads
        self.throttled_then += other.throttled_then
        self.throttled += other.throttled
        self.outdated += other.outdated
        self.oldest_s = max(self.oldest_s, other.oldest_s)


@dataclass(slots=True)
class Coverage:
    """How much of the log could be replayed."""

    first: float = math.inf
    last: float = -math.inf
    reads: int = 0
    others: int = 0  # other messages, which count as recorded
    older: int = 0  # reads in lines of older versions, which lack fields for merging
    late: int = 0  # lines that came too late to be put in order


class Replay:
    """Replays recorded traffic in the order in which it came in."""

    def __init__(self, rules: RuleBook, stages: Stages, limits: Limits, *, shared: bool) -> None:
        """Simulate these settings with an empty cache; *shared* means that all tokens belong to one app."""
        self.then, self.now = Ledger(), Ledger()
        self.routes: dict[str, Tally] = {}
        self.coverage = Coverage()
        self._rules = rules
        self._graph = Counterfactual(_KEYS, shared=shared)
        self._simulator = Simulator(rules, stages, limits, self._graph, _KEYS, shared=shared)
        self._seen: set[bytes] = set()

    @property
    def waited_s(self) -> list[float]:
        """The waiting times of the reads that the rate limiter would have delayed."""
        return self._simulator.waited_s

    def play(self, lines: Iterable[Recorded]) -> None:
        """Replay *lines*, which are in the order in which they were written."""
        for line in self._in_order(lines):
            self._simulator.events.until(line.asked_at)
            self._play(line)
        self._simulator.events.until(math.inf)

    def _in_order(self, lines: Iterable[Recorded]) -> Iterator[Recorded]:
        """Yields the lines in the order in which their requests came in, reading ahead as little as possible."""
        waiting: list[tuple[float, int, Recorded]] = []
        for number, line in enumerate(lines):
            heapq.heappush(waiting, (line.asked_at, number, line))
            while waiting[0][0] < line.answered_at - LONGEST_REPLY_S:
                yield heapq.heappop(waiting)[2]
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _play(self, line: Recorded) -> None:
        logged, coverage = line.logged, self.coverage
        coverage.first, coverage.last = min(coverage.first, line.asked_at), max(coverage.last, line.answered_at)
        request = _request_of_line(logged, self._rules)
        subject = QuotaSubject(_KEYS.fingerprint(request.credential), request.path, request.query)
        sent = _calls_sent(logged)
        self._graph.observe(logged, request, subject, sent, line.asked_at)
        _count_calls(self._open_cost(self.then, logged), logged, sent, _avoided_by_cause(logged))
        if logged.key and not logged.behind:
            self._read(line, request)
        elif not logged.key:
            coverage.others += logged.calls > 0
            _count_calls(self._open_cost(self.now, logged), logged, sent, _avoided_by_cause(logged))
            self._graph.add_calls(subject, sent, line.asked_at)
            if logged.writes and logged.node:
                self._simulator.wrote((logged.node,), request)

    def _open_cost(self, to: Ledger, logged: AccessLogEntry) -> RequestCost:
        return to.open(logged.calls, route=logged.route, app=logged.app, account=graph_ids.account(logged.node))

    # --- reads ---

    def _read(self, line: Recorded, request: Request) -> None:
        logged, tally = line.logged, self.routes.setdefault(line.logged.route, Tally())
        self.coverage.reads += 1
        self.coverage.older += not logged.rest
        tally.reads += 1
        tally.throttled_then += logged.code in THROTTLED
        entry = _KEYS.entry(request)
        if entry not in self._seen:
            self._seen.add(entry)
            if logged.age_s is not None and logged.detail != "superset":
                self._simulator.hold(request, line.asked_at - logged.age_s)
        if logged.invalidated_s is not None:
            self._simulator.invalidate(request, line.asked_at - logged.invalidated_s)
        cost = self._open_cost(self.now, logged)
        self._simulator.read(
            request,
            SimulatedCaller(logged, cost),
            lambda reply: self._count_reply(logged, request, cost, reply, tally),
        )

    def _count_reply(
        self, logged: AccessLogEntry, request: Request, cost: RequestCost, reply: Reply, tally: Tally
    ) -> None:
        cost.avoid(ledger.calls_avoided(reply, cost.unsent))
        if reply.mode is Mode.REVALIDATED:
            cost.avoid_bytes(logged.size)
        tally.throttled += limiter.throttle(reply) is not None
        if reply.age is not None:
            tally.oldest_s = max(tally.oldest_s, reply.age)
            tally.outdated += self._graph.changed_at(request) > self._simulator.events.now - reply.age


def _calls_sent(logged: AccessLogEntry) -> int:
    """Returns the calls that were sent; a line of an older version does not say that of a failed request."""
    if logged.sent is not None:
        return logged.sent
    return 0 if logged.mode == Mode.FAILED else logged.calls - logged.avoided


def _avoided_by_cause(logged: AccessLogEntry) -> dict[str, int]:
    """Returns the recorded avoided calls by cause.

    If only some of several objects were fetched, the others were fresh in the cache. A message that passes through
    avoids calls only if Graph's last refusal is given again.
    """
    reply = Reply(logged.status, (), b"", Mode(logged.mode), detail=logged.detail, age=logged.age_s)
    causes = dict(ledger.calls_avoided(reply, logged.avoided))
    usual = ledger.REFUSED if logged.mode == Mode.SKIPPED else "fresh"
    return causes or ({usual: logged.avoided} if logged.avoided else {})


def _count_calls(cost: RequestCost, logged: AccessLogEntry, sent: int, causes: dict[str, int]) -> None:
    cost.send(sent - logged.uncertain)
    cost.send(logged.uncertain, is_counted=False)
    cost.avoid(causes)


def _request_of_line(logged: AccessLogEntry, rules: RuleBook) -> Request:
    """Returns the read that a line is about, as far as the line tells."""
    request = Request(
        logged.host,
        logged.version,
        logged.path,
        _query_of_line(logged.path, logged.node, logged.fields, logged.ids, logged.rest or f"!{logged.key}"),
        credential=Credential(logged.app, logged.proof, "once" if logged.timed else ""),
        directives=_directives(logged.wishes),
    )
    urgency = classify.priority("", rules.of(request).priority) if logged.priority is None else logged.priority
    return replace(request, priority=urgency)


@memo(4 * MEMO_BYTES)
def _query_of_line(path: str, node: str, fields: str, ids: str, rest: str) -> str:
    """Returns a query in normal form, with a hash in place of the parameters that no layer reads.

    A line of an older version lacks that hash; its read is not merged with others.
    """
    named = {"fields": fields, "ids": ids, "id": node if path == "/" and not ids else ""}
    named["debug" if rest.startswith("!") else "rest"] = rest
    return join_pairs(tuple(sorted((name, value) for name, value in named.items() if value)))


@memo()
def _directives(control: str) -> CacheDirectives:
    return cache_control.cache_directives({"cache-control": control} if control else {})
