"""A store that loses, repeats and delays single replies: each caller gets the answer to what it asked, and no error."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.emulator.objects.values import user_of
from tests.conftest import LONG
from tests.journeys.conftest import MakeGraph
from tests.journeys.fleets import FRESH, MakeFleet, Replica, until_async
from tests.shell.valkey.servers import Server, until

hiredis = pytest.importorskip("hiredis")

TOKENS = ("ann", "bob", "cid")
CROWD = 40
CROWDS = 2500 if LONG else 15
"""So many crowds: 100,000 reads in the long test."""

PLAIN: dict[str, str] = {}
SELDOM = {"TE": "trailers"}
"""A field that keeps a read from the quick way."""


@dataclass
class Mistakes:
    """Which share of the replies a relay loses, repeats and delays."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    made: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(5))

    def none(self) -> None:
        """Make no more of them."""
        self.lost = self.doubled = self.late = 0.0

    def times(self) -> int:
        """How often the next reply is passed on."""
        throw = self.dice.random()
        times = 0 if throw < self.lost else 2 if throw < self.lost + self.doubled else 1
        self.made += times != 1
        return times


@asynccontextmanager
async def mistaken(store: Server, mistakes: Mistakes) -> AsyncIterator[int]:
    """The port of a relay to *store* that makes *mistakes* with its replies."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        theirs, to_store = await asyncio.open_connection("127.0.0.1", store.port)
        up = asyncio.ensure_future(_pass(reader, to_store))
        try:
            with suppress(OSError, asyncio.CancelledError):
                await _reply(theirs, writer, mistakes)
        finally:
            up.cancel()
            to_store.close()
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()


async def _reply(theirs: asyncio.StreamReader, writer: asyncio.StreamWriter, mistakes: Mistakes) -> None:
    parser = hiredis.Reader()
    while data := await theirs.read(2**16):
        parser.feed(data)
        while (reply := parser.gets()) is not False:
            if mistakes.dice.random() < mistakes.late:
                mistakes.made += 1
                await writer.drain()
                await asyncio.sleep(mistakes.dice.random() * 0.06)
            writer.write(packed(reply) * mistakes.times())


def packed(reply: Any) -> bytes:
    """A reply as it goes over the wire."""
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case list():
            return b"*%d\r\n%b" % (len(reply), b"".join(map(packed, reply)))
        case _:
            return b"-%b\r\n" % str(reply).encode()


async def test_no_mistake_of_the_store_gives_a_caller_the_answer_of_another(
    graph: MakeGraph, fleet: MakeFleet, store: Server
) -> None:
    """Reads of three tokens through two replicas, some of whose callers leave: each body is its reader's own."""
    mistakes, dice = Mistakes(), random.Random(7)
    async with mistaken(store, mistakes) as port:
        shared = {"url": f"redis://127.0.0.1:{port}", "timeout_ms": 50}
        replicas = await fleet(await graph(), **FRESH, shared=shared)
        await until(lambda: all(each.told["believed"] for each in replicas))
        wrong: list[Any] = []
        for number in range(CROWDS):
            mistakes.lost, mistakes.doubled, mistakes.late = 0.004, 0.004, 0.002
            reads = [asyncio.create_task(read(dice, replicas, number, wrong)) for _ in range(CROWD)]
            for each in dice.sample(reads, CROWD // 8):
                asyncio.get_running_loop().call_later(dice.random() * 0.02, each.cancel)
            await asyncio.gather(*reads, return_exceptions=True)
            assert not wrong
            assert [str(each.exception()) for each in reads if not each.cancelled() and each.exception()] == []
            if not number % 5:
                mistakes.none()
                await until_async(lambda: _believe(replicas))
        assert mistakes.made
        assert sum(each.told["flights"]["joined"] + each.told["entries"]["loaded"] for each in replicas)


async def _believe(replicas: list[Replica]) -> bool:
    return all(each.told["believed"] for each in replicas)


async def read(dice: random.Random, replicas: list[Replica], number: int, wrong: list[Any]) -> None:
    """Read one of the objects of now, or of a moment ago."""
    who, asked = dice.choice(TOKENS), 1000 + number * 5 + dice.randrange(20)
    heard = await dice.choice(replicas).say(
        f"/v25.0/{asked}?fields=id,viewer", token=who, headers=dice.choice((PLAIN, PLAIN, SELDOM))
    )
    if heard.status != 200 or heard.json != {"id": str(asked), "viewer": user_of(who)}:
        wrong.append((who, asked, heard.status, heard.body))


@pytest.mark.parametrize("reply", [None, 7, b"text", [b"a", [None, 1]]])
def test_replies_are_passed_on_as_they_are(reply: Any) -> None:
    """What the relay packs reads as what the store said."""
    parser = hiredis.Reader()
    parser.feed(packed(reply))
    assert parser.gets() == reply
