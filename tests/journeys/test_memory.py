"""What a caller, or Graph, may make the sidecar hold: RSS of the real `serve` stays bounded, others are served."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from tests.journeys.bombs import MIB, answers, deflated, endless, graph, packed, slots
from tests.journeys.processes import Serving, serving
from tests.journeys.talking import Ask
from tests.wires import Listener, Message, Wire, calling, listening, ok

SMALL = ("upstream.buffered_mb=8", "listener.buffer_mb=8", "cache.memory_mb=8")
BOMB = deflated(128 * MIB)
ALLOWED_KB = 48 * 1024
"""Kilobytes that a process may come to hold beyond what it holds at its start."""


def answers_to(_wire: Wire, message: Message) -> bytes:
    """A good answer to a batch."""
    return answers(message)


def read(path: str = "/v25.0/1", *fields: str) -> str:
    """A plain read."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", "Authorization: Bearer EAABsecret", *fields, "", ""])


async def grown(sidecar: Serving, at_start: int) -> None:
    """Check that *sidecar* never held much more than *at_start*, and answers still."""
    assert sidecar.peak_kb - at_start < ALLOWED_KB, f"{at_start} -> {sidecar.peak_kb} kB"
    async with calling(sidecar.admin_url) as wire:
        await wire.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await wire.message()).status == 200


@pytest.mark.parametrize("enabled", ["true", "false"])
async def test_a_reply_that_unpacks_to_much_is_streamed(tmp_path: Path, enabled: str) -> None:
    """A small packed reply that is 128 MiB unpacked is not held: asked alone, and passed on as it came."""
    async with (
        listening(graph(lambda _wire: packed(BOMB), lambda _wire, _message: packed(BOMB))) as at,
        serving(at.url, tmp_path, *SMALL, f"batch.enabled={enabled}") as sidecar,
        AsyncExitStack() as callers,
    ):
        at_start = sidecar.peak_kb
        wires = [await callers.enter_async_context(calling(sidecar.url)) for _each in range(4)]
        for number, wire in enumerate(wires):
            await wire.send(read(f"/v25.0/{number}", "Accept-Encoding: deflate"))
        heard = [await wire.message() for wire in wires]
        assert [(each.status, each.body == BOMB) for each in heard] == [(200, True)] * 4
        assert "detail=large" in heard[0].fields["Cache-Status"]
        await grown(sidecar, at_start)


async def test_a_hundred_large_answers_at_once_fit_into_a_small_pod(tmp_path: Path) -> None:
    """A hundred of 1 MB wait their turn: each is asked for once, and the process stays below 256 MiB."""
    body = json.dumps({"id": "1", "name": "x" * 1_000_000})
    async with (
        listening(graph(lambda _wire: ok(body), answers_to)) as at,
        serving(at.url, tmp_path, "upstream.buffered_mb=16", "batch.enabled=false") as sidecar,
        AsyncExitStack() as callers,
    ):
        wires = [await callers.enter_async_context(calling(sidecar.url)) for _each in range(100)]
        for number, wire in enumerate(wires):
            await wire.send(read(f"/v25.0/{number}"))
        heard = [await wire.message() for wire in wires]
        assert [(each.status, len(each.body)) for each in heard] == [(200, len(body))] * 100
        assert not any("detail=large" in each.fields["Cache-Status"] for each in heard)
        assert len(at.arrived) == 100
        assert sidecar.peak_kb < 256 * 1024


async def test_large_answers_in_batches_are_held_once(tmp_path: Path) -> None:
    """A hundred of 1 MB, fifty in a batch, fit by default settings; so do two more rounds, where others are held.

    Batches become as small as the answers require: in the end, each read is asked for once.
    """
    body = json.dumps({"id": "1", "name": "x" * 1_000_000})
    told = {"code": 200, "headers": [{"name": "ETag", "value": '"1"'}], "body": body}
    asked = []

    def answers_of(_wire: Wire, batch: Message) -> bytes:
        asked.append(slots(batch))
        return ok(json.dumps([told] * asked[-1]))

    async with (
        listening(graph(lambda _wire: ok(body), answers_of)) as at,
        serving(at.url, tmp_path) as sidecar,
        AsyncExitStack() as callers,
    ):
        wires = [await callers.enter_async_context(calling(sidecar.url)) for _each in range(100)]
        for first, most_mib in ((1000, 256), (1000, 336), (2000, 336)):  # 180 and 270 MiB were seen
            asked.clear()
            for number, wire in enumerate(wires, first):
                await wire.send(read(f"/v25.0/{number}"))
            heard = [await wire.message() for wire in wires]
            assert [(each.status, len(each.body)) for each in heard] == [(200, len(body))] * 100
            assert sidecar.peak_kb < most_mib * 1024
        assert sum(asked) == 100


