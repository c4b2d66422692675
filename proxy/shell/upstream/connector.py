"""Makes connections to Graph: name resolution, and detection of connections that lead back to the sidecar.

A hosts file or a firewall rule that leads an application's calls here leads ours here as well, unless Graph is looked
up past them: by name servers of our own, or at a fixed address.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from proxy.core.routing.connect_policy import split_authority
from proxy.shell.upstream.connection import UpstreamConnection

_KEPT_S = 60
"""Seconds for which a resolved address is cached."""

_LOST_S = 30
"""Seconds without a sign of the other machine after which a connection to it has failed (RFC 5482, RFC 9293 3.8.4)."""

_NOTICES_A_LOST_PEER = tuple(
    (getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", _LOST_S // 2),
        ("TCP_KEEPINTVL", _LOST_S // 6),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", _LOST_S * 1000),
    )
    if hasattr(socket, name)  # each system has its own
)

_NAME_TIMEOUT_S = 0.5
"""Seconds after which a name server that has not answered is asked once more, later less often."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """How host names are resolved: by the system, unless one of these is given."""

    nameservers: tuple[str, ...] = ()
    address: str = ""


class OwnSockets:
    """The sockets that were opened from here, to recognize one that arrives at the sidecar's own listener."""

    def __init__(self) -> None:
        """Know none yet."""
        self._made: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.came_back = 0
        """How many arrived at the sidecar's own listener."""

    def make(self, found: tuple[Any, ...]) -> socket.socket:
        """Return a new socket for an address as getaddrinfo describes it."""
        family, kind, protocol, _, _ = found
        made = socket.socket(family, kind, protocol)
        for option, value in _NOTICES_A_LOST_PEER:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._made.add(made)
        return made

    def knows(self, caller: Sequence[Any] | None) -> bool:
        """Whether *caller*, the peer address of an accepted connection, is one of these sockets."""
        is_ours = caller is not None and any(_local_address(made) == _plain(caller) for made in list(self._made))
        self.came_back += is_ours
        return is_ours


def connector(lookup: Lookup, own: OwnSockets) -> aiohttp.TCPConnector:
    """Return a connection pool without a limit of its own (`fair_share.Places` limits it)."""
    pool = aiohttp.TCPConnector(
        limit=0, keepalive_timeout=30, ttl_dns_cache=_KEPT_S, resolver=resolver(lookup), socket_factory=own.make
    )
    # There is no public way to say who reads what comes; tests/journeys/test_stray_replies.py sees that it is ours.
    # Nor is there one to say that a resolver ends with its pool: a look-up under way would outlive the event loop.
    pool._resolver_owner = True  # noqa: SLF001
    made = partial(UpstreamConnection, loop=asyncio.get_running_loop())
    pool._factory = cast("partial[ResponseHandler]", made)  # noqa: SLF001
    return pool


def resolver(lookup: Lookup) -> AbstractResolver:
    """Return the resolver for *lookup*."""
    if lookup.address:
        return _FixedResolver(*split_authority(lookup.address, 0))
    if lookup.nameservers:  # "b": ask servers, and look into no hosts file before or after
        servers = list(lookup.nameservers)
        return aiohttp.AsyncResolver(None, servers, lookups="b", timeout=_NAME_TIMEOUT_S)
    return aiohttp.ThreadedResolver()


class _FixedResolver(AbstractResolver):
    """Resolves every name to one address; port 0 means the requested port."""

    def __init__(self, ip: str, port: int) -> None:
        self._ip = ip
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        return [
            ResolveResult(
                hostname=host,
                host=self._ip,
                port=self._port or port,
                family=socket.AF_INET6 if ":" in self._ip else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _local_address(made: socket.socket) -> tuple[str, int] | None:
    try:
        return _plain(made.getsockname())
    except OSError:  # closed
        return None


def _plain(address: Sequence[Any]) -> tuple[str, int]:
    return str(address[0]).removeprefix("::ffff:"), int(address[1])
