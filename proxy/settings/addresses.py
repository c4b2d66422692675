"""Addresses to listen on, and the syntax of hosts, ports and IP addresses."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator

# A label of a host name: RFC 1123, plus the underscore that container networks allow.
HOST_NAME = re.compile(r"(?=.{1,253}$)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")


@dataclass(frozen=True, slots=True)
class Address:
    """A listen address: host and port; port 0 stands for any free port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return self.host.lower() == "localhost" or (is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    def __str__(self) -> str:
        """The address as HOST:PORT, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: object) -> Address:
    """Parse HOST:PORT."""
    if isinstance(value, Address):
        return value
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else -1
    if not colon or not is_host(host) or not 0 <= number <= 65535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080")
    return Address(host.strip("[]"), number)


def is_host(text: str) -> bool:
    """Returns whether *text* is a host as in URLs: a name, an IPv4 address, or an IPv6 address in brackets."""
    if text.startswith("[") and text.endswith("]"):
        return _is_ip(text[1:-1], 6)
    return HOST_NAME.fullmatch(text.lower()) is not None


def is_ip(text: str) -> bool:
    """Returns whether *text* is an IP address without brackets."""
    return _is_ip(text, 4) or _is_ip(text, 6)


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


Listen = Annotated[Address, BeforeValidator(parse_address)]
MaybeListen = Annotated[Address | Literal[""], BeforeValidator(lambda value: value and parse_address(value))]
