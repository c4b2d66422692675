"""Bounds the memory of responses that wait for their callers to read: the slowest connection is closed first."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_log = logging.getLogger("graph_sidecar.listener")

GRACE_S = 0.5
"""Seconds without progress after which a connection may be closed for room; above twice the limit, any may be."""


@dataclass(eq=False, slots=True)
class _PendingResponse:
    line: asyncio.Transport
    size: int
    since: float  # when the caller last read something


class Outbox:
    """The waiting responses. Beyond *limit* bytes, the connection with the longest time without progress is closed."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        """Bound the responses to *limit* bytes; *clock* gives monotonic seconds."""
        self._limit = limit
        self._clock = clock
        self._waiting: OrderedDict[_PendingResponse, None] = OrderedDict()  # latest progress last
        self.bytes = 0

    @contextmanager
    def waiting(self, line: asyncio.Transport, size: int) -> Iterator[Callable[[], None]]:
        """Count a response of *size* bytes that waits on *line*; yield a function to call at each progress."""
        one = _PendingResponse(line, size, self._clock())
        self._waiting[one] = None
        self.bytes += size
        self._make_room(one)

        def took() -> None:
            if one in self._waiting:
                one.since = self._clock()
                self._waiting.move_to_end(one)

        try:
            yield took
        finally:
            self._forget(one)

    def _make_room(self, newest: _PendingResponse) -> None:
        now = self._clock()
        for one in list(self._waiting):
            is_slow = now - one.since >= GRACE_S or self.bytes > 2 * self._limit
            if self.bytes <= self._limit or one is newest or not is_slow:
                return
            _log.warning("a connection was closed: it takes no answer, and too much waits (listener.buffer_mb)")
            self._forget(one)
            one.line.abort()

    def _forget(self, one: _PendingResponse) -> None:
        if one in self._waiting:
            del self._waiting[one]
            self.bytes -= one.size