async def test_a_reply_without_an_end_is_streamed(tmp_path: Path) -> None:
    """A chunked reply that never ends goes through the sidecar at its caller's pace."""
    async with (
        listening(graph(endless, lambda wire, _message: endless(wire))) as at,
        serving(at.url, tmp_path, *SMALL) as sidecar,
        calling(sidecar.url) as wire,
    ):
        at_start = sidecar.peak_kb
        await wire.send(read())
        assert (await wire.head()).status == 200
        for _piece in range(1024):
            await wire.reader.readexactly(65_536)
        await grown(sidecar, at_start)


async def test_a_batch_too_large_to_hold_is_taken_apart(tmp_path: Path) -> None:
    """Reads whose batch is answered with too much are asked in smaller batches: each gets its own answer."""

    def batch(_wire: Wire, message: Message) -> bytes:
        return packed(BOMB) if slots(message) > 5 else answers(message)  # nine, halved once, are five and four

    async with (
        listening(graph(lambda _wire: ok(), batch)) as at,
        serving(at.url, tmp_path, *SMALL, "batch.window_ms=500", "batch.in_flight=1") as sidecar,
        Ask(sidecar.url) as ask,
    ):
        heard = await asyncio.gather(*(ask.say(f"/v25.0/{number}", token="ann") for number in range(9)))
        assert [each.json["id"] for each in heard] == [f"v25.0/{number}" for number in range(9)]


async def test_a_batch_of_a_callers_own_is_streamed(tmp_path: Path) -> None:
    """Where an answer to one of its reads is too large to be held, Graph is asked the whole batch as it came."""
    async with (
        listening(graph(lambda _wire: packed(BOMB), lambda _wire, _message: packed(BOMB))) as at,
        serving(at.url, tmp_path, *SMALL) as sidecar,
        calling(sidecar.url) as wire,
    ):
        at_start = sidecar.peak_kb
        batch = json.dumps([{"method": "GET", "relative_url": str(number)} for number in range(3)])
        form = urlencode({"batch": batch, "access_token": "EAABann"})
        head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(form)}\r\n"
        await wire.send(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}")
        heard = await wire.message()
        assert (heard.status, heard.body == BOMB) == (200, True)
        assert at.arrived[-1].body == form.encode()
        await grown(sidecar, at_start)


async def test_interim_answers_without_an_end_are_no_answer(tmp_path: Path) -> None:
    """A Graph that says `100 Continue` for ever is given up in Graph's shape, and costs nothing."""

    async def on_and_on(wire: Wire) -> None:
        while True:
            await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    async with (
        listening(graph(on_and_on, lambda wire, _message: on_and_on(wire))) as at,
        serving(at.url, tmp_path, *SMALL) as sidecar,
        calling(sidecar.url) as wire,
    ):
        at_start = sidecar.peak_kb
        for asked in (read(), read("/v25.0/1?callback=1"), read().replace("GET", "PURGE", 1)):
            await wire.send(asked)
            heard = await wire.message()
            assert heard.status >= 400
            assert json.loads(heard.body)["error"]["message"].startswith("graph-sidecar: ")
        await grown(sidecar, at_start)


async def test_reads_of_long_queries_leave_little_behind(tmp_path: Path) -> None:
    """What is remembered of reads is bounded in bytes: 1,200 that differ, of 40 KB each, cost no 60 MB."""
    lines = [read(f"/v25.0/{number}?after={number}{'x' * 40_000}") for number in range(1200)]
    async with (
        listening(graph(lambda _wire: ok(), answers_to)) as at,
        serving(at.url, tmp_path, *SMALL, "cache.disk_mb=0", "log.replies=false") as sidecar,
        AsyncExitStack() as callers,
    ):
        wires = [await callers.enter_async_context(calling(sidecar.url)) for _each in range(4)]
        at_start = sidecar.peak_kb

        async def ask(wire: Wire, asked: list[str]) -> None:
            for each in asked:
                await wire.send(each)
                assert (await wire.message()).status == 200

        await asyncio.gather(*(ask(wire, lines[at::4]) for at, wire in enumerate(wires)))
        await grown(sidecar, at_start)


async def test_bodies_without_an_end_hold_little(tmp_path: Path) -> None:
    """Of 30 batches whose bodies come up to their last byte most are streamed; one that is whole is taken apart."""
    size = 2 * MIB
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"

    async def heard(wire: Wire, at: Listener) -> None:
        first = await wire.head()
        at.arrived.append(first)
        if first.fields["Content-Length"] != str(size):
            found = await wire.reader.readexactly(int(first.fields["Content-Length"]))
            first.body = found
            await wire.send(answers(first))
        await wire.ended()

    async with (
        listening(heard) as at,
        serving(at.url, tmp_path, *SMALL) as sidecar,
        AsyncExitStack() as callers,
        Ask(sidecar.url) as ask,
    ):
        at_start = sidecar.peak_kb
        for _each in range(30):
            wire = await callers.enter_async_context(calling(sidecar.url))
            await wire.send(head, b" " * (size - 1))
        batch = json.dumps([{"method": "GET", "relative_url": "7"}])
        told = await ask.say("/", method="POST", data={"batch": batch, "access_token": "EAABann"})
        assert [each["code"] for each in told.json] == [200]
        await grown(sidecar, at_start)


