"""Ends TLS on a connection that is there already, and serves what comes out of it like any other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from typing import cast

from aiohttp import web

from proxy.shell.listener import Left

_log = logging.getLogger("graph_sidecar.intercept")

_HANDSHAKE_S = 20
_GOODBYE_S = 1
_NOBODY_CHOSEN = "CALLBACK_FAILED"
"""OpenSSL's word where no certificate was found for the name that the caller said."""
_UNRECOGNIZED_NAME = bytes.fromhex("15 0303 0002 0270")
"""The alert that says so (RFC 6066 section 3), fatal and in the clear: nothing has been agreed on yet."""


async def serve_inside(left: Left, context: ssl.SSLContext) -> None:
    """End the TLS and give what is inside to a connection of its own."""
    loop, arriving, line = asyncio.get_running_loop(), _Arriving(), _kept_open(left)
    starting = asyncio.ensure_future(
        loop.start_tls(
            left.transport,
            arriving,
            context,
            server_side=True,
            ssl_handshake_timeout=_HANDSHAKE_S,
            ssl_shutdown_timeout=_GOODBYE_S,
        )
    )
    if left.early:
        for _turn in range(2):  # its own first, then the one in which it is told of its connection
            await asyncio.sleep(0)
        _feed(left.transport.get_protocol(), left.early)
    try:
        transport = await starting
    except OSError as error:  # SSLError is one
        reason = getattr(error, "reason", None) or type(error).__name__
        if reason == _NOBODY_CHOSEN:
            reason = "it was to a name that is none of Graph's hosts here (upstream.hosts)"
            _say(line, _UNRECOGNIZED_NAME)
        _log.info("a caller's TLS did not begin: %s", reason)
        left.transport.close()
    else:
        if transport is not None:
            arriving.become(left.fresh(), transport)
    finally:
        os.close(line)


def _kept_open(left: Left) -> int:
    """The connection once more: the loop hangs up when TLS does not begin, and sends no alert before."""
    return os.dup(left.transport.get_extra_info("socket").fileno())


def _say(line: int, alert: bytes) -> None:
    with contextlib.suppress(OSError):  # that one has left
        os.write(line, alert)


def _feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Hand *data* to the end of TLS as if it came now."""
    end = cast("asyncio.BufferedProtocol", protocol)
    while data:
        room = memoryview(end.get_buffer(len(data)))
        piece, data = data[: len(room)], data[len(room) :]
        room[: len(piece)] = piece
        end.buffer_updated(len(piece))


class _Arriving(asyncio.Protocol):
    """Keeps what comes out of TLS before anybody has learnt that it has begun."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._is_lost = False

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._is_lost = True

    def become(self, protocol: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Let *protocol* have the connection and all that came."""
        if self._is_lost:
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        for piece in self._pieces:
            protocol.data_received(piece)
