"""Ends TLS on a connection that is there already, and serves what comes out of it like any other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable
from typing import cast

from aiohttp import web

from proxy.shell.http.protocol import DetachedConnection

_log = logging.getLogger("graph_sidecar.intercept")

_GOODBYE_S = 1
_NOBODY_CHOSEN = "CALLBACK_FAILED"
"""OpenSSL's word where no certificate was found for the name that the caller said."""
_UNRECOGNIZED_NAME = bytes.fromhex("15 0303 0002 0270")
"""The alert that says so (RFC 6066 section 3), fatal and in the clear: nothing has been agreed on yet."""

_ALERTS_OF_DISTRUST = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN")
"""Alerts by which libraries say that nobody whom they trust has signed (RFC 8446 section 6.2)."""


async def serve_inside(
    left: DetachedConnection, context: ssl.SSLContext, handshake_s: float, distrusted: Callable[[str], None]
) -> None:
    """End the TLS and give what is inside to a connection of its own; *distrusted* hears how a caller broke it off.

    A caller who says nothing for *handshake_s*, or is not done with the handshake by then, is let go.
    """
    early = left.early or await _first_bytes(left.transport, handshake_s)
    if not early or left.transport.is_closing():
        left.transport.close()
        return
    arriving, line = _Arriving(lambda: distrusted("it left without a request")), _kept_open(left)
    try:
        transport = await _begun(left.transport, arriving, context, early, handshake_s)
    except OSError as error:  # SSLError is one
        reason = getattr(error, "reason", None) or type(error).__name__
        if reason == _NOBODY_CHOSEN:
            reason = "it was to a name that is none of Graph's hosts here (upstream.hosts)"
            _say(line, _UNRECOGNIZED_NAME)
        _log.info("a caller's TLS did not begin: %s", reason)
        if how := _distrust(error):
            distrusted(how)
        left.transport.close()
    else:
        if transport is not None:
            left.ended()
            arriving.become(left.fresh(), transport)
    finally:
        os.close(line)


async def _begun(
    line: asyncio.Transport, arriving: asyncio.Protocol, context: ssl.SSLContext, early: bytes, handshake_s: float
) -> asyncio.Transport | None:
    """What the TLS on *line* carries, when it has begun; *early* is what has come of it."""
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().start_tls(
            line,
            arriving,
            context,
            server_side=True,
            ssl_handshake_timeout=handshake_s,
            ssl_shutdown_timeout=_GOODBYE_S,
        )
    )
    for _turn in range(2):  # its own first, then the one in which it is told of its connection
        await asyncio.sleep(0)
    _feed(line.get_protocol(), early)
    return await starting


async def _first_bytes(line: asyncio.Transport, patience_s: float) -> bytes:
    """What comes first on *line*, b"" where the caller leaves or is silent; so an end after it is one of TLS."""
    first = _First()
    line.set_protocol(first)
    first.connection_made(line)
    line.resume_reading()
    try:
        async with asyncio.timeout(patience_s):
            return await first.came
    except TimeoutError:
        return b""
    except asyncio.CancelledError:
        line.close()
        raise


def _distrust(error: OSError) -> str:
    """How *error* tells that the caller does not trust the certificate, "" if it tells of something else."""
    said = str(getattr(error, "reason", None) or "").upper().replace(" ", "_")
    alert = next((name for name in _ALERTS_OF_DISTRUST if name in said), "")
    if alert:
        return f"alert {alert.lower()}"
    has_left = isinstance(error, (ConnectionResetError, ssl.SSLEOFError))
    return "it left right after the certificate" if has_left else ""


def _kept_open(left: DetachedConnection) -> int:
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


class _First(asyncio.Protocol):
    """Waits for what comes first."""

    def __init__(self) -> None:
        self.came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._line: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._line = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._line is not None:
            self._line.pause_reading()
        self._tell(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._tell(b"")

    def _tell(self, data: bytes) -> None:
        if not self.came.done():
            self.came.set_result(data)


class _Arriving(asyncio.Protocol):
    """Stands before the protocol of a connection until the first byte comes out of the TLS."""

    def __init__(self, left_silently: Callable[[], None]) -> None:
        self._left_silently = left_silently
        self._onward: web.RequestHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._is_lost = self._caller_ended = False

    def become(self, protocol: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Let *protocol* have the connection and all that came."""
        if self._is_lost:
            if not self._pieces:
                self._left_silently()
            return
        self._onward, self._transport = protocol, transport
        protocol.connection_made(transport)
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            self.data_received(piece)

    def data_received(self, data: bytes) -> None:
        if self._onward is None or self._transport is None:
            self._pieces.append(data)
            return
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._onward)
        self._onward.data_received(data)

    def eof_received(self) -> None:
        self._caller_ended = True
        if self._onward is not None:
            self._onward.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._onward is not None:
            if self._caller_ended or exc is not None:
                self._left_silently()
            self._onward.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._onward is not None:
            self._onward.pause_writing()

    def resume_writing(self) -> None:
        if self._onward is not None:
            self._onward.resume_writing()
