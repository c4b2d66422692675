"""A reply from memory as bytes, with places for what differs from one time to the next."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.core.cache import policy
from proxy.core.http.headers import head_bytes
from proxy.core.model import Entry, EntryMeta, Headers
from proxy.core.reply.link_origin import LinkOrigin
from proxy.core.reply.render import render
from proxy.core.reply.response_head import message_fields
from proxy.core.routing.classify import Read
from proxy.core.routing.rules import Rule

LARGEST_BODY = 65_536
"""Bytes of a body that is written in one piece, and kept a second time where its links were rewritten."""

_DATE = "@"
_CHANGING = ("Age", "Cache-Status", "Server-Timing")


class PreparedReply(msgspec.Struct, frozen=True, eq=False):
    """The reply that an entry gives while it is plainly fresh; its repr shows none of it, for links hold tokens."""

    held: EntryMeta  # of the entry that it was made of
    life: float  # seconds from the asking for which the entry is plainly fresh
    status: int
    start: bytes  # start line and the entry's own fields
    age: bytes  # up to the value of Age
    ttl: bytes  # from there to the seconds of freshness left
    rest: bytes  # from there to the value of Date
    end: bytes  # from there to the end of the head
    has_date: bool  # whether there is a Date of ours
    body: bytes | None  # None: the entry's own

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the reply."""
        return "PreparedReply()"


class FreshHit(msgspec.Struct, eq=False):
    """The reply from memory to one read as it is sent at this moment, and until when it is true.

    Its repr shows none of it.
    """

    key: bytes
    held: EntryMeta  # of the entry that it was made of
    reply: PreparedReply
    asked_at: float
    body: bytes | None  # None: the entry's own
    counted: Any  # counts and logs each time
    generation: int = -1  # at which the reply was checked
    usage: bytes = b""  # the lines of usage headers
    usage_until: float = 0.0  # epoch seconds at which these are outdated
    head: bytes = b""  # as it is sent now
    since: float = 0.0  # epoch seconds from which *head* is true, and before which
    until: float = 0.0
    slots: Any = None  # of clients' batches, made of the same reply
    slot_usage: tuple[bytes, float, int] = (b"", 0.0, -1)  # usage headers in these, until when, and the generation

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the reply."""
        return "FreshHit()"

    def is_fresh(self, now: float) -> bool:
        """Whether the entry is plainly fresh at *now*."""
        return 0 <= now - self.asked_at < self.reply.life

    def frame(self, now: float, date: bytes) -> None:
        """Write the head for *now*; it is true until Age, Date or the seconds of freshness left change."""
        reply, age_s = self.reply, now - self.asked_at
        left_s, when = reply.life - age_s, date if reply.has_date else b""
        ages = b"%d%b%d" % (age_s, reply.ttl, left_s // 1)
        self.head = b"".join((reply.start, self.usage, reply.age, ages, reply.rest, when, reply.end))
        self.since = now
        self.until = min(now + min(age_s // 1 + 1 - age_s, left_s - left_s // 1), self.usage_until, now // 1 + 1)


def prepare_reply(read: Read, origin: LinkOrigin, entry: Entry, life: float) -> PreparedReply | None:
    """The reply that *entry*, plainly fresh for *life* seconds, gives to *read*; None if it cannot be kept as bytes."""
    if len(entry.body) > LARGEST_BODY:
        return None
    plain = policy.reuse(entry, policy.Reuse(), policy.Terms(Rule()), entry.meta.asked_at)
    rendered = render(read, replace(plain, ttl=0.0), origin, ())
    own, changing = rendered.headers[:-3], rendered.headers[-3:]
    if tuple(name for name, _ in changing) != _CHANGING:
        return None
    head = head_bytes(f"HTTP/1.1 {rendered.status} {HTTPStatus(rendered.status).phrase}", own)[:-2]
    (age, _), (status, hit), timing = changing
    added = message_fields(rendered, _DATE)
    rest, date, end = field_lines((timing, *added)).partition(f"Date: {_DATE}\r\n".encode())
    return PreparedReply(
        held=entry.meta,
        life=life,
        status=rendered.status,
        start=head,
        age=f"{age}: ".encode(),
        ttl=f"\r\n{status}: {hit.removesuffix('0')}".encode(),
        rest=b"\r\n" + rest + (b"Date: " if date else b""),
        end=(b"\r\n" + end if date else end) + b"\r\n",
        has_date=bool(date),
        body=None if rendered.body is entry.body else rendered.body,
    )


def field_lines(fields: Headers) -> bytes:
    """*fields* as lines of a head. Raises ValueError where one of them would be read as two."""
    return head_bytes("", fields)[2:-2]
