"""Who may do what on the admin listener: whatever name it is called by, wherever a browser's page comes from."""

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
"""Characters of an admin token, at least: nobody guesses those."""

_OWN_PAGES = frozenset({"same-origin", "none"})
"""Sec-Fetch-Site of a page of ours, and of an address typed in (W3C Fetch Metadata)."""


class Access(Enum):
    """Who may come to a path."""

    ANYONE = "anyone"  # a probe, or who brings a proof of its own
    READ = "read"  # counts, and what is made of them
    ACT = "act"  # what changes something here


@dataclass(frozen=True, slots=True)
class Guard:
    """What holds at the admin listener: further *names* for it, and the *token* to be shown, if any."""

    names: frozenset[str] = frozenset()
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AdminCaller:
    """What is known of who asks; header names in lower case. The headers hold the token, and appear in no repr."""

    method: str
    headers: Mapping[str, str] = field(repr=False)
    is_near: bool  # it called a loopback address, which nobody can from another machine


class Refusal(NamedTuple):
    """A status, and the reason with the way out."""

    status: int
    reason: str


def refusal(access: Access, caller: AdminCaller, guard: Guard) -> Refusal | None:
    """Why *caller* is refused, or None.

    A page of somebody's can make a browser call us by a name of its own (DNS rebinding), but by no address, nor by
    `localhost`; and what it sends from elsewhere bears its Origin (RFC 6454).
    """
    if access is Access.ANYONE:
        return None
    host = caller.headers.get("host", "")
    if not _is_ours(host, guard.names):
        return Refusal(421, "this host name is not known here; setting admin_hosts lists those that are")
    if caller.method not in {"GET", "HEAD"} and not _is_own_page(caller.headers, host):
        return Refusal(403, "a page from elsewhere may change nothing here")
    if guard.token:
        return None if _shows(guard.token, caller.headers) else Refusal(401, "the token of admin_token_file is needed")
    if access is Access.ACT and not caller.is_near:
        return Refusal(
            403, "only this machine may change something here, unless setting admin_token_file names a token"
        )
    return None


def _is_ours(authority: str, names: frozenset[str]) -> bool:
    """Whether nobody can have pointed this name here who should not."""
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
    """Programs say neither; browsers say both, old ones the Origin alone."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in _OWN_PAGES:
        return False
    return origin is None or origin.lower() in {f"{scheme}://{host.lower()}" for scheme in ("http", "https")}


def _shows(token: str, headers: Mapping[str, str]) -> bool:
    """Whether *token* is shown: as a Bearer (RFC 6750), or as the password that a browser asks for (RFC 7617)."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    shown = {"bearer": rest.strip(), "basic": _password(rest.strip())}.get(scheme.lower(), "")
    return compare_digest(shown.encode("utf-8", "surrogateescape"), token.encode())


def _password(text: str) -> str:
    """What stands behind the colon of Basic credentials; the user is of no account."""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "surrogateescape").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
