"""aiohttp's server with our word for what it cannot read: in Graph's shape, and without the text, for tokens' sake."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, InvalidURLError, LineTooLong

from proxy.core import dressing, errors, normal
from proxy.core.headers import framing_fault
from proxy.core.messages import Reply
from proxy.shell.patience import Patience, Sweeper, Watched
from proxy.shell.responding import respond

_log = logging.getLogger("graph_sidecar.listener")

READ_AHEAD = 65_536
"""Bytes of a body that are taken before somebody asks for them; about twice as many with those on their way."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

LEAVING: web.RequestKey[Callable[[], bool]] = web.RequestKey("leaving", object)  # type: ignore[arg-type] # of any kind
"""Of a message: whether the sidecar is about to end."""

_PREFACE_OF_HTTP_2 = "Pause on PRI"
"""How llhttp's word for the preface of HTTP/2 (RFC 9113 section 3.4) begins."""

HEAD_LIMIT = 65_536
"""Characters of a request line and of a header field; reads with long `fields` and `filtering` need them."""


class Listener(web.Server):
    """Takes connections and hands their messages to a handler."""

    def __init__(self, handler: Handler, *, patience: Patience, **options: Any) -> None:
        """Hand messages that are framed as they should be to *handler*."""
        super().__init__(_framed(handler), **options)
        self._sweeper = Sweeper(patience, lambda: self.connections)

    def take(self, transport: asyncio.Transport, early: bytes) -> Left | None:
        """A connection that came in elsewhere and may become one of this listener; None where it is one too many."""
        if self._sweeper.is_full:
            return None
        return Left(transport, early, self, self._sweeper.lend())

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        limits = {"max_line_size": HEAD_LIMIT, "max_field_size": HEAD_LIMIT, "read_bufsize": READ_AHEAD}
        return Connection(self, loop=self._loop, sweeper=self._sweeper, **limits, **self._kwargs)


def _framed(handler: Handler) -> Handler:
    async def handle(message: web.BaseRequest) -> web.StreamResponse:
        version = (message.version.major, message.version.minor)
        if fault := framing_fault(version, message.headers.getall("Transfer-Encoding", ())):
            return _last(errors.reply_of(errors.BadRequest(fault)))
        return await handler(message)

    return handle


def is_last(message: web.BaseRequest) -> bool:
    """Whether the connection of *message* ends with its answer, which has to say so in its head."""
    return LEAVING in message and message[LEAVING]()


def _last(reply: Reply) -> web.StreamResponse:
    """*reply* as the last of its connection."""
    response = respond(dressing.bare(reply))
    response.force_close()
    return response


@dataclass(frozen=True, slots=True)
class Left:
    """What a connection leaves behind when its messages are over and something else begins on it."""

    transport: asyncio.Transport
    early: bytes  # what has come in after the last message
    fresh: Callable[[], web.RequestHandler]  # makes the protocol of another connection of the same listener
    ended: Callable[[], None]  # to be told when the connection has ended, or is another of the same listener


class Connection(Watched):
    """One connection. What aiohttp says of a bad message quotes it, token and all, to the log and to the caller."""

    _line = b""
    """The beginning of a message whose first line is not whole yet."""

    def data_received(self, data: bytes) -> None:
        """Take *data* in; a target with bytes that aiohttp would refuse, and Graph would not, is escaped first.

        So its line is kept until it is whole, if it comes in pieces and is one of HTTP's at all.
        """
        if b"pgrade" in data:
            for piece in _by_heads(data):
                self._take(piece)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        if self._line or (self.is_between_messages and data[:1].isupper()):
            data, self._line = self._line + data, b""
            if b"\n" not in data and len(data) <= HEAD_LIMIT:
                data, self._line = b"", data
            elif not data.isascii():
                data = normal.escaped(data)
        super().data_received(data)

    def hand_over(self) -> Left | None:
        """Give the connection to whoever calls, in the handler of a CONNECT; None where its caller has gone.

        What the handler answers after this goes nowhere: to this protocol the connection is lost.
        """
        transport, manager = self.transport, self._manager
        if transport is None or manager is None or transport.is_closing():
            return None
        transport.pause_reading()
        early, self._message_tail, self._upgraded = self._message_tail, b"", False
        self.keep_alive(False)
        self.transport = None
        manager.connection_lost(self)
        return Left(transport, early, manager, self._sweeper.lend())

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to a message that could not be read, or whose handler failed; its connection ends with it."""
        del message
        kind = type(exc).__name__
        _log.info("a message was refused: %s", kind)
        if request.writer.output_size:
            raise ConnectionError("half an answer has been sent")
        return _last(errors.reply_of(_refusal(exc) if status < 500 else errors.Fault(kind)))

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Tell that a connection failed, and how, in a word."""
        del args
        _log.error("a connection failed: %s", type(kw.get("exc_info")).__name__)


def _by_heads(data: bytes) -> list[bytes]:
    """*data* in pieces that end where a head may end: aiohttp drops what came behind an upgrade that it does not know.

    RFC 9110 section 7.8 lets a server ignore an upgrade, and what follows is then the next message.
    """
    *heads, rest = data.split(b"\r\n\r\n")
    return [head + b"\r\n\r\n" for head in heads] + ([rest] if rest else [])


def _refusal(exc: BaseException | None) -> errors.SidecarError:
    if isinstance(exc, BadHttpMessage) and exc.message.startswith(_PREFACE_OF_HTTP_2):
        return errors.Unspoken("HTTP/2 is not spoken here; ask by HTTP/1.1 (curl: --http1.1)")
    return errors.BadRequest(_why(exc))


def _why(exc: BaseException | None) -> str:
    if isinstance(exc, InvalidURLError):
        return "the URL holds bytes that have to be percent-encoded (RFC 3986 section 2.1)"
    if isinstance(exc, LineTooLong):
        return f"a line of the message's head is longer than {HEAD_LIMIT} characters"
    return f"this is no message of HTTP/1.1 that can be read ({type(exc).__name__})"
