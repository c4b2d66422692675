"""An answer that comes before the body is the last of its connection: what is left of the body is never a message."""

from __future__ import annotations

import asyncio
import http.client
import re
import shutil
import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import LONG
from tests.journeys.conftest import MakeScene, MakeScripted, MakeSidecar
from tests.wires import Listener, Message, Wire, calling, ok, said

PROGRAMS = Path(__file__).parent / "programs"
SIZE = 3_000_000
SMUGGLED = b"POST /v25.0/smuggled?access_token=thief HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
GROWING = b"GET /" + b"\xc3\xb8" * (len(SMUGGLED) // 4) + b" HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED
"""Grows by as much as what is smuggled is long, where it is taken for a message."""
READ = b"GET /v25.0/111?access_token=t HTTP/1.1\r\nHost: a\r\n\r\n"


async def refusing(wire: Wire, at: Listener) -> None:
    """Refuses what has a body as soon as it has read the head, and answers the rest."""
    while True:
        at.arrived.append(head := await wire.head())
        if int(head.fields.get("Content-Length", "0")) > 1000 or head.method == "POST":
            await wire.send(
                ok('{"error":{"message":"early","code":100}}', "Connection: close", status="400 Bad Request")
            )
            await wire.ended()
            return
        await wire.send(ok('{"id":"111"}'))


def upload(target: str = "/v25.0/111/photos?access_token=t", size: int = len(GROWING)) -> bytes:
    """The head of a write."""
    return f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()


async def replies(wire: Wire) -> list[Message]:
    """All that is said until the connection ends."""
    heard = []
    try:
        while True:
            heard.append(await wire.message())
    except (asyncio.IncompleteReadError, ConnectionError):
        return heard


@pytest.mark.parametrize("target", ["/v25.0/111/photos?access_token=t", "http://example.com/x"])
@pytest.mark.parametrize("pieces", [1, 2, 50])
async def test_a_body_behind_an_early_answer_is_no_message(scripted: MakeScripted, target: str, pieces: int) -> None:
    """However the body comes, it is read as the body that it is or not at all, and the answer says so."""
    at, front = await scripted(refusing)
    async with calling(front.url) as wire:
        await wire.send(upload(target))
        first = await wire.message()
        for number in range(pieces):
            step = len(GROWING) // pieces + 1
            await wire.send(GROWING[number * step : (number + 1) * step])
            await asyncio.sleep(0)
        await wire.send(READ)
        more = await replies(wire)
    assert (first.status, first.fields["Connection"], more) == (403 if "example" in target else 400, "close", [])
    assert not [message for message in at.arrived if "smuggled" in message.start or "%C3" in message.start]


async def test_a_body_for_nobody_is_no_message(sidecar: MakeSidecar) -> None:
    """The same holds where Graph cannot be reached."""
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        front = await sidecar(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        async with calling(front.url) as wire:
            await wire.send(upload())
            assert (await wire.message()).status == 502
            await wire.send(GROWING, READ)
            assert not await replies(wire)


async def test_what_is_read_whole_keeps_its_connection(scripted: MakeScripted) -> None:
    """A body that has come before the answer costs the caller no connection, though it looks like messages."""
    at, front = await scripted(_answering)
    async with calling(front.url) as wire:
        for _ in range(3):
            await wire.send(upload(), GROWING)
            assert "close" not in (await wire.message()).fields.get("Connection", "")
    assert [message.body for message in at.arrived] == [GROWING] * 3


@pytest.mark.parametrize("cut", [1, 7, 4096])
@pytest.mark.parametrize("framing", ["counted", "chunked", "trailers"])
async def test_where_messages_begin_is_known(scripted: MakeScripted, framing: str, cut: int) -> None:
    """Writes and reads in one go, in pieces of any size, are told apart; each target is escaped, and no body."""
    at, front = await scripted(_answering)
    body = b"GET /\xc3\xb8 HTTP/1.1\r\n\r\n"
    chunks = b"%x;a=b\r\n%b\r\n0\r\n" % (len(body), body) + (
        b"X-After: 1\r\n\r\n" if framing == "trailers" else b"\r\n"
    )
    fields = f"Content-Length: {len(body)}" if framing == "counted" else "Transfer-Encoding: chunked"
    write = f"POST /v25.0/s\xf8g/feed?access_token=t HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n".encode()
    one = write + (body if framing == "counted" else chunks)
    said_at_once = (one + "GET /v25.0/s\xf8g/picture?access_token=t HTTP/1.1\r\nHost: a\r\n\r\n".encode()) * 3
    async with calling(front.url) as wire:
        for start in range(0, len(said_at_once), cut):
            await wire.send(said_at_once[start : start + cut])
        assert [(await wire.message()).status for _ in range(6)] == [200] * 6
    assert [message.body for message in at.arrived] == [body, b""] * 3
    assert {message.target.partition("/v25.0/")[2][:9] for message in at.arrived} == {"s%C3%B8g/"}


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\0\xa5", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0\r\n"])
@pytest.mark.parametrize("first", [READ, READ + READ, upload(size=2) + b"{}"])
async def test_what_stands_before_garbage_is_answered(scene: MakeScene, first: bytes, garbage: bytes) -> None:
    """Good messages get their answers, then the bad one its own, and the connection ends."""
    here = await scene()
    heard = await said(here.front.url, first + garbage)
    statuses = [int(found) for found in re.findall(rb"HTTP/1.[01] ([0-9]+) ", heard)]
    assert (len(statuses), statuses[-1]) == (first.count(b" HTTP/1.1") + 1, 400)
    assert heard.count(b'"id":"111"') == first.count(READ)


