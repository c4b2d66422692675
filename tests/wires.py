"""Bare sockets: a Graph that says just what a test tells it to, and a caller that says just what it likes.

Nothing here knows HTTP beyond what it takes to find the end of a message, so that nothing is repaired on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from multidict import CIMultiDict

LIMIT = 2**20


@dataclass
class Message:
    """A message as it came over the wire; of a chunked one the body without its framing."""

    start: str
    fields: CIMultiDict[str]
    body: bytes = b""
    trailers: CIMultiDict[str] = field(default_factory=CIMultiDict)

    @classmethod
    def of(cls, start: str, lines: str) -> Message:
        """A message with these lines for a head."""
        return cls(start, _fields(lines))

    @property
    def status(self) -> int:
        """The status of a reply."""
        return int(self.start.split(" ")[1])

    @property
    def method(self) -> str:
        """The verb of a request."""
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        """The target of a request."""
        return self.start.split(" ")[1]


class Wire:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak over these."""
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes | str) -> None:
        """Say *pieces*; text is UTF-8."""
        for piece in pieces:
            self.writer.write(piece.encode() if isinstance(piece, str) else piece)
            await self.writer.drain()

    async def head(self) -> Message:
        """The head of the next message. Raises IncompleteReadError where there is none."""
        block = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        start, _, rest = block.removesuffix("\r\n\r\n").partition("\r\n")
        return Message.of(start, rest)

    async def message(self, *, bodyless: bool = False) -> Message:
        """The next message whole; *bodyless*: what answers HEAD has none, whatever its head says."""
        found = await self.head()
        if bodyless or (found.start.startswith("HTTP/") and found.status in {204, 304}):
            return found
        if "chunked" in found.fields.get("Transfer-Encoding", ""):
            found.body = b"".join([piece async for piece in self.chunks()])
            found.trailers = _fields((await self._trailers()).decode("latin-1"))
        elif "Content-Length" in found.fields:
            found.body = await self.reader.readexactly(int(found.fields["Content-Length"]))
        elif found.start.startswith("HTTP/"):
            found.body = await self.reader.read()
        return found

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces of a chunked body, until the last."""
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)

    async def everything(self) -> bytes:
        """What comes until the other side ends the connection, cleanly or not."""
        pieces = []
        try:
            while piece := await self.reader.read(2**16):
                pieces.append(piece)
        except ConnectionError:
            pass
        return b"".join(pieces)

    async def ended(self) -> None:
        """Wait until the other side has gone."""
        await self.everything()

    def cut(self) -> None:
        """End the connection at once, as a network that fails."""
        self.writer.transport.abort()

    async def _trailers(self) -> bytes:
        lines = b""
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            lines += line
        return lines.removesuffix(b"\r\n")


@dataclass
class Listener:
    """A server of a test's."""

    url: str
    port: int
    arrived: list[Message] = field(default_factory=list)
    connections: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """For a script to say that something has come about."""


Serve = Callable[[Wire, Listener], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[Listener]:
    """A server that does *serve* with every connection, and closes it then."""
    at, tasks = Listener("", 0), set[asyncio.Task[None]]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(this := _this_task())
        at.connections += 1
        try:
            await serve(Wire(reader, writer), at)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            tasks.discard(this)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=LIMIT)
    at.port = server.sockets[0].getsockname()[1]
    at.url = f"http://127.0.0.1:{at.port}"
    try:
        yield at
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def calling(url: str) -> AsyncIterator[Wire]:
    """A connection to *url*."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port, limit=LIMIT)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


async def said(url: str, *pieces: bytes | str) -> bytes:
    """All that a server answers to *pieces* until it ends the connection."""
    async with calling(url) as wire:
        try:
            await wire.send(*pieces)
        except ConnectionError:
            pass  # it had heard enough
        return await wire.everything()


def ok(body: bytes | str = b'{"id":"1"}', *fields: str, status: str = "200 OK") -> bytes:
    """A plain reply."""
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(raw)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + raw


def _fields(lines: str) -> CIMultiDict[str]:
    pairs = (line.partition(":") for line in lines.split("\r\n") if line)
    return CIMultiDict((name, value.strip()) for name, _, value in pairs)


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task
