"""What passes through passes whole, both ways, in flat memory, and what breaks is seen to be broken.

`LONG_TESTS=1 pytest tests/journeys/test_streaming.py -k flat --log-cli-level=INFO` moves 2 GiB each way where the suite
moves 64 MiB; memory may grow by no more for it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
import logging
import random
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import EFFORT, MIB
from tests.journeys.conftest import MakeAsk, MakeScripted
from tests.journeys.processes import serving
from tests.wires import Listener, Serve, Wire, calling, listening, ok

LARGE = EFFORT.streamed
GROWTH_KB = 12 * 1024
_BLOCK = random.Random(7).randbytes(2 * MIB)
UPLOAD = "/v25.0/111/videos?access_token=t"
DOWNLOAD = "/v25.0/111/picture?access_token=t"


def pieces(size: int) -> Iterator[bytes]:
    """So many bytes that do not compress; no two of the pieces are alike, so order and loss show."""
    for number, start in enumerate(range(0, size, MIB // 4)):
        shift = number * 7919 % MIB
        yield _BLOCK[shift : shift + min(MIB // 4, size - start)]


def digest_of(size: int) -> str:
    """The hash of all of these."""
    digest = hashlib.sha256()
    for piece in pieces(size):
        digest.update(piece)
    return digest.hexdigest()


def receiving(digests: list[str]) -> Serve:
    """A Graph that hashes what it is sent, however that is framed."""

    async def serve(wire: Wire, at: Listener) -> None:
        while True:
            head, digest = await wire.head(), hashlib.sha256()
            at.arrived.append(head)
            if "Content-Length" in head.fields:
                left = int(head.fields["Content-Length"])
                while left:
                    piece = await wire.reader.read(min(left, MIB))
                    if not piece:
                        return
                    left -= len(piece)
                    digest.update(piece)
            else:
                async for piece in wire.chunks():
                    digest.update(piece)
                await wire.reader.readuntil(b"\r\n")
            digests.append(digest.hexdigest())
            await wire.send(ok('{"success":true}'))

    return serve


def sending(size: int, *, chunked: bool) -> Serve:
    """A Graph that sends so many bytes."""

    async def serve(wire: Wire, at: Listener) -> None:
        while True:
            at.arrived.append(await wire.message())
            framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
            await wire.send(f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n{framing}\r\n\r\n")
            for piece in pieces(size):
                await (wire.send(b"%x\r\n" % len(piece), piece, b"\r\n") if chunked else wire.send(piece))
            if chunked:
                await wire.send(b"0\r\n\r\n")

    return serve


async def stream(size: int) -> AsyncIterator[bytes]:
    """The same as an upload's body."""
    for piece in pieces(size):
        yield piece


async def upload(session: aiohttp.ClientSession, url: str, size: int, *, chunked: bool) -> None:
    """Send so many bytes."""
    fields = {"Content-Type": "application/octet-stream"} | ({} if chunked else {"Content-Length": str(size)})
    async with session.post(url + UPLOAD, data=stream(size), headers=fields) as reply:
        assert await reply.json() == {"success": True}


async def download(session: aiohttp.ClientSession, url: str) -> str:
    """The hash of what is sent."""
    digest = hashlib.sha256()
    async with session.get(url + DOWNLOAD) as reply:
        async for piece in reply.content.iter_any():
            digest.update(piece)
    return digest.hexdigest()


framings = pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with a length"])


@framings
async def test_an_upload_arrives_whole(scripted: MakeScripted, *, chunked: bool) -> None:
    """Every byte of a large upload reaches Graph, in order, framed as the caller framed it."""
    digests: list[str] = []
    at, front = await scripted(receiving(digests))
    async with aiohttp.ClientSession() as session:
        await upload(session, front.url, 8 * MIB + 1, chunked=chunked)
    assert digests == [digest_of(8 * MIB + 1)]
    assert ("Content-Length" in at.arrived[0].fields) is not chunked


@framings
async def test_a_download_arrives_whole(scripted: MakeScripted, *, chunked: bool) -> None:
    """Every byte of a large reply reaches its caller, in order."""
    _at, front = await scripted(sending(8 * MIB + 1, chunked=chunked))
    async with aiohttp.ClientSession() as session:
        assert await download(session, front.url) == digest_of(8 * MIB + 1)


