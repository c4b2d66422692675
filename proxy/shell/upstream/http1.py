"""One message to Graph and its whole answer, on a connection that is kept.

aiohttp connects, keeps connections and reads answers. Its client around that also follows redirects, keeps cookies,
takes URLs apart and merges headers: what a call to Graph does not ask for, and most of what it would cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from yarl import URL

from proxy.core.http import headers
from proxy.core.http.codings import Broken, Ended, Unpacker, is_known, named, unpacker
from proxy.core.http.errors import Cut, Large, Nonsense, SidecarError
from proxy.core.memory.budget import Budget
from proxy.core.model import Headers, Redacted
from proxy.shell.upstream.connection import UpstreamConnection
from proxy.shell.upstream.reply_turns import ReplyTurns

HEAD_SIZE = 65_536
"""Characters of a status line and of a header field; usage headers grow with the number of accounts."""

READ_AHEAD = 65_536
"""Bytes of a body that are taken before somebody asks for them."""

_PIECE = 2**20
"""Bytes of a body that are written, and perhaps encrypted, before others get their turn."""

_STEPS = 16
"""Pieces that are unpacked, of 64 KiB at most, before others get their turn."""

_RESTING_LIMIT = 256
"""Connections that rest at a time; more of them are closed, so that none is used too soon."""

OnSent = Callable[[], None]
"""Called each time that the head of a request has been written; a GET may be sent twice."""

Body = AsyncIterator[bytes]
"""A body that is sent as it comes, framed."""


class Http1Response(Redacted, frozen=True, gc=False):
    """What came back; the body as it was before it was packed for the way."""

    hidden = ("fields", "body")

    status: int
    fields: Headers
    body: bytes


Check = Callable[[Http1Response], None]
"""Raises where an answer is none to what was asked."""


@dataclass(frozen=True, slots=True, repr=False)
class Streamed:
    """What has come so far: the head, and *content*, from which the body can be read as it comes."""

    status: int
    reason: str
    fields: Headers
    content: aiohttp.StreamReader


class Http1Client:
    """Calls to Graph, one at a time on each connection of a pool."""

    def __init__(
        self,
        pool: aiohttp.TCPConnector,
        replies: Budget,
        *,
        connect_timeout_s: float,
        reply_timeout_s: float,
        rest_s: float,
    ) -> None:
        """Take connections from *pool*; wait so long for one, and for a sign of life on it; let it rest so long.

        *replies* bounds bodies that are read whole.
        """
        self._pool = pool
        self._replies = ReplyTurns(replies)
        self._connect_timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._reply_timeout_s = reply_timeout_s
        self._rest_s = rest_s
        self._resting: dict[aiohttp.connector.Connection, asyncio.Handle] = {}
        self._endpoints: dict[URL, aiohttp.ClientRequest] = {}

    async def close(self) -> None:
        """Drop the connections."""
        for connection, alarm in self._resting.items():
            alarm.cancel()
            connection.close()
        self._resting.clear()
        await self._pool.close()

    async def ask(
        self, origin: URL, start: str, fields: Mapping[str, str], body: bytes, on_sent: OnSent, *, check: Check
    ) -> Http1Response:
        """The answer of *origin* to a message that begins with *start*. Raises what aiohttp does, and Large.

        *on_sent* is called when its head is written: from there on it may have reached Graph. *check* raises Nonsense
        where an answer cannot be one to this message; on a connection that was used before, it is another message's.
        """
        end = self._endpoint(origin)
        head = headers.head_bytes(f"{start} HTTP/1.1", {"Host": end.headers["Host"], **fields}.items())
        async with self._connection(end) as line:
            _expect_response(line, read_timeout=self._reply_timeout_s, auto_decompress=False)
            await _write_message(line, head + body, on_sent)
            answer = await _read_head(line)
            whole = await _read_whole(answer, self._replies)
            try:
                check(whole)
            except Nonsense:
                if line.was_used:
                    raise aiohttp.ServerDisconnectedError from None
                raise
            return whole

    @asynccontextmanager
    async def stream(
        self, origin: URL, start: str, fields: Headers, body: Body | None, on_sent: OnSent
    ) -> AsyncIterator[Streamed]:
        """The answer of *origin*, as it comes, to a message with *body*, sent as it comes. Raises what aiohttp does."""
        end = self._endpoint(origin)
        head = headers.head_bytes(f"{start} HTTP/1.1", (("Host", end.headers["Host"]), *fields))
        async with self._connection(end) as line:
            _expect_response(line, skip_payload=start.startswith("HEAD "), auto_decompress=False)
            line.write(head)
            on_sent()
            if body is None:  # said before the answer can have come
                line.end_request()
                yield await _read_head(line)
                return
            sending = asyncio.create_task(_send_body(line, body))
            try:
                yield await _read_head(line)
            finally:
                sending.cancel()
                await asyncio.wait([sending])

    def _endpoint(self, origin: URL) -> aiohttp.ClientRequest:
        """Whom to connect to, as the pool wants to be told."""
        end = self._endpoints.get(origin)
        if end is None:
            end = self._endpoints[origin] = aiohttp.ClientRequest("GET", origin, loop=asyncio.get_running_loop())
        return end

    @asynccontextmanager
    async def _connection(self, end: aiohttp.ClientRequest) -> AsyncIterator[UpstreamConnection]:
        """A connection for one call, which is kept only where request and answer were whole."""
        connection = await self._connect(end)
        line = cast("UpstreamConnection", connection.protocol)
        try:
            yield line
        except BaseException:
            connection.close()
            raise
        if not line.is_reusable or len(self._resting) >= _RESTING_LIMIT:
            connection.close()
        elif self._rest_s:
            self._resting[connection] = asyncio.get_running_loop().call_later(self._rest_s, self._rested, connection)
        else:
            connection.release()

    async def _connect(self, end: aiohttp.ClientRequest) -> aiohttp.connector.Connection:
        """A new connection, or one that was used before and on which nothing has come since."""
        while True:
            try:
                connection = await self._pool.connect(end, [], self._connect_timeout)
            except TimeoutError:
                raise aiohttp.ConnectionTimeoutError from None
            line = cast("UpstreamConnection", connection.protocol)
            if not line.has_answered or not line.has_news:
                return connection
            connection.close()

    def _rested(self, connection: aiohttp.connector.Connection) -> None:
        del self._resting[connection]
        connection.release()  # the pool closes one on which something has come


def _expect_response(line: UpstreamConnection, **options: Any) -> None:
    """Be ready for an answer, which may come before the message is whole."""
    line.set_response_params(
        read_until_eof=True,
        max_line_size=HEAD_SIZE,
        max_field_size=HEAD_SIZE,
        read_bufsize=READ_AHEAD,
        **options,
    )


async def _write_message(line: UpstreamConnection, message: bytes, on_sent: OnSent) -> None:
    """Write *message*, a large one in pieces."""
    line.write(message[:_PIECE])
    on_sent()
    for at in range(_PIECE, len(message), _PIECE):
        await asyncio.sleep(0)
        line.write(message[at : at + _PIECE])
    line.end_request()


async def _send_body(line: UpstreamConnection, body: Body) -> None:
    """Write *body* as it comes; where it breaks off, the answer will not come either."""
    try:
        async for piece in body:
            line.write(piece)
            await line.drain()
        line.end_request()
    except OSError as gone:
        line.give_up(gone if isinstance(gone, aiohttp.ClientError) else aiohttp.ClientOSError(*gone.args))
    except SidecarError as error:
        line.give_up(error)
    except Exception as broken:  # noqa: BLE001 - whatever kept the body from coming, its text may hold a token
        line.give_up(aiohttp.ClientConnectionError(type(broken).__name__))


async def _read_head(line: UpstreamConnection) -> Streamed:
    """The head of the answer, which is for just this request."""
    message, content = await line.read()
    if line.is_for_another(message.code):
        raise aiohttp.ServerDisconnectedError
    return Streamed(message.code, message.reason, fields_of(message.raw_headers), content)


async def _read_whole(answer: Streamed, replies: ReplyTurns) -> Http1Response:
    """*answer* with its body; reading goes no further where it would hold too much. Raises Large, Cut, Nonsense.

    A coding that is not known here stays as it came, and is named among the fields as it was.
    """
    codings = named(answer.fields)
    pieces: list[bytes] = []
    with replies.share() as share:
        async for piece in _unpacked(answer.content, unpacker(codings)):
            if not await replies.grow(share, len(piece)):
                raise Large(
                    f"Graph's reply has more than {share.size} bytes, and {replies.budget.limit} bytes are allowed for"
                    " all replies that are being read (setting upstream.buffered_mb)"
                )
            pieces.append(piece)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    fields = headers.without(answer.fields, headers.CODED) if is_known(codings) else answer.fields
    return Http1Response(answer.status, fields, body)


async def _unpacked(content: aiohttp.StreamReader, unpack: Unpacker | None) -> AsyncIterator[bytes]:
    """The pieces of a body as they come, or what *unpack* makes of them. Raises Cut, Nonsense."""
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
    """The header fields of an answer, named as Graph named them: aiohttp would call an ETag Etag."""
    return tuple([(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in raw])
