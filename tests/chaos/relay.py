"""A TCP relay between the sidecar and a server that spoils what the server sends, in one way at a time."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["none", "cut", "reset", "silence", "trickle", "unasked", "doubled", "hang up", "late", "half open"]
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends RST."""
LATE_S = 0.1
UNASKED_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Relay:
    """What the relay does to the replies that pass from now on, and what has passed."""

    server: tuple[str, int]
    unasked: bytes
    """What follows a reply where nothing was asked for."""
    fault: Fault = "none"
    after: int = 0
    """Bytes of a reply that pass before the fault."""
    url: str = ""
    port: int = 0
    spoiled: int = 0
    """Replies that were spoiled."""
    opened: int = 0
    """Connections so far."""
    dead: int = 0
    """Of so many of the first the other end has gone without a word: what is sent there is lost."""

    def be(self, fault: Fault, after: int = 0) -> None:
        """From now on spoil replies by *fault*, each *after* so many of its bytes."""
        self.fault, self.after = fault, after
        if fault == "half open":
            self.dead = self.opened

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes both ways until one side has ended."""
        try:
            if self.fault == "hang up":
                self.spoiled += 1
                return
            self.opened += 1
            number = self.opened
            theirs, to_server = await asyncio.open_connection(*self.server)
            up = asyncio.ensure_future(self._requests(reader, to_server, number))
            try:
                await self._replies(theirs, writer)
            finally:
                up.cancel()
                to_server.close()
        finally:
            writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(2**16):
                if number <= self.dead:
                    self.spoiled += 1
                else:
                    writer.write(data)
            writer.write_eof()

    async def _replies(self, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await theirs.read(2**16):
            match self.fault:
                case "none" | "half open":
                    writer.write(data)
                case "late":
                    self.spoiled += 1
                    await asyncio.sleep(LATE_S)
                    writer.write(data)
                case "trickle":
                    self.spoiled += 1
                    for at in range(len(data)):
                        writer.write(data[at : at + 1])
                        await asyncio.sleep(0)
                case "doubled":
                    self.spoiled += 1
                    writer.write(data + data)
                case "unasked":
                    self.spoiled += 1
                    writer.write(data)
                    await writer.drain()
                    writer.write(self.unasked)
                case "silence":
                    self.spoiled += 1
                    writer.write(data[: self.after])
                    await asyncio.Event().wait()
                case _:
                    self.spoiled += 1
                    writer.write(data[: self.after])
                    with suppress(ConnectionError):
                        await writer.drain()
                    if self.fault == "reset":
                        line: socket.socket = writer.get_extra_info("socket")
                        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    return


@asynccontextmanager
async def relaying(url: str, unasked: bytes = UNASKED_REPLY) -> AsyncIterator[Relay]:
    """A relay in front of the server at *url*, at first without a fault."""
    at = urlsplit(url)
    relay = Relay((at.hostname or "", at.port or 0), unasked)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        with suppress(ConnectionError, asyncio.CancelledError):
            await relay.connected(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    relay.url = f"http://127.0.0.1:{relay.port}"
    try:
        yield relay
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
