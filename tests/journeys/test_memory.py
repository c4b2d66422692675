"""What a caller, or Graph, may make the sidecar hold: RSS of the real `serve` stays bounded, others are served."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.journeys.bombs import MIB, answers, deflated, endless, graph, packed, slots
from tests.journeys.processes import Serving, serving
from tests.journeys.talking import Ask
from tests.wires import Message, Wire, calling, listening, ok

SMALL = ("upstream.buffer_mb=8", "listener.buffer_mb=8", "cache.memory_mb=8")
BOMB = deflated(256 * MIB)
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
    """A small packed reply that is 256 MiB unpacked is not held: asked alone, and passed on as it came."""
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
        return packed(BOMB) if slots(message) > 4 else answers(message)

    async with (
        listening(graph(lambda _wire: ok(), batch)) as at,
        serving(at.url, tmp_path, *SMALL, "batch.window_ms=500", "batch.in_flight=1") as sidecar,
        Ask(sidecar.url) as ask,
    ):
        heard = await asyncio.gather(*(ask.say(f"/v25.0/{number}", token="ann") for number in range(9)))
        assert [each.json["id"] for each in heard] == [f"v25.0/{number}" for number in range(9)]


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
    """What is remembered of reads is bounded in bytes: 2,000 that differ, of 40 KB each, cost no 80 MB."""
    lines = [read(f"/v25.0/{number}?after={number}{'x' * 40_000}") for number in range(2000)]
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
