"""Graceful shutdown of one listener: it stops accepting, and answers the requests in flight within a time limit.

`app/drain` has the whole order of a shutdown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web

from proxy.core.http import errors
from proxy.core.reply import render
from proxy.core.routing.classify import may_write
from proxy.shell.http.protocol import LEAVING
from proxy.shell.http.response import respond
from proxy.shell.http.timeouts import TimedConnection

_log = logging.getLogger("graph_sidecar.drain")

_STOPPED = "the sidecar has stopped"
_LOOK_EVERY_S = 0.02
_TURNS = 5
"""Turns of the event loop after which a connection that was accepted is known, and one that was closed is gone."""
_BREAK_OFF_S = 0.05
"""Seconds that aiohttp waits for open requests before it cancels them."""


class InFlight:
    """Wraps a handler, and counts the messages in flight."""

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        on_drain: Callable[[], None] = lambda: None,
    ) -> None:
        """Answer with *handle*; call *on_drain* when shutdown begins."""
        self._handle = handle
        self._on_drain = on_drain
        self._open: set[asyncio.Task[None] | None] = set()
        self.is_draining = self._is_broken_off = False
        self.callers: set[Any] = set()  # callers of the fast path: they wait for an answer that no task works on

    async def handle(self, message: web.BaseRequest) -> web.StreamResponse:
        """Answer *message*; while draining, its connection is closed after the answer."""
        task = asyncio.current_task()
        message[LEAVING] = lambda: self.is_draining
        self._open.add(task)
        try:
            response = await self._handle(message)
        except asyncio.CancelledError:
            if task is None or not self._is_broken_off or message.writer.output_size:
                raise
            task.uncancel()
            response = _broken_off(message)
        finally:
            self._open.discard(task)
        if self.is_draining and not response.prepared:  # else its head has promised another answer
            response.force_close()
        return response

    @property
    def open(self) -> int:
        """Return the number of messages that are being answered."""
        return len(self._open) + len(self.callers)

    def begin_drain(self) -> None:
        """Begin shutdown: from now on each answer closes its connection."""
        self.is_draining = True
        self._on_drain()

    async def break_off(self) -> None:
        """Answer 503 to every caller whose response has not begun."""
        self._is_broken_off = True
        for caller in tuple(self.callers):
            caller.break_off(errors.Draining(_STOPPED))
        for task in self._open:
            if task is not None:
                task.cancel()
        await asyncio.sleep(_BREAK_OFF_S)


def _broken_off(message: web.BaseRequest) -> web.StreamResponse:
    """Return the 503 for an unfinished message; a write may have happened and must not be sent again."""
    error: errors.SidecarError = errors.Draining(_STOPPED)
    if may_write(message.method, message.raw_path, has_body=message.body_exists):
        error = errors.unsure(error)
    return respond(render.bare(errors.reply_of(error)))


async def drain(runner: web.BaseRunner, seconds: float, in_flight: InFlight | None = None) -> None:
    """Stop accepting and finish the requests in flight; break off those unfinished after *seconds*.

    aiohttp's own shutdown reads no more of a request body, forgets connections that were just accepted and, without a
    timeout, waits for them for ever. It is therefore called only when no connection is left.
    """
    server = runner.server
    if in_flight is not None:
        in_flight.begin_drain()
    if server is None:
        return
    await _stop_accepting(runner, server)
    try:
        async with asyncio.timeout(seconds):
            await _wait_until_empty(server)
            await runner.cleanup()
    except TimeoutError:
        _log.warning("requests are still open after %g s and are broken off", seconds)
        if in_flight is not None:
            await in_flight.break_off()
        await server.shutdown(_BREAK_OFF_S)


async def _stop_accepting(runner: web.BaseRunner, server: web.Server) -> None:
    """Stop listening, and accept the connections still in the backlog: the system would reset them."""
    listening: list[socket.socket] = []
    for site in runner.sites:
        sockets = getattr(site._server, "sockets", ())  # noqa: SLF001 - aiohttp shows only their addresses
        listening += [socket.socket(fileno=os.dup(each.fileno())) for each in sockets]
        await site.stop()
    pending = [connection for each in listening for connection in _pending_connections(each)]
    for connection in pending:
        with contextlib.suppress(OSError):  # the caller has closed the connection
            await asyncio.get_running_loop().connect_accepted_socket(server, connection)


def _pending_connections(listening: socket.socket) -> Iterator[socket.socket]:
    with listening, contextlib.suppress(OSError):  # BlockingIOError: none is left
        while True:
            yield listening.accept()[0]


async def _wait_until_empty(server: web.Server) -> None:
    """Wait until every connection has closed: each closes as soon as it is idle."""
    clock = asyncio.get_running_loop().time
    await _let_turns_pass()
    while server.connections:
        for each in server.connections:
            if isinstance(each, TimedConnection):
                each.close_if_idle(clock())
        await _let_turns_pass()
        if server.connections:
            await asyncio.sleep(_LOOK_EVERY_S)


async def _let_turns_pass() -> None:
    for _turn in range(_TURNS):
        await asyncio.sleep(0)
