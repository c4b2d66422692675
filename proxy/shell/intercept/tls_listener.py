"""The way in of programs that a hosts file or iptables leads here: they begin with TLS, and say to whom."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import cast

from aiohttp import web

from proxy.core.http import errors
from proxy.shell.http.listener import Listener
from proxy.shell.intercept.ca import Authority
from proxy.shell.intercept.connect import ConnectHandler
from proxy.shell.upstream.connector import OwnSockets

_log = logging.getLogger("graph_sidecar.intercept")

_LOOK_EVERY_S = 3600
"""Seconds from one look at the leaves to the next; a leaf is renewed a day before it ends."""


class TlsListener(web.Server):
    """A listener whose callers begin with TLS, to a name that they say at once (RFC 6066 section 3)."""

    def __init__(self, intercept: ConnectHandler, authority: Authority, own: OwnSockets, listener: Listener) -> None:
        """Serve connections as *listener* does, when *intercept* has ended their TLS."""
        super().__init__(intercept.handle)
        self._intercept = intercept
        self._authority = authority
        self._own = own
        self._listener = listener
        self._by_name = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._by_name.minimum_version = ssl.TLSVersion.TLSv1_2
        self._by_name.set_alpn_protocols(["http/1.1"])
        self._by_name.sni_callback = self._choose

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection, until its TLS begins."""
        return cast("web.RequestHandler", _ClientHello(self._knocked))

    async def keep(self, names: frozenset[str]) -> None:
        """Keep leaves for *names* at hand, for the choice among them cannot wait."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
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
        elif left := self._listener.take(transport, early):
            self._intercept.end_tls(left, self._by_name)
        else:
            _log.warning("a connection was refused: there are too many (listener.connections)")
            transport.abort()

    def _choose(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> int | None:
        leaf = self._authority.at_hand(name.lower()) if name else None
        if leaf is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = leaf
        return None


class _ClientHello(asyncio.Protocol):
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
