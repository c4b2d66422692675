"""One connection of a caller: bytes in, messages to the handler, deadlines kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, InvalidURLError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.core.http import errors, framing, request_head
from proxy.core.model import Reply
from proxy.core.reply import render
from proxy.shell.http.response import PIECE, respond, send_rest
from proxy.shell.http.shedding import Shedder
from proxy.shell.http.timeouts import TimedConnection

READ_AHEAD = 65_536
"""Bytes of a body that are taken before somebody asks for them; about twice as many with those on their way."""

_log = logging.getLogger("graph_sidecar.listener")

LEAVING: web.RequestKey[Callable[[], bool]] = web.RequestKey("leaving", object)  # type: ignore[arg-type] # of any kind
"""Of a message: whether the sidecar is about to end."""

_PREFACE_OF_HTTP_2 = "Pause on PRI"
"""How llhttp's word for the preface of HTTP/2 (RFC 9113 section 3.4) begins."""

NO_HTTP_2 = "HTTP/2 is not spoken here; ask by HTTP/1.1 (curl: --http1.1)"

HEAD_LIMIT = 65_536
"""Characters of a request line and of a header field; reads with long `fields` and `filtering` need them."""


def is_last(message: web.BaseRequest) -> bool:
    """Whether the connection of *message* ends with its answer, which has to say so in its head."""
    return not message.content.is_eof() or (LEAVING in message and message[LEAVING]())


def last_response(reply: Reply) -> web.StreamResponse:
    """*reply* as the last of its connection."""
    response = respond(render.bare(reply))
    response.force_close()
    return response


class Caller(Protocol):
    """A caller that waits on a connection for an answer that no task works on."""

    def leave(self) -> None:
        """Note that the caller has hung up."""


class _Sending:
    """Stands for a caller whose answer is being sent."""

    def leave(self) -> None:
        """Do nothing: no caller waits for it."""


class HeadHandler(Protocol):
    """Answers messages before they are parsed: the fast path."""

    def answer_again(self, connection: Connection, data: bytes) -> bool:
        """Answer *data*, all that has come, as the last time; return False, and do nothing, if that cannot be."""

    def take(self, connection: Connection, data: bytes) -> bool:
        """Answer *data*, which begins a message on *connection*; return False, and do nothing, if the handler must."""


@dataclass(frozen=True, slots=True)
class DetachedConnection:
    """The transport of a connection that is no HTTP any more (a tunnel, or TLS), and the bytes already read."""

    transport: asyncio.Transport
    early: bytes  # what has come in after the last message
    fresh: Callable[[], web.RequestHandler]  # makes the protocol of another connection of the same listener
    ended: Callable[[], None]  # to be told when the connection has ended, or is another of the same listener


