"""One POST to Graph on a kept connection: without a task, as long as its response is plain.

Plain is a `200 OK` with an array of JSON, as the response to a batch is: the head comes in one piece and says how long
the body is, the body is not coded, and nothing comes behind the body. Any other response is read by a task with
aiohttp's parser, from the first byte, as the responses to all other requests are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

import aiohttp

from proxy.core.memory.budget import Share
from proxy.core.model import Headers

if TYPE_CHECKING:  # these import this module
    from proxy.shell.upstream.connection import UpstreamConnection
    from proxy.shell.upstream.http1 import Check, Http1Client, Http1Response
    from proxy.shell.upstream.idle_connections import Connection

LARGEST_HEAD = 16_384
"""Bytes of a head that is read here."""

_MOST_FIELDS = 100
_HEAD = re.compile(rb"HTTP/1\.1 200 OK\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~](?:[ -~]*[!-~])?\r\n)+)\r\n")
_FRAMING = re.compile(
    rb"\n(content-length|content-encoding|transfer-encoding|connection|proxy-connection|upgrade|trailer): ([^\r]*)",
    re.IGNORECASE,
)
"""Fields that say how the body is read, or whether the connection goes on."""

_LENGTH = re.compile(rb"[0-9]{1,9}")


def read_head(data: bytes) -> tuple[Headers, int, int] | None:
    """Return the fields of the plain head at the beginning of *data*, and where its body begins and ends."""
    head = _HEAD.match(data, 0, LARGEST_HEAD)
    if head is None:
        return None
    length, start = -1, head.end()
    for name, value in _FRAMING.findall(data, 0, start):
        if name.lower() == b"content-length" and length < 0 and _LENGTH.fullmatch(value):
            length = int(value)
        elif name.lower() != b"connection" or value.lower() != b"keep-alive":
            return None
    lines = head[1].decode().split("\r\n")[:-1]
    if length < 0 or len(lines) > _MOST_FIELDS:
        return None
    return tuple([(line[: (at := line.index(": "))], line[at + 2 :]) for line in lines]), start, start + length


class Taker(Protocol):
    """What takes the response to a POST."""

    def take(self, fields: Headers, body: bytes) -> None:
        """Take the fields and the body of a plain response."""

    def read_on(self) -> None:
        """Let a task await `PlainExchange.response`: the response is not plain, or does not come."""


class PlainExchange:
    """A POST that was sent, until a plain response is whole; it holds its connection."""

    __slots__ = (
        "_client",
        "_connection",
        "_end",
        "_fields",
        "_last",
        "_line",
        "_missing",
        "_pieces",
        "_share",
        "_start",
        "_taker",
    )

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
        self._pieces: list[bytes] = []  # all that has come
        self._fields: Headers = ()
        self._start = 0  # of the body, in the first piece
        self._missing = 0  # bytes of the body
        self._share: Share | None = None  # of the budget, while the body is not whole

    def send(self, message: bytes, now: float) -> None:
        """Send the request *message*. Raises ServerDisconnectedError where nothing can be sent any more."""
        self._line.send_plain(self, message)
        self._wait(now)

    def data_received(self, data: bytes) -> None:
        """Take *data*, the next bytes of the response."""
        is_plain = self._begin(data) if not self._pieces else True
        self._pieces.append(data)
        self._missing -= len(data)
        if not is_plain or self._missing < 0 or not self._has_room(len(data)):
            self.give_over()
        elif self._missing:
            self._wait(self._line.now())
        else:
            self._complete()

    def _begin(self, data: bytes) -> bool:
        """Return whether *data* begins a plain response."""
        head = None if self._line.note_early() else read_head(data)
        if head is None:
            return False
        self._fields, self._start, self._missing = head
        return True

    def _has_room(self, size: int) -> bool:
        """Return whether *size* more bytes are within the budget of all replies that are being read."""
        if self._share is None:
            budget = self._client.replies.budget
            if not self._missing:
                return budget.has_room(size)
            self._share = budget.share()
        return self._share.grow(size)

    def _wait(self, now: float) -> None:
        self._line.deadline.set(min(now + self._client.reply_timeout_s, self._last))

    def _complete(self) -> None:
        """Hand over the response, which is whole; let a task read it if it is no array."""
        first, *others = self._pieces
        body = first[self._start :]
        if others:
            body = b"".join((body, *others))
        if body[:1] != b"[":
            self.give_over()
            return
        self._end_waiting()
        self._line.end_plain()
        if self._connection is not None:
            self._client.give_back(self._end, self._connection, self._line)
            self._connection = None
        self._taker.take(self._fields, body)

    def give_over(self, *, is_late: bool = False) -> None:
        """Let a task read the response, from the first byte on; *is_late*: it did not come in time."""
        line = self._line
        self._end_waiting()
        line.read_with_parser(self._client.reply_timeout_s)
        self._taker.read_on()
        for piece in self._pieces:
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
