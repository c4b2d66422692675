"""A fault on the way to the shared store: no request fails, no read is older than a write, and later all is shared."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count

import pytest

from proxy import emulator
from proxy.emulator.objects.values import user_of
from tests.chaos.relay import Fault, Relay, relaying
from tests.conftest import LONG
from tests.journeys.conftest import MakeGraph
from tests.journeys.fleets import FRESH, MakeFleet, Replica, is_fresh, say, until_async
from tests.shell.valkey.servers import Server, until

TOKENS = ("ann", "bob", "cid")
FAULTS: list[tuple[Fault, int]] = [("cut", 3), ("silence", 3), ("trickle", 0), ("doubled", 0), ("half open", 0)]
if LONG:
    FAULTS += [("cut", 0), ("reset", 0), ("reset", 40), ("silence", 0), ("unasked", 0), ("hang up", 0), ("late", 0)]


@dataclass
class Pair:
    """Two replicas behind one relay to their store, and how often each object was written."""

    graph: emulator.Running
    relay: Relay
    replicas: list[Replica]
    written: Counter[int] = field(default_factory=Counter)

    async def crowd(self, first: int, reads: int = 30) -> None:
        """Read so many objects at once through both, with three tokens: each is right and names its viewer."""
        asked = [(self.replicas[n % 2], TOKENS[n % 3], first + n // 2) for n in range(reads)]
        path = "/v25.0/{}?fields=id,viewer"
        heard = await asyncio.gather(*(say(at, path.format(number), token=who) for at, who, number in asked))
        wrong = [
            (who, reply.body)
            for (_, who, number), reply in zip(asked, heard, strict=True)
            if reply.json != {"id": str(number), "viewer": user_of(who)}
        ]
        assert not wrong

    async def write_and_read(self, number: int) -> None:
        """Write through one replica; what the other serves is what was written."""
        one, other = self.replicas
        path = f"/v25.0/{number}?fields=id,name"
        await say(other, path, token="ann")
        self.written[number] += 1
        name = f"number {self.written[number]}"
        await say(one, f"/v25.0/{number}", method="POST", token="ann", data={"name": name})
        assert (await say(other, path, token="ann")).json["name"] == name

    async def is_shared_again(self) -> None:
        """Wait until what one has fetched is fresh for the other."""
        one, other = self.replicas
        fetched = count(900)

        async def hears() -> bool:
            path = f"/v25.0/{next(fetched)}?fields=id"
            await say(one, path)
            return await is_fresh(other, path)

        await until_async(hears)


@pytest.fixture
async def pair(graph: MakeGraph, fleet: MakeFleet, store: Server, lifetimes: AsyncExitStack) -> Pair:
    """Both, with a twentieth of a second of patience for the store."""
    behind = await graph()
    relay = await lifetimes.enter_async_context(relaying(store.url, unasked=b"$5\r\nstray\r\n"))
    shared = {"url": f"redis://127.0.0.1:{relay.port}", "timeout_ms": 50}
    made = Pair(behind, relay, await fleet(behind, **FRESH, shared=shared))
    await until(lambda: all(each.told["believed"] for each in made.replicas))
    return made


@pytest.mark.parametrize("fault, after", FAULTS)
async def test_a_fault_fails_no_request(pair: Pair, fault: Fault, after: int) -> None:
    """During it each read gets its own right answer and each write is done once; afterwards replicas share again."""
    await pair.crowd(1000)
    pair.relay.be(fault, after)
    await pair.crowd(1000)
    await pair.crowd(2000)
    await pair.write_and_read(7)
    assert pair.relay.spoiled
    pair.relay.be("none")
    await pair.is_shared_again()
    await pair.write_and_read(7)
    await pair.crowd(2000)
    assert pair.graph.ledger.writes == Counter({("POST", "/7"): 2})


@pytest.mark.parametrize("fault", ["cut", "reset", "silence"] if LONG else ["cut"])
async def test_a_reply_of_the_store_may_end_at_any_byte(pair: Pair, fault: Fault) -> None:
    """Wherever a reply of the store ends, nobody gets half of it, nor what is another caller's."""
    for number, after in enumerate(range(1, 1000, 7 if LONG else 399)):
        pair.relay.be("none")
        await pair.is_shared_again()
        pair.relay.be(fault, after)
        await pair.crowd(5000 + 3 * number, reads=12)
    pair.relay.be("none")
    await pair.is_shared_again()