class Connection(TimedConnection):
    """One connection. What aiohttp says of a bad message quotes it, token and all, to the log and to the caller.

    aiohttp is given a head, a body and the next head one after another: so a good message is answered that came in one
    go with a bad one, and only what begins a message is taken for a request line.
    """

    _kept = b""
    """What has come and waits: a first line that is not whole, or what comes behind a message that is not read yet."""
    _part: framing.MessagePart | None = None
    """The part of a message that comes next; None: a message begins."""
    _payload: StreamReader = EMPTY_PAYLOAD
    """The body of the last message."""
    _seen = 0
    """Messages that aiohttp has read."""
    _rests = False
    """Whether all that has come was answered by the fast path, and has been taken, so that a message begins."""
    _answered_at = 0.0
    """When the fast path last sent an answer, in seconds of the event loop's clock."""
    _is_large = False
    """Whether Graph's answer to the next message that the handler gets is too large to be kept."""
    _is_in_step = True
    """Whether it is known where the next message begins; not after an upgrade, a lost part or a bad message."""

    def __init__(
        self, manager: web.Server, *, shedder: Shedder | None, fast_path: HeadHandler | None = None, **options: Any
    ) -> None:
        """Let *shedder* hold or refuse messages while the processor is busy; *fast_path* answers those in clear."""
        super().__init__(manager, **options)
        self._shedder = shedder
        self._fast_path = fast_path
        self._unread: ExitStack | None = None  # while an answer of the fast path waits to be taken
        self._caller: Caller | None = None  # who waits for an answer of the fast path
        self.early, self._holds_back = b"", False  # what has come meanwhile, and whether no more is read
        self._sending: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; messages inside TLS are for the name that the TLS was made to, so the handler answers them."""
        if transport.get_extra_info("ssl_object") is not None:
            self._fast_path = None
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take *data* in, a part of a message at a time.

        A hit in memory costs no more than a refusal: it is answered whatever else waits for the processor.
        """
        rests = self._rests or (self._caller is None and self._is_resting)
        if rests and data and self._fast_path is not None and self._fast_path.answer_again(self, data):
            return
        self._rests = False
        if self._caller is not None:
            self._hold(data)
        elif not (data and rests and self._is_answered(data)):
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Take *data* in, which the handler will answer."""
        if not data:  # aiohttp reads on in what it had to leave
            self._feed(data)
        data, self._kept, at = self._kept + data, b"", 0
        while at < len(data):
            if not self._is_in_step:
                self._feed(data[at:])
                return
            if self._part is None:
                at = self._begin(data, at)
            if self._part is None or (isinstance(self._part, framing.HeadPart) and self._part.is_over):
                self._kept = data[at:]
                return
            part, start = self._part, at
            at = part.end(data, at)
            self._is_in_step = not part.is_lost
            if part.is_over and not isinstance(part, framing.HeadPart):
                self._part = None
            self._feed(data[start:at])

    def _is_answered(self, data: bytes) -> bool:
        """Whether *data* waits for the processor, was refused, or was answered by the fast path."""
        if self.transport is None:
            return False
        shedder = self._shedder
        if shedder is not None and not shedder.is_calm and shedder.hold(self, data):
            return True
        return self._fast_path is not None and self._fast_path.take(self, data)

    def wait_for(self, caller: Caller) -> None:
        """Keep later bytes until *caller* has its answer: messages are answered in their order."""
        self._caller = caller
        self._last_read = self._loop.time()
        self._half, self._is_silent = None, False

    def send(self, message: bytes, now: float) -> None:
        """Send *message*, which answers at *now* all that has come; then wait for the next message."""
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.write(message)
        self._answered_at = now
        if self._rests:
            return
        if self._paused and self._unread is None:
            self._wait_until_taken(len(message))
        self._end_answer(keeps=True)

    def answer(self, head: bytes, body: bytes = b"", *, keeps: bool = True) -> None:
        """Send *head* and *body*, which answer what has come; then wait for the next message, or end."""
        if self.transport is None or self.transport.is_closing():
            return
        sent = PIECE
        if len(body) <= sent:
            self.transport.write(head + body)
        else:
            pieces = memoryview(body)
            self.transport.writelines((head, pieces[:sent]))
            while sent < len(body) and not self.transport.get_write_buffer_size():  # the caller takes it as it comes
                self.transport.write(pieces[sent : sent + PIECE])
                sent += PIECE
        if sent < len(body):
            self._caller = self._caller or _Sending()
            self._sending = self._loop.create_task(self._send_rest(body, sent, keeps=keeps))
            return
        if self._paused and self._unread is None:
            self._wait_until_taken(len(head) + len(body))
        self._end_answer(keeps=keeps)

    def _wait_until_taken(self, size: int) -> None:
        """Count *size* bytes of an answer until the caller has taken them."""
        if self.transport is not None:
            self._unread = ExitStack()
            self._unread.enter_context(self.outbox.waiting(self.transport, size))

    async def _send_rest(self, body: bytes, sent: int, *, keeps: bool) -> None:
        with suppress(ConnectionError):
            if self.transport is not None:
                await send_rest(self, self._drain_helper, self.transport, body, sent)
                self._end_answer(keeps=keeps)

    def _end_answer(self, *, keeps: bool) -> None:
        self._caller = None
        if not keeps:
            self.force_close()
            return
        self.wait_for_next()
        self._rests = self._is_resting
        if self.early or self._holds_back:
            self._take_early()

    def proceed(self, data: bytes) -> None:
        """Answer *data*, which has waited for the processor."""
        self._caller = None
        if self.transport is not None:
            if self._fast_path is None or not self._fast_path.take(self, data):
                self._take(data)
            self._take_early()

    def pass_to_handler(self, caller: Caller, head: bytes, *, is_large: bool = False) -> None:
        """Let the handler answer the message of *caller* with this *head* after all, unless it was answered.

        *is_large* says that Graph's answer is too large to be kept, which need not be found out again.
        """
        if self._caller is not caller:
            return
        self._caller, self._is_large = None, is_large
        if self.transport is not None:
            self._take(head)
            self._take_early()

    def take_large(self) -> bool:
        """Return whether the answer to the message that the handler begins with is too large to be kept."""
        is_large, self._is_large = self._is_large, False
        return is_large

    def _hold(self, data: bytes) -> None:
        """Keep *data*, which comes behind a message that waits for its answer; not more than is read ahead."""
        self.early += data
        if len(self.early) > READ_AHEAD and self.transport is not None and not self._holds_back:
            self._holds_back = True
            self.transport.pause_reading()

    def _take_early(self) -> None:
        early, self.early = self.early, b""
        if self._holds_back and self.transport is not None:
            self._holds_back = False
            self.transport.resume_reading()
        if early:
            self.data_received(early)

    def _process_keepalive(self) -> None:
        """End if nothing has come for too long; a caller who waits for an answer need not say anything."""
        self._next_keepalive_close_time = max(
            self._next_keepalive_close_time, self._answered_at + self._keepalive_timeout
        )
        if self._caller is not None:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    def close_if_idle(self, now: float) -> None:
        """End, unless a message is being answered, or is on its way in."""
        if self._caller is None:
            super().close_if_idle(now)

    def close(self) -> None:
        """Answer no further message."""
        self._rests = False
        super().close()

    def force_close(self) -> None:
        """End at once."""
        self._rests = False
        super().force_close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - the base class's parameter
        """Answer no further message, and end."""
        self._rests = False
        await super().shutdown(timeout)

    def pause_writing(self) -> None:
        """Note that the caller takes no more for now."""
        super().pause_writing()
        if self._rests and self.transport is not None:
            self._rests = False
            self._wait_until_taken(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Note that the caller has taken what waited."""
        super().resume_writing()
        self._forget_unread()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, in one of the next turns of the event loop if many connections are lost in this one."""
        self._sweeper.departures.call(partial(self._leave, exc))

    def _leave(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._forget_unread()
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.leave()
        if self._sending is not None:
            self._sending.cancel()

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.close()
            self._unread = None

    @property
    def _is_resting(self) -> bool:
        """Whether nothing is under way, in or out, so that what comes next begins a message."""
        is_whole = not self._kept and self._part is None and self._is_in_step and self._payload.is_eof()
        is_idle = self._current_request is None and not self._messages and (self._half is None or self._is_silent)
        return is_whole and is_idle and not (self._paused or self._close or self._force_close)

    def _begin(self, data: bytes, at: int) -> int:
        """Begin a message, unless that has to wait; where in *data* it goes on.

        The bytes of its target that aiohttp would refuse, and Graph would not, are escaped.
        """
        while data[at : at + 1] in {b"\r", b"\n"}:  # before a message (RFC 9112 section 2.2)
            at += 1
        end = data.find(b"\n", at, at + HEAD_LIMIT) + 1
        if at == len(data) or not self._payload.is_eof():
            return at
        if not end and data[at : at + 1].isupper() and len(data) - at <= HEAD_LIMIT:
            super().data_received(b"")  # something has come
            return at
        self._part = framing.HeadPart()
        if data[at:end].isascii():
            return at
        self._feed(request_head.escaped(data[at : self._part.end(data[:end], at)]))
        return end

    def _feed(self, data: bytes) -> None:
        """Give *data* to aiohttp's parser."""
        super().data_received(data)
        self._notice()

    def _notice(self) -> None:
        """Note the message that aiohttp's parser has read, if it has, and how its body is framed."""
        if self._request_count == self._seen:
            is_head_read = isinstance(self._part, framing.HeadPart) and self._part.is_over
            self._is_in_step = self._is_in_step and (not is_head_read or self._buffer_paused)
            return
        self._seen = self._request_count
        message, payload = self._messages[-1]
        if self._upgraded or not isinstance(message, RawRequestMessage):
            self._is_in_step = False
        elif message.chunked:
            self._part = framing.ChunkedPart()
        else:
            size = int(message.headers.get("Content-Length", 0))
            self._part = framing.CountedPart(size) if size else None
        if isinstance(message, RawRequestMessage):
            self._payload = payload
        elif not self._payload.is_eof():
            self._break_off()

    def _break_off(self) -> None:
        """Make the handler answer a message whose body cannot be read; nothing after the message is read."""
        self._messages.pop()
        self._payload.set_exception(errors.BadRequest("the body of the message is not framed as it should be"))
        self._close = True

    def hand_over(self) -> DetachedConnection | None:
        """Detach the connection, in the handler of a CONNECT; None if its caller has gone.

        An answer of the handler after this is not sent: to this protocol the connection is lost.
        """
        transport, manager = self.transport, self._manager
        if transport is None or manager is None or transport.is_closing():
            return None
        transport.pause_reading()
        early, self._message_tail, self._upgraded = self._message_tail, b"", False
        self.keep_alive(False)
        self.transport = None
        manager.connection_lost(self)
        return DetachedConnection(transport, early, manager, self._sweeper.lend())

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Return the answer to a message that could not be read, or whose handler failed; then its connection ends."""
        del message
        kind = type(exc).__name__
        _log.info("a message was refused: %s", kind)
        if request.writer.output_size:
            raise ConnectionError("half an answer has been sent")
        return last_response(errors.reply_of(_refusal(exc) if status < 500 else errors.Fault(kind)))

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log that a connection failed, with the type of the error."""
        del args
        fault = kw.get("exc_info")
        if not isinstance(fault, errors.SidecarError):  # which the caller has been told
            _log.error("a connection failed: %s", type(fault).__name__)


def _refusal(exc: BaseException | None) -> errors.SidecarError:
    if isinstance(exc, BadHttpMessage) and exc.message.startswith(_PREFACE_OF_HTTP_2):
        return errors.Unspoken(NO_HTTP_2)
    return errors.BadRequest(_why(exc))


def _why(exc: BaseException | None) -> str:
    if isinstance(exc, InvalidURLError):
        return "the URL holds bytes that have to be percent-encoded (RFC 3986 section 2.1)"
    if isinstance(exc, LineTooLong):
        return f"a line of the message's head is longer than {HEAD_LIMIT} characters"
    return f"this is no message of HTTP/1.1 that can be read ({type(exc).__name__})"
