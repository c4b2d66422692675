"""What of a message's body is looked at before it is known what the message is, and what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import HttpVersion11, web

from proxy.core.client_batch.parse import calls_in_batch, may_hold_batch
from proxy.core.memory.budget import Share
from proxy.core.routing import query
from proxy.core.routing import target as routing_target
from proxy.core.routing.hosts import Head
from proxy.shell.http.forms import LARGEST_FORM, read_form

LARGEST_GET_BODY = 65_536
"""Bytes of a GET's body that are read to see whether it says anything; Meta's Node SDK sends `{}` with each."""


async def peek(message: web.BaseRequest, head: Head, share: Share) -> tuple[bytes, bool]:
    """The body so far as it is short, and whether that is all of it; nothing of one that is streamed as it is.

    *share* is what may be held of it; where others leave too little, the rest is streamed, too.
    """
    limit = _read_limit(head)
    if not message.body_exists:
        return b"", True
    if not limit or (message.content_length or 0) > limit:
        return b"", False
    pieces = []
    async for chunk in body_chunks(message):
        pieces.append(chunk)
        if not share.grow(len(chunk)) or share.size > limit:
            return b"".join(pieces), False
    return b"".join(pieces), True


def _read_limit(head: Head) -> int:
    """How many bytes are read before it is known what they are; 0 for a body that is streamed as it is."""
    if head.method in {"GET", "HEAD"}:
        return LARGEST_GET_BODY
    return LARGEST_FORM if may_hold_batch(head) else 0


async def written_objects(head: Head, body: bytes | None) -> tuple[str, ...]:
    """The objects that a write changes: those in its target, else in the form in its body; () for who knows what."""
    target = routing_target.read_target(head.target)
    if about := routing_target.nodes(target.path, target.query):
        return about
    form = await read_form(body, head.headers) if body else None
    return routing_target.named(form.parameters) if form and query.BATCHES.isdisjoint(form.parameters) else ()


async def count_operations(head: Head, body: bytes) -> int:
    """How many operations a message holds that passes through: a batch in terms that are not known here is one, too."""
    in_query = routing_target.read_target(head.target).get("batch")
    if not may_hold_batch(head) or not (in_query or b"batch" in body or "content-encoding" in head.headers):
        return 1
    form = await read_form(body, head.headers)
    return calls_in_batch(form.parameters.get("batch", in_query) if form else in_query)


async def body_chunks(message: web.BaseRequest) -> AsyncIterator[bytes]:
    """The caller's body as it comes; one that waits for 100 is told to go on (RFC 9110 section 10.1.1).

    A client of HTTP/1.0 knows no such answer, and would take it for the whole one.
    """
    if message.version >= HttpVersion11 and message.headers.get("Expect", "").lower() == "100-continue":
        await message.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        message.writer.output_size = 0  # the answer itself has not begun (as in aiohttp's own handler for Expect)
    async for chunk in message.content.iter_any():
        yield chunk
