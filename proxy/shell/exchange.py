"""One message to Graph and its whole answer, on a connection that is kept.

aiohttp connects, keeps connections and reads answers. Its client around that also follows redirects, keeps cookies,
takes URLs apart and merges headers: what a call to Graph does not ask for, and most of what it would cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from proxy.core import headers
from proxy.core.budget import Budget
from proxy.core.errors import Large
from proxy.core.messages import Discreet, Headers

HEAD_SIZE = 65_536
"""Characters of a status line and of a header field; usage headers grow with the number of accounts."""

_PIECE = 2**20
"""Bytes of a body that are written, and perhaps encrypted, before others get their turn."""


class Answer(Discreet, frozen=True, gc=False):
    """What came back; the body as it was before it was packed for the way."""

    hidden = ("fields", "body")

    status: int
    fields: Headers
    body: bytes


class Exchange:
    """Calls to Graph, one at a time on each connection of a pool."""

    def __init__(
        self, pool: aiohttp.TCPConnector, replies: Budget, *, connect_timeout_s: float, reply_timeout_s: float
    ) -> None:
        """Take connections from *pool*; wait so long for one, and for a sign of life on it. *replies* bounds bodies."""
        self._pool = pool
        self._replies = replies
        self._patience = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._reply_timeout_s = reply_timeout_s
        self._ends: dict[URL, aiohttp.ClientRequest] = {}

    async def close(self) -> None:
        """Drop the connections."""
        await self._pool.close()

    async def ask(
        self, origin: URL, start: str, fields: Mapping[str, str], body: bytes, left: Callable[[], None]
    ) -> Answer:
        """The answer of *origin* to a message that begins with *start*. Raises what aiohttp does, and Large.

        *left* is called when its head is written: from there on it may have reached Graph.
        """
        end = self._end(origin)
        head = headers.written(f"{start} HTTP/1.1", {"Host": end.headers["Host"], **fields}.items())
        connection = await self._connect(end)
        assert connection.protocol is not None  # noqa: S101 - it has just been connected
        try:
            self._listen(connection.protocol)
            await _write(connection.protocol, head + body, left)
            answer = await _read(connection.protocol, self._replies)
        except BaseException:
            connection.close()
            raise
        connection.release()
        return answer

    def _end(self, origin: URL) -> aiohttp.ClientRequest:
        """Whom to connect to, as the pool wants to be told."""
        end = self._ends.get(origin)
        if end is None:
            end = self._ends[origin] = aiohttp.ClientRequest("GET", origin, loop=asyncio.get_running_loop())
        return end

    async def _connect(self, end: aiohttp.ClientRequest) -> aiohttp.connector.Connection:
        try:
            return await self._pool.connect(end, [], self._patience)
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError from None

    def _listen(self, protocol: ResponseHandler) -> None:
        """Be ready for an answer, which may come before the message is whole."""
        protocol.set_response_params(
            read_until_eof=True,
            read_timeout=self._reply_timeout_s,
            max_line_size=HEAD_SIZE,
            max_field_size=HEAD_SIZE,
        )


async def _write(protocol: ResponseHandler, message: bytes, left: Callable[[], None]) -> None:
    """Write *message*, a large one in pieces."""
    line = protocol.transport
    if line is None or line.is_closing():
        raise aiohttp.ServerDisconnectedError
    line.write(message[:_PIECE])
    left()
    for at in range(_PIECE, len(message), _PIECE):
        await asyncio.sleep(0)
        line.write(message[at : at + _PIECE])
    protocol.start_timeout()


async def _read(protocol: ResponseHandler, replies: Budget) -> Answer:
    """The final answer; those before it say only that it will come (RFC 9110 section 15.2)."""
    message, content = await protocol.read()
    while 100 <= message.code < 200 and message.code != 101:
        message, content = await protocol.read()
    return Answer(message.code, fields_of(message.raw_headers), await _whole(content, replies))


async def _whole(content: aiohttp.StreamReader, replies: Budget) -> bytes:
    """A body, unpacked a piece at a time; reading goes no further where it would hold too much. Raises Large."""
    pieces: list[bytes] = []
    with replies.share() as share:
        while piece := await content.readany():
            if not share.grow(len(piece)):
                raise Large(
                    f"Graph's reply has more than {share.size} bytes, and {replies.limit} bytes are allowed for all"
                    " replies that are being read (setting upstream.buffer_mb)"
                )
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def fields_of(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The header fields of an answer, named as Graph named them: aiohttp would call an ETag Etag."""
    return tuple([(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in raw])
