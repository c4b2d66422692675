"""Counts of reads that Graph answers in the ordinary way, one object for all reads of a route, an app and an account.

`Counters.settle` adds them to the sums of `/stats` and `/metrics` before the sums are read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.core.model import Mode
from proxy.core.observe.access_log import PreparedLine, Varying
from proxy.core.observe.histogram import Histogram
from proxy.core.observe.route_template import OTHER_ROUTE
from proxy.core.quota.ledger import LedgerLine, RequestCost
from proxy.shell.observe.access_logger import SINK
from proxy.shell.observe.prepared import FINE_TIMES_S

if TYPE_CHECKING:  # it imports this module
    from proxy.shell.observe.counters import Counters

_COLLAPSED = "collapsed"
_varying: Callable[[tuple[Any, ...]], Varying] = partial(tuple.__new__, Varying)  # without a call of Python's


class RouteCounts:
    """Counts of one route that are not in the sums yet; each read is one call to Graph, or joins one."""

    __slots__ = (
        "_account",
        "_app",
        "_counters",
        "_era",
        "_path",
        "_route",
        "_took",
        "asked",
        "bytes_avoided",
        "collapsed",
        "counted",
        "is_pending",
        "replies",
    )

    def __init__(self, counters: Counters, path: str, app: str, account: str) -> None:
        """Count reads of the route of *path* for *app* and *account*."""
        self._counters = counters
        self._path = path
        self._app = app
        self._account = account
        self._era = -1  # of the routes' labels at which the histogram was found
        self._took: Histogram | None = None
        self._route = ""
        self.is_pending = False  # whether `settle` will come
        self._clear()

    def record(self, *, is_sent: bool) -> RequestCost:
        """Returns the cost record of a request that `asked` counts; *is_sent*: `counted` counts its call."""
        self.asked -= 1
        self.counted -= is_sent
        self.wait_for_settling()
        counters = self._counters
        ledger, route = counters.unsettled_ledger, counters.route_label(self._path)
        cost = ledger.open(1, route=route, app=self._app, account=self._account)
        if is_sent:
            cost.send(1)
        return cost

    def took(self) -> Histogram:
        """Returns the histogram of the route's times."""
        if self._took is None or self._era != self._counters.era:
            self._route, self._era = self._counters.route_label(self._path), self._counters.era
            self._took = self._counters.took_of(self._route)
        return self._took

    @property
    def route(self) -> str:
        """Returns the label of the route."""
        self.took()
        return self._route

    def wait_for_settling(self) -> None:
        """Note that there is something to add to the sums."""
        if not self.is_pending:
            self.is_pending = True
            self._counters.pending.append(self)

    def settle(self) -> None:
        """Add to the sums what was counted since the last time."""
        counters, self.is_pending = self._counters, False
        route, avoided = counters.route_label(self._path), {_COLLAPSED: self.collapsed} if self.collapsed else {}
        sums = LedgerLine(self.asked, self.counted, 0, self.collapsed, 0, self.bytes_avoided)
        counters.unsettled_ledger.add(sums, avoided, route=route, app=self._app, account=self._account)
        replies = self.replies
        self._clear()
        counters.add_good_replies(self._path, replies)

    def _clear(self) -> None:
        self.asked = self.counted = self.collapsed = self.bytes_avoided = 0
        self.replies: dict[Mode, int] = {}


OrdinaryAnswer = tuple[RouteCounts, Mode, float, float, int, PreparedLine | None]
"""A reply of status 200 to one caller: its counts and mode, the seconds that it took and of them in the batch queue,
the bytes of its body, and its line of the log."""


Share = tuple[RouteCounts, int, int]
"""How many of some replies are of a route, and the bytes of their bodies."""


class AnswersOfBatch(NamedTuple):
    """Replies of status 200 and of one mode to a client's batch, which came together in one batch of ours."""

    mode: Mode  # not COALESCED
    seconds: float
    window_s: float  # of them in the batch queue
    shares: Sequence[Share]
    lines: Sequence[PreparedLine]


class AnsweredCall(NamedTuple):
    """The batch in which answers came."""

    upstream_s: float | None
    id: str
    lane: str


def add_answers(
    counters: Counters, answers: Sequence[OrdinaryAnswer], together: Sequence[AnswersOfBatch], call: AnsweredCall
) -> None:
    """Count and log the *answers*, and those that came *together*, all in one *call*."""
    upstream_s, batch, lane = call
    window, by_mode, calls = counters.window, counters.times_by_mode, 0
    log, now = SINK.reply, counters.now()
    last, took = None, window
    for counts, mode, seconds, window_s, size, line in answers:
        if counts is not last:
            last, took = counts, counts.took()
        counts.replies[mode] = counts.replies.get(mode, 0) + 1
        if mode is Mode.COALESCED:
            counts.collapsed += 1
        else:
            calls += 1
            window.counts[bisect_left(window.bounds, window_s)] += 1
            window.sum += window_s
            if mode is Mode.REVALIDATED:
                counts.bytes_avoided += size
        if not counts.is_pending:
            counts.wait_for_settling()
        at = bisect_left(FINE_TIMES_S, seconds)
        for histogram in (took, by_mode[mode]):
            histogram.counts[at] += 1
            histogram.sum += seconds
        if line is not None:
            log(line, now, _varying((seconds, None, window_s, upstream_s, batch, lane)))
    for some in together:
        calls += _add_together(counters, some)
        SINK.replies(some.lines, now, Varying(some.seconds, None, some.window_s, upstream_s, batch, lane))
    if upstream_s is not None:
        counters.upstream.observe(upstream_s, calls)
    if counters.routes.is_full:
        of_all = [*[counts for counts, *_ in answers], *[share[0] for some in together for share in some.shares]]
        if any(counts.route == OTHER_ROUTE for counts in of_all):
            counters.settle()  # one of them may be used enough for a label of its own


def _add_together(counters: Counters, some: AnswersOfBatch) -> int:
    """Count *some* replies; returns how many they are."""
    total = 0
    for counts, number, size in some.shares:
        counts.replies[some.mode] = counts.replies.get(some.mode, 0) + number
        if some.mode is Mode.REVALIDATED:
            counts.bytes_avoided += size
        counts.wait_for_settling()
        counts.took().observe(some.seconds, number)
        total += number
    counters.window.observe(some.window_s, total)
    counters.times_by_mode[some.mode].observe(some.seconds, total)
    return total