@framings
@pytest.mark.timeout(900)
async def test_memory_stays_flat(tmp_path: Path, *, chunked: bool) -> None:
    """What passes through is never gathered: the process needs no more memory for a large body than for a small one."""
    digests: list[str] = []
    async with (
        listening(receiving(digests)) as receiver,
        listening(sending(LARGE, chunked=chunked)) as sender,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
    ):
        async with serving(receiver.url, tmp_path) as sidecar:
            await upload(session, sidecar.url, MIB, chunked=chunked)
            before = sidecar.peak_kb
            await upload(session, sidecar.url, LARGE, chunked=chunked)
            up = sidecar.peak_kb - before
        async with serving(sender.url, tmp_path) as sidecar:
            async with session.get(sidecar.url + DOWNLOAD) as begun:
                await begun.content.readexactly(MIB)
            before = sidecar.peak_kb
            received = await download(session, sidecar.url)
            down = sidecar.peak_kb - before
    assert (digests[-1], received) == (digest_of(LARGE), digest_of(LARGE))
    logging.getLogger(__name__).info("peak %d kB, then %d kB more up and %d kB more down", before, up, down)
    assert max(up, down) < GROWTH_KB


async def test_who_expects_100_is_told_to_go_on(scripted: MakeScripted) -> None:
    """A caller that waits before it sends its body is told to send it, once, and then gets its answer."""
    digests: list[str] = []
    at, front = await scripted(receiving(digests))
    async with calling(front.url) as wire:
        await wire.send(f"POST {UPLOAD} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await wire.head()).start == "HTTP/1.1 100 Continue"
        await wire.send("hello")
        assert (await wire.message()).start == "HTTP/1.1 200 OK"
    assert digests == [hashlib.sha256(b"hello").hexdigest()]
    assert "Expect" not in at.arrived[0].fields


async def test_a_read_that_expects_100_is_answered(scripted: MakeScripted) -> None:
    """Not only writes may wait before they send their body: a GET with a body of `{}` is answered too."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(ok("{}"))

    _at, front = await scripted(serve, batch={"enabled": False})
    async with calling(front.url) as wire:
        await wire.send(
            "GET /1?access_token=t HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await wire.head()).start == "HTTP/1.1 100 Continue"
        await wire.send("{}")
        assert (await wire.message()).start == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("then", ["reads on", "closes"])
async def test_an_answer_before_the_end_of_an_upload_is_the_answer(scripted: MakeScripted, then: str) -> None:
    """When Graph has heard enough of an upload and says so, the caller hears it, while it is still sending."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.head())
        await wire.send(ok('{"error":{"code":100}}', "Connection: close", status="400 Bad Request"))
        if then == "reads on":
            await wire.ended()

    _at, front = await scripted(serve)
    async with calling(front.url) as wire:
        await wire.send(f"POST {UPLOAD} HTTP/1.1\r\nHost: a\r\nContent-Length: {64 * MIB}\r\n\r\n", bytes(1000))
        heard = await wire.message()
    assert (heard.start, heard.body) == ("HTTP/1.1 400 Bad Request", b'{"error":{"code":100}}')


async def test_packed_bodies_pass_byte_for_byte(scripted: MakeScripted) -> None:
    """What was gzipped stays gzipped, both ways, down to the byte."""
    up, down = gzip.compress(b"up " * 1000), gzip.compress(b"down " * 1000, mtime=1)

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(ok(down, "Content-Encoding: gzip"))

    at, front = await scripted(serve)
    async with calling(front.url) as wire:
        await wire.send(
            f"POST {UPLOAD} HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: {len(up)}\r\n\r\n", up
        )
        heard = await wire.message()
    assert (at.arrived[0].body, at.arrived[0].fields["Content-Encoding"]) == (up, "gzip")
    assert (heard.body, heard.fields["Content-Encoding"]) == (down, "gzip")


async def test_what_speaks_of_one_connection_stays_there(scripted: MakeScripted) -> None:
    """Hop-by-hop fields, those that Connection names, and trailers end at the sidecar, both ways; the body is whole."""
    hops = (
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"
        "Proxy-Authorization: Basic eDp5\r\nTE: trailers\r\nTrailer: X-Sum\r\nX-End: 1\r\n"
    )
    body = "Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(f"HTTP/1.1 200 OK\r\n{hops}{body}")

    at, front = await scripted(serve)
    async with calling(front.url) as wire:
        await wire.send(f"POST {UPLOAD} HTTP/1.1\r\nHost: a\r\n{hops}{body}")
        heard = await wire.message()
    for message in (at.arrived[0], heard):
        assert (message.body, list(message.trailers)) == (b"hello", [])
        names = {name.lower() for name in message.fields}
        assert "x-end" in names
        assert not names & {"x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer", "x-sum"}


@framings
async def test_who_leaves_in_the_middle_has_not_sent_a_whole(scripted: MakeScripted, *, chunked: bool) -> None:
    """Half an upload never looks whole to Graph: its connection ends where the caller's did."""
    halfway, rest = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.head())
        await wire.reader.readuntil(b"half")
        halfway.set()
        rest.set_result(await wire.everything())

    _at, front = await scripted(serve)
    async with calling(front.url) as wire:
        framing = "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n" if chunked else "Content-Length: 1000\r\n\r\nhalf"
        await wire.send(f"POST {UPLOAD} HTTP/1.1\r\nHost: a\r\n{framing}")
        await halfway.wait()
        wire.cut()
    assert (await rest).strip() == b""


