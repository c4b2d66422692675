"""Counting and logging that is prepared once for a read, so that each further reply costs a few additions.

The sums that `/stats` and `/metrics` show are exact whenever they are read: `Counters.settle` adds up what is counted
here first.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from proxy.core.model import Mode, Reply, Request
from proxy.core.observe.access_log import PreparedLine, Varying
from proxy.core.observe.histogram import time_bounds
from proxy.core.quota.ledger import LedgerLine, RequestCost
from proxy.shell.observe.access_log import SINK

if TYPE_CHECKING:  # it imports this module
    from proxy.shell.observe.counters import Counters

TIMES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""The bounds of times in `/metrics`."""

FINE_TIMES_S = time_bounds(*TIMES_S)
"""The bounds by which times are counted, for the percentiles of `/stats`."""

_QUICK_S = FINE_TIMES_S[0]

AGES_S = (1, 5, 15, 60, 300, 900, 3600, 21600, 86400)

_TIMES, _AGES = len(FINE_TIMES_S) + 1, len(AGES_S) + 1
_NOTHING: list[int] = []


class PreparedCost:
    """Opens cost records for one read, as `Counters.asked` does, without looking its lines of the ledger up again."""

    __slots__ = ("_account", "_counters", "_era", "_lines", "app", "calls", "path", "route")

    def __init__(self, counters: Counters, request: Request, app: str, account: str, calls: int) -> None:
        """Open records for *request*, which costs so many *calls*."""
        self._counters = counters
        self._account = account
        self._era = -1  # of the routes' labels at which the lines were found
        self._lines: tuple[LedgerLine, ...] = ()
        self.app = app
        self.path = request.path
        self.calls = calls
        self.route = ""

    def open(self) -> RequestCost:
        """Returns the cost record of one more request for the read: it stays open until that is sent or avoided."""
        return self.open_for(self.calls)

    def open_for(self, calls: int) -> RequestCost:
        """Returns a cost record for so many *calls*: several requests in one."""
        counters = self._counters
        if self._era != counters.era:
            self.route, self._era = counters.route_label(self.path), counters.era
            self._lines = counters.ledger_lines(self.route, self.app, self._account)
        cost = RequestCost(counters.unsettled_ledger, self._lines, self.app)
        cost.ask(calls)
        return cost


class PreparedCount:
    """Counts and logs replies to one read that differ only in their times, age, batch and lane.

    Made by `Counters.prepare_reply` (the caller has a cost record) or `Counters.prepare_hit` (it has none). All replies
    counted by one object have the same mode, status, detail, size, ETag and usage headers: when one of these changes,
    prepare another.
    """

    __slots__ = (
        "_age_sum",
        "_ages",
        "_bytes",
        "_causes",
        "_counters",
        "_observes_call",
        "_seconds",
        "_times",
        "cost",
        "count",
        "detail",
        "is_hit",
        "line",
        "mode",
        "status",
    )  # fmt: skip

    def __init__(
        self,
        counters: Counters,
        cost: PreparedCost,
        reply: Reply,
        *,
        status: int,
        causes: dict[str, int],
        line: PreparedLine | None,
        is_hit: bool,
    ) -> None:
        """Count replies like *reply*, which its caller gets with *status*; *causes* are those of its avoided calls."""
        self._counters = counters
        self.cost = cost
        self.mode = reply.mode
        self.status = status
        self.line = line
        self.is_hit = is_hit  # whether no cost record is opened for each reply
        self._causes = causes
        self.detail = reply.detail
        self._bytes = len(reply.body) if reply.mode is Mode.REVALIDATED else 0
        self._observes_call = not is_hit and reply.mode is not Mode.COALESCED
        self.count = 0  # replies that are not in the sums yet, as are their times and ages
        self._times = self._ages = _NOTHING  # there is room for counts only while there are some
        self._seconds = self._age_sum = 0.0

    def add(self, varying: Varying, cost: RequestCost | None = None) -> None:
        """Count and log one more reply, as `Counters.replied` does; *cost* is its cost record, None for a hit."""
        counters, seconds, age = self._counters, varying.seconds, varying.age
        if not self.count:
            self._begin()
        self.count += 1
        self._seconds += seconds
        if seconds > _QUICK_S:  # `settle` counts the quicker ones
            self._times[bisect_left(FINE_TIMES_S, seconds)] += 1
        if age is not None:
            self._ages[bisect_left(AGES_S, age)] += 1
            self._age_sum += age
        if cost is not None:
            cost.avoid(self._causes)
            if self._bytes:
                cost.avoid_bytes(self._bytes)
        if self._observes_call:
            counters.observe_call(varying.window_s, varying.upstream_s)
        if self.line is not None:
            SINK.reply(self.line, counters.now(), varying)

    def add_hit(self, now: float, seconds: float, age: float) -> None:
        """Count and log one more hit, given at *now*: as `add` does, and cheaper."""
        if not self.count:
            self._begin()
        self.count += 1
        self._seconds += seconds
        if seconds > _QUICK_S:
            self._times[bisect_left(FINE_TIMES_S, seconds)] += 1
        self._ages[bisect_left(AGES_S, age)] += 1
        self._age_sum += age
        if self.line is not None:
            SINK.hit(self.line, now, seconds, age)

    def settle(self) -> None:
        """Add to the sums what was counted since the last time."""
        counters, count, self.count = self._counters, self.count, 0
        self._times[0] = count - sum(self._times)
        if self.is_hit:
            cost = self.cost.open_for(count * self.cost.calls)
            cost.avoid({cause: count * calls for cause, calls in self._causes.items()})
        times, ages = (self._times, self._seconds), (self._ages, self._age_sum)
        self._times = self._ages = _NOTHING
        counters.add_replies(self, count, times, ages)

    def _begin(self) -> None:
        self._counters.pending.append(self)
        self._times, self._seconds = [0] * _TIMES, 0.0
        self._ages, self._age_sum = [0] * _AGES, 0.0
