"""Passes through every message that is not a plain read: streamed both ways, sent once, never stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web
from multidict import CIMultiDict

from proxy.core.http import cdn_loop, headers
from proxy.core.http.cache_status import CACHE_NAME
from proxy.core.model import Headers
from proxy.core.reply.link_origin import LINKS_UNCHANGED, LinkOrigin
from proxy.core.reply.passed_paging_links import accepted_codings
from proxy.shell.http.protocol import is_last
from proxy.shell.http.request_body import body_chunks
from proxy.shell.upstream.client import TranslatedErrors, UpstreamOptions, http1_client
from proxy.shell.upstream.http1 import Http1Client, OnSent, Streamed
from proxy.shell.upstream.passed_paging_links import rewrite_response

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods whose requests need no Content-Length when they have no body (RFC 9110 section 8.6)."""


class Passthrough:
    """Streams messages to Graph and the responses back."""

    def __init__(self, way: UpstreamOptions) -> None:
        """Reach Graph by *way*; `open` before the first message."""
        self._way = way
        self._client: Http1Client | None = None

    async def open(self) -> None:
        """Open the connection pool."""
        self._client = http1_client(self._way)

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()

    async def stream(
        self,
        message: web.BaseRequest,
        *,
        host: str,
        target: str,
        buffered: bytes,
        extra: Headers,
        on_sent: OnSent,
        on_response: Callable[[int, Headers], None],
        before_reply: Callable[[], Awaitable[None]] | None = None,
        link_origin: LinkOrigin = LINKS_UNCHANGED,
    ) -> web.StreamResponse:
        """Send *message* to *target* on *host* and its answer to the caller, with *extra* fields.

        *buffered* is the part of the body that was read already. *on_sent* is called when the head has been written.
        *on_response* gets the status and the fields of Graph's response, or 0 and () if there was none, before the
        caller gets anything; then the response waits for *before_reply*. Paging links in the body are rewritten to
        lead to *link_origin*. Raises SidecarError as long as nothing has been sent to the caller.
        """
        assert self._client is not None, "open() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        head: tuple[int, Headers] = 0, ()
        with TranslatedErrors(self._way.own):
            async with _silence_timeout(self._way.reply_timeout_s) as silence, AsyncExitStack() as call:
                body = _framed(message, silence.watched(_body(message, buffered))) if message.body_exists else None
                asking = self._client.stream(
                    self._way.url(host, "/"),
                    f"{message.method} {target}",
                    self._fields(message, link_origin),
                    body,
                    on_sent,
                )
                try:
                    answer = await call.enter_async_context(asking)
                    head = answer.status, answer.fields
                finally:
                    on_response(*head)
                if before_reply is not None:
                    silence.wait_for_caller()
                    await before_reply()
                    silence.wait_for_graph()
                links = LINKS_UNCHANGED if message.method == "HEAD" else link_origin
                rewritten = await rewrite_response(answer, links, silence.wait_for_graph)
                return await _send_on(message, answer, rewritten, extra, silence)

    def _fields(self, message: web.BaseRequest, link_origin: LinkOrigin) -> Headers:
        """Return the header fields of the request to Graph."""
        trail = ", ".join([*message.headers.getall(cdn_loop.LOOP_FIELD, ()), self._way.loop_guard.field_value])
        fields = headers.for_graph(message.headers.items())
        if link_origin.origin:
            fields = tuple(
                (name, accepted_codings(value) if name.lower() == "accept-encoding" else value)
                for name, value in fields
            )
        return (
            *fields,
            ("User-Agent", self._way.user_agent),
            (cdn_loop.LOOP_FIELD, trail),
            *_framing(message),
        )


def _framing(message: web.BaseRequest) -> Headers:
    """Return the field that frames the body of *message* (RFC 9112 section 6.3)."""
    if message.content_length is not None:
        return (("Content-Length", str(message.content_length)),)
    if message.body_exists:
        return (("Transfer-Encoding", "chunked"),)
    return () if message.method in _WITHOUT_BODY else (("Content-Length", "0"),)


async def _framed(message: web.BaseRequest, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield *body* as it goes over the wire, chunked if its length is unknown."""
    is_chunked = message.content_length is None
    async for piece in body:
        yield b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
    if is_chunked:
        yield b"0\r\n\r\n"


class _SilenceTimeout:
    """Bounds how long Graph may be silent; time spent waiting for the caller does not count."""

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self.wait_for_graph()

    def wait_for_graph(self) -> None:
        self._limit.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def wait_for_caller(self) -> None:
        self._limit.reschedule(None)

    async def watched(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.wait_for_caller()
        async for chunk in body:
            self.wait_for_graph()
            yield chunk
            self.wait_for_caller()
        self.wait_for_graph()


@asynccontextmanager
async def _silence_timeout(seconds: float) -> AsyncIterator[_SilenceTimeout]:
    async with asyncio.timeout(None) as limit:
        yield _SilenceTimeout(limit, seconds)


async def _body(message: web.BaseRequest, buffered: bytes) -> AsyncIterator[bytes]:
    """Yield the part that was read already and the rest; 100 Continue is sent once Graph is connected."""
    if buffered:
        yield buffered
    async for chunk in message.content.iter_any() if buffered else body_chunks(message):
        yield chunk


async def _send_on(
    message: web.BaseRequest,
    answer: Streamed,
    fields_and_body: tuple[Headers, AsyncIterator[bytes]],
    extra: Headers,
    silence: _SilenceTimeout,
) -> web.StreamResponse:
    fields = CIMultiDict((*headers.for_stream(fields_and_body[0]), *extra))
    fields.setdefault("Server", CACHE_NAME)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=fields)
    if is_last(message):
        response.force_close()
    try:
        silence.wait_for_caller()
        await response.prepare(message)
        silence.wait_for_graph()
        async for chunk in fields_and_body[1]:
            silence.wait_for_caller()
            await response.write(chunk)
            silence.wait_for_graph()
        silence.wait_for_caller()
        await response.write_eof()
    except BaseException:
        if message.transport is not None:  # half an answer must not look like a whole one
            message.transport.abort()
        raise
    return response
