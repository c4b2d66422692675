"""Rewrites paging links in passed-through responses: short JSON bodies are buffered, all others are streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from proxy.core.http import codings, headers
from proxy.core.model import Headers
from proxy.core.reply import passed_paging_links
from proxy.core.reply.link_origin import LinkOrigin
from proxy.shell.upstream.http1 import Streamed


async def rewrite_response(
    answer: Streamed, link_origin: LinkOrigin, on_piece: Callable[[], None]
) -> tuple[Headers, AsyncIterator[bytes]]:
    """Return the header fields and body of *answer*, with paging links rewritten to lead to *link_origin*.

    *on_piece* is called for each buffered piece. Raises what reading the answer raises.
    """
    if not link_origin.origin or not passed_paging_links.may_hold_links(answer.status, answer.fields):
        return answer.fields, answer.content.iter_any()
    pieces, size = [], 0
    async for piece in answer.content.iter_any():
        on_piece()
        pieces.append(piece)
        size += len(piece)
        if size > passed_paging_links.LARGEST_BODY:
            return answer.fields, _all(pieces, answer.content.iter_any())
    raw = b"".join(pieces)
    plain = _plain(raw, answer.fields)
    if plain is None or (changed := passed_paging_links.with_our_links(plain, link_origin)) == plain:
        return answer.fields, _all([raw])
    fields = headers.without(answer.fields, headers.NOT_WITH_NEW_LINKS)
    return (*fields, ("Content-Length", str(len(changed)))), _all([changed])


def _plain(raw: bytes, fields: Headers) -> bytes | None:
    """Return *raw* without its content coding; None if it is broken, incomplete or too large."""
    unpack = codings.unpacker(codings.content_codings(fields))
    if unpack is None:
        return raw
    pieces, size = [], 0
    try:
        for piece in unpack.feed(raw):
            pieces.append(piece)
            size += len(piece)
            if size > 2 * passed_paging_links.LARGEST_BODY:
                return None
        unpack.end()
    except (codings.Broken, codings.Ended):
        return None
    return b"".join(pieces)


async def _all(pieces: list[bytes], rest: AsyncIterator[bytes] | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if rest is not None:
        async for piece in rest:
            yield piece