@framings
async def test_half_a_download_is_not_a_whole(scripted: MakeScripted, *, chunked: bool) -> None:
    """When Graph breaks off, the caller sees a broken transfer, not a short one that succeeded."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        framing = "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n" if chunked else "Content-Length: 1000\r\n\r\nhalf"
        await wire.send(f"HTTP/1.1 200 OK\r\n{framing}")

    _at, front = await scripted(serve)
    async with aiohttp.ClientSession() as session, session.get(front.url + DOWNLOAD) as reply:
        assert reply.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()


async def test_a_slow_reader_slows_graph_down(scripted: MakeScripted, ask: MakeAsk) -> None:
    """A caller that does not read is not read for: Graph is held back, others are not, and then all of it arrives."""
    size, sent = 64 * MIB, 0

    async def serve(wire: Wire, at: Listener) -> None:
        nonlocal sent
        at.arrived.append(await wire.message())
        await wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")
        for piece in pieces(size):
            await wire.send(piece)
            sent += len(piece)

    _at, front = await scripted(serve)
    other = await ask(front.url)
    with socket.socket() as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        narrow.connect((front.listen.host, front.listen.port))
        reader, writer = await asyncio.open_connection(sock=narrow)
        writer.write(f"GET {DOWNLOAD} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        seen = -1
        while seen != sent:
            seen = sent
            for _ in range(20):
                await other.settle()
        assert 0 < sent < size // 2
        digest = hashlib.sha256()
        while piece := await reader.read(MIB):
            digest.update(piece)
        writer.close()
    assert (sent, digest.hexdigest()) == (size, digest_of(size))


@pytest.mark.parametrize(
    "method,answer,length",
    [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nContent-Type: image/jpeg\r\n\r\n", "1234"),
        ("DELETE", "HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", 'HTTP/1.1 304 Not Modified\r\nETag: "e"\r\n\r\n', None),
        ("GET", "HTTP/1.1 302 Found\r\nLocation: https://cdn.test/x\r\nContent-Length: 0\r\n\r\n", "0"),
    ],
)
async def test_answers_without_a_body_have_none(
    scripted: MakeScripted, method: str, answer: str, length: str | None
) -> None:
    """HEAD, 204, 304 and an empty redirect pass as they are, and the connection goes on."""

    async def serve(wire: Wire, at: Listener) -> None:
        while True:
            at.arrived.append(await wire.message())
            await wire.send(answer)

    at, front = await scripted(serve)
    async with calling(front.url) as wire:
        for _ in itertools.repeat(None, 2):
            await wire.send(f'{method} {DOWNLOAD} HTTP/1.1\r\nHost: a\r\nIf-None-Match: "e"\r\n\r\n')
            heard = await wire.message(bodyless=length is None or method == "HEAD")
            assert heard.start == answer.partition("\r\n")[0]
            assert heard.fields.get("Content-Length") == length
    assert (len(at.arrived), at.arrived[0].fields["If-None-Match"]) == (2, '"e"')
