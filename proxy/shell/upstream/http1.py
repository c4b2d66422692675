"""An HTTP/1.1 client (RFC 9112) on persistent connections: one request and its response at a time.

aiohttp's connector and response parser are used, its ClientSession is not: redirects, cookies, URL parsing and header
merging are most of the cost of a call, and calls to Graph need none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

import aiohttp
from yarl import URL

from proxy.core.http import headers
from proxy.core.http.codings import Broken, Ended, Unpacker, content_codings, is_known, unpacker
from proxy.core.http.errors import Cut, Large, Nonsense, SidecarError
from proxy.core.memory.budget import Budget, Share
from proxy.core.memory.memo import memo
from proxy.core.model import Headers, Redacted
from proxy.shell.upstream.connection import PARSING, UpstreamConnection
from proxy.shell.upstream.idle_connections import Connection, IdleConnections
from proxy.shell.upstream.plain_exchange import PlainExchange, PlainHeads, Taker
from proxy.shell.upstream.reply_turns import ReplyTurns

_PIECE = 2**20
"""Bytes of a request body that are written, and perhaps encrypted, in one turn of the event loop."""

_STEPS = 16
"""Pieces that are unpacked, of 64 KiB at most, before others get their turn."""

OnSent = Callable[[], None]
"""Called each time that the head of a request has been written; a GET may be sent twice."""

Body = AsyncIterator[bytes]
"""A request body that is streamed, already framed."""


class Http1Response(Redacted, frozen=True, gc=False):
    """A whole response, its body without content codings."""

    hidden = ("fields", "body")

    status: int
    fields: Headers
    body: bytes


Check = Callable[[Http1Response], None]
"""Raises Nonsense if a response cannot be the answer to the request."""


@dataclass(frozen=True, slots=True, repr=False)
class Streamed:
    """A response whose head has come, and whose body is read from *content* as it comes."""

    status: int
    reason: str
    fields: Headers
    content: aiohttp.StreamReader


class Http1Client:
    """Sends requests to Graph, one at a time on each connection of a pool."""

    def __init__(
        self,
        pool: aiohttp.TCPConnector,
        replies: Budget,
        *,
        connect_timeout_s: float,
        reply_timeout_s: float,
        rest_s: float,
    ) -> None:
        """Use connections of *pool*, within these timeouts; a connection rests *rest_s* before it is used again.

        *replies* bounds the bodies that are read whole.
        """
        self._pool = pool
        self.replies = ReplyTurns(replies)
        self.heads = PlainHeads()
        self._connect_timeout_s = connect_timeout_s
        self._connect_timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self.reply_timeout_s = reply_timeout_s
        self.idle = IdleConnections(rest_s)
        self._endpoints: dict[URL, aiohttp.ClientRequest] = {}

    async def close(self) -> None:
        """Drop the connections."""
        self.idle.give_up()
        await self._pool.close()

    async def ask(
        self, origin: URL, start: str, fields: Mapping[str, str], body: bytes, on_sent: OnSent, *, check: Check
    ) -> Http1Response:
        """Return the response to the request *start* (method, target) to *origin*. Raises aiohttp's errors, and Large.

        *on_sent* is called when the head is written: from then on Graph may have the request. *check* raises Nonsense
        if the response cannot belong to this request; on a reused connection it then answers an earlier one.
        """
        end = self.endpoint(origin)
        head = _head(start, end, fields, body)
        connection, line = self.idle.take(end) or await self._connect(end)
        try:
            _expect_response(line, read_timeout=self.reply_timeout_s, auto_decompress=False)
            await _write_message(line, head + body, on_sent)
        except BaseException:
            connection.close()
            raise
        return await self.receive(end, connection, line, check)

    async def receive(
        self, end: aiohttp.ClientRequest, connection: Connection, line: UpstreamConnection, check: Check
    ) -> Http1Response:
        """Return the whole response that *line* reads, after *check*."""
        try:
            whole = await _read_whole(await _read_head(line), self.replies)
            try:
                check(whole)
            except Nonsense:
                if line.was_used:
                    raise aiohttp.ServerDisconnectedError from None
                raise
        except BaseException:
            connection.close()
            raise
        self.give_back(end, connection, line)
        return whole

    def start(self, end: aiohttp.ClientRequest, message: bytes, taker: Taker, within_s: float) -> PlainExchange | None:
        """Send *message*, a POST, if a connection to *end* is kept; return None if nothing is sent.

        *taker* gets the response, which has to be whole in *within_s* seconds.
        """
        kept = self.idle.take(end) if len(message) <= _PIECE else None
        if kept is None:
            return None
        exchange = PlainExchange(self, end, kept, taker, within_s)
        try:
            exchange.send(message)
        except aiohttp.ServerDisconnectedError:
            exchange.close()
            return None
        return exchange

    @asynccontextmanager
    async def stream(
        self, origin: URL, start: str, fields: Headers, body: Body | None, on_sent: OnSent
    ) -> AsyncIterator[Streamed]:
        """Stream a request with *body* to *origin*, and the response back. Raises aiohttp's errors."""
        end = self.endpoint(origin)
        head = headers.head_bytes(f"{start} HTTP/1.1", (("Host", end.headers["Host"]), *fields))
        async with self._connection(end) as line:
            _expect_response(line, skip_payload=start.startswith("HEAD "), auto_decompress=False)
            line.write(head)
            on_sent()
            if body is None:  # before an answer can have come
                line.end_request()
                yield await _read_head(line)
                return
            sending = asyncio.create_task(_send_body(line, body))
            try:
                yield await _read_head(line)
            finally:
                sending.cancel()
                await asyncio.wait([sending])

    def endpoint(self, origin: URL) -> aiohttp.ClientRequest:
        """Return *origin* in the form that the connection pool takes."""
        end = self._endpoints.get(origin)
        if end is None:
            end = self._endpoints[origin] = aiohttp.ClientRequest("GET", origin, loop=asyncio.get_running_loop())
        return end

    @asynccontextmanager
    async def _connection(self, end: aiohttp.ClientRequest) -> AsyncIterator[UpstreamConnection]:
        """Hold a connection for one exchange; it is kept only if request and response were complete."""
        connection, line = self.idle.take(end) or await self._connect(end)
        try:
            yield line
        except BaseException:
            connection.close()
            raise
        self.give_back(end, connection, line)

    def give_back(self, end: aiohttp.ClientRequest, connection: Connection, line: UpstreamConnection) -> None:
        """Keep *connection* for later exchanges if this one was complete."""
        if line.is_reusable:
            self.idle.keep(end, connection, line)
        else:
            connection.close()

    async def _connect(self, end: aiohttp.ClientRequest) -> tuple[Connection, UpstreamConnection]:
        """Return a new connection, and who reads it. Addresses that are kept and lead nowhere are looked up anew."""
        try:
            async with asyncio.timeout(self._connect_timeout_s):  # the look-up of the name included
                try:
                    connection = await self._pool.connect(end, [], self._connect_timeout)
                except aiohttp.ClientConnectorDNSError:
                    raise
                except aiohttp.ClientConnectorError:
                    self._forget_addresses(end)
                    connection = await self._pool.connect(end, [], self._connect_timeout)
        except TimeoutError:
            self._forget_addresses(end)
            raise aiohttp.ConnectionTimeoutError from None
        return connection, cast("UpstreamConnection", connection.protocol)

    def _forget_addresses(self, end: aiohttp.ClientRequest) -> None:
        self._pool.clear_dns_cache(end.url.raw_host, end.port)


