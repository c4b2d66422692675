"""Yesterday's traffic by other settings: what it would have cost, and how old its replies would have been.

The recorded lines (`telling.Told`) hold ids, fingerprints and hashes alone, so nothing here knows a token or a body.
What comes of a read is decided by the functions that serve (`rehearsing`), what Graph says is what it said
(`supposing`), and what is counted is counted in two ledgers: as it was, and as it would have been.
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
from proxy.core.replay.simulator import SimulatedCaller, Simulator
from proxy.core.routing import classify
from proxy.core.routing.query import join_pairs
from proxy.core.routing.rules import RuleBook

LONGEST_S = 120.0
"""Lines are written when their replies are: for so many seconds an earlier read may still come up."""

_KEYS = Keys(bytes(32))
"""The log's hashes are keyed already."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A line of the log and when it was written, epoch seconds: the time of the answer."""

    answered: float
    told: AccessLogEntry

    @property
    def asked(self) -> float:
        """When the message came in."""
        return self.answered - self.told.total_ms / 1000


@dataclass(slots=True)
class Tally:
    """What one route, or everything, comes to besides its calls."""

    reads: int = 0
    throttled_then: int = 0  # replies that were a throttle
    throttled: int = 0
    outdated: int = 0  # replies that Graph is known to have said otherwise by then
    oldest_s: float = 0.0

    def add(self, other: Tally) -> None:
        """Take *other* in."""
        self.reads += other.reads
        self.throttled_then += other.throttled_then
        self.throttled += other.throttled
        self.outdated += other.outdated
        self.oldest_s = max(self.oldest_s, other.oldest_s)


@dataclass(slots=True)
class Coverage:
    """How much of the log could be played."""

    first: float = math.inf
    last: float = -math.inf
    reads: int = 0
    others: int = 0  # what is no read counts as it did
    older: int = 0  # reads in lines of older versions: by their freshness alone
    late: int = 0  # lines that came too late to be put in order


class Replay:
    """Plays recorded traffic in the order in which it came in."""

    def __init__(self, rules: RuleBook, stages: Stages, limits: Limits, *, shared: bool) -> None:
        """Answer by these settings, with nothing held; *shared*: all tokens are of one app."""
        self.then, self.now = Ledger(), Ledger()
        self.routes: dict[str, Tally] = {}
        self.coverage = Coverage()
        self._rules = rules
        self._graph = Counterfactual(_KEYS, shared=shared)
        self._stack = Simulator(rules, stages, limits, self._graph, _KEYS, shared=shared)
        self._seen: set[bytes] = set()

    @property
    def waited_s(self) -> list[float]:
        """The waits of the reads that would have been held back."""
        return self._stack.waited_s

    def play(self, lines: Iterable[Recorded]) -> None:
        """Play *lines*, which come in the order in which they were written."""
        for line in self._in_order(lines):
            self._stack.agenda.until(line.asked)
            self._play(line)
        self._stack.agenda.until(math.inf)

    def _in_order(self, lines: Iterable[Recorded]) -> Iterator[Recorded]:
        """By when each came in, looking no further ahead than has to be."""
        waiting: list[tuple[float, int, Recorded]] = []
        for number, line in enumerate(lines):
            heapq.heappush(waiting, (line.asked, number, line))
            while waiting[0][0] < line.answered - LONGEST_S:
                yield heapq.heappop(waiting)[2]
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _play(self, line: Recorded) -> None:
        told, seen = line.told, self.coverage
        seen.first, seen.last = min(seen.first, line.asked), max(seen.last, line.answered)
        request = _request(told, self._rules)
        asker = QuotaSubject(_KEYS.fingerprint(request.credential), request.path, request.query)
        sent = _sent(told)
        self._graph.observe(told, request, asker, sent, line.asked)
        _settle(self._bill(self.then, told), told, sent, _causes(told))
        if told.key and not told.behind:
            self._read(line, request)
        elif not told.key:
            seen.others += told.calls > 0
            _settle(self._bill(self.now, told), told, sent, _causes(told))
            self._graph.made(asker, sent, line.asked)
            if told.writes and told.node:
                self._stack.wrote((told.node,), request)

    def _bill(self, to: Ledger, told: AccessLogEntry) -> RequestCost:
        return to.open(told.calls, route=told.route, app=told.app, account=graph_ids.account(told.node))

    # --- reads ---

    def _read(self, line: Recorded, request: Request) -> None:
        told, tally = line.told, self.routes.setdefault(line.told.route, Tally())
        self.coverage.reads += 1
        self.coverage.older += not told.rest
        tally.reads += 1
        tally.throttled_then += told.code in THROTTLED
        entry = _KEYS.entry(request)
        if entry not in self._seen:
            self._seen.add(entry)
            if told.age_s is not None and told.detail != "superset":
                self._stack.hold(request, line.asked - told.age_s)
        bill = self._bill(self.now, told)
        self._stack.read(
            request, SimulatedCaller(told, bill), lambda reply: self._replied(told, request, bill, reply, tally)
        )

    def _replied(self, told: AccessLogEntry, request: Request, bill: RequestCost, reply: Reply, tally: Tally) -> None:
        bill.avoid(ledger.calls_avoided(reply, bill.unsent))
        if reply.mode is Mode.REVALIDATED:
            bill.avoid_bytes(told.size)
        tally.throttled += limiter.throttle(reply) is not None
        if reply.age is not None:
            tally.oldest_s = max(tally.oldest_s, reply.age)
            tally.outdated += self._graph.changed(request) > self._stack.agenda.now - reply.age


