"""Counts replies, calls and errors, by `Mode` and in Meta's units; `stats` and `prometheus` show the sums."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING

from proxy.core.batch import lanes
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.graph.ids import account
from proxy.core.http.errors import SidecarError, word
from proxy.core.model import Entry, Headers, Mode, Reply, Request
from proxy.core.observe.access_log import Outcome, PassedMessage, PreparedLine, Varying, line_template
from proxy.core.observe.histogram import Histogram, time_bounds
from proxy.core.observe.route_template import Routes, template
from proxy.core.observe.troubles import COVERED
from proxy.core.quota import ledger
from proxy.core.quota.ledger import GroupPayer, Ledger, Payer, RequestCost
from proxy.core.routing.nodes import calls_of, nodes
from proxy.shell.observe.access_logger import AccessLog
from proxy.shell.observe.counted_call import CountedCall, LaneCounts
from proxy.shell.observe.error_counts import ErrorCounts
from proxy.shell.observe.gauges import Gauges
from proxy.shell.observe.prepared import AGES_S, FINE_TIMES_S, TIMES_S, PreparedHit
from proxy.shell.observe.route_counts import RouteCounts

if TYPE_CHECKING:  # an extra
    from proxy.shell.observe.tracing import Tracer

WAITS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
FINE_WAITS_S = time_bounds(*WAITS_S)
SLOTS = (1, 2, 5, 10, 20, 30, 40, 50)

PUSHED = ("heard", "forged", "refused")
"""The outcomes of a webhook notification: accepted, with a wrong signature, refused."""

ROUTE_COUNTS = 4096
"""Routes by app and account whose reads are counted together."""


Sums = tuple[Sequence[int], float]
"""How many values there are in each bucket, and their sum."""


class Counters:
    """All counters. Calls, bytes and round trips avoided are three numbers and are never added up."""

    def __init__(self, clock: Callable[[], float], now: Callable[[], float], version: str = "") -> None:
        """Start at 0; *clock* gives monotonic, *now* epoch seconds, *version* is the sidecar's."""
        self.version = version
        self.instance = self.upstream_origin = ""  # which sidecar this is, and what it calls
        self.usage_series = 100  # limits of Graph's in /metrics
        self.gauges = Gauges()
        self.access_log: AccessLog | None = None
        self.tracer: Tracer | None = None
        self.unsettled_ledger = Ledger()  # without what `settle` adds
        self._replies: Counter[tuple[Mode, str, int]] = Counter()
        self._route_counts: dict[tuple[str, str, str], RouteCounts] = {}
        self.pending: list[PreparedHit | RouteCounts] = []  # those with a count that is not in the sums yet
        self.era = 0  # of the routes' labels: it changes when a route gets another one
        self.relabelled: Callable[[], None] = lambda: None  # called then
        self.sizes: Counter[int] = Counter()  # batches of ours, by their slots
        self.again: Counter[str] = Counter()
        self.alone = self.carries = self.streamed = self.in_flight = 0
        self.client_batches = self.client_operations = 0
        self.notifications: Counter[str] = Counter()
        self.events = 0  # reported by Meta's webhooks
        self.window, self.lag = Histogram(FINE_WAITS_S, WAITS_S), Histogram(FINE_WAITS_S, WAITS_S)
        self.upstream, self._age = _times(), Histogram(AGES_S)
        self.lanes = {name: LaneCounts(Counter(), _times()) for name in (*lanes.NAMES, lanes.TRIAL)}
        self._took: dict[str, Histogram] = {}  # whole replies, by route
        self.times_by_mode = {mode: _times() for mode in Mode}  # `took_by_mode` without what `settle` adds
        self.no_caller = self.unsettled_ledger.open(0)  # what is charged to no caller
        self.clock, self.now = clock, now
        self.began, self.start_time = clock(), now()
        self.waited: Counter[str] = Counter()  # reads that were paced, by sort of pool
        self.waited_s: defaultdict[str, float] = defaultdict(float)
        self.stops: Counter[str] = Counter()
        self.compared: Counter[tuple[str, str]] = Counter()  # with Graph's direct reply: by route, and how it came out
        self.compare_percent: Callable[[], float] = lambda: 0.0
        self.not_compared: Counter[str] = Counter()  # reads that were drawn for it, by what was in the way
        self.details: Counter[str] = Counter()  # of replies to reads, in the words of Cache-Status
        self.refused: Counter[Mode] = Counter()  # replies that give Graph's last refusal again, by their mode
        self.routes = Routes(renamed=self._rename)
        self._errors = ErrorCounts(now)
        self.errors, self.error_replies = self._errors.recent, self._errors.replies
        self._prefix, self._batches = token_hex(3), count(1)

    # --- what callers ask, and what they get ---

    def asked(self, path: str, query: str, fingerprint: bytes) -> RequestCost:
        """Count a read of *path* by a caller; returns its cost, which stays open until the read was sent or avoided."""
        route = self.routes.label(path)
        cost = self.unsettled_ledger.open(
            calls_of(query),
            route=route,
            app=fingerprint.hex()[:12],
            account=account(next(iter(nodes(path, query)), "")),
        )
        if self.tracer:
            self.tracer.begin(cost, route)
        return cost

    def replied(self, request: Request, reply: Reply, cost: RequestCost, seconds: float, dressed: Reply) -> None:
        """Count and log *reply* to a read; its caller got it as *dressed*, *seconds* after the read came in."""
        route = self.routes.label(request.path)
        self._ended(reply.mode, route, dressed.status, seconds)
        cost.avoid(ledger.calls_avoided(reply, cost.unsent))
        if reply.mode is Mode.REVALIDATED:
            cost.avoid_bytes(len(reply.body))
        if reply.mode is not Mode.COALESCED:
            self.observe_call(reply.window_s, reply.upstream_s)
        if reply.age is not None:
            self._age.observe(reply.age)
        if reply.detail:
            self.details[reply.detail] += 1
        if reply.status < 400:
            self.routes.record_answer(request.path)
        if is_refused := ledger.is_refused_here(reply):
            self.refused[reply.mode] += 1
        if reply.status >= 400 or is_refused:
            self._errors.count(reply.mode, is_refused=is_refused)
        if reply.status >= 400 or reply.detail == COVERED or is_refused:
            self._errors.keep(reply.mode, reply.status, route, reply.body, reply.detail)
        if self.tracer:
            attributes = {"mode": reply.mode.value, "batch": reply.batch, "detail": reply.detail, "app": cost.app}
            self.tracer.end(cost, dressed.status, attributes)
        if self.access_log:
            self.access_log.replied(request, reply, _outcome(cost, dressed, seconds), route)

    def prepare_hit(self, request: Request, reply: Reply, fingerprint: bytes, rendered: Reply) -> PreparedHit:
        """Returns an object that counts and logs each reply to *request* from memory with *rendered*, made of *reply*.

        Its `add` does the same as `asked` and `replied`. It is not used while replies are traced.
        """
        path, query, calls = request.path, request.query, calls_of(request.query)
        outcome = Outcome(rendered.status, len(rendered.body), 0.0, calls, calls)
        names = fingerprint.hex()[:12], account(next(iter(nodes(path, query)), ""))
        line = self.access_log.prepare(request, reply, outcome, self.route_label(path)) if self.access_log else None
        return PreparedHit(self, request, reply, outcome=outcome, names=names, line=line)

    def route_counts(self, path: str, query: str, app: str) -> RouteCounts:
        """Returns the counts of reads of this route by *app* that are one call each and are answered well."""
        key = template(path), app, account(next(iter(nodes(path, query)), ""))
        counts = self._route_counts.get(key)
        if counts is None:
            if len(self._route_counts) >= ROUTE_COUNTS:
                self._route_counts.clear()
            counts = self._route_counts[key] = RouteCounts(self, path, app, key[2])
        return counts

    def prepare_line(self, read: PreparedRead, reply: Reply, outcome: Outcome) -> PreparedLine | None:
        """Returns the log line of each reply to *read* like *reply*; None where nothing is logged."""
        return (
            self.access_log.prepare(read.request, reply, outcome, read.common.counts.route, read.key)
            if self.access_log
            else None
        )

    def line_like(self, read: PreparedRead, mode: Mode, usage: Headers, entry: Entry, size: int) -> PreparedLine | None:
        """Returns the log line of the reply of this *mode* and *usage* with *entry* to the first caller.

        It is made from the line of a read of another object, if there was one.
        """
        if self.access_log is None:
            return None
        common, node = read.common, read.node
        known, template, era = common.lines.get(mode, ((), None, -1))
        if template is None or known != usage or era != self.era:
            reply = Reply(200, (("ETag", entry.meta.etag), *usage), entry.body, mode)
            outcome = Outcome(200, size, 0.0, 1, avoided=0, sent=1)
            line = self.prepare_line(read, reply, outcome)
            if line is not None:
                bare = line.entry(Varying(0.0))
                is_shown = bare.path == read.request.path and bare.node == node
                common.lines = {**common.lines, mode: (usage, line_template(bare) if is_shown else None, self.era)}
            return line
        mark = self.access_log.keys.mark(entry.meta.etag.encode("utf-8", "surrogateescape"))
        return template.line(node.encode(), read.key[:8].hex().encode(), mark.hex().encode(), size)

    def lines_like(
        self, reads: Sequence[PreparedRead], mode: Mode, usage: Headers, entries: Sequence[Entry], sizes: Sequence[int]
    ) -> list[PreparedLine | None]:
        """Returns the log lines of replies to *reads* as `line_like` does."""
        return [
            self.line_like(read, mode, usage, entry, size)
            for read, entry, size in zip(reads, entries, sizes, strict=True)
        ]

    def add_good_replies(self, path: str, replies: Mapping[Mode, int]) -> None:
        """Add *replies* of status 200 to reads of *path*, by their modes, whose times are counted already."""
        route = self.routes.label(path)
        for mode, times in replies.items():
            self._replies[mode, route, 200] += times
        if replies:
            self.routes.record_answer(path, sum(replies.values()))

    def took_of(self, route: str) -> Histogram:
        """Returns the histogram of how long replies of *route* took, without what `settle` adds."""
        return self._took_of(route)

    def settle(self) -> None:
        """Add what prepared replies have counted to the sums; it is called before any sum is read."""
        pending, self.pending = self.pending, []
        for each in pending:
            each.settle()

    def add_hits(self, hit: PreparedHit, count: int, times: Sums, ages: Sums) -> None:
        """Count *hit* as often as *count*: replies that took these *times* and were of these *ages*."""
        route = self.routes.label(hit.path)
        self._replies[hit.mode, route, hit.status] += count
        self.times_by_mode[hit.mode].add_counts(*times)
        self._took_of(route).add_counts(*times)
        self._age.add_counts(*ages)
        self.routes.record_answer(hit.path, count)

    def observe_call(self, window_s: float | None, upstream_s: float | None) -> None:
        """Count how long a read waited for its batch, and how long Graph took."""
        if window_s is not None:
            self.window.observe(window_s)
        if upstream_s is not None:
            self.upstream.observe(upstream_s)

    def route_label(self, path: str) -> str:
        """Returns the label of the route of *path*."""
        return self.routes.label(path)

    def replied_in_background(self, request: Request, reply: Reply, cost: RequestCost, seconds: float) -> None:
        """Count *reply* to a read in the background, for which no caller waits."""
        if self.access_log:
            outcome = _outcome(cost, reply, seconds)
            self.access_log.behind(request, reply, outcome, self.routes.label(request.path))

    def passed(
        self,
        passage: PassedMessage,
        cost: RequestCost,
        status: int,
        seconds: float,
        batch: str = "",
        *,
        refusal: Reply | None = None,
    ) -> None:
        """Count a message, or an operation of *batch*, that passed through, or got Graph's last *refusal* again."""
        route = self.routes.label(passage.path)
        self._ended(Mode.SKIPPED, route, status, seconds)
        if refusal is not None:
            self.refused[Mode.SKIPPED] += 1
            self.details[refusal.detail] += 1
        elif 0 < status < 400:
            self.routes.record_answer(passage.path)
        if status >= 400 or refusal is not None:
            self._errors.count(Mode.SKIPPED, is_refused=refusal is not None)
            self._errors.keep(
                Mode.SKIPPED,
                status,
                route,
                refusal.body if refusal else b"",
                refusal.detail if refusal else "",
            )
        if self.tracer:
            attributes = {"mode": Mode.SKIPPED.value, "batch": batch, "detail": passage.reason, "app": cost.app}
            self.tracer.end(cost, status, attributes)
        if self.access_log:
            outcome = Outcome(status, 0, seconds, cost.asked, cost.avoided, cost.sent, cost.uncertain)
            self.access_log.passed(passage, outcome, route, cost, batch, is_refused=refusal is not None)

    def failed(self, error: SidecarError, path: str = "", cost: RequestCost | None = None) -> None:
        """Count *error*, the sidecar's own reply to a message that is not counted as a read."""
        route = self.routes.label(path) if path else ""
        self._replies[Mode.FAILED, route, error.status] += 1
        self._errors.count(Mode.FAILED)
        self._errors.keep(Mode.FAILED, error.status, route, b"", word(type(error)))
        if self.tracer and cost is not None:
            attributes = {"mode": Mode.FAILED.value, "detail": word(type(error)), "app": cost.app}
            self.tracer.end(cost, error.status, attributes)
        if self.access_log:
            sums = (cost.asked, cost.avoided, cost.sent, cost.uncertain) if cost else (0, 0, 0, 0)
            self.access_log.failed(word(type(error)), Outcome(error.status, 0, 0.0, *sums), route)

    def shed(self, error: SidecarError, count: int) -> None:
        """Count *count* messages that were refused unread with *error*."""
        self._replies[Mode.FAILED, "", error.status] += count
        self._errors.count(Mode.FAILED, count)
        self._errors.keep(Mode.FAILED, error.status, "", b"", word(type(error)))

    def pushed(self, outcome: str, events: int) -> None:
        """Count a notification of Meta's with so many *events*; *outcome* is `heard`, `forged` or `refused`."""
        self.notifications[outcome] += 1
        self.events += events

    def unbatched(self, operations: int) -> None:
        """Count a batch of so many *operations* that the application sent itself."""
        self.client_batches += 1
        self.client_operations += operations

    # --- what goes to Graph ---

    def batch(
        self, loads: Sequence[tuple[Payer | None, int]], lane: str = "", groups: Sequence[GroupPayer] = ()
    ) -> CountedCall:
        """Returns the counter of a batch of ours in *lane*; *loads* are its slots, but for those of *groups*."""
        slots = len(loads) + sum([group.slots for group in groups]) if groups else len(loads)
        tally = partial(self._count_batch, slots, lane)
        return CountedCall(self, loads, tally, "batch", self._batch_id(), lane=lane, groups=groups)

    def single(self, cost: Payer | None, calls: int) -> CountedCall:
        """Returns the counter of a read that leaves in a call of its own."""
        return CountedCall(self, ((cost, calls),), self._count_alone, "alone")

    def carried(self, loads: Iterable[tuple[RequestCost | None, int]]) -> CountedCall:
        """Returns the counter of an application's batch that leaves as it is."""
        return CountedCall(self, tuple(loads), self._count_carried, "carried", self._batch_id())

    def stream(self, cost: RequestCost) -> CountedCall:
        """Returns the counter of a message that is passed through."""
        return CountedCall(self, ((cost, cost.asked),), self._count_stream, "stream")

    def asked_again(self, slots: int, cause: str) -> None:
        """Count so many *slots* of a batch whose reads have to be asked again for *cause*."""
        self.again[cause] += slots

    def compared_with_graph(self, path: str, kinds: Sequence[str]) -> str:
        """Count a comparison with Graph's direct reply, which differs in these *kinds*; returns the route of *path*."""
        route = self.routes.label(path)
        for outcome in ("reads", *(kinds or ("same",))):
            self.compared[route, outcome] += 1
        return route

    # --- the process ---

    def lagged(self, seconds: float) -> None:
        """Record that the event loop was so many *seconds* late."""
        self.lag.observe(seconds)

    def rotate(self) -> None:
        """Begin a new minute: quantiles cover the last one or two minutes."""
        upstream = (lane.upstream for lane in self.lanes.values())
        for histogram in (self.window, self.upstream, self.lag, *upstream, *self.took.values()):
            histogram.rotate()

    # --- what is reported ---

    @property
    def ledger(self) -> Ledger:
        """Returns the sums in Meta's units."""
        self.settle()
        return self.unsettled_ledger

    @property
    def replies(self) -> Counter[tuple[Mode, str, int]]:
        """Returns the replies by mode, route and status."""
        self.settle()
        return self._replies

    @property
    def took(self) -> dict[str, Histogram]:
        """Returns the times of replies by route."""
        self.settle()
        return self._took

    @property
    def took_by_mode(self) -> dict[Mode, Histogram]:
        """Returns the times of replies by mode."""
        self.settle()
        return self.times_by_mode

    @property
    def age(self) -> Histogram:
        """Returns the ages of replies that were given without asking Graph."""
        self.settle()
        return self._age

    @property
    def batches(self) -> int:
        """Returns the number of batches of ours that left."""
        return self.sizes.total()

    @property
    def packed(self) -> int:
        """Returns the number of reads that left in batches of ours."""
        return sum(size * number for size, number in self.sizes.items())

    def paced(self, seconds: float, pool: str) -> None:
        """Count a low-priority read that waited so many *seconds* for a limit of the type *pool*."""
        self.waited[pool] += 1
        self.waited_s[pool] += seconds

    def stopped(self, pool: str) -> None:
        """Count a limit of the type *pool* that Graph's refusal stopped."""
        self.stops[pool] += 1

    def set_back(self, now: float, by: float) -> None:
        """Correct the times of errors after the clock was set back to *now* by *by* seconds."""
        self._errors.set_back(now, by)

    def _ended(self, mode: Mode, route: str, status: int, seconds: float) -> None:
        self._replies[mode, route, status] += 1
        self.times_by_mode[mode].observe(seconds)
        self._took_of(route).observe(seconds)

    def _took_of(self, route: str) -> Histogram:
        if (took := self._took.get(route)) is None:
            took = self._took[route] = _times()
        return took

    def _rename(self, route: str, other: str) -> None:
        """Count *route*, which lost its label to another route, under the label *other* from now on."""
        self.settle()
        self.era += 1
        self.relabelled()
        self.unsettled_ledger.rename_route(route, other)
        for mode, was, status in [each for each in self._replies if each[1] == route]:
            self._replies[mode, other, status] += self._replies.pop((mode, was, status))
        for was, outcome in [each for each in self.compared if each[0] == route]:
            self.compared[other, outcome] += self.compared.pop((was, outcome))
        if (took := self._took.pop(route, None)) is not None:
            self._took_of(other).add(took)

    def _batch_id(self) -> str:
        """Returns a new name for a batch, which no batch of this or another process has."""
        return f"{self._prefix}-{next(self._batches)}"

    def _count_batch(self, slots: int, lane: str) -> None:
        self.sizes[slots] += 1
        if lane:
            self.lanes[lane].sizes[slots] += 1

    def _count_carried(self) -> None:
        self.carries += 1

    def _count_alone(self) -> None:
        self.alone += 1

    def _count_stream(self) -> None:
        self.streamed += 1


def _times() -> Histogram:
    return Histogram(FINE_TIMES_S, TIMES_S)


def _outcome(cost: RequestCost, reply: Reply, seconds: float) -> Outcome:
    return Outcome(reply.status, len(reply.body), seconds, cost.asked, cost.avoided, cost.sent, cost.uncertain)