def _head(start: str, end: aiohttp.ClientRequest, fields: Mapping[str, str], body: bytes) -> bytes:
    """Return the head of the request *start* to *end*; that of a POST says how long its *body* is."""
    if start.startswith("POST "):
        return b"%bContent-Length: %d\r\n\r\n" % (head_of_post(start, end, fields), len(body))
    return headers.head_bytes(f"{start} HTTP/1.1", (("Host", end.headers["Host"]), *fields.items()))


def head_of_post(start: str, end: aiohttp.ClientRequest, fields: Mapping[str, str]) -> bytes:
    """Return the head of the POST *start* to *end* without the length of its body."""
    return _head_of_post(start, (("Host", end.headers["Host"]), *fields.items()))


@memo()
def _head_of_post(start: str, fields: Headers) -> bytes:
    return headers.head_bytes(f"{start} HTTP/1.1", fields).removesuffix(b"\r\n")


def _expect_response(line: UpstreamConnection, **options: Any) -> None:
    """Expect a response, which may begin before the request is complete."""
    line.set_response_params(**PARSING, **options)


async def _write_message(line: UpstreamConnection, message: bytes, on_sent: OnSent) -> None:
    """Write *message*, in pieces if it is large."""
    line.write(message[:_PIECE])
    on_sent()
    for at in range(_PIECE, len(message), _PIECE):
        await asyncio.sleep(0)
        line.write(message[at : at + _PIECE])
    line.end_request()


