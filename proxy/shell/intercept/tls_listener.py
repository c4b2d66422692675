"""A listener for connections that begin with TLS, as a hosts file or iptables sends them here."""

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

_RENEW_EVERY_S = 3600
"""Seconds between two checks of the leaf certificates; one is renewed a day before it expires."""


class TlsListener(web.Server):
    """A listener whose callers begin with TLS and name their server in the first message (SNI, RFC 6066 section 3)."""

    def __init__(self, intercept: ConnectHandler, authority: Authority, own: OwnSockets, listener: Listener) -> None:
        """Serve connections as *listener* does, after *intercept* has terminated their TLS."""
        super().__init__(intercept.handle)
        self._intercept = intercept
        self._authority = authority
        self._own = own
        self._listener = listener
        self._by_name = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._by_name.minimum_version = ssl.TLSVersion.TLSv1_2
        self._by_name.set_alpn_protocols(["http/1.1"])
        self._by_name.sni_callback = self._choose_leaf

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection, until its TLS begins."""
        return cast("web.RequestHandler", _ClientHello(self._on_client_hello))

    async def renew_leaves(self, names: frozenset[str]) -> None:
        """Renew the leaf certificates of *names* for ever: the SNI callback cannot wait for a new one."""
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            try:
                await self.make_leaves(names)
            except errors.Uncertified as error:
                _log.error("intercept.listen will soon refuse TLS: %s", error)

    async def make_leaves(self, names: frozenset[str]) -> None:
        """Make the missing leaf certificates of *names*. Raises Uncertified."""
        for name in sorted(names):
            await self._authority.leaf(name)

    def _on_client_hello(self, transport: asyncio.Transport, early: bytes) -> None:
        if self._own.knows(transport.get_extra_info("peername")):
            _log.error("a call to Graph came back here: set upstream.nameservers or upstream.address")
            transport.abort()
        elif detached := self._listener.take(transport, early):
            self._intercept.terminate_tls(detached, self._by_name)
        else:
            _log.warning("a connection was refused: there are too many (listener.connections)")
            transport.abort()

    def _choose_leaf(
        self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        leaf = self._authority.cached_leaf(name.lower()) if name else None
        if leaf is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = leaf
        return None


class _ClientHello(asyncio.Protocol):
    """Collects bytes until the loop's next turn, in which TLS begins: a new transport starts reading in this turn."""

    def __init__(self, on_client_hello: Callable[[asyncio.Transport, bytes], None]) -> None:
        self._on_client_hello = on_client_hello
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        asyncio.get_running_loop().call_soon(self._begin, cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._early += data

    def _begin(self, transport: asyncio.Transport) -> None:
        if not transport.is_closing():
            transport.pause_reading()
            self._on_client_hello(transport, self._early)
