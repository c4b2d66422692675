"""The fields that a reply gets as a message of HTTP/1.1, whatever it says."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from proxy.core.http.cache_status import CACHE_NAME
from proxy.core.http.headers import head_bytes
from proxy.core.model import Headers, Reply

WITHOUT_BODY = frozenset({204, 304})
"""Statuses whose messages end with their head (RFC 9112 section 6.3)."""


def message_fields(reply: Reply, date: str) -> Headers:
    """The fields of *reply* as a message sent at *date* (RFC 9110 sections 6.6.1, 8.6, 10.2.4)."""
    named = {name.lower() for name, _ in reply.headers}
    added = []
    if reply.status not in WITHOUT_BODY:
        added.append(("Content-Length", str(len(reply.body))))
    if "date" not in named:
        added.append(("Date", date))
    if "server" not in named:
        added.append(("Server", CACHE_NAME))
    return tuple(added)


def framed(reply: Reply, date: str, *, keeps: bool) -> tuple[bytes, bytes]:
    """Head and body of the message of HTTP/1.1 that answers a GET with *reply*; the last of its connection or not."""
    ends = () if keeps else (("Connection", "close"),)
    fields = (*reply.headers, *message_fields(reply, date), *ends)
    head = head_bytes(f"HTTP/1.1 {reply.status} {reason(reply.status)}", fields)
    return head, b"" if reply.status in WITHOUT_BODY else reply.body


def reason(status: int) -> str:
    """Returns the reason phrase of *status* (RFC 9110 section 15), "" if it has none."""
    return HTTPStatus(status).phrase if status in _KNOWN else ""


_KNOWN = frozenset(HTTPStatus)


@lru_cache(maxsize=2)
def http_date(now: int) -> str:
    """The value of `Date` at *now* (RFC 9110 section 5.6.7)."""
    return formatdate(now, usegmt=True)
