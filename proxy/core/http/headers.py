"""Which header fields pass in, pass out, and survive in an entry. Names are compared in lower case."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeGuard

from proxy.core.memory.memo import memo
from proxy.core.model import Headers

HOP_BY_HOP = frozenset(
    {
        "connection",
        "http2-settings",  # what came with `Upgrade: h2c` (RFC 7540 section 3.2.1)
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-cnection",  # how Meta's front end spells Connection
    },
)
"""Fields that speak of one connection (RFC 9110 section 7.6.1)."""

ELSEWHERE = frozenset({"alt-svc"})
"""Where else Graph itself may be asked (RFC 7838): who followed it would go around the sidecar, or find nobody."""

CODED = frozenset({"content-encoding"})
"""How a body is packed; it is said only where that could not be undone here."""

FRAMING = CODED | {"content-length"}
"""Fields of the bytes on the way from Graph; what we hold is decoded and framed anew."""

USAGE = frozenset(
    {
        "x-app-usage",
        "x-page-usage",
        "x-ad-account-usage",
        "x-business-use-case-usage",
        "x-fb-ads-insights-throttle",
        "x-fb-ads-insights-reach-throttle",
    },
)
"""Quota headers: news, never history (developers.facebook.com/docs/graph-api/overview/rate-limiting)."""

APP_USAGE = frozenset({"x-app-usage", "x-page-usage"})
"""Those of them that speak of the caller's app or page, whatever was read."""

TRACE = frozenset({"x-fb-trace-id", "x-fb-request-id", "x-fb-debug", "x-fb-rev", "x-fb-rlafr"})
"""What Meta's support asks for; it stands on the outer reply of a batch and names one exchange."""

OF_ANY_REPLY = frozenset({"access-control-allow-origin", "strict-transport-security", "vary"})
"""What stands on every direct reply alike, and may stand on the outer reply of a batch alone."""

JSON_TYPE = "application/json; charset=UTF-8"
"""What Graph calls a direct reply."""

SCRIPT_TYPE = "text/javascript; charset=UTF-8"
"""What Graph calls JSONP, and JSON inside a batch."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_NEVER_OUT = HOP_BY_HOP | ELSEWHERE | {"set-cookie"}
_NOT_OUT = _NEVER_OUT | (FRAMING - CODED)
_NEVER_HELD = _NEVER_OUT | FRAMING | USAGE | TRACE | {"age"}
_KEPT_BY_304 = FRAMING | {"etag", "content-type", "content-range", "connection"}


def passed_out(headers: Iterable[tuple[str, str]]) -> Headers:
    """The fields of a decoded reply of Graph's that its caller gets."""
    fields = tuple(headers)
    dropped = _NOT_OUT | _listed(fields)
    return tuple([field for field in fields if field[0].lower() not in dropped])


def passed_through(headers: Iterable[tuple[str, str]], *, but: frozenset[str] = frozenset()) -> Headers:
    """The fields that a stream keeps on its way in either direction, without those in *but*."""
    fields = tuple(headers)
    dropped = HOP_BY_HOP | ELSEWHERE | _listed(fields) | but
    return tuple((name, value) for name, value in fields if name.lower() not in dropped)


def stored(headers: Headers) -> bytes:
    """The fields that an entry keeps, as one block."""
    kept = (f"{name}: {value}" for name, value in headers if name.lower() not in _NEVER_HELD)
    return "\r\n".join(kept).encode("utf-8", "surrogateescape")


def from_stored(block: bytes) -> Headers:
    """The fields of an entry's block."""
    lines = block.decode("utf-8", "surrogateescape").split("\r\n") if block else []
    return tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))


def updated_by_304(kept: Headers, news: Headers) -> Headers:
    """The entry's fields with those of a 304 put in their place (RFC 9111 section 3.2)."""
    newer = tuple(field for field in news if field[0].lower() not in _KEPT_BY_304)
    replaced = {name.lower() for name, _ in newer}
    return (*(field for field in kept if field[0].lower() not in replaced), *newer)


def head_bytes(start: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """The head of a message as it goes over the wire. Raises ValueError where one of its lines would be read as two."""
    lines = [start, *[f"{name}: {value}" for name, value in fields], "", ""]
    head = "\r\n".join(lines)
    if not head.count("\r") == head.count("\n") == len(lines) - 1:
        raise ValueError("a line of the head holds the end of a line")
    return head.encode("utf-8", "surrogateescape")


def is_field(pair: tuple[object, object]) -> TypeGuard[tuple[str, str]]:
    """Whether *pair* is a name and a value that can stand on a line of a head (RFC 9110 sections 5.1 and 5.5)."""
    name, value = pair
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return _is_name(name) and (value.isprintable() or _CONTROL.search(value) is None)


@memo()
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def pick(headers: Headers, names: frozenset[str]) -> Headers:
    """The fields whose names are among *names*."""
    return tuple([field for field in headers if field[0].lower() in names])


def without(headers: Headers, names: frozenset[str]) -> Headers:
    """The fields whose names are not among *names*."""
    return tuple([field for field in headers if field[0].lower() not in names])


def is_redirect(status: int) -> bool:
    """Whether *status* leads elsewhere, by a Location (RFC 9110 section 15.4)."""
    return 300 <= status < 400 and status != 304


def typed(headers: Headers) -> Headers:
    """A slot's fields as a direct reply has them: JSON is called JSON, and the type is never missing.

    Graph says `text/javascript` of the items of a batch, and some clients parse only what is called JSON.
    """
    at = next((at for at, (name, _) in enumerate(headers) if name.lower() == "content-type"), None)
    if at is None:
        return (*headers, ("Content-Type", JSON_TYPE))
    name, value = headers[at]
    return (*headers[:at], (name, _json_type(value)), *headers[at + 1 :])


def _json_type(value: str) -> str:
    return JSON_TYPE if media_type(value) == "text/javascript" else value


def media_type(value: str) -> str:
    """What a Content-Type names, in lower case and without parameters (RFC 9110 section 8.3.1)."""
    return value.partition(";")[0].strip().lower()


def _listed(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The names that the reply's own Connection field makes hop-by-hop."""
    lists = [value for name, value in headers if name.lower() == "connection"]
    return frozenset([item.strip().lower() for value in lists for item in value.split(",")])
