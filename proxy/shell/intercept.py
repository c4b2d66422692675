"""Stands before the stack for programs that know no other address for Graph: ends their TLS, or lets them through.

A `CONNECT` to Graph is answered, and the TLS inside ends here under that name; what comes out of it is served like any
other connection. A `CONNECT` to another host becomes a tunnel, where that is allowed. The `Door` does without CONNECT.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from aiohttp import web

from proxy.core import dressing, errors
from proxy.core.intercepting import Ended, Gate, Tunnel, is_loopback
from proxy.shell.authority import Authority, Leaf
from proxy.shell.dialing import OwnSockets
from proxy.shell.listener import Connection, Left, respond
from proxy.shell.tunnel import End

_log = logging.getLogger("graph_sidecar.intercept")

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_HANDSHAKE_S = 20
_GOODBYE_S = 1
_QUIET_S = 1
"""Seconds without a byte after which a tunnel is not waited for at the end."""
_KEPT_AT_HAND_S = 3600


class Intercept:
    """The end of every `CONNECT`; other messages go on."""

    def __init__(
        self,
        onward: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        gate: Gate,
        authority: Authority,
        *,
        connect_timeout_s: float,
    ) -> None:
        """Let through what *gate* allows; *authority* speaks for Graph."""
        self._onward = onward
        self._gate = gate
        self._authority = authority
        self._connect_timeout_s = connect_timeout_s
        self._tunnels: set[End] = set()
        self._tasks: set[asyncio.Task[None]] = set()
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
            response = respond(dressing.bare(errors.reply_of(error)))
            response.force_close()
            return response

    async def _connect(self, message: web.BaseRequest) -> None:
        if spoken_for(message):
            raise errors.BadRequest("CONNECT is not served inside a connection to Graph")
        if message.content_length or "Transfer-Encoding" in message.headers:
            raise errors.BadRequest("CONNECT carries no body")
        match self._gate.way(message.raw_path):
            case Ended(name):
                leaf = await self._authority.leaf(name)
                if left := _hand_over(message):
                    left.transport.write(_ESTABLISHED)
                    self.end_tls(left, leaf)
            case Tunnel() as tunnel:
                await self._join(message, await self._dial(tunnel))

    def end_tls(self, left: Left, context: ssl.SSLContext) -> None:
        """Serve what comes out of the TLS that begins on the connection *left*."""
        self._spawn(_serve_inside(left, context))

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
        self._spawn(self._watch(near, far))

    async def _watch(self, near: End, far: End) -> None:
        self._tunnels |= {near, far}
        await asyncio.wait((near.gone, far.gone))
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


class Door(web.Server):
    """A listener whose callers begin with TLS, to a name that they say at once (RFC 6066 section 3)."""

    def __init__(
        self, intercept: Intercept, authority: Authority, own: OwnSockets, fresh: Callable[[], web.RequestHandler]
    ) -> None:
        """Serve connections by what *fresh* makes, when *intercept* has ended their TLS."""
        super().__init__(intercept.handle)
        self._intercept = intercept
        self._authority = authority
        self._own = own
        self._fresh = fresh
        self._by_name = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._by_name.minimum_version = ssl.TLSVersion.TLSv1_2
        self._by_name.set_alpn_protocols(["http/1.1"])
        self._by_name.sni_callback = self._choose

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection, until its TLS begins."""
        return cast("web.RequestHandler", _Knock(self._knocked))

    async def keep(self, names: frozenset[str]) -> None:
        """Keep leaves for *names* at hand, for the choice among them cannot wait."""
        while True:
            await asyncio.sleep(_KEPT_AT_HAND_S)
            try:
                await self.mint(names)
            except errors.Uncertified as error:
                _log.error("intercept.listen will soon be closed to callers: %s", error)

    async def mint(self, names: frozenset[str]) -> None:
        """Have leaves for *names*. Raises Uncertified."""
        for name in sorted(names):
            await self._authority.leaf(name)

    def _knocked(self, transport: asyncio.Transport, early: bytes) -> None:
        if self._own.knows(transport.get_extra_info("peername")):
            _log.error("a call to Graph came back here: set upstream.nameservers or upstream.address")
            transport.abort()
        else:
            self._intercept.end_tls(Left(transport, early, self._fresh), self._by_name)

    def _choose(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> int | None:
        leaf = self._authority.at_hand(name.lower()) if name else None
        if leaf is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = leaf
        return None


def spoken_for(message: web.BaseRequest) -> str:
    """The name under which the TLS that *message* came through was ended, "" for one that came in clear."""
    tls = message.get_extra_info("ssl_object")
    return tls.context.name if tls is not None and isinstance(tls.context, Leaf) else ""


def our_address(message: web.BaseRequest) -> str:
    """Host and port that the caller of *message* connected to."""
    at = message.get_extra_info("sockname")
    return f"[{at[0]}]:{at[1]}" if at and ":" in at[0] else f"{at[0]}:{at[1]}" if at else ""


def _hand_over(message: web.BaseRequest) -> Left | None:
    return cast("Connection", message.protocol).hand_over()


async def _serve_inside(left: Left, context: ssl.SSLContext) -> None:
    """End the TLS and give what is inside to a connection of its own."""
    loop, arriving = asyncio.get_running_loop(), _Arriving()
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
        _log.info("a caller's TLS did not begin: %s", getattr(error, "reason", None) or type(error).__name__)
        left.transport.close()
    else:
        if transport is not None:
            arriving.become(left.fresh(), transport)


def _feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Hand *data* to the end of TLS as if it came now."""
    end = cast("asyncio.BufferedProtocol", protocol)
    while data:
        room = memoryview(end.get_buffer(len(data)))
        piece, data = data[: len(room)], data[len(room) :]
        room[: len(piece)] = piece
        end.buffer_updated(len(piece))


class _Knock(asyncio.Protocol):
    """Keeps what comes for the TLS that begins in the loop's next turn: in this one a transport starts to read."""

    def __init__(self, knocked: Callable[[asyncio.Transport, bytes], None]) -> None:
        self._knocked = knocked
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        asyncio.get_running_loop().call_soon(self._begin, cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._early += data

    def _begin(self, transport: asyncio.Transport) -> None:
        if not transport.is_closing():
            transport.pause_reading()
            self._knocked(transport, self._early)


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
