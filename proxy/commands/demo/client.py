"""An HTTP/1.1 client for measurements: one request at a time on a connection, with as little overhead as possible."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

_ALWAYS = ("User-Agent: dashboard", "Accept: */*", "Accept-Encoding: gzip")
"""The fields that an ordinary client sends with every request."""


class LostConnectionError(Exception):
    """The server closed the connection before its reply was complete."""


@dataclass(frozen=True, slots=True)
class ClientReply:
    """A complete reply as it came; the body may be compressed."""

    status: int
    head: bytes
    body: bytes

    @property
    def text(self) -> bytes:
        """The body, decompressed."""
        return gzip.decompress(self.body) if self.field("content-encoding") == "gzip" else self.body

    def field(self, name: str) -> str:
        """Returns the value of a header field, "" if it is missing."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.lower().encode():
                return value.strip().decode("latin-1")
        return ""


def request(url: str, method: str, target: str, *, token: str = "", body: str = "") -> bytes:
    """Returns a request to the server at *url* for *target* as bytes; *body* is a form."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {urlsplit(url).netloc}", *_ALWAYS]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body.encode())}"]
    return "\r\n".join([*lines, "", body]).encode()


class ClientConnection(asyncio.Protocol):
    """One connection to a server, for one request after the other."""

    def __init__(self) -> None:
        """Start unconnected; `open_connection` connects it."""
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[ClientReply] | None = None
        self._pending = b""
        self._body_at = 0
        self._size: int | None = None  # of the body; None: chunked

    async def ask(self, asked: bytes) -> ClientReply:
        """Send the bytes of a request; returns the reply. Raises LostConnectionError."""
        if self._transport is None or self._transport.is_closing():
            raise LostConnectionError
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(asked)
        return await self._reply

    @property
    def port(self) -> int:
        """The port of this end."""
        return 0 if self._transport is None else self._transport.get_extra_info("sockname")[1]

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour alone

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that waits, if any."""
        del exc
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(LostConnectionError())

    def data_received(self, data: bytes) -> None:
        """Complete the reply as soon as head and body are there."""
        self._pending = self._pending + data if self._pending else data
        if not self._body_at and not self._read_head():
            return
        if self._size is None:
            if not self._pending.endswith(b"0\r\n\r\n"):
                return
            body = _unchunked(self._pending[self._body_at :])
        elif len(self._pending) - self._body_at < self._size:
            return
        else:
            body = self._pending[self._body_at :]
        answer = ClientReply(int(self._pending[9:12]), self._pending[: self._body_at - 4], body)
        self._pending, self._body_at = b"", 0
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(answer)

    def _read_head(self) -> bool:
        end = self._pending.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._body_at = end + 4
        head = self._pending[:end].lower()
        _, found, rest = head.partition(b"\r\ncontent-length:")
        self._size = int(rest.partition(b"\r\n")[0]) if found else None
        if self._size is None and b"\r\ntransfer-encoding: chunked" not in head:
            self._size = 0
        return True


def _unchunked(text: bytes) -> bytes:
    pieces = []
    while text:
        size, _, rest = text.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        pieces.append(rest[:length])
        text = rest[length + 2 :]
    return b"".join(pieces)


async def open_connection(url: str) -> ClientConnection:
    """Returns a connection to the server at *url*, such as http://127.0.0.1:8080."""
    where = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(ClientConnection, where.hostname or "", where.port or 80)
    return connection
