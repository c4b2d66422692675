"""Access to the admin listener: which caller may use which path, by host name, browser origin, address and token."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from hmac import compare_digest
from typing import NamedTuple
from urllib.parse import urlsplit

MIN_TOKEN = 16
"""The fewest characters of an admin token, so that it cannot be guessed."""

_OWN_PAGES = frozenset({"same-origin", "none"})
"""The Sec-Fetch-Site values of the sidecar's own page and of a typed address (W3C Fetch Metadata)."""


class Access(Enum):
    """The kind of access that a path needs."""

    ANYONE = "anyone"  # probes, and webhooks, which carry a signature
    READ = "read"  # numbers and pages
    ACT = "act"  # paths that change something in the sidecar


@dataclass(frozen=True, slots=True)
class Guard:
    """The settings of access: further host *names* of the listener, and the *token* that callers need, if any."""

    names: frozenset[str] = frozenset()
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AdminCaller:
    """A caller's method, headers (names in lower case; they hold the token, so not in the repr) and address."""

    method: str
    headers: Mapping[str, str] = field(repr=False)
    is_near: bool  # whether it called a loopback address, so runs on this machine


class AdminRefusal(NamedTuple):
    """The status and the message of a refusal; the message says what to do."""

    status: int
    reason: str


def admin_refusal(access: Access, caller: AdminCaller, guard: Guard) -> AdminRefusal | None:
    """Returns why *caller* is refused, or None.

    A hostile page can make a browser call the listener by a name of the page's own (DNS rebinding), but not by an
    address or by `localhost`; and its requests carry its Origin (RFC 6454).
    """
    if access is Access.ANYONE:
        return None
    host = caller.headers.get("host", "")
    if not _is_known_name(host, guard.names):
        return AdminRefusal(421, "this host name is not known here; setting admin_hosts lists those that are")
    if caller.method not in {"GET", "HEAD"} and not _is_own_page(caller.headers, host):
        return AdminRefusal(403, "a page from elsewhere may change nothing here")
    if guard.token:
        return (
            None
            if _presents(guard.token, caller.headers)
            else AdminRefusal(401, "the token of admin_token_file is needed")
        )
    if access is Access.ACT and not caller.is_near:
        return AdminRefusal(
            403, "only this machine may change something here, unless setting admin_token_file names a token"
        )
    return None


def _is_known_name(authority: str, names: frozenset[str]) -> bool:
    """Returns whether the host name is an address, `localhost` or a configured name, so no rebound name."""
    try:
        host = (urlsplit(f"//{authority}").hostname or "").removesuffix(".")
    except ValueError:
        return False
    return host == "localhost" or host in names or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_own_page(headers: Mapping[str, str], host: str) -> bool:
    """Returns whether no foreign page sent this: programs send neither field, browsers both, old ones Origin alone."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in _OWN_PAGES:
        return False
    return origin is None or origin.lower() in {f"{scheme}://{host.lower()}" for scheme in ("http", "https")}


def _presents(token: str, headers: Mapping[str, str]) -> bool:
    """Returns whether *token* is presented: as a Bearer (RFC 6750), or as a browser's Basic password (RFC 7617)."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    shown = {"bearer": rest.strip(), "basic": _password(rest.strip())}.get(scheme.lower(), "")
    return compare_digest(shown.encode("utf-8", "surrogateescape"), token.encode())


def _password(text: str) -> str:
    """Returns the password of Basic credentials; the user name does not matter."""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "surrogateescape").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
