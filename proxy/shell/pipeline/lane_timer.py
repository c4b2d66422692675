"""Times calls to Graph for the lanes, and tells of a call that is late while it is still on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.core.batch.lanes import Lane, Lanes
from proxy.core.http.errors import Late
from proxy.core.model import Reply, Request

LONGEST_S = 3600
"""Seconds that no call takes: a lane of which more is not known has nothing that is late."""


@dataclass(slots=True, eq=False)
class TimedCall:
    """One call, from when its head was written."""

    lanes: Lanes
    requests: Sequence[Request]
    lane: Lane | None  # None: nothing is learned of it
    on_sent: Callable[[], None]
    on_late: Callable[[], None]
    clock: Callable[[], float]
    sent: float | None = None
    timer: asyncio.TimerHandle | None = None

    def left(self) -> None:
        """The head has been written."""
        self.on_sent()
        if self.lane is None or self.sent is not None:
            return
        self.sent = self.clock()
        after = self.lanes.late_after(self.lane, len(self.requests))
        if after < LONGEST_S:
            self.timer = asyncio.get_running_loop().call_later(after, self._late)

    def answered(self, answer: object) -> None:
        """Graph has answered; only the time of a good answer says how quick its routes are."""
        if isinstance(answer, Reply) and answer.status in {200, 304}:
            self.ended()

    def ended(self) -> None:
        """The call took until now."""
        if self.lane is not None and self.sent is not None:
            self.lanes.landed(self.requests, self.lane, self.sent, self.clock() - self.sent)

    def _late(self) -> None:
        if self.lane is not None and self.sent is not None:
            self.lanes.late(self.requests, self.lane, self.sent)
        self.on_late()


class LaneTimer:
    """The clock of the lanes."""

    def __init__(self, lanes: Lanes, clock: Callable[[], float]) -> None:
        """Tell *lanes* what calls take by *clock*."""
        self._lanes = lanes
        self._clock = clock

    def lane_of(self, request: Request) -> Lane:
        """The lane in which *request* rides now."""
        return self._lanes.lane_of(request, self._clock())

    @contextmanager
    def call(
        self,
        requests: Sequence[Request],
        lane: Lane | None,
        on_sent: Callable[[], None],
        on_late: Callable[[], None] = lambda: None,
    ) -> Iterator[TimedCall]:
        """A call with *requests* is made within; *on_late* hears that it takes longer than calls of its lane do."""
        call = TimedCall(self._lanes, requests, lane, on_sent, on_late, self._clock)
        try:
            yield call
        except Late:
            call.ended()
            raise
        finally:
            if call.timer is not None:
                call.timer.cancel()