async def test_a_body_that_is_no_chunks_is_refused(scripted: MakeScripted) -> None:
    """It is the caller's fault, told once, and nothing of it comes to Graph as a whole message."""
    at, front = await scripted(_answering)
    head = b"POST /v25.0/1/feed?access_token=t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    heard = await said(front.url, head, b"2\r\n{}\r\nzz\r\n\r\n", READ)
    assert (heard.count(b"HTTP/1.1 "), heard.split()[1]) == (1, b"400")
    assert not at.arrived


@pytest.mark.parametrize(
    "place", ["localhost:{other}", "localhost", "127.0.0.1:{other}", "[::1]:{other}", "example.com"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_absolute_form_to_another_place_goes_nowhere(scripted: MakeScripted, place: str, scheme: str) -> None:
    """What is meant for another program of this machine is refused, and its cookie and body go nowhere."""
    at, front = await scripted(_answering)
    other = int(front.url.rpartition(":")[2]) + 1
    target = f"{scheme}://{place.format(other=other)}/x"
    message = upload(target, size=6).replace(b"Host:", b"Cookie: session=1\r\nHost:") + b"secret"
    heard = await said(front.url, message.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    assert (heard.split()[1], at.arrived) == (b"403", [])


async def _answering(wire: Wire, at: Listener) -> None:
    while True:
        at.arrived.append(await wire.message())
        await wire.send(ok('{"id":"111"}'))


def _with_http_client(url: str) -> list[str]:
    caller = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    told = []
    for method, path, body in (("POST", "/v25.0/1/photos", b"\xc3" * SIZE), ("GET", "/v25.0/111/picture", None)):
        caller.request(method, f"{path}?access_token=t", body)
        reply = caller.getresponse()
        told.append(f"{reply.status} {reply.read().decode()}")
    caller.close()
    return told


@pytest.mark.parametrize("program", ["http.client", "curl", "node", *(["go"] if LONG else [])])
async def test_real_programs_upload_into_an_early_answer(scripted: MakeScripted, tmp_path: Path, program: str) -> None:
    """Three megabytes into a 400 that came at once: the program hears the 400, and its next read its own answer."""
    _at, front = await scripted(refusing)
    if program == "http.client":
        told = await asyncio.to_thread(_with_http_client, front.url)
    else:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
        told = (await _run(*_command(program, front.url, tmp_path))).splitlines()
    assert ("400" in told[0], "early" in told[0]) == (True, True)
    assert ("200" in told[1], '{"id":"111"}' in told[1], len(told)) == (True, True, 2)


def _command(program: str, url: str, tmp: Path) -> list[str]:
    write, read = f"{url}/v25.0/1/photos?access_token=t", f"{url}/v25.0/111/picture?access_token=t"
    if program == "node":
        return ["node", str(PROGRAMS / "early.js"), write, read]
    if program == "go":
        return ["go", "run", str(PROGRAMS / "early.go"), write, read]
    body = tmp / "body"
    body.write_bytes(b"\xc3" * SIZE)
    common = ["-sS", "-H", "Expect:", "-w", r" %{http_code}\n"]
    return ["curl", *common, "--data-binary", f"@{body}", write, "--next", *common, read]


async def _run(*command: str) -> str:
    ran = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await ran.communicate()
    return told.decode()
