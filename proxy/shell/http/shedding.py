"""Load shedding: refuses requests unparsed while the event loop is too slow, so that admitted ones are answered soon.

When the processor is the bottleneck, no queue of the sidecar grows: requests wait in sockets and in the event loop,
whose turns grow longer. Twenty times a second, the time of as many turns as a read needs is measured. While it is above
the limit, new requests get a 503 that is written without parsing them, at a small part of the cost of an answer.
Requests that were admitted are answered first: they have used time already, and only an early refusal is useful.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

from proxy.core.http import cache_status, errors
from proxy.core.http.headers import head_bytes
from proxy.core.observe.loop_lag import TURNS, Allowance, Lag, is_plain
from proxy.core.reply import render
from proxy.core.reply.response_head import http_date

_log = logging.getLogger("graph_sidecar.listener")

_BEAT_S = 0.05
_LOG_EVERY_S = 10.0
_BUSY = errors.Overloaded("the processor is busy with what has come before (setting listener.lag_s)")


class SheddingObserver(Protocol):
    """Counts refused requests."""

    def shed(self, error: errors.SidecarError, count: int) -> None:
        """Count *count* requests that were refused unread with *error*."""


class Shedder:
    """Measures how long a read would take now, and makes the refusal."""

    def __init__(self, limit_s: float, observer: SheddingObserver) -> None:
        """Refuse requests while a read would take more than *limit_s*; report the number refused to *observer*.

        With a limit of 0 every request is admitted.
        """
        self._limit_s = limit_s
        self._observer = observer
        self._lag, self._allowance = Lag(), Allowance()
        self._refused = self._unlogged = 0
        self._logged_at = 0.0

    def lets_in(self) -> bool:
        """Whether a request that has come now is admitted."""
        if not self._limit_s:
            return True
        return self._lag.seconds(time.monotonic()) <= self._limit_s and self._allowance.take()

    def refusal(self, data: bytes) -> bytes:
        """Return the 503 to *data*; b"" if *data* is not one plain GET, which is admitted."""
        if not is_plain(data):
            return b""
        self._refused += 1
        return _refusal(int(time.time()))

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Measure while the context lasts; afterwards admit every request."""
        task = asyncio.ensure_future(self._measure())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._lag, self._allowance = Lag(), Allowance()

    async def _measure(self) -> None:
        while True:
            due = time.monotonic() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self._lag.begin(due)
            for _ in range(TURNS):
                self._lag.turn(time.monotonic())
                await asyncio.sleep(0)
            self._lag.turn(time.monotonic())
            self._lag.end()
            self._allowance.measured(self._lag.seconds(time.monotonic()), self._limit_s)
            if self._refused:
                self._report(time.monotonic())

    def _report(self, now: float) -> None:
        self._observer.shed(_BUSY, self._refused)
        self._unlogged += self._refused
        self._refused = 0
        if now - self._logged_at > _LOG_EVERY_S:
            _log.warning("%d requests were refused: the processor is busy (listener.lag_s)", self._unlogged)
            self._unlogged, self._logged_at = 0, now


@lru_cache(maxsize=2)
def _refusal(now: int) -> bytes:
    """Return the 503 response as bytes, dated *now*."""
    reply = render.bare(errors.reply_of(_BUSY))
    fields = (
        *reply.headers,
        ("Content-Length", str(len(reply.body))),
        ("Date", http_date(now)),
        ("Server", cache_status.CACHE_NAME),
    )
    return head_bytes(f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}", fields) + reply.body
