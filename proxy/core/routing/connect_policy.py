"""The ways in of programs that know no other address for Graph: who may go where, and whether a message came right.

A `CONNECT` to Graph is ended here and served (RFC 9110 section 9.3.6); one to another host is a tunnel into which
nobody looks, or is refused. A message that came under one name and asks for another is misdirected (section 15.5.20).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from proxy.core.http.errors import BadRequest, Misdirected, SidecarError, Unwelcome
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.target import is_authority, read_target

ANY = "any"
"""In the place of a host: every one of them."""

_HTTP = 80
_HTTPS = 443


@dataclass(frozen=True, slots=True)
class TerminateTls:
    """The TLS inside ends here: *name* is what the caller takes us for."""

    name: str


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Bytes pass both ways unseen."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ConnectPolicy:
    """Decides on `CONNECT`: *named* are the authorities of Graph's, *open_to* the others that may be reached."""

    named: frozenset[str]
    open_to: tuple[str, ...]
    on_loopback: bool  # whether none but this machine's own programs can ask

    @property
    def names(self) -> frozenset[str]:
        """The hosts that the caller may take us for."""
        return frozenset(split(authority, _HTTPS)[0] for authority in self.named)

    def decide(self, authority: str) -> TerminateTls | Tunnel:
        """The way to *authority*. Raises BadRequest, Unwelcome."""
        host, port = split(authority, 0)
        if not port:
            raise BadRequest("CONNECT takes a host and a port, such as graph.facebook.com:443")
        if (host if port == _HTTPS else f"{host}:{port}") in self.named:
            return TerminateTls(host)
        if self._is_open_to(host, port):
            return Tunnel(host, port)
        raise Unwelcome(f"no way to other hosts than Graph's from here: intercept.tunnel {self._what_holds}")

    def _is_open_to(self, host: str, port: int) -> bool:
        if ANY in self.open_to:
            return self.on_loopback
        return any(split(each, _HTTPS) == (host, port) for each in self.open_to)

    @property
    def _what_holds(self) -> str:
        if ANY in self.open_to:
            return "= any holds only while listening on loopback; name hosts"
        return "lists others" if self.open_to else "= none"


def split(authority: str, default_port: int) -> tuple[str, int]:
    """Host, in lower case and without brackets or the root's dot, and port of *authority*; port 0: it is none."""
    if not is_authority(authority):
        return "", 0
    found = re.fullmatch(r"(\[.*\]|[^:]*)(?::([0-9]{1,5}))?", authority)
    host, port = found.groups() if found else ("", None)
    number = default_port if port is None else int(port)
    return host.lower().strip("[]").removesuffix("."), number if number <= 65535 else 0


def is_loopback(host: str) -> bool:
    """Whether *host* is an address of this machine that no other can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def misplaced(head: Head, name: str, hosts: GraphHosts, ours: str) -> SidecarError | None:
    """Why *head* is not for us: it came under the *name* of another host, or is for a host that is none of Graph's.

    *name* is what our certificate says, "" where there is none; *ours* is the address that the caller connected to.
    """
    absolute = read_target(head.target).authority
    asked = absolute or head.headers.get("host", "")
    if name and asked and split(asked, _HTTPS)[0] != name:
        return Misdirected(f"this connection was made to {name}, and is for no other host")
    if absolute and not hosts.knows(head) and not _is_ours(absolute, ours):
        return Unwelcome("no way to other hosts than Graph's from here: take http:// out of the proxy's variables")
    return None


def _is_ours(authority: str, ours: str) -> bool:
    """Whether *authority* is the address *ours*, by number or, on this machine, by name."""
    (asked, port), (host, our_port) = split(authority, _HTTP), split(ours, 0)
    return port == our_port and (asked == host or (asked == "localhost" and is_loopback(host)))
