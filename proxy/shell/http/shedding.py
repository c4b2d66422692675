"""Load shedding: while the processor is busy requests wait in their order; in overload newcomers are refused unparsed.

When the processor is the bottleneck, requests wait in sockets, where nobody sees them, and each turn of the event loop
takes all that have come: turns become long, and with them everything that takes several turns. So as soon as a turn is
slow, plain GETs wait in a queue, and each turn takes up a few. What was taken up earlier is finished first, turns stay
short, and the queue shows how much more comes than is answered. `core.http.admission` says what is too much, and
`core.http.pacing` how many a turn takes up then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from proxy.core.http import admission, errors, pacing
from proxy.core.reply import render
from proxy.core.reply.response_head import framed, http_date

_log = logging.getLogger("graph_sidecar.listener")

_BEAT_S = 0.05
_SLOW_S = 0.01
"""Seconds of a turn of the event loop from which requests wait in the queue; that costs next to nothing."""

PER_TURN = 16
"""Requests that are taken up in a turn: fewer cost more turns, and more make turns longer for those taken up before."""

REFUSED_PER_TURN = 64
"""Requests that have waited and are refused in a turn, as for `PER_TURN`; newcomers are refused as they come."""

_LOG_EVERY_S = 10.0
_BUSY = errors.Overloaded("the processor is busy with what has come before (setting listener.lag_s)")


class SheddingObserver(Protocol):
    """Counts refused requests."""

    def shed(self, error: errors.SidecarError, count: int) -> None:
        """Count *count* requests that were refused unread with *error*."""


class QueuedConnection(Protocol):
    """A connection whose request waits."""

    def wait_for(self, caller: QueuedRequest) -> None:
        """Keep what comes until *caller* is answered."""

    def proceed(self, data: bytes) -> None:
        """Answer the request *data*, which has waited."""

    def answer(self, head: bytes, body: bytes = b"", *, keeps: bool = True) -> None:
        """Send an answer."""


@dataclass(eq=False, slots=True)
class QueuedRequest:
    """A request that waits for the processor, unparsed."""

    shedder: Shedder
    connection: QueuedConnection
    data: bytes = field(repr=False)  # holds a token
    since: float

    def leave(self) -> None:
        """Note that the caller has hung up."""
        self.shedder.forget(self)

    def break_off(self, error: errors.SidecarError) -> None:
        """Answer the caller with *error*, because the sidecar ends."""
        self.shedder.forget(self)
        head, body = framed(errors.reply_of(error), http_date(int(time.time())), keeps=False)
        self.connection.answer(head, body, keeps=False)


class Shedder:
    """The queue of requests that wait for the processor."""

    def __init__(self, limit_s: float, observer: SheddingObserver, callers: set[Any]) -> None:
        """Refuse requests that would wait for more than *limit_s*, and count them with *observer*; 0: no request waits.

        Those that wait are among *callers*.
        """
        self.is_calm = True
        self._limit_s = limit_s
        self._observer = observer
        self._callers = callers
        self.admission = admission.Admission(limit_s)
        self._queue: OrderedDict[QueuedRequest, None] = OrderedDict()
        self._excess: OrderedDict[QueuedRequest, None] = OrderedDict()  # has waited, and is to be refused
        self._turn: asyncio.Handle | None = None
        self._turned_at = 0.0
        self._beat = admission.Beat()
        self._was_empty = True
        self._unlogged = 0
        self._logged_at = 0.0

    def hold(self, connection: QueuedConnection, data: bytes) -> bool:
        """Queue *data*, or refuse it; return False, and do nothing, if it is not one plain GET."""
        if not admission.is_plain(data):
            return False
        self._beat.came += 1
        if len(self._queue) >= self.admission.most:
            self._refuse(connection, data)
            return True
        request = QueuedRequest(self, connection, data, time.monotonic())
        self._queue[request] = None
        self._callers.add(request)
        connection.wait_for(request)
        self._set_turn()
        return True

    def forget(self, request: QueuedRequest) -> None:
        """Remove *request* from the queue."""
        self._queue.pop(request, None)
        self._excess.pop(request, None)
        self._callers.discard(request)

    def waited_s(self) -> float:
        """Returns for how many seconds the oldest request waits."""
        oldest = next(iter(self._excess or self._queue), None)
        return time.monotonic() - oldest.since if oldest is not None else 0.0

    def _set_turn(self) -> None:
        if self._turn is not None:
            return
        if self.admission.is_overloaded:
            self._turn = asyncio.get_running_loop().call_later(pacing.TURN_S, self._take_up)
        elif self._queue or self._excess:
            self._turn = asyncio.get_running_loop().call_soon(self._take_up)

    def _take_up(self) -> None:
        self._turn = None
        try:
            self._refuse_excess()
            for _ in range(self._due(time.monotonic())):
                request, _none = self._queue.popitem(last=False)
                self._callers.discard(request)
                self._beat.taken += 1
                request.connection.proceed(request.data)
        finally:
            self._was_empty = self._was_empty or not self._queue
            self._set_turn()

    def _due(self, now: float) -> int:
        """Returns how many are taken up in this turn."""
        elapsed, self._turned_at = now - self._turned_at, now
        waiting = len(self._queue)
        if self.admission.is_overloaded:
            return self.admission.pace.due(elapsed, waiting, len(self._callers) - waiting - len(self._excess))
        return min(PER_TURN, waiting)

    def _refuse_excess(self) -> None:
        """Refuse some of those that have waited and are too many."""
        for _ in range(min(REFUSED_PER_TURN, len(self._excess))):
            request, _none = self._excess.popitem(last=False)
            self._callers.discard(request)
            self._refuse(request.connection, request.data)

    def _refuse(self, connection: QueuedConnection, data: bytes) -> None:
        self._beat.refused += 1
        keeps = not admission.is_last(data)
        connection.answer(_refusal(int(time.time()), keeps=keeps), keeps=keeps)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Measure while the context lasts; afterwards admit every request."""
        task = asyncio.ensure_future(self._measure()) if self._limit_s else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self.is_calm, self.admission = True, admission.Admission(self._limit_s)

    async def _measure(self) -> None:
        last = time.monotonic()
        while True:
            due = time.monotonic() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            now = time.monotonic()
            self._end_beat(now - last)
            self.is_calm = now - due < _SLOW_S and not self._queue and not self.admission.is_overloaded
            last = now

    def _end_beat(self, seconds: float) -> None:
        """Judge the last *seconds*, and set how many of the oldest waiting requests are refused.

        The oldest are refused because their callers would be the last to be answered.
        """
        beat, queue = self._beat, self._queue
        beat.seconds, beat.waiting = seconds, 0 if self._was_empty else len(queue)
        beat.inside = len(self._callers)
        self._beat, self._was_empty = admission.Beat(), not queue
        self.admission.measured(beat)
        while len(queue) > self.admission.most:
            self._excess[queue.popitem(last=False)[0]] = None
        self._set_turn()
        if beat.refused:
            self._report(beat.refused, time.monotonic())

    def _report(self, refused: int, now: float) -> None:
        self._observer.shed(_BUSY, refused)
        self._unlogged += refused
        if now - self._logged_at > _LOG_EVERY_S:
            _log.warning("%d requests were refused: the processor is busy (listener.lag_s)", self._unlogged)
            self._unlogged, self._logged_at = 0, now


@lru_cache(maxsize=4)
def _refusal(now: int, *, keeps: bool) -> bytes:
    """Return the 503 response as bytes, dated *now*; the last of its connection unless that *keeps* open."""
    return b"".join(framed(render.bare(errors.reply_of(_BUSY)), http_date(now), keeps=keeps))
