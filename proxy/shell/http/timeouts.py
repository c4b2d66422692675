"""Closes connections of callers whose timeout has passed, by one sweep about once a second, and bounds their number."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web

from proxy.core.http import errors
from proxy.shell.http.outbox import Outbox
from proxy.shell.http.turns import PerTurn

_log = logging.getLogger("graph_sidecar.listener")

_LOOK_EVERY_S = 1.0
LARGEST_HEAD = 3 * 65_536
"""The largest head of a request, in bytes."""
DEPARTURES = 200
"""Connections that are taken leave of in one turn of the event loop: thousands may be lost at the same moment."""
REFUSAL_READ_S = 1.0
"""Seconds that a refused connection stays open for its caller to read the error."""
_FIRST_BYTE_S = 0.5
"""Seconds that a new connection has for its first byte while the listener is draining."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The timeouts of a connection in seconds, and the bounds for all connections."""

    head_s: float = 10  # from the first byte of a head, or from the connection's start, to the last byte of the head
    stall_s: float = 60  # without a byte of a body that is being read, or of an answer that is being sent
    idle_s: float = 75  # between two messages
    connections: int = 10_000
    buffer_bytes: int = 64 * 2**20  # of answers that callers have not read yet


class TimeoutSweep:
    """Checks all connections of a listener about once a second, while there are any."""

    def __init__(self, timeouts: Timeouts, connections: Any) -> None:
        """Check the connections that *connections* returns."""
        self.timeouts = timeouts
        self._connections = connections
        self._every = min(_LOOK_EVERY_S, timeouts.head_s / 4, timeouts.stall_s / 4)
        self._next: asyncio.Handle | None = None
        self._lent = 0
        self.outbox = Outbox(timeouts.buffer_bytes, time.monotonic)
        self.departures = PerTurn(DEPARTURES)

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as are allowed, tunnels and TLS connections included."""
        return self.open >= self.timeouts.connections

    @property
    def open(self) -> int:
        """The number of open connections, tunnels included."""
        return len(self._connections()) + self._lent

    def lend(self) -> Callable[[], None]:
        """Count a detached connection (a tunnel or TLS), until the returned function is called for the first time."""
        self._lent += 1
        is_over = False

        def end() -> None:
            nonlocal is_over
            self._lent -= not is_over
            is_over = True

        return end

    def start(self) -> None:
        """Begin to check."""
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(self._every, self._look)

    def _look(self) -> None:
        self._next = None
        now = asyncio.get_running_loop().time()
        connections = self._connections()
        for each in connections:
            each.check_timeouts(now)
        if connections:
            self.start()


def raw_response(error: errors.SidecarError) -> bytes:
    """Returns *error* as bytes, for a connection on which no request could be parsed."""
    reply = errors.reply_of(error)
    fields = (*reply.headers, ("Content-Length", str(len(reply.body))), ("Connection", "close"))
    start = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"
    return "\r\n".join([start, *(f"{name}: {value}" for name, value in fields), "", ""]).encode() + reply.body


class TimedConnection(web.RequestHandler):
    """A connection that records what it waits for, and since when."""

    def __init__(self, manager: web.Server, *, sweeper: TimeoutSweep, **options: Any) -> None:
        """Make a connection whose timeouts *sweeper* checks."""
        super().__init__(manager, keepalive_timeout=sweeper.timeouts.idle_s, **options)
        self._sweeper = sweeper
        self.outbox = sweeper.outbox
        self._last_read = self._paused_since = self._loop.time()
        self._half: float | None = self._last_read  # since when a head is incomplete
        self._is_silent = True
        self._head_size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read; a connection above the limit gets a 503 and is closed."""
        assert self._manager is not None  # noqa: S101 - set until the connection is lost
        if not self._sweeper.is_full:
            super().connection_made(transport)
            self._sweeper.start()
            return
        _log.warning(
            "a connection was refused: there are %d (listener.connections)", self._sweeper.timeouts.connections
        )
        self._force_close = True  # nothing is read
        refused = cast("asyncio.Transport", transport)
        refused.write(raw_response(errors.Overloaded("too many connections are open (setting listener.connections)")))
        self._loop.call_later(REFUSAL_READ_S, refused.close)

    def data_received(self, data: bytes) -> None:
        """Parse *data*, and note whether a head is incomplete after it."""
        before = self._request_count
        self._last_read, self._is_silent = self._loop.time(), False
        super().data_received(data)
        if self._request_count != before:
            self._half, self._head_size = None, 0
        elif self._half is None and self._waiter is not None and not self._waiter.done():
            self._half = self._last_read
        if self._half is not None:
            self._count_head(len(data))

    def wait_for_next(self) -> None:
        """Wait for a message as after an answer: the fast path has answered the last message."""
        self._last_read = self._loop.time()
        self._half, self._is_silent = None, False
        self._next_keepalive_close_time = self._last_read + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    def _count_head(self, size: int) -> None:
        """Count *size* more bytes of an incomplete head; a head that is too large ends the connection."""
        self._head_size += size
        if self._head_size > LARGEST_HEAD and self.transport is not None and not self._force_close:
            _log.info("a connection was closed: the head of its message has more than %d bytes", LARGEST_HEAD)
            error = errors.BadRequest(f"the head of the message has more than {LARGEST_HEAD} bytes")
            self.transport.write(raw_response(error))
            self.force_close()

    def pause_writing(self) -> None:
        """Note that the caller has stopped reading."""
        super().pause_writing()
        self._paused_since = self._loop.time()

    def check_timeouts(self, now: float) -> None:
        """Close the connection if one of its timeouts has passed."""
        timeouts, transport = self._sweeper.timeouts, self.transport
        if transport is None:
            return
        if self._half is not None and now - self._half > timeouts.head_s:
            if not self._is_silent:
                _log.info("a connection was closed: its message took longer than %g s", timeouts.head_s)
                transport.write(
                    raw_response(errors.Slow(f"the head of the message took longer than {timeouts.head_s:g} s"))
                )
            self.force_close()
        elif self._is_stalled(now, timeouts.stall_s):
            _log.info("a connection was closed: nothing moved on it for %g s", timeouts.stall_s)
            transport.abort()

    def close_if_idle(self, now: float) -> None:
        """Close the connection unless a message is being answered or received."""
        is_resting = self._waiter is not None and not self._waiter.done() and not self._messages
        is_on_its_way = self._half is not None and (not self._is_silent or now - self._last_read < _FIRST_BYTE_S)
        if is_resting and not is_on_its_way:
            self.force_close()

    def _is_stalled(self, now: float, stall_s: float) -> bool:
        if self._paused:
            return now - self._paused_since > stall_s
        request, is_held_back = self._current_request, self._reading_paused or self._buffer_paused
        return (
            request is not None
            and not request.content.is_eof()
            and not is_held_back
            and now - self._last_read > stall_s
        )
