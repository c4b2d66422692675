"""A fault on the way to Graph: callers get right answers or clear errors, and afterwards all is as before."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from proxy import emulator
from tests.chaos.relay import Fault, Relay, relaying
from tests.conftest import LONG
from tests.journeys.conftest import MakeAsk, MakeGraph, MakeSidecar
from tests.journeys.talking import Ask, Heard

TOKENS = ("ann", "bob", "cid")
FAULTS: list[tuple[Fault, int]] = [
    ("cut", 0),
    ("cut", 40),
    ("reset", 0),
    ("reset", 40),
    ("silence", 0),
    ("silence", 40),
    ("trickle", 0),
    ("unasked", 0),
    ("doubled", 0),
    ("hang up", 0),
    ("late", 0),
]


@dataclass(frozen=True)
class Place:
    """An emulator, a relay that may spoil its replies, and a caller of a sidecar behind both."""

    graph: emulator.Running
    relay: Relay
    caller: Ask

    async def crowd(self, first: int) -> list[tuple[str, int, Heard]]:
        """Read thirty objects at once with three tokens."""
        asked = [(TOKENS[number % 3], first + number) for number in range(30)]
        heard = await asyncio.gather(*(self.caller.say(f"/v25.0/{n}?fields=id", token=who) for who, n in asked))
        return [(who, number, reply) for (who, number), reply in zip(asked, heard, strict=True)]

    async def write(self, number: int) -> Heard:
        """Write once, to an object of its own."""
        return await self.caller.say(f"/v25.0/{number}", method="POST", token="ann", data=b"name=new")


MakePlace = Callable[[float], Awaitable[Place]]


@pytest.fixture
def place(graph: MakeGraph, sidecar: MakeSidecar, ask: MakeAsk, lifetimes: AsyncExitStack) -> MakePlace:
    """Make all three, with so many seconds of patience for Graph."""

    async def make(patience_s: float) -> Place:
        there = await graph()
        relay = await lifetimes.enter_async_context(relaying(there.url))
        front = await sidecar(relay.url, upstream={"reply_timeout_s": patience_s})
        return Place(there, relay, await ask(front.url))

    return make


def judge(heard: list[tuple[str, int, Heard]]) -> Counter[int]:
    """How many replies had which status; each is the caller's own object, or an error in Graph's shape."""
    for _, number, reply in heard:
        if reply.status == 200:
            assert reply.json["id"] == str(number)
        else:
            assert reply.json["error"]["message"].startswith("graph-sidecar:"), reply.body
    return Counter(reply.status for _, _, reply in heard)


@pytest.mark.parametrize("fault, after", FAULTS)
async def test_a_fault_harms_nobody_for_long(place: MakePlace, fault: Fault, after: int) -> None:
    """No foreign body during it, no write sent twice, and right answers as soon as it is over."""
    here = await place(1 if fault == "silence" else 60)
    assert judge(await here.crowd(1000)) == {200: 30}
    here.relay.be(fault, after)
    during = judge(await here.crowd(2000))
    written = await here.write(7)
    assert here.relay.spoiled
    assert set(during) <= {200, 502, 504}
    if fault in {"trickle", "unasked", "doubled", "late"}:  # Graph's answer is whole, and so is the caller's
        assert during == {200: 30}
        assert written.status == 200
    here.relay.be("none")
    assert judge(await here.crowd(2000)) == {200: 30}
    assert here.graph.ledger.writes[("POST", "/7")] <= 1
    if written.status == 200:
        assert here.graph.ledger.writes[("POST", "/7")] == 1
    else:
        error = json.loads(written.body)["error"]
        assert not error.get("is_transient") or here.graph.ledger.writes[("POST", "/7")] == 0


async def test_connections_whose_other_end_has_gone(
    graph: MakeGraph, sidecar: MakeSidecar, ask: MakeAsk, lifetimes: AsyncExitStack
) -> None:
    """What is sent on a half-open connection is lost: each costs one call at most, and no write goes twice."""
    there = await graph()
    relay = await lifetimes.enter_async_context(relaying(there.url))
    front = await sidecar(relay.url, upstream={"reply_timeout_s": 1, "rest_ms": 0})
    place = Place(there, relay, await ask(front.url))
    await place.write(6)
    assert judge(await place.crowd(1000)) == {200: 30}
    relay.be("half open")
    written = await place.write(7)
    assert (written.status, there.ledger.writes[("POST", "/7")]) in {(504, 0), (200, 1)}
    asked, lost = 0, 0
    while (heard := await place.caller.say(f"/v25.0/{2000 + asked}?fields=id", token="ann")).status != 200:
        asked, lost = asked + 1, lost + 1
        assert heard.status == 504
    assert relay.spoiled > 0
    assert lost <= relay.dead
    assert judge(await place.crowd(3000)) == {200: 30}
    assert (await place.write(8)).status == 200


@pytest.mark.parametrize("fault", ["cut", "reset"])
async def test_a_reply_may_be_cut_at_any_byte(place: MakePlace, fault: Fault) -> None:
    """Wherever a reply ends, nobody gets half of it as a whole, nor the half of another."""
    here, reply_bytes = await place(60), 700
    for number, after in enumerate(range(0, reply_bytes, 1 if LONG else 53)):
        here.relay.be(fault, after)
        heard = await here.caller.say(f"/v25.0/{5000 + number}?fields=id", token="ann")
        judge([("ann", 5000 + number, heard)])
    here.relay.be("none")
    assert judge(await here.crowd(2000)) == {200: 30}
