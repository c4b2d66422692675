"""Messages that weigh more than they look, and a Graph that sends them."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qs

from tests.wires import Listener, Message, Serve, Wire, ok

MIB = 2**20


def deflated(size: int, beginning: bytes = b"") -> bytes:
    """*beginning* and so many bytes of spaces, packed as `deflate` is (RFC 1950); made without unpacking it here."""
    pack = zlib.compressobj(9)
    start = pack.compress(beginning) + pack.flush(zlib.Z_FULL_FLUSH)
    block = pack.compress(b" " * MIB) + pack.flush(zlib.Z_FULL_FLUSH)
    return start + block * (size // MIB)


def packed(body: bytes) -> bytes:
    """A reply whose body is *body*, which is packed already; what it unpacks to has no end."""
    return ok(body, "Content-Encoding: deflate")


async def endless(wire: Wire) -> None:
    """A chunked reply that goes on as long as somebody listens."""
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    while True:
        await wire.send(piece)


async def messages(wire: Wire) -> AsyncIterator[Message]:
    """What comes on a connection, until the other side ends it."""
    while True:
        yield await wire.message()


def slots(message: Message) -> int:
    """Of how many operations the batch in *message* is."""
    return len(json.loads(parse_qs(message.body.decode())["batch"][0]))


def answers(message: Message) -> bytes:
    """A good answer to each operation of the batch in *message*."""
    found = json.loads(parse_qs(message.body.decode())["batch"][0])
    etag = [{"name": "ETag", "value": '"1"'}]
    ids = [each["relative_url"].partition("?")[0] for each in found]
    told = [{"code": 200, "headers": etag, "body": json.dumps({"id": each})} for each in ids]
    return ok(json.dumps(told))


def graph(single: Callable[[Wire], object], batch: Callable[[Wire, Message], object]) -> Serve:
    """A Graph that answers a GET by *single* and a POST by *batch*: bytes, or what speaks on the connection."""

    async def serve(wire: Wire, at: Listener) -> None:
        async for message in messages(wire):
            at.arrived.append(message)
            answer = single(wire) if message.method == "GET" else batch(wire, message)
            if isinstance(answer, bytes):
                await wire.send(answer)
            else:
                await answer  # type: ignore[misc]

    return serve
