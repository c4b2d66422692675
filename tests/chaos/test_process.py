"""Faults of the process itself: killed at any moment, out of descriptors, and amid thousands of connections."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import signal
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.conftest import LONG
from tests.journeys.conftest import MakeAsk, MakeGraph
from tests.journeys.processes import serving
from tests.journeys.talking import Ask
from tests.shell.valkey.servers import until
from tests.wires import Wire, calling

IDS = range(100, 130)
FRESH = ("cache.fresh_s=3600", "batch.slots=5")
READ = "/v25.0/{}?fields=id,name"


@dataclass
class Life:
    """What callers did over several lives of a process, and what they were told."""

    dice: random.Random = field(default_factory=lambda: random.Random(5))
    sent: Counter[int] = field(default_factory=Counter)
    """How often each object was written to, answered or not."""
    answered: Counter[int] = field(default_factory=Counter)
    """The last number that was written to each object, and answered."""
    done: Counter[int] = field(default_factory=Counter)
    """How many writes to each object were answered."""
    older: list[tuple[int, str, int]] = field(default_factory=list)
    replies: int = 0

    async def write(self, caller: Ask, ids: range) -> None:
        """Give one object after the other its next number."""
        while True:
            number = self.dice.choice(ids)
            self.sent[number] += 1
            name = self.sent[number]
            heard = await caller.say(f"/v25.0/{number}", method="POST", token="ann", data={"name": f"number {name}"})
            assert heard.status == 200
            self.answered[number] = name
            self.done[number] += 1
            self.replies += 1

    async def read(self, caller: Ask) -> None:
        """Read one object after the other."""
        while True:
            await self.look(caller, self.dice.choice(IDS))

    async def look(self, caller: Ask, number: int) -> None:
        """Read an object: it is no older than the last write to it that was answered before."""
        known = self.answered[number]
        heard = await caller.say(READ.format(number), token="ann")
        assert (heard.status, heard.json["id"]) == (200, str(number))
        name = heard.json["name"]
        if known and int(name.removeprefix("number ")) < known:
            self.older.append((number, name, known))
        self.replies += 1


async def test_kill_9_at_random_moments(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """Over many lives of the process no write is sent twice, and no read is older than a write that was answered."""
    behind, life = await graph(latency_ms=2), Life()
    for _ in range(100 if LONG else 3):
        async with serving(behind.url, tmp_path, *FRESH) as sidecar:
            caller = await ask(sidecar.url)
            for number in IDS:
                await life.look(caller, number)
            ends = life.replies + life.dice.randrange(20, 200)
            busy = [life.write(caller, IDS[at::3]) for at in range(3)] + [life.read(caller) for _ in range(6)]
            tasks = [asyncio.ensure_future(each) for each in busy]
            await until(lambda ends=ends: life.replies >= ends)  # type: ignore[misc]
            sidecar.signal(signal.SIGKILL)
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert [each for each in ended if not isinstance(each, aiohttp.ClientError)] == []
    assert life.older == []
    for number in IDS:
        assert life.done[number] <= behind.ledger.writes[("POST", f"/{number}")] <= life.sent[number]
    assert life.done.total() > 5


async def test_descriptors_run_out(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """Callers that are inside get their own replies, or errors in Graph's shape; with room again all are served."""
    behind = await graph()
    async with serving(behind.url, tmp_path) as sidecar, AsyncExitStack() as stack:
        inside = [await stack.enter_async_context(calling(sidecar.url)) for _ in range(10)]
        for number, wire in enumerate(inside):
            assert await read(wire, number) == 200
        most = open_files(sidecar.process.pid) + 20
        resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, (most, most))
        crowd = AsyncExitStack()
        async with crowd:
            for _ in range(60):
                await crowd.enter_async_context(calling(sidecar.url))
            statuses = {await read(wire, 1000 + number) for number, wire in enumerate(inside)}
            assert statuses <= {200, 502, 503, 504}
        caller = await ask(sidecar.url)
        heard = await asyncio.gather(*(caller.say(f"/v25.0/{2000 + number}", token="ann") for number in range(5)))
        assert [each.json["id"] for each in heard] == [str(2000 + number) for number in range(5)]
        assert "Traceback" not in sidecar.said
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0


async def test_idle_and_slow_connections_hold_up_nobody(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """Among thousands that say nothing, or a byte now and then, callers are served, and the end waits for none."""
    behind, many = await graph(), 3000 if LONG else 600
    async with serving(behind.url, tmp_path) as sidecar, AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(calling(sidecar.url)) for _ in range(many)]
        slow = idle[::2]
        caller = await ask(sidecar.url)
        for letter in "GET /v25.0/1?access_token=ann HTTP/1.1":
            for wire in slow:
                wire.writer.write(letter.encode())
            assert (await caller.say("/v25.0/111", token="ann")).json["id"] == "111"
        for wire in slow:
            wire.writer.write(b"\r\nHost: a\r\n\r\n")
        for wire in slow:
            assert json.loads((await wire.message()).body)["id"] == "1"
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0


async def read(wire: Wire, number: int) -> int:
    """Read an object of one's own on *wire*; the status, once the body is the object or an error in Graph's shape."""
    await wire.send(f"GET /v25.0/{number}?access_token=ann HTTP/1.1\r\nHost: a\r\n\r\n")
    heard = await wire.message()
    body = json.loads(heard.body)
    if heard.status == 200:
        assert body["id"] == str(number)
    else:
        assert body["error"]["message"].startswith("graph-sidecar: ")
    return heard.status


def open_files(process: int) -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{process}/fd").iterdir()))
