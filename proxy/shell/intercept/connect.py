"""Stands before the stack for programs that know no other address for Graph: ends their TLS, or lets them through.

A `CONNECT` to Graph is answered, and the TLS inside ends here under that name; what comes out of it is served like any
other connection. A `CONNECT` to another host becomes a tunnel, where that is allowed.
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
from proxy.core.routing.connect_policy import ConnectPolicy, TerminateTls, Tunnel, is_loopback
from proxy.shell.http.protocol import Connection, DetachedConnection
from proxy.shell.http.response import respond
from proxy.shell.http.timeouts import Timeouts
from proxy.shell.intercept.ca import Authority, Leaf
from proxy.shell.intercept.start_tls import serve_inside
from proxy.shell.intercept.tunnel import End

_log = logging.getLogger("graph_sidecar.intercept")

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_DISTRUSTED = (
    "a caller broke off its TLS to Graph, most likely because it does not trust the sidecar's authority (%s): name the "
    "bundle that SSL_CERT_FILE names under `graph-sidecar run`, and after `graph-sidecar ca env`, in what that program "
    "reads; docs/transparent.md lists who reads what (told once)"
)
_QUIET_S = 1
"""Seconds without a byte after which a tunnel is not waited for at the end."""


class ConnectHandler:
    """The end of every `CONNECT`; other messages go on."""

    def __init__(
        self,
        onward: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        gate: ConnectPolicy,
        authority: Authority,
        *,
        connect_timeout_s: float,
        patience: Timeouts,
    ) -> None:
        """Let through what *gate* allows, with *patience*; *authority* speaks for Graph."""
        self._onward = onward
        self._gate = gate
        self._authority = authority
        self._connect_timeout_s = connect_timeout_s
        self._patience = patience
        self._tunnels: set[End] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_told_of_distrust = False
        self.ports: frozenset[int] = frozenset()
        """Where our own listeners are; no tunnel leads to them."""

    async def handle(self, message: web.BaseRequest) -> web.StreamResponse:
        """Answer *message*, or hand its connection to what it asks for."""
        if message.method != "CONNECT":
            return await self._onward(message)
        try:
            await self._connect(message)
            return web.Response()  # which goes nowhere
        except errors.SidecarError as error:
            if isinstance(error, errors.Uncertified):
                _log.error("a CONNECT to Graph was refused: %s", error)
            response = respond(render.bare(errors.reply_of(error)))
            response.force_close()
            return response

    async def _connect(self, message: web.BaseRequest) -> None:
        if spoken_for(message):
            raise errors.BadRequest("CONNECT is not served inside a connection to Graph")
        if message.content_length or "Transfer-Encoding" in message.headers:
            raise errors.BadRequest("CONNECT carries no body")
        match self._gate.decide(message.raw_path):
            case TerminateTls(name):
                leaf = await self._authority.leaf(name)
                if left := _hand_over(message):
                    left.transport.write(_ESTABLISHED)
                    self.end_tls(left, leaf)
            case Tunnel() as tunnel:
                await self._join(message, await self._dial(tunnel))

    def end_tls(self, left: DetachedConnection, context: ssl.SSLContext) -> None:
        """Serve what comes out of the TLS that begins on the connection *left*."""
        self._spawn(self._serve_inside(left, context))

    async def _serve_inside(self, left: DetachedConnection, context: ssl.SSLContext) -> None:
        try:
            await serve_inside(left, context, self._patience.head_s, self._distrusted)
        finally:
            left.ended()

    def _distrusted(self, how: str) -> None:
        """Tell of the first caller that broke TLS off: such programs retry for minutes and do not say why."""
        if not self._has_told_of_distrust:
            self._has_told_of_distrust = True
            _log.warning(_DISTRUSTED, how)

    async def _dial(self, tunnel: Tunnel) -> End:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                transport, end = await loop.create_connection(lambda: End(loop.time), tunnel.host, tunnel.port)
        except TimeoutError:
            raise errors.Late("no connection to the host of the tunnel in time") from None
        except (OSError, UnicodeError) as error:
            raise errors.Unreachable(f"no connection to the host of the tunnel ({type(error).__name__})") from None
        if self._is_own(transport):
            transport.abort()
            raise errors.Unwelcome("this tunnel would lead back to the sidecar itself")
        return end

    def _is_own(self, transport: asyncio.Transport) -> bool:
        """Whether the other end is a listener of this very machine's that is one of ours."""
        here, there = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if here is None or there is None or there[1] not in self.ports:
            return False
        return here[0] == there[0] or is_loopback(there[0])  # 127.0.0.2 is called from 127.0.0.1

    async def _join(self, message: web.BaseRequest, far: End) -> None:
        left = _hand_over(message)
        if left is None:
            far.abort()
            return
        near = End(asyncio.get_running_loop().time)
        left.transport.set_protocol(near)
        near.connection_made(left.transport)
        left.transport.write(_ESTABLISHED)
        near.join(far, left.early)
        self._spawn(self._watch(near, far, left.ended))

    async def _watch(self, near: End, far: End, ended: Callable[[], None]) -> None:
        """See a tunnel to its end, which comes when nothing has moved in it for as long as a connection may rest."""
        clock, idle_s = asyncio.get_running_loop().time, self._patience.idle_s
        self._tunnels |= {near, far}
        try:
            while waiting := [end.gone for end in (near, far) if not end.gone.done()]:
                rest_s = idle_s - (clock() - near.last_moved)
                if rest_s <= 0:
                    _log.info("a tunnel was closed: nothing moved in it for %g s", idle_s)
                    near.abort()
                await asyncio.wait(waiting, timeout=rest_s if rest_s > 0 else None)
        finally:
            ended()
            self._tunnels -= {near, far}

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def leave(self, seconds: float) -> None:
        """Let tunnels in which something moves have *seconds*; those that are quiet end now."""
        clock = asyncio.get_running_loop().time
        ends = clock() + seconds
        while self._tunnels and clock() < ends:
            for end in self._tunnels:
                if clock() - end.last_moved >= _QUIET_S:
                    end.close()
            await asyncio.wait({end.gone for end in self._tunnels}, timeout=min(_QUIET_S, ends - clock()))
            await asyncio.sleep(0)  # for those that watch
        for end in self._tunnels:
            end.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def spoken_for(message: web.BaseRequest) -> str:
    """The name under which the TLS that *message* came through was ended, "" for one that came in clear."""
    tls = message.get_extra_info("ssl_object")
    return tls.context.name if tls is not None and isinstance(tls.context, Leaf) else ""


def our_address(message: web.BaseRequest) -> str:
    """Host and port that the caller of *message* connected to."""
    at = message.get_extra_info("sockname")
    return f"[{at[0]}]:{at[1]}" if at and ":" in at[0] else f"{at[0]}:{at[1]}" if at else ""


def _hand_over(message: web.BaseRequest) -> DetachedConnection | None:
    return cast("Connection", message.protocol).hand_over()
