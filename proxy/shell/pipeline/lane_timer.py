"""Measures how long calls to Graph take, for the lanes, and reports a call that is late while it is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import inf

from proxy.core.batch.lanes import Lane, Lanes, Route
from proxy.core.http.errors import Late
from proxy.core.model import Reply
from proxy.shell.deadline import Deadline

LONGEST_S = 3600
"""Seconds, longer than any call: the lateness bound of a lane without measurements."""


@dataclass(slots=True, eq=False)
class TimedCall:
    """One call to Graph, measured from the moment its head was written."""

    timer: LaneTimer
    routes: Callable[[], Collection[Route]]
    slots: int
    lane: Lane | None  # None: the call is not measured
    on_late: Callable[[], None] = lambda: None
    sent: float | None = None

    def left(self) -> None:
        """Note that the head has been written, and watch for lateness."""
        if self.lane is not None and self.sent is None:
            self.sent = self.timer.clock()
            self.timer.watch(self, self.timer.lanes.late_after(self.lane, self.slots))

    def end(self, outcome: object) -> None:
        """Measure the call if its *outcome* is a good answer of Graph's: errors say nothing about the speed of a route.

        A call that timed out was at least as slow as that.
        """
        if self.lane is None or self.sent is None:
            return
        timer = self.timer
        timer.late_at.pop(self, None)
        if isinstance(outcome, Late) or (isinstance(outcome, Reply) and outcome.status in {200, 304}):
            timer.lanes.landed(self.routes(), self.slots, self.lane, self.sent, timer.clock() - self.sent)

    def be_late(self) -> None:
        """Report that the call is late."""
        if self.lane is not None and self.sent is not None:
            self.timer.lanes.late(self.routes(), self.lane, self.sent)
        self.on_late()


class LaneTimer:
    """Measures calls for *lanes*."""

    def __init__(self, lanes: Lanes, clock: Callable[[], float]) -> None:
        """Record in *lanes* how long calls take by *clock*."""
        self.lanes = lanes
        self.clock = clock
        self.late_at: dict[TimedCall, float] = {}  # of calls that are not answered, in the event loop's time
        self._soonest = inf
        self._deadline: Deadline | None = None

    def watch(self, call: TimedCall, after: float) -> None:
        """Let *call* be late if it is not answered *after* so many seconds."""
        if after >= LONGEST_S:
            return
        loop = asyncio.get_running_loop()
        self.late_at[call] = at = loop.time() + after
        if at < self._soonest:
            self._soonest = at
            if self._deadline is None:
                self._deadline = Deadline(loop, self._report)
            self._deadline.set(at)

    def close(self) -> None:
        """Watch no call any more."""
        if self._deadline is not None:
            self._deadline.cancel()

    def _report(self) -> None:
        """Report the calls that are late."""
        latest = asyncio.get_running_loop().time() + Deadline.RESOLUTION_S
        late = [call for call, at in self.late_at.items() if at <= latest]
        for call in late:
            del self.late_at[call]
        self._soonest = min(self.late_at.values(), default=inf)
        if self._deadline is not None and self.late_at:
            self._deadline.set(self._soonest)
        for call in late:
            call.be_late()
