"""The policy of transparent mode: which hosts `CONNECT` may reach, and which messages are misdirected.

The TLS of a `CONNECT` to Graph is terminated here (RFC 9110 section 9.3.6); a `CONNECT` to another host becomes a blind
tunnel if `intercept.tunnel` names that host (or is `any`, on loopback alone), else is refused; so is a tunnel that
leads back to one of the sidecar's own listeners (`is_own_listener`, asked by `shell/intercept/connect` once the
tunnel's address is known). A message whose connection was made to one name and that asks for another is misdirected
(section 15.5.20).

`shell/intercept/connect` asks `decide`; `shell/downstream/handler` asks `misdirection`. The fast path takes only
messages in clear whose target is a path: no such message is misdirected.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from proxy.core.http.errors import BadRequest, Misdirected, SidecarError, Unwelcome
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.normal_form import is_authority, read_target

ANY = "any"
"""In place of a host: all hosts."""

_HTTP = 80
_HTTPS = 443


@dataclass(frozen=True, slots=True)
class TerminateTls:
    """The decision to terminate TLS here, with a certificate for *name*."""

    name: str


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The decision to relay bytes both ways without reading them."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ConnectPolicy:
    """Decides on `CONNECT`: *authorities* are Graph's, *open_to* the others that may be reached."""

    authorities: frozenset[str]
    open_to: tuple[str, ...]
    on_loopback: bool  # whether only programs of this machine can connect

    @property
    def host_names(self) -> frozenset[str]:
        """The host names of Graph's that certificates are made for."""
        return frozenset(split_authority(authority, _HTTPS)[0] for authority in self.authorities)

    def decide(self, authority: str) -> TerminateTls | Tunnel:
        """Returns what to do with a `CONNECT` to *authority*. Raises BadRequest, Unwelcome."""
        host, port = split_authority(authority, 0)
        if not port:
            raise BadRequest("CONNECT takes a host and a port, such as graph.facebook.com:443")
        if (host if port == _HTTPS else f"{host}:{port}") in self.authorities:
            return TerminateTls(host)
        if self._is_open_to(host, port):
            return Tunnel(host, port)
        raise Unwelcome(f"no way to other hosts than Graph's from here: intercept.tunnel {self._what_holds}")

    def _is_open_to(self, host: str, port: int) -> bool:
        if ANY in self.open_to:
            return self.on_loopback
        return any(split_authority(each, _HTTPS) == (host, port) for each in self.open_to)

    @property
    def _what_holds(self) -> str:
        if ANY in self.open_to:
            return "= any holds only while listening on loopback; name hosts"
        return "lists others" if self.open_to else "= none"


def split_authority(authority: str, default_port: int) -> tuple[str, int]:
    """Returns host (lower case, without brackets or final dot) and port of *authority*; port 0 if it is invalid."""
    if not is_authority(authority):
        return "", 0
    found = re.fullmatch(r"(\[.*\]|[^:]*)(?::([0-9]{1,5}))?", authority)
    host, port = found.groups() if found else ("", None)
    number = default_port if port is None else int(port)
    return host.lower().strip("[]").removesuffix("."), number if number <= 65535 else 0


def is_own_listener(here: str, there: tuple[str, int], own_ports: frozenset[int]) -> bool:
    """Returns whether a connection from the address *here* to *there* leads to one of our listeners on this machine."""
    address, port = there
    return port in own_ports and (here == address or is_loopback(address))  # 127.0.0.2 is called from 127.0.0.1


def is_loopback(host: str) -> bool:
    """Returns whether *host* is a loopback address or `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def misdirection(head: Head, name: str, hosts: GraphHosts, ours: str) -> SidecarError | None:
    """Returns the error for a message for another host than its connection, or for a host that is not Graph's; or None.

    *name* is the name in the certificate, "" without TLS; *ours* is the address that the caller connected to.
    """
    absolute = read_target(head.target).authority
    asked = absolute or head.headers.get("host", "")
    if name and asked and split_authority(asked, _HTTPS)[0] != name:
        return Misdirected(f"this connection was made to {name}, and is for no other host")
    if absolute and not hosts.knows(head) and not _is_our_address(absolute, ours):
        return Unwelcome("no way to other hosts than Graph's from here: take http:// out of the proxy's variables")
    return None


def _is_our_address(authority: str, ours: str) -> bool:
    """Returns whether *authority* is the address *ours*, by number or, on loopback, as `localhost`."""
    (asked, port), (host, our_port) = split_authority(authority, _HTTP), split_authority(ours, 0)
    return port == our_port and (asked == host or (asked == "localhost" and is_loopback(host)))
