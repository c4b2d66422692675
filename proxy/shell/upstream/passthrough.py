"""Everything that is no plain read: streamed both ways with flat memory, sent once, never repeated, never held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web
from multidict import CIMultiDict

from proxy.core.http import cdn_loop, headers
from proxy.core.http.cache_status import CACHE_NAME
from proxy.core.model import Headers
from proxy.core.reply.passed_links import accepted_codings
from proxy.core.reply.render import LINKS_UNCHANGED, LinkOrigin
from proxy.shell.http.protocol import is_last
from proxy.shell.http.request_body import go_on
from proxy.shell.upstream.client import UpstreamOptions, exchange, translated
from proxy.shell.upstream.http1 import Http1Client, Left, Streamed
from proxy.shell.upstream.passed_links import led_back

_SET_HERE = frozenset({"host", "user-agent", "expect", "content-length", "cdn-loop"})
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods whose requests have no body where nothing is said of one (RFC 9110 section 8.6)."""


class Passthrough:
    """The way to Graph for messages whose bodies nobody here looks at."""

    def __init__(self, way: UpstreamOptions) -> None:
        """Reach Graph by *way*; `open` before the first message."""
        self._way = way
        self._exchange: Http1Client | None = None

    async def open(self) -> None:
        """Make a connection pool."""
        self._exchange = exchange(self._way)

    async def close(self) -> None:
        """Drop the connections."""
        if self._exchange is not None:
            await self._exchange.close()

    async def stream(
        self,
        message: web.BaseRequest,
        *,
        host: str,
        target: str,
        looked_at: bytes,
        extra: Headers,
        left: Left,
        answered: Callable[[int, Headers], None],
        before_reply: Callable[[], Awaitable[None]] | None = None,
        way_in: LinkOrigin = LINKS_UNCHANGED,
    ) -> web.StreamResponse:
        """Send *message* to *target* on *host* and its answer to the caller, with *extra* fields.

        *looked_at* is what was read of the body already. *left* is called when the message is on its way; *answered* is
        told status and fields of Graph's answer, or 0 and () where there was none, before the caller hears anything;
        then the caller waits for *before_reply*.
        Links are led back by *way_in*, where they can be found.
        Raises SidecarError while nothing has been answered yet.
        """
        assert self._exchange is not None, "open() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        told: tuple[int, Headers] = 0, ()
        with translated(self._way.own):
            async with _patience(self._way.reply_timeout_s) as patience, AsyncExitStack() as call:
                body = _framed(message, patience.watched(_body(message, looked_at))) if message.body_exists else None
                asking = self._exchange.stream(
                    self._way.url(host, "/"), f"{message.method} {target}", self._fields(message, way_in), body, left
                )
                try:
                    answer = await call.enter_async_context(asking)
                    told = answer.status, answer.fields
                finally:
                    answered(*told)
                if before_reply is not None:
                    patience.wait_for_caller()
                    await before_reply()
                    patience.wait_for_graph()
                links = LINKS_UNCHANGED if message.method == "HEAD" else way_in
                told_on = await led_back(answer, links, patience.wait_for_graph)
                return await _send_on(message, answer, told_on, extra, patience)

    def _fields(self, message: web.BaseRequest, way_in: LinkOrigin) -> Headers:
        """The header fields with which Graph is asked."""
        trail = ", ".join([*message.headers.getall(cdn_loop.LOOP_FIELD, ()), self._way.trail.field_value])
        told = headers.passed_through(message.headers.items(), but=_SET_HERE)
        if way_in.origin:
            told = tuple(
                (name, accepted_codings(value) if name.lower() == "accept-encoding" else value) for name, value in told
            )
        return (
            *told,
            ("User-Agent", self._way.user_agent),
            (cdn_loop.LOOP_FIELD, trail),
            *_framing(message),
        )


def _framing(message: web.BaseRequest) -> Headers:
    """How the end of the body of *message* is told (RFC 9112 section 6.3)."""
    if message.content_length is not None:
        return (("Content-Length", str(message.content_length)),)
    if message.body_exists:
        return (("Transfer-Encoding", "chunked"),)
    return () if message.method in _WITHOUT_BODY else (("Content-Length", "0"),)


async def _framed(message: web.BaseRequest, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of *body* as they go over the wire."""
    is_chunked = message.content_length is None
    async for piece in body:
        yield b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
    if is_chunked:
        yield b"0\r\n\r\n"


class _Patience:
    """Bounds how long Graph may be silent; the time in which the caller is waited for does not count."""

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
async def _patience(seconds: float) -> AsyncIterator[_Patience]:
    async with asyncio.timeout(None) as limit:
        yield _Patience(limit, seconds)


async def _body(message: web.BaseRequest, looked_at: bytes) -> AsyncIterator[bytes]:
    """What was read already and what follows it; a caller that waits to go on waits until there is a way to Graph."""
    if looked_at:
        yield looked_at
    async for chunk in message.content.iter_any() if looked_at else go_on(message):
        yield chunk


async def _send_on(
    message: web.BaseRequest,
    answer: Streamed,
    told: tuple[Headers, AsyncIterator[bytes]],
    extra: Headers,
    patience: _Patience,
) -> web.StreamResponse:
    fields = CIMultiDict((*headers.passed_through(told[0]), *extra))
    fields.setdefault("Server", CACHE_NAME)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=fields)
    if is_last(message):
        response.force_close()
    try:
        patience.wait_for_caller()
        await response.prepare(message)
        patience.wait_for_graph()
        async for chunk in told[1]:
            patience.wait_for_caller()
            await response.write(chunk)
            patience.wait_for_graph()
        patience.wait_for_caller()
        await response.write_eof()
    except BaseException:
        if message.transport is not None:  # half an answer must not look like a whole one
            message.transport.abort()
        raise
    return response
