"""Measures how long calls to Graph take, for the lanes, and reports a call that is late while it is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

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

    def __enter__(self) -> Self:
        """Begin to make the call."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End; a call that timed out was at least as slow as that."""
        if self.timer is not None:
            self.timer.cancel()
        if isinstance(error, Late):
            self.ended()

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
        self.lanes = lanes
        self._clock = clock

    def lane_of(self, request: Request) -> Lane:
        """Return the lane to which *request* belongs now."""
        return self.lanes.lane_of(request, self._clock())

    def call(
        self,
        requests: Sequence[Request],
        lane: Lane | None,
        on_sent: Callable[[], None],
        on_late: Callable[[], None] = lambda: None,
    ) -> TimedCall:
        """Measure the call for *requests* that is made within; call *on_late* once it is late."""
        return TimedCall(self.lanes, requests, lane, on_sent, on_late, self._clock)
