"""What of a message's body is looked at before it is known what the message is, and what it says."""

from __future__ import annotations

from aiohttp import web

from proxy.core import normal
from proxy.core.budget import Share
from proxy.core.envelopes import how_many, may_hold_batch
from proxy.core.reading import Head
from proxy.shell.forms import LARGEST_BODY, read_form
from proxy.shell.passthrough import go_on

LOOKED_AT = 65_536
"""Bytes of a GET's body that are read to see whether it says anything; Meta's Node SDK sends `{}` with each."""


async def look_at(message: web.BaseRequest, head: Head, share: Share) -> tuple[bytes, bool]:
    """The body so far as it is short, and whether that is all of it; nothing of one that is streamed as it is.

    *share* is what may be held of it; where others leave too little, the rest is streamed, too.
    """
    limit = _worth_looking_at(head)
    if not message.body_exists:
        return b"", True
    if not limit or (message.content_length or 0) > limit:
        return b"", False
    pieces = []
    async for chunk in go_on(message):
        pieces.append(chunk)
        if not share.grow(len(chunk)) or share.size > limit:
            return b"".join(pieces), False
    return b"".join(pieces), True


def _worth_looking_at(head: Head) -> int:
    """How many bytes are read before it is known what they are; 0 for a body that is streamed as it is."""
    if head.method in {"GET", "HEAD"}:
        return LOOKED_AT
    return LARGEST_BODY if may_hold_batch(head) else 0


async def written(head: Head, body: bytes | None) -> tuple[str, ...]:
    """The objects that a write changes: those in its target, else in the form in its body; () for who knows what."""
    target = normal.read_target(head.target)
    if about := normal.nodes(target.path, target.query):
        return about
    form = await read_form(body, head.headers) if body else None
    return normal.named(form.parameters) if form and normal.BATCHES.isdisjoint(form.parameters) else ()


async def operations(head: Head, body: bytes) -> int:
    """How many operations a message holds that passes through: a batch in terms that are not known here is one, too."""
    in_query = normal.read_target(head.target).get("batch")
    if not may_hold_batch(head) or not (in_query or b"batch" in body or "content-encoding" in head.headers):
        return 1
    form = await read_form(body, head.headers)
    return how_many(form.parameters.get("batch", in_query) if form else in_query)
