"""A persistent connection to Graph that closes on any bytes outside the response that is expected.

A reply says nowhere which request it answers; on a connection of HTTP/1.1 the order alone does (RFC 9112 section 9.3).
A reply that nobody asked for would therefore be taken for the answer to the next request, which may be someone else's.
"""

from __future__ import annotations

import asyncio
import re
import select
from enum import Enum
from math import inf
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from proxy.shell.deadline import Deadline
from proxy.shell.upstream.plain_exchange import PlainExchange

_HEAD_END = re.compile(rb"\n\r?\n")
MOST_INTERIM = 100
"""The most interim responses before a final one (RFC 9110 section 15.2 sets no bound)."""
_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""A response that the parser returns alone only if no part of another one stands before it."""
HEAD_SIZE = 65_536
"""The largest status line or header field, in characters; usage headers grow with the number of accounts."""

READ_AHEAD = 65_536
"""Bytes of a response body that are read from the socket in advance."""

PARSING: dict[str, Any] = {
    "read_until_eof": True,
    "max_line_size": HEAD_SIZE,
    "max_field_size": HEAD_SIZE,
    "read_bufsize": READ_AHEAD,
}
"""How aiohttp's parser reads responses."""

_UNSURE_BELOW = 400
"""Statuses that no request gets that is not whole yet, unless it is the first of its connection."""


class _Step(Enum):
    IDLE = "no answer is awaited"
    HEAD = "the head of an answer is awaited, or has begun"
    BODY = "the head of an answer has come"