def _sent(told: AccessLogEntry) -> int:
    """The calls that left for it; a line of an older version does not say whether what failed had left."""
    if told.sent is not None:
        return told.sent
    return 0 if told.mode == Mode.FAILED else told.calls - told.avoided


def _causes(told: AccessLogEntry) -> dict[str, int]:
    """Why calls were not made; of several objects of which only some were asked for, the others were held.

    What passes through is held back for a limit's sake alone.
    """
    reply = Reply(told.status, (), b"", Mode(told.mode), detail=told.detail)
    causes = dict(ledger.calls_avoided(reply, told.avoided))
    usual = "throttle" if told.mode == Mode.SKIPPED else "fresh"
    return causes or ({usual: told.avoided} if told.avoided else {})


def _settle(bill: RequestCost, told: AccessLogEntry, sent: int, causes: dict[str, int]) -> None:
    bill.send(sent - told.uncertain)
    bill.send(told.uncertain, is_counted=False)
    bill.avoid(causes)


def _request(told: AccessLogEntry, rules: RuleBook) -> Request:
    """The read of a line, as far as it is told."""
    request = Request(
        told.host,
        told.version,
        told.path,
        _query(told.path, told.node, told.fields, told.ids, told.rest or f"!{told.key}"),
        credential=Credential(told.app, told.proof, "once" if told.timed else ""),
        directives=_wishes(told.wishes),
    )
    urgency = classify.priority("", rules.of(request).priority) if told.priority is None else told.priority
    return replace(request, priority=urgency)


@memo(4 * MEMO_BYTES)
def _query(path: str, node: str, fields: str, ids: str, rest: str) -> str:
    """A query in normal form in which a hash stands for the parameters that no layer looks at.

    In a line that does not tell what else is asked, fields say too little: such a read stays by itself.
    """
    named = {"fields": fields, "ids": ids, "id": node if path == "/" and not ids else ""}
    named["debug" if rest.startswith("!") else "rest"] = rest
    return join_pairs(tuple(sorted((name, value) for name, value in named.items() if value)))


@memo()
def _wishes(control: str) -> CacheDirectives:
    return cache_control.cache_directives({"cache-control": control} if control else {})
