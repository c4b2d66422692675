"""aiohttp's server, with errors about unreadable requests in Graph's shape and without their text (tokens)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from proxy.core.http import errors
from proxy.core.http.request_head import framing_fault
from proxy.shell.http.protocol import (
    HEAD_LIMIT,
    NO_HTTP_2,
    READ_AHEAD,
    Connection,
    DetachedConnection,
    HeadHandler,
    last_response,
)
from proxy.shell.http.shedding import Shedder
from proxy.shell.http.timeouts import Timeouts, TimeoutSweep

_log = logging.getLogger("graph_sidecar.listener")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener(web.Server):
    """Makes a protocol for each connection, and hands its messages to a handler."""

    def __init__(
        self,
        handler: Handler,
        *,
        timeouts: Timeouts,
        shedder: Shedder | None = None,
        fast_path: HeadHandler | None = None,
        **options: Any,
    ) -> None:
        """Pass correctly framed messages to *handler*, unless *fast_path* answers them or *shedder* refuses them."""
        super().__init__(_framed(handler), **options)
        self._sweeper = TimeoutSweep(timeouts, lambda: self.connections)
        self._shedder = shedder
        self._fast_path = fast_path

    @property
    def open_connections(self) -> int:
        """The number of connections of callers, tunnels included."""
        return self._sweeper.open

    def take(self, transport: asyncio.Transport, early: bytes) -> DetachedConnection | None:
        """Take over a connection that another listener accepted; None if there are too many connections."""
        if self._sweeper.is_full:
            return None
        return DetachedConnection(transport, early, self, self._sweeper.lend())

    def __call__(self) -> web.RequestHandler:
        """Return the protocol for a new connection."""
        limits = {"max_line_size": HEAD_LIMIT, "max_field_size": HEAD_LIMIT, "read_bufsize": READ_AHEAD}
        return Connection(
            self,
            loop=self._loop,
            sweeper=self._sweeper,
            shedder=self._shedder,
            fast_path=self._fast_path,
            **limits,
            **self._kwargs,
        )


def _framed(handler: Handler) -> Handler:
    async def handle(message: web.BaseRequest) -> web.StreamResponse:
        version = (message.version.major, message.version.minor)
        if version > (1, 1):
            return last_response(errors.reply_of(errors.Unspoken(NO_HTTP_2)))
        if fault := framing_fault(version, message.headers.getall("Transfer-Encoding", ())):
            return last_response(errors.reply_of(errors.BadRequest(fault)))
        return await handler(message)

    return handle
