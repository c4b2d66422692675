"""Terminates TLS on an existing connection, and serves the requests inside like those of any other connection."""

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

_SHUTDOWN_S = 1
_NO_CERTIFICATE = "CALLBACK_FAILED"
"""OpenSSL's reason when no certificate was chosen for the server name that the caller sent."""
_UNRECOGNIZED_NAME = bytes.fromhex("15 0303 0002 0270")
"""The fatal alert for an unknown server name (RFC 6066 section 3), unencrypted: no keys are agreed on yet."""

_ALERTS_OF_DISTRUST = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN")
"""Alerts of clients that do not trust the certificate's issuer (RFC 8446 section 6.2)."""


async def serve_inside(
    detached: DetachedConnection, context: ssl.SSLContext, handshake_s: float, on_distrust: Callable[[str], None]
) -> None:
    """Terminate TLS on *detached* and serve the requests inside; *on_distrust* gets how a caller broke TLS off.

    The connection is closed if no byte comes within *handshake_s*, or if the handshake takes longer.
    """
    early = detached.early or await _first_bytes(detached.transport, handshake_s)
    if not early or detached.transport.is_closing():
        detached.transport.close()
        return
    first = _UntilFirstByte(lambda: on_distrust("it left without a request"))
    socket = _duplicate_socket(detached)
    try:
        transport = await _start_tls(detached.transport, first, context, early, handshake_s)
    except OSError as error:  # SSLError is one
        reason = getattr(error, "reason", None) or type(error).__name__
        if reason == _NO_CERTIFICATE:
            reason = "its server name is not one of upstream.hosts"
            _send_alert(socket, _UNRECOGNIZED_NAME)
        _log.info("a caller's TLS handshake failed: %s", reason)
        if how := _distrust_reason(error):
            on_distrust(how)
        detached.transport.close()
    else:
        if transport is not None:
            detached.ended()
            first.hand_over_to(detached.fresh(), transport)
    finally:
        os.close(socket)


async def _start_tls(
    transport: asyncio.Transport, inner: asyncio.Protocol, context: ssl.SSLContext, early: bytes, handshake_s: float
) -> asyncio.Transport | None:
    """The transport inside TLS, after the handshake; *early* are the bytes of TLS that were already read."""
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().start_tls(
            transport,
            inner,
            context,
            server_side=True,
            ssl_handshake_timeout=handshake_s,
            ssl_shutdown_timeout=_SHUTDOWN_S,
        )
    )
    for _turn in range(2):  # one turn for start_tls(), one for its protocol's connection_made()
        await asyncio.sleep(0)
    _feed(transport.get_protocol(), early)
    return await starting


async def _first_bytes(transport: asyncio.Transport, timeout_s: float) -> bytes:
    """The first bytes from *transport*, b"" if the caller leaves or sends nothing; a later end is one during TLS."""
    first = _FirstBytes()
    transport.set_protocol(first)
    first.connection_made(transport)
    transport.resume_reading()
    try:
        async with asyncio.timeout(timeout_s):
            return await first.received
    except TimeoutError:
        return b""
    except asyncio.CancelledError:
        transport.close()
        raise


def _distrust_reason(error: OSError) -> str:
    """How *error* shows that the caller does not trust the certificate, "" if it has another cause."""
    reason = str(getattr(error, "reason", None) or "").upper().replace(" ", "_")
    alert = next((name for name in _ALERTS_OF_DISTRUST if name in reason), "")
    if alert:
        return f"alert {alert.lower()}"
    has_left = isinstance(error, (ConnectionResetError, ssl.SSLEOFError))
    return "it left right after the certificate" if has_left else ""


def _duplicate_socket(detached: DetachedConnection) -> int:
    """A duplicate of the socket's descriptor: the loop closes its own when TLS fails, and sends no alert before."""
    return os.dup(detached.transport.get_extra_info("socket").fileno())


def _send_alert(socket: int, alert: bytes) -> None:
    with contextlib.suppress(OSError):  # the caller has left
        os.write(socket, alert)


def _feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Give *data* to the TLS protocol as if it had just been read."""
    tls = cast("asyncio.BufferedProtocol", protocol)
    while data:
        room = memoryview(tls.get_buffer(len(data)))
        piece, data = data[: len(room)], data[len(room) :]
        room[: len(piece)] = piece
        tls.buffer_updated(len(piece))


class _FirstBytes(asyncio.Protocol):
    """Waits for the first bytes of a connection."""

    def __init__(self) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._line: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._line = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._line is not None:
            self._line.pause_reading()
        self._resolve(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._resolve(b"")

    def _resolve(self, data: bytes) -> None:
        if not self.received.done():
            self.received.set_result(data)


class _UntilFirstByte(asyncio.Protocol):
    """Holds what comes out of TLS until the connection's own protocol is there."""

    def __init__(self, on_silent_end: Callable[[], None]) -> None:
        self._on_silent_end = on_silent_end
        self._protocol: web.RequestHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._is_lost = self._caller_ended = False

    def hand_over_to(self, protocol: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Give the connection and everything received so far to *protocol*."""
        if self._is_lost:
            if not self._pieces:
                self._on_silent_end()
            return
        self._protocol, self._transport = protocol, transport
        protocol.connection_made(transport)
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            self.data_received(piece)

    def data_received(self, data: bytes) -> None:
        if self._protocol is None or self._transport is None:
            self._pieces.append(data)
            return
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._protocol)
        self._protocol.data_received(data)

    def eof_received(self) -> None:
        self._caller_ended = True
        if self._protocol is not None:
            self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._protocol is not None:
            if self._caller_ended or exc is not None:
                self._on_silent_end()
            self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()
