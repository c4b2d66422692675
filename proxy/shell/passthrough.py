"""Everything that is no plain read: streamed both ways with flat memory, sent once, never repeated, never held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from proxy.core import headers, looping
from proxy.core.dressing import NAME
from proxy.core.messages import Headers
from proxy.shell.dialing import connector
from proxy.shell.exchange import HEAD_SIZE, fields_of
from proxy.shell.listener import is_last
from proxy.shell.upstream import Left, Way, translated

_SET_HERE = frozenset({"host", "user-agent", "expect", "content-length", "cdn-loop"})
_SPELT_BY_CALLER = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Passthrough:
    """The way to Graph for messages whose bodies nobody here looks at."""

    def __init__(self, way: Way) -> None:
        """Reach Graph by *way*; `open` before the first message."""
        self._way = way
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make a connection pool that never sends anything twice by itself."""
        self._session = aiohttp.ClientSession(
            connector=connector(self._way.lookup, self._way.own),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._way.connect_timeout_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_SPELT_BY_CALLER,
            max_line_size=HEAD_SIZE,
            max_field_size=HEAD_SIZE,
            trace_configs=[_departures()],
        )
        # aiohttp repeats PUT, DELETE and GET on its own when a connection is cut, fresh ones included, and
        # `GET ?method=delete` is a write too. There is no public switch; tests/journeys/test_writes.py counts arrivals.
        self._session._retry_connection = False  # noqa: SLF001

    async def close(self) -> None:
        """Drop the connections."""
        if self._session is not None:
            await self._session.close()

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
    ) -> web.StreamResponse:
        """Send *message* to *target* on *host* and its answer to the caller, with *extra* fields.

        *looked_at* is what was read of the body already. *left* is called when the message is on its way; *answered* is
        told status and fields of Graph's answer, or 0 and () where there was none, before the caller hears anything.
        Raises SidecarError while nothing has been answered yet.
        """
        url = self._way.url(host, target)
        status: int = 0
        told: Headers = ()
        with translated(self._way.own):
            async with _patience(self._way.reply_timeout_s) as patience:
                try:
                    answer = await self._send(message, url, patience.watched(_body(message, looked_at)), left)
                    status, told = answer.status, fields_of(answer.raw_headers)
                finally:
                    answered(status, told)
                async with answer:
                    return await _send_on(message, answer, extra, patience)

    async def _send(
        self, message: web.BaseRequest, url: URL, body: AsyncIterator[bytes], left: Left
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "open() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        fields = CIMultiDict(headers.passed_through(message.headers.items(), but=_SET_HERE))
        fields["User-Agent"] = self._way.user_agent
        fields[looping.FIELD] = ", ".join([*message.headers.getall(looping.FIELD, ()), self._way.trail.signed])
        if message.content_length is not None:
            fields["Content-Length"] = str(message.content_length)
        data = body if message.body_exists else None
        return await self._session.request(
            message.method, url, data=data, headers=fields, allow_redirects=False, trace_request_ctx=left
        )


def _departures() -> aiohttp.TraceConfig:
    """Calls each request's `trace_request_ctx` when its head is written: from there on it may have reached Graph."""

    async def left(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx()

    config = aiohttp.TraceConfig()
    config.on_request_headers_sent.append(left)
    return config


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


async def go_on(message: web.BaseRequest) -> AsyncIterator[bytes]:
    """The caller's body as it comes; one that waits for 100 is told to go on (RFC 9110 section 10.1.1)."""
    if message.headers.get("Expect", "").lower() == "100-continue":
        await message.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        message.writer.output_size = 0  # the answer itself has not begun (as in aiohttp's own handler for Expect)
    async for chunk in message.content.iter_any():
        yield chunk


async def _body(message: web.BaseRequest, looked_at: bytes) -> AsyncIterator[bytes]:
    """What was read already and what follows it; a caller that waits to go on waits until there is a way to Graph."""
    if looked_at:
        yield looked_at
    async for chunk in message.content.iter_any() if looked_at else go_on(message):
        yield chunk


async def _send_on(
    message: web.BaseRequest,
    answer: aiohttp.ClientResponse,
    extra: Headers,
    patience: _Patience,
) -> web.StreamResponse:
    fields = CIMultiDict((*headers.passed_through(answer.headers.items()), *extra))
    fields.setdefault("Server", NAME)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=fields)
    if is_last(message):
        response.force_close()
    try:
        patience.wait_for_caller()
        await response.prepare(message)
        patience.wait_for_graph()
        async for chunk in answer.content.iter_any():
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