class UpstreamConnection(ResponseHandler):
    """aiohttp's response reader, limited to one response for each request; it closes on anything else."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Expect no response yet."""
        super().__init__(loop=loop)
        self.was_used = False
        """Whether the connection had carried an answer before the one that is awaited or was read last."""
        self.has_answered = False
        """Whether a complete response has come."""
        self._step = _Step.IDLE
        self._is_written = self._is_early = False
        self._interim = 0
        self._before = b""  # the last bytes of a head that is not whole
        self._content: StreamReader | None = None
        self._poll: select.poll | None = None  # asks whether the socket has unread bytes
        self._plain: PlainExchange | None = None  # takes what comes, in place of the parser
        self.now = loop.time
        """Seconds of the event loop's clock."""
        self.deadline = Deadline(loop, self._on_deadline)
        """When an exchange without a task has to have ended."""

    def set_response_params(self, **options: Any) -> None:
        """Expect one response, parsed as *options* say."""
        self._expect_head()
        super().set_response_params(**options)

    def _expect_head(self) -> None:
        self._step, self._interim, self._before, self._content = _Step.HEAD, 0, b"", None
        self._is_written = self._is_early = False
        self.was_used = self.has_answered

    # --- an exchange without a task ---

    def send_plain(self, exchange: PlainExchange, message: bytes, until: float) -> None:
        """Send *message*, and let *exchange* take the response, the first bytes of which have to come *until* then.

        Raises ServerDisconnectedError as `write` does.
        """
        self.write(message)
        self._expect_head()
        self._is_written = True
        self._plain = exchange
        self.deadline.set(until)

    def end_plain(self) -> None:
        """Expect nothing more: a whole response has come, or nobody waits for it."""
        self._plain, self._step, self.has_answered = None, _Step.IDLE, True
        self.deadline.at = inf

    def read_with_parser(self, read_timeout: float) -> None:
        """Read the response with aiohttp's parser from now on, within this timeout for each piece."""
        self._plain = None
        self.deadline.at = inf
        super().set_response_params(**PARSING, read_timeout=read_timeout, auto_decompress=False)
        self.start_timeout()

    def fail_for_silence(self) -> None:
        """Fail the response: it did not come in time."""
        self._on_read_timeout()

    def _on_deadline(self) -> None:
        if self._plain is not None:
            self._plain.give_over(is_late=True)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Fail the response that is awaited; a body that ends with its connection is whole."""
        if self._plain is not None:
            self._plain.give_over()
        self.deadline.cancel()
        super().connection_lost(exc)

    # --- every exchange ---

    def write(self, data: bytes) -> None:
        """Send *data*. Raises ServerDisconnectedError where the connection has ended."""
        if self.transport is None or self.transport.is_closing():
            raise aiohttp.ServerDisconnectedError
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until more may be sent."""
        await self._drain_helper()

    def end_request(self) -> None:
        """Note that the request is complete: the read timeout for its response begins."""
        self._is_written = True
        if self._step is _Step.HEAD:
            self.start_timeout()

    @property
    def is_reusable(self) -> bool:
        """Whether request and response are complete and nothing has come after the response."""
        transport = self.transport
        is_complete = self._step is _Step.IDLE and self._is_written
        return is_complete and transport is not None and not transport.is_closing() and not self.should_close

    def is_quiet(self) -> bool:
        """Return whether it is reusable, and neither has the socket unread bytes nor has Graph closed it."""
        transport = self.transport
        if transport is None or not self.is_reusable:
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._poll.poll(0)

    def is_for_another(self, status: int) -> bool:
        """Whether a response of this *status* does not belong to the request that was written.

        408 says that the connection was idle for too long (RFC 9110 section 15.5.9). An early answer may be a refusal,
        but a connection that was used before may have carried a reply to an earlier request.
        """
        return self.was_used and (status == 408 or (self._is_early and status < _UNSURE_BELOW))

    def data_received(self, data: bytes) -> None:
        """Read *data* as a part of the answer that is awaited; close the connection on what is no part of one."""
        if self._plain is not None and data:
            self._plain.data_received(data, is_early=self.note_early())
            return
        resumed = not data
        while data and self._step is _Step.HEAD:
            self.note_early()
            end = self._end_of_head(data)
            self._feed(data[:end])
            data = data[end:]
        if self._step is _Step.BODY and (data or resumed):
            self._feed(data)
        elif data:
            self.refuse()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take the head of an answer from the parser: the first final one is the answer, a second is nobody's."""
        message, content = data
        if self._step is not _Step.HEAD:
            self.refuse()
        elif message.code == 101 or (message.code < 200 and self._interim >= MOST_INTERIM):
            self.give_up(HttpProcessingError(message="interim answers without an end"))
        elif message.code < 200:
            self._interim += 1
        else:
            self._step, self._content = _Step.BODY, content
            super().feed_data(data, size)

    def refuse(self) -> None:
        """Close the connection at once; a complete response can still be read."""
        self._step, self._should_close = _Step.IDLE, True
        if self.transport is not None:
            self.transport.abort()

    def give_up(self, why: BaseException) -> None:
        """Fail the response with the error *why*, for its waiter and its reader, and close the connection."""
        self.set_exception(why)
        if self._content is not None and not self._content.is_eof():
            self._content.set_exception(why)
        self.refuse()

    def note_early(self) -> bool:
        """Note that the response is early if a part of the request is still unsent; return whether it is early."""
        if not self._is_written or (self.transport is not None and self.transport.get_write_buffer_size()):
            self._is_early = True
        return self._is_early

    def _end_of_head(self, data: bytes) -> int:
        """Return how many bytes of *data* belong to the current head."""
        joined = self._before + data
        found = _HEAD_END.search(joined)
        if found is None:
            self._before = joined[-2:]
            return len(data)
        before, self._before = self._before, b""
        return found.end() - len(before)

    def _feed(self, data: bytes) -> None:
        """Let aiohttp parse *data*, and check whether the response is complete."""
        super().data_received(data)
        if self._exception is not None and self._content is not None and not self._content.is_eof():
            self._content.set_exception(aiohttp.ClientPayloadError("the body cannot be read"))
        if self._step is _Step.BODY and self._content is not None and self._content.is_eof():
            if self._is_out_of_step:
                self._content.set_exception(aiohttp.ServerDisconnectedError())
            self._end_answer()
        elif self._step is _Step.HEAD and self._is_written and self._interim and self._exception is None:
            self.start_timeout()  # aiohttp takes an interim answer for the end of waiting

    @property
    def _is_out_of_step(self) -> bool:
        """Whether what follows the answer is no beginning of another, on a connection that was used before.

        The head was a late one then, perhaps of a reply to HEAD, and its body was cut out of the reply to this request.
        """
        return self.was_used and isinstance(self._exception, HttpProcessingError)

    def _end_answer(self) -> None:
        self._step = _Step.IDLE
        self.has_answered = True
        self._drop_timeout()
        if not self._should_close and not self._is_between_answers():
            self.refuse()

    def _is_between_answers(self) -> bool:
        """Whether the parser has consumed all bytes and holds no part of a further response."""
        if self._parser is None:
            return False
        try:
            messages, _, _ = self._parser.feed_data(_PROBE)
        except HttpProcessingError:
            return False
        return [message.code for message, _ in messages] == [100]
