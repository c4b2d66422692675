"""Measures how long calls to Graph take, for the lanes, and reports a call that is late while it is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.core.batch.lanes import Lane, Lanes
from proxy.core.http.errors import Late
from proxy.core.model import Reply, Request

LONGEST_S = 3600
"""Seconds, longer than any call: the lateness bound of a lane without measurements."""


@dataclass(slots=True, eq=False)
class TimedCall:
    """One call to Graph, measured from the moment its head was written."""

    lanes: Lanes
    requests: Sequence[Request]
    lane: Lane | None  # None: the call is not measured
    on_sent: Callable[[], None]
    on_late: Callable[[], None]
    clock: Callable[[], float]
    sent: float | None = None
    timer: asyncio.TimerHandle | None = None

    def left(self) -> None:
        """Note that the head has been written, and start the timer for lateness."""
        self.on_sent()
        if self.lane is None or self.sent is not None:
            return
        self.sent = self.clock()
        after = self.lanes.late_after(self.lane, len(self.requests))
        if after < LONGEST_S:
            self.timer = asyncio.get_running_loop().call_later(after, self._late)

    def answered(self, answer: object) -> None:
        """Measure the call if Graph's *answer* is good: errors say nothing about the speed of a route."""
        if isinstance(answer, Reply) and answer.status in {200, 304}:
            self.ended()

    def ended(self) -> None:
        """Record the time from the head to now."""
        if self.lane is not None and self.sent is not None:
            self.lanes.landed(self.requests, self.lane, self.sent, self.clock() - self.sent)

    def _late(self) -> None:
        if self.lane is not None and self.sent is not None:
            self.lanes.late(self.requests, self.lane, self.sent)
        self.on_late()


class LaneTimer:
    """Measures calls for *lanes*."""

    def __init__(self, lanes: Lanes, clock: Callable[[], float]) -> None:
        """Record in *lanes* how long calls take by *clock*."""
        self._lanes = lanes
        self._clock = clock

    def lane_of(self, request: Request) -> Lane:
        """Return the lane to which *request* belongs now."""
        return self._lanes.lane_of(request, self._clock())

    @contextmanager
    def call(
        self,
        requests: Sequence[Request],
        lane: Lane | None,
        on_sent: Callable[[], None],
        on_late: Callable[[], None] = lambda: None,
    ) -> Iterator[TimedCall]:
        """Measure the call for *requests* that is made within; call *on_late* once it is late."""
        call = TimedCall(self._lanes, requests, lane, on_sent, on_late, self._clock)
        try:
            yield call
        except Late:
            call.ended()
            raise
        finally:
            if call.timer is not None:
                call.timer.cancel()
