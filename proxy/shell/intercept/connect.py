"""Answers CONNECT (RFC 9110 section 9.3.6), for programs that use the sidecar as their HTTP proxy.

After a `CONNECT` to a Graph host TLS is terminated here under that name, and the requests inside are served like those
of any other connection. A `CONNECT` to another host becomes a tunnel, if that is allowed.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from aiohttp import web

from proxy.core.http import errors
from proxy.core.reply import render
from proxy.core.routing.connect_policy import ConnectPolicy, TerminateTls, Tunnel, is_own_listener
from proxy.shell.http.protocol import Connection, DetachedConnection
from proxy.shell.http.response import respond
from proxy.shell.http.timeouts import Timeouts
from proxy.shell.intercept.ca import Authority, LeafContext
from proxy.shell.intercept.start_tls import serve_inside
from proxy.shell.intercept.tunnel import TunnelEnd

_log = logging.getLogger("graph_sidecar.intercept")

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_DISTRUST_WARNING = (
    "a caller broke off its TLS to Graph, probably because it does not trust the sidecar's authority (%s): give that "
    "program the bundle that SSL_CERT_FILE names under `graph-sidecar run` and after `graph-sidecar ca env`; "
    "docs/transparent.md lists the setting that each program reads (logged once)"
)
_IDLE_S = 1
"""Seconds without a byte after which drain() does not wait for a tunnel."""


class ConnectHandler:
    """Answers every `CONNECT`, and passes other messages to the next handler."""

    def __init__(
        self,
        next_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        policy: ConnectPolicy,
        authority: Authority,
        *,
        connect_timeout_s: float,
        timeouts: Timeouts,
    ) -> None:
        """Allow what *policy* allows; *authority* has the certificates for Graph's hosts."""
        self._next_handler = next_handler
        self._policy = policy
        self._authority = authority
        self._connect_timeout_s = connect_timeout_s
        self._timeouts = timeouts
        self._tunnels: set[TunnelEnd] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_warned_of_distrust = False
        self.ports: frozenset[int] = frozenset()
        """The ports of our own listeners; no tunnel may lead to them."""

    async def handle(self, message: web.BaseRequest) -> web.StreamResponse:
        """Return the answer to *message*; a connection that becomes a tunnel or TLS is detached from its protocol."""
        if message.method != "CONNECT":
            return await self._next_handler(message)
        try:
            await self._connect(message)
            return web.Response()  # not sent: the connection is detached
        except errors.SidecarError as error:
            if isinstance(error, errors.Uncertified):
                _log.error("a CONNECT to Graph was refused: %s", error)
            response = respond(render.bare(errors.reply_of(error)))
            response.force_close()
            return response

    async def _connect(self, message: web.BaseRequest) -> None:
        if tls_server_name(message):
            raise errors.BadRequest("CONNECT is not served inside a connection to Graph")
        if message.content_length or "Transfer-Encoding" in message.headers:
            raise errors.BadRequest("CONNECT with a body is not allowed")
        match self._policy.decide(message.raw_path):
            case TerminateTls(name):
                leaf = await self._authority.leaf(name)
                if detached := _detach(message):
                    detached.transport.write(_ESTABLISHED)
                    self.terminate_tls(detached, leaf)
            case Tunnel() as tunnel:
                await self._join(message, await self._dial(tunnel))

    def terminate_tls(self, detached: DetachedConnection, context: ssl.SSLContext) -> None:
        """Terminate the TLS that begins on *detached*, and serve the requests inside."""
        self._spawn(self._serve_inside(detached, context))

    async def _serve_inside(self, detached: DetachedConnection, context: ssl.SSLContext) -> None:
        try:
            await serve_inside(detached, context, self._timeouts.head_s, self._warn_of_distrust)
        finally:
            detached.ended()

    def _warn_of_distrust(self, how: str) -> None:
        """Log the first caller that broke TLS off: such programs retry for minutes and do not say why."""
        if not self._has_warned_of_distrust:
            self._has_warned_of_distrust = True
            _log.warning(_DISTRUST_WARNING, how)

    async def _dial(self, tunnel: Tunnel) -> TunnelEnd:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                transport, end = await loop.create_connection(lambda: TunnelEnd(loop.time), tunnel.host, tunnel.port)
        except TimeoutError:
            raise errors.Late("connecting to the tunnel's host took too long") from None
        except (OSError, UnicodeError) as error:
            raise errors.Unreachable(f"no connection to the host of the tunnel ({type(error).__name__})") from None
        if self._is_own(transport):
            transport.abort()
            raise errors.Unwelcome("this tunnel would lead back to the sidecar itself")
        return end

    def _is_own(self, transport: asyncio.Transport) -> bool:
        """True if *transport* leads to one of our own listeners on this machine."""
        here, there = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        return bool(here and there) and is_own_listener(here[0], there[:2], self.ports)

    async def _join(self, message: web.BaseRequest, far: TunnelEnd) -> None:
        detached = _detach(message)
        if detached is None:
            far.abort()
            return
        near = TunnelEnd(asyncio.get_running_loop().time)
        detached.transport.set_protocol(near)
        near.connection_made(detached.transport)
        detached.transport.write(_ESTABLISHED)
        near.join(far, detached.early)
        self._spawn(self._watch(near, far, detached.ended))

    async def _watch(self, near: TunnelEnd, far: TunnelEnd, ended: Callable[[], None]) -> None:
        """Wait for the tunnel's end; close it when no byte has passed for as long as a connection may be idle."""
        clock, idle_s = asyncio.get_running_loop().time, self._timeouts.idle_s
        self._tunnels |= {near, far}
        try:
            while waiting := [end.closed for end in (near, far) if not end.closed.done()]:
                rest_s = idle_s - (clock() - near.last_active_at)
                if rest_s <= 0:
                    _log.info("a tunnel was closed: no byte passed for %g s", idle_s)
                    near.abort()
                await asyncio.wait(waiting, timeout=rest_s if rest_s > 0 else None)
        finally:
            ended()
            self._tunnels -= {near, far}

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Close idle tunnels now and the others after *seconds* at the latest."""
        clock = asyncio.get_running_loop().time
        ends = clock() + seconds
        while self._tunnels and clock() < ends:
            for end in self._tunnels:
                if clock() - end.last_active_at >= _IDLE_S:
                    end.close()
            await asyncio.wait({end.closed for end in self._tunnels}, timeout=min(_IDLE_S, ends - clock()))
            await asyncio.sleep(0)  # lets _watch() remove closed tunnels
        for end in self._tunnels:
            end.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def tls_server_name(message: web.BaseRequest) -> str:
    """The server name for which the TLS of *message* was terminated here, "" without TLS."""
    tls = message.get_extra_info("ssl_object")
    return tls.context.name if tls is not None and isinstance(tls.context, LeafContext) else ""


def local_address(message: web.BaseRequest) -> str:
    """The host and port that the caller of *message* connected to."""
    at = message.get_extra_info("sockname")
    return f"[{at[0]}]:{at[1]}" if at and ":" in at[0] else f"{at[0]}:{at[1]}" if at else ""


def _detach(message: web.BaseRequest) -> DetachedConnection | None:
    return cast("Connection", message.protocol).hand_over()
