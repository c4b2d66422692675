"""Writes a reply to the caller: head and body in one piece."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from aiohttp import HttpVersion10, web

from proxy.core.http import headers
from proxy.core.model import Headers, Reply
from proxy.core.reply.response_head import WITHOUT_BODY, http_date, message_fields
from proxy.shell.http.timeouts import TimedConnection

PIECE = 2**17
"""Bytes that are written before the caller's progress is checked."""


def respond(reply: Reply) -> web.StreamResponse:
    """Return *reply* as a response for aiohttp's server."""
    return _WholeResponse(reply)


_WRITTEN = Reply(0, (), b"")


class _WholeResponse(web.StreamResponse):
    """A response that is already complete; aiohttp's own would parse and join the header fields again."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(status=reply.status)
        self._reply = reply

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write head and body, set whether the connection is kept, and wait for a slow caller.

        Raises ConnectionResetError if the caller has gone.
        """
        if self.prepared:
            return
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        keeps = request.keep_alive if self.keep_alive is None else bool(self.keep_alive)
        keeps = keeps and request.content.is_eof()  # an early answer is the last (RFC 9112 section 9.3)
        is_empty = request.method == "HEAD" or self.status in WITHOUT_BODY
        reply, self._reply = self._reply, _WRITTEN  # aiohttp keeps this response until the connection's next message
        fields = (*reply.headers, *_message_fields(reply, request, keeps=keeps))
        minor = int(request.version != HttpVersion10)  # for an unreadable head aiohttp gives HTTP/0.9
        head = headers.head_bytes(f"HTTP/1.{minor} {self.status} {self.reason}", fields)
        body = b"" if is_empty else reply.body
        transport.write(head + body[:PIECE])
        request.writer.output_size += len(head)
        self._keep_alive, self._eof_sent = keeps, True
        if len(body) > PIECE or request.protocol.writing_paused:
            await send_rest(request.protocol, request.writer.drain, transport, body)

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has written everything."""


async def send_rest(
    protocol: web.RequestHandler,
    drain: Callable[[], Awaitable[None]],
    transport: asyncio.Transport,
    body: bytes,
    sent: int = PIECE,
) -> None:
    """Write *body* from byte *sent* on, as fast as the caller reads; the outbox bounds such bodies together."""
    with (
        protocol.outbox.waiting(transport, len(body))
        if isinstance(protocol, TimedConnection)
        else nullcontext(_not_bounded) as took
    ):
        for at in range(sent, len(body), PIECE):
            await asyncio.sleep(0)  # the loop writes between its turns, and knows only then whether the caller takes it
            await drain()
            took()
            transport.write(body[at : at + PIECE])
        await asyncio.sleep(0)
        await drain()


def _not_bounded() -> None:
    """Count nothing: this connection has no bound."""


def _message_fields(reply: Reply, request: web.BaseRequest, *, keeps: bool) -> Headers:
    """Returns the fields of the message itself, with Connection where it is needed (RFC 9112 section 9.3)."""
    added = message_fields(reply, http_date(int(time.time())))
    if not keeps or request.version < (1, 1):
        return (*added, ("Connection", "keep-alive" if keeps else "close"))
    return added
