"""One POST to Graph on a kept connection: without a task, as long as its response is plain.

Plain is what `plain_response` reads: an array of JSON, as the response to a batch is, with nothing behind it. Any other
response is read by a task with aiohttp's parser, from the first byte, as the responses to all other requests are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import aiohttp

from proxy.core.memory.budget import Share
from proxy.core.model import Headers
from proxy.shell.upstream.plain_response import PlainResponse

if TYPE_CHECKING:  # these import this module
    from proxy.shell.upstream.connection import UpstreamConnection
    from proxy.shell.upstream.http1 import Check, Http1Client, Http1Response
    from proxy.shell.upstream.idle_connections import Connection


class Taker(Protocol):
    """What takes the response to a POST."""

    def take(self, fields: Headers, body: bytes) -> None:
        """Take the fields and the body of a plain response."""

    def read_on(self) -> None:
        """Let a task await `PlainExchange.response`: the response is not plain, or does not come."""


class PlainExchange:
    """A POST that was sent, until a plain response is whole; it holds its connection."""

    __slots__ = ("_client", "_connection", "_end", "_last", "_line", "_response", "_share", "_taker")

    def __init__(
        self,
        client: Http1Client,
        end: aiohttp.ClientRequest,
        kept: tuple[Connection, UpstreamConnection],
        taker: Taker,
        last: float,
    ) -> None:
        """Let *taker* have the response on the connection *kept* to *end*.

        It has to be whole at *last* in the event loop's time.
        """
        self._client = client
        self._end = end
        self._taker = taker
        self._last = last
        self._connection: Connection | None = kept[0]
        self._line = kept[1]
        self._response = PlainResponse(client.heads)
        self._share: Share | None = None  # of the budget, while the body is not whole

    def send(self, message: bytes, now: float) -> None:
        """Send the request *message*. Raises ServerDisconnectedError where nothing can be sent any more."""
        self._line.send_plain(self, message)
        self._wait(now)

    def data_received(self, data: bytes) -> None:
        """Take *data*, the next bytes of the response."""
        response = self._response
        is_early = not response.pieces and self._line.note_early()
        is_whole = response.feed(data)
        if is_early or is_whole is None or not self._has_room(len(data), len(response.body)):
            self.give_over()
        elif is_whole:
            self._complete(response)
        else:
            self._wait(self._line.now())

    def _has_room(self, size: int, whole: int) -> bool:
        """Return whether *size* more bytes are within the budget of all replies that are being read.

        *whole* is the size of the body, if that is whole.
        """
        budget = self._client.replies.budget
        if self._share is None:
            if whole:
                return budget.has_room(max(size, whole))
            self._share = budget.share()
        return self._share.grow(size) and budget.has_room(whole)

    def _wait(self, now: float) -> None:
        self._line.deadline.set(min(now + self._client.reply_timeout_s, self._last))

    def _complete(self, response: PlainResponse) -> None:
        """Hand over the *response*, which is whole."""
        self._end_waiting()
        self._line.end_plain()
        if self._connection is not None:
            self._client.give_back(self._end, self._connection, self._line)
            self._connection = None
        fields, body = response.fields, response.body
        response.release()  # it may be large, and exchange and taker hold each other
        self._taker.take(fields, body)

    def give_over(self, *, is_late: bool = False) -> None:
        """Let a task read the response, from the first byte on; *is_late*: it did not come in time."""
        line = self._line
        self._end_waiting()
        line.read_with_parser(self._client.reply_timeout_s)
        self._taker.read_on()
        pieces = self._response.pieces
        self._response.release()
        for piece in pieces:
            line.data_received(piece)
        if is_late:
            line.fail_for_silence()

    async def response(self, check: Check) -> Http1Response:
        """Return the response that is not plain, after *check*. Raises aiohttp's errors, and Large."""
        connection, self._connection = self._connection, None
        assert connection is not None, "this is awaited once"  # noqa: S101 - a mistake of ours
        return await self._client.receive(self._end, connection, self._line, check)

    def close(self) -> None:
        """Close the connection, unless the response was handed over or is being awaited."""
        if self._connection is not None:
            self._end_waiting()
            self._line.end_plain()
            self._connection.close()
            self._connection = None

    def _end_waiting(self) -> None:
        self._line.deadline.clear()
        if self._share is not None:
            self._share.end()