async def _send_body(line: UpstreamConnection, body: Body) -> None:
    """Write *body* as it comes; if it breaks off, fail the exchange."""
    try:
        async for piece in body:
            line.write(piece)
            await line.drain()
        line.end_request()
    except OSError as gone:
        line.give_up(gone if isinstance(gone, aiohttp.ClientError) else aiohttp.ClientOSError(*gone.args))
    except SidecarError as error:
        line.give_up(error)
    except Exception as broken:  # noqa: BLE001 - the text of any error in the caller's body may hold a token
        line.give_up(aiohttp.ClientConnectionError(type(broken).__name__))


async def _read_head(line: UpstreamConnection) -> Streamed:
    """Return the head of the response. Raises ServerDisconnectedError if it belongs to an earlier request."""
    message, content = await line.read()
    if line.is_for_another(message.code):
        raise aiohttp.ServerDisconnectedError
    return Streamed(message.code, message.reason, fields_of(message.raw_headers), content)


async def _read_whole(answer: Streamed, replies: ReplyTurns) -> Http1Response:
    """Return *answer* with its whole body, within the budget *replies*. Raises Large, Cut, Nonsense.

    A body with an unknown content coding stays coded, and keeps its Content-Encoding.
    """
    codings = content_codings(answer.fields)
    came = BytesIO()  # unlike a list of pieces, this makes the body without a copy and leaves no gaps in the heap
    with replies.share() as share:
        if not codings:
            while piece := await answer.content.readany():
                if not share.grow(len(piece)):
                    await _grow(share, len(piece), replies)
                came.write(piece)
        else:
            async for piece in _unpacked(answer.content, unpacker(codings)):
                await _grow(share, len(piece), replies)
                came.write(piece)
        body = came.getvalue()
    fields = headers.without(answer.fields, headers.CODED) if is_known(codings) else answer.fields
    return Http1Response(answer.status, fields, body)


async def _grow(share: Share, size: int, replies: ReplyTurns) -> None:
    """Let *share* have *size* more bytes, perhaps after a wait. Raises Large."""
    if not await replies.grow(share, size):
        raise Large(
            f"Graph's reply has more than {share.size} bytes, and {replies.budget.limit} bytes are allowed for"
            " all replies that are being read (setting upstream.buffered_mb)"
        )


async def _unpacked(content: aiohttp.StreamReader, unpack: Unpacker | None) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they come, decoded by *unpack* if there is one. Raises Cut, Nonsense."""
    came = steps = 0
    try:
        while packed := await content.readany():
            came += len(packed)
            for piece in (packed,) if unpack is None else unpack.feed(packed):
                yield piece
                if (steps := steps + 1) % _STEPS == 0:
                    await asyncio.sleep(0)
        if came and unpack is not None:
            unpack.end()
    except Ended:
        raise Cut("Graph's reply ended in the middle of its packed body") from None
    except Broken:
        raise Nonsense("Graph's reply cannot be unpacked") from None


def fields_of(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the header fields with their names as Graph wrote them; aiohttp's own would turn ETag into Etag."""
    return tuple([(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in raw])