async def test_notifications_that_are_not_signed_hold_little(tmp_path: Path) -> None:
    """Two dozen bodies of 3 MB with a wrong signature, none of them whole, leave room for one of Meta's own."""
    secret = tmp_path / "secret"
    secret.write_text("sesame-sesame-sesame")
    secret.chmod(0o600)
    size = 3 * MIB
    fields = f"X-Hub-Signature-256: sha256={'0' * 64}\r\nContent-Length: {size}"
    body = b'{"object":"page","entry":[]}'
    signature = hmac.digest(b"sesame-sesame-sesame", body, "sha256").hex()
    async with (
        listening(graph(lambda _wire: ok(), answers_to)) as at,
        serving(at.url, tmp_path, *SMALL, f"webhooks.secret_file={secret}") as sidecar,
        AsyncExitStack() as callers,
        Ask(sidecar.admin_url) as ask,
    ):
        at_start = sidecar.peak_kb
        for _each in range(24):
            wire = await callers.enter_async_context(calling(sidecar.admin_url))
            await wire.send(f"POST /webhooks HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n", b" " * (size - 1))
        heard = await ask.say(
            "/webhooks", method="POST", data=body, headers={"X-Hub-Signature-256": f"sha256={signature}"}
        )
        assert heard.status == 200
        await grown(sidecar, at_start)


async def test_heads_without_an_end_are_refused(tmp_path: Path) -> None:
    """A head is bounded as a whole, not line by line alone: it is told so in Graph's shape."""
    async with (
        listening(graph(lambda _wire: ok(), answers_to)) as at,
        serving(at.url, tmp_path, *SMALL) as sidecar,
        AsyncExitStack() as callers,
    ):
        at_start = sidecar.peak_kb
        for _each in range(12):
            wire = await callers.enter_async_context(calling(sidecar.url))
            with suppress(ConnectionError):
                await wire.send("GET /1 HTTP/1.1\r\nHost: a\r\n")
                for number in range(100):
                    await wire.send(f"X-{number}: {'x' * 60_000}\r\n")
        async with calling(sidecar.url) as wire:
            await wire.send("GET /1 HTTP/1.1\r\nHost: a\r\n")
            for number in range(4):
                await wire.send(f"X-{number}: {'x' * 50_000}\r\n")
            heard = await wire.message()
            assert heard.status == 400
            assert "the head of the message has more than" in json.loads(heard.body)["error"]["message"]
        await grown(sidecar, at_start)


@pytest.mark.parametrize("size, callers", [(4, 14), (1, 60)])
async def test_callers_who_take_nothing_hold_little(tmp_path: Path, size: int, callers: int) -> None:
    """They read the head alone: the slowest end, what was sent is not kept, and one who reads is served."""
    body = json.dumps({"id": "1", "name": "x" * size * MIB})
    async with (
        listening(graph(lambda _wire: ok(body), answers_to)) as at,
        serving(at.url, tmp_path, "listener.buffer_mb=8", "cache.memory_mb=0", "batch.enabled=false") as sidecar,
        AsyncExitStack() as stack,
    ):
        at_start = sidecar.peak_kb
        loop = asyncio.get_running_loop()
        for number in range(callers):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.setblocking(False)
            await loop.sock_connect(line, ("127.0.0.1", urlsplit(sidecar.url).port))
            await loop.sock_sendall(line, read(f"/v25.0/{number}").encode())
            assert (await loop.sock_recv(line, 12)) == b"HTTP/1.1 200"
        async with calling(sidecar.url) as wire:
            await wire.send(read())
            assert (await wire.message()).body == body.encode()
        await grown(sidecar, at_start)


async def test_messages_whose_answers_nobody_takes_hold_little(tmp_path: Path) -> None:
    """Ten callers say thousands of messages in a row and read nothing: no more are read than are answered."""
    async with (
        listening(graph(lambda _wire: ok(), answers_to)) as at,
        serving(at.url, tmp_path, *SMALL, "log.replies=false") as sidecar,
        AsyncExitStack() as callers,
    ):
        at_start = sidecar.peak_kb
        for _each in range(10):
            wire = await callers.enter_async_context(calling(sidecar.url))
            wire.writer.write(b"GET /?callback=1 HTTP/1.1\r\nHost: a\r\n\r\n" * 20_000)
        async with calling(sidecar.url) as wire:
            await wire.send(read())
            assert (await wire.message()).status == 200
        await grown(sidecar, at_start)
