"""Counting and logging of hits in memory, prepared once for a read, so that each further hit costs a few additions.

The sums that `/stats` and `/metrics` show are exact whenever they are read: `Counters.settle` adds up what is counted
here first.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from proxy.core.model import Reply, Request
from proxy.core.observe.access_log import Outcome, PreparedLine
from proxy.core.observe.histogram import time_bounds
from proxy.core.quota.ledger import calls_avoided
from proxy.shell.observe.access_logger import SINK

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

Names = tuple[str, str]
"""The app and the account on whose lines of the ledger calls are counted."""


class PreparedHit:
    """Counts and logs hits in memory of one read that differ only in their times and ages.

    Made by `Counters.prepare_hit`. When its entry, its status or the freshness of its entry changes, prepare another.
    """

    __slots__ = (
        "_account", "_age_sum", "_ages", "_app", "_calls", "_causes", "_counters", "_line", "_seconds", "_times",
        "count", "era", "mode", "path", "status",
    )  # fmt: skip

    def __init__(
        self,
        counters: Counters,
        request: Request,
        reply: Reply,
        *,
        outcome: Outcome,
        names: Names,
        line: PreparedLine | None,
    ) -> None:
        """Count hits of *request* like *reply*, of which the caller gets *outcome*; *line* is that of the log."""
        self._counters = counters
        self._app, self._account = names
        self._calls = outcome.calls
        self._causes = calls_avoided(reply, outcome.calls)
        self._line = line
        self.era = counters.era  # of the routes' labels: the line has that of then
        self.path = request.path
        self.mode = reply.mode
        self.status = outcome.status
        self.count = 0  # hits that are not in the sums yet, as are their times and ages
        self._times = self._ages = _NOTHING  # there is room for counts only while there are some
        self._seconds = self._age_sum = 0.0

    def add(self, now: float, seconds: float, age: float) -> None:
        """Count and log one more hit, given at *now*, which took *seconds*."""
        if not self.count:
            self._begin()
        self.count += 1
        self._seconds += seconds
        if seconds > _QUICK_S:  # `settle` counts the quicker ones
            self._times[bisect_left(FINE_TIMES_S, seconds)] += 1
        self._ages[bisect_left(AGES_S, age)] += 1
        self._age_sum += age
        if self._line is not None:
            SINK.hit(self._line, now, seconds, age)

    def settle(self) -> None:
        """Add to the sums what was counted since the last time: each hit asked for its calls, and avoided them."""
        counters, count, self.count = self._counters, self.count, 0
        self._times[0] = count - sum(self._times)
        times, ages = (self._times, self._seconds), (self._ages, self._age_sum)
        self._times = self._ages = _NOTHING
        route = counters.route_label(self.path)
        ledger, calls = counters.unsettled_ledger, count * self._calls
        cost = ledger.open(calls, route=route, app=self._app, account=self._account)
        cost.avoid({cause: count * each for cause, each in self._causes.items()})
        counters.add_hits(self, count, times, ages)

    def _begin(self) -> None:
        self._counters.pending.append(self)
        self._times, self._seconds = [0] * _TIMES, 0.0
        self._ages, self._age_sum = [0] * _AGES, 0.0
