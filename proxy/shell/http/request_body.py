"""Reads as much of a request body as classification needs, and what the body says about the request."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import HttpVersion11, web

from proxy.core.client_batch.parse import calls_in_batch, may_hold_batch
from proxy.core.memory.budget import Share
from proxy.core.routing import nodes, normal_form, query
from proxy.core.routing.hosts import Head
from proxy.shell.http.forms import LARGEST_FORM, read_form

LARGEST_GET_BODY = 65_536
"""The largest body of a GET that is read before classification; Meta's Node SDK sends `{}` with each GET."""


async def peek(message: web.BaseRequest, head: Head, share: Share) -> tuple[bytes, bool]:
    """Return the beginning of the body, and whether that is all of it; b"" for a body that is streamed unread.

    *share* bounds what is buffered; if the budget is used up, the rest is streamed too.
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
    """Return how many bytes are read before classification; 0 for a body that is streamed unread."""
    if head.method in {"GET", "HEAD"}:
        return LARGEST_GET_BODY
    return LARGEST_FORM if may_hold_batch(head) else 0


async def written_objects(head: Head, body: bytes | None) -> tuple[str, ...]:
    """Return the objects that a write changes, from its target, else from its form; () if unknown."""
    target = normal_form.read_target(head.target)
    if about := nodes.nodes(target.path, target.query):
        return about
    form = await read_form(body, head.headers) if body else None
    return nodes.named_nodes(form.parameters) if form and query.BATCHES.isdisjoint(form.parameters) else ()


async def count_operations(head: Head, body: bytes) -> int:
    """Return how many operations a passed-through message has; a batch that cannot be read has several too."""
    in_query = normal_form.read_target(head.target).get("batch")
    if not may_hold_batch(head) or not (in_query or b"batch" in body or "content-encoding" in head.headers):
        return 1
    form = await read_form(body, head.headers)
    return calls_in_batch(form.parameters.get("batch", in_query) if form else in_query)


async def body_chunks(message: web.BaseRequest) -> AsyncIterator[bytes]:
    """Yield the caller's body as it comes, after 100 Continue if the caller expects it (RFC 9110 section 10.1.1).

    An HTTP/1.0 client does not know 100 Continue, and would take it for the final response.
    """
    if message.version >= HttpVersion11 and message.headers.get("Expect", "").lower() == "100-continue":
        await message.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        message.writer.output_size = 0  # the answer itself has not begun (as in aiohttp's own handler for Expect)
    async for chunk in message.content.iter_any():
        yield chunk
