"""Flights of several replicas by both ways: plain reads, for which no task waits, and the layers, which answer all."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.journeys.conftest import MakeGate, MakeGraph
from tests.journeys.fleets import FRESH, TOKEN, MakeFleet, Replica, say
from tests.journeys.talking import Heard
from tests.shell.valkey.servers import Server, until

READ = "/v25.0/me?fields=id,name"
WAYS: list[dict[str, str]] = [{}, {"TE": "trailers"}]
"""A plain read, and one with a field that is seldom sent, which keeps it from the quick way."""

OWN = {"date", "server-timing", "cache-status"}


def fields(heard: Heard) -> set[tuple[str, str]]:
    """The header fields that are not of this reply alone."""
    return {(name.lower(), value) for name, value in heard.headers.items() if name.lower() not in OWN}


@pytest.mark.parametrize("leading", WAYS)
@pytest.mark.parametrize("following", WAYS)
@pytest.mark.parametrize("is_held", [False, True])
async def test_a_follower_gets_what_the_leader_gets(
    graph: MakeGraph, fleet: MakeFleet, gate: MakeGate, leading: Any, following: Any, *, is_held: bool
) -> None:
    """Body and header fields are those that Graph sent the leader, of a new answer and of a confirmed one."""
    behind = await graph()
    a, b = await fleet(behind)
    if is_held:
        for each in (a, b):
            await say(each, READ)
        await until(lambda: not a.told["waiting"] and not b.told["waiting"])
    calls, held = behind.ledger.counted_calls, gate(behind)
    first = asyncio.create_task(say(a, READ, headers=leading))
    await held.has(1)
    second = asyncio.create_task(say(b, READ, headers=following))
    await until(lambda: b.told["waiting"] == 1)
    held.open()
    one, other = await first, await second
    assert behind.ledger.counted_calls == calls + 1
    assert other.body == one.body
    assert "collapsed" in other.cache
    assert fields(other) == fields(one)


async def test_a_caller_that_hangs_up_leaves_no_lease(
    graph: MakeGraph, fleet: MakeFleet, gate: MakeGate, store: Server
) -> None:
    """Another replica asks at once, and does not wait for an answer that will not come."""
    behind = await graph()
    a, b = await fleet(behind)
    held = gate(behind)
    with hanging(a):
        await held.has(1)
        assert leases(store) == 1
    await until(lambda: leases(store) == 0)
    asking = asyncio.create_task(say(b, READ))
    await held.has(2)
    held.open()
    assert (await asking).cache == "fwd=uri-miss; stored"
    assert (b.told["flights"]["led"], b.told["flights"]["joined"]) == (1, 0)


def hanging(replica: Replica) -> socket.socket:
    """A caller that asks it, and hangs up at the end."""
    at = urlsplit(replica.running.url)
    made = socket.create_connection((str(at.hostname), at.port or 0))
    made.sendall(f"GET {READ}&access_token={TOKEN} HTTP/1.1\r\nHost: {at.netloc}\r\n\r\n".encode())
    return made


def leases(store: Server) -> int:
    """How many flights are led now."""
    found = store.ask("KEYS", "gs1:*:l:*")
    assert isinstance(found, list)
    return len(found)


async def test_an_entry_of_another_replica_is_served_to_all_who_came_for_it(graph: MakeGraph, fleet: MakeFleet) -> None:
    """Callers who came while the store was asked are each answered by a hit, and counted once."""
    behind = await graph()
    a, b = await fleet(behind, **FRESH)
    await say(a, READ)
    heard = await asyncio.gather(*(say(b, READ) for _ in range(20)))
    assert {each.cache.partition(";")[0] for each in heard} <= {"hit", "fwd=uri-miss"}
    assert len({each.body for each in heard}) == 1
    assert behind.ledger.counted_calls == 1
    told = (await b.stats())["calls"]
    assert (told["asked"], told["counted"]) == (20, 0)


@pytest.mark.parametrize("number", [1, 2, 4])
async def test_a_trace_costs_as_many_calls_through_any_number_of_replicas(
    graph: MakeGraph, fleet: MakeFleet, number: int
) -> None:
    """Each object is asked for once, whichever replicas its readers come to; a busy machine may cost more."""
    behind = await graph(latency_ms=10)
    replicas = await fleet(behind, number, **FRESH, shared={"timeout_ms": 5000})
    await until(lambda: all(each.told["believed"] and each.told["replicas"] == number for each in replicas), 60)
    dice = random.Random(number)
    nodes = dice.choices(range(1000, 1040), [1 / (rank + 1) for rank in range(40)], k=400)
    going = asyncio.Semaphore(16)

    async def read(node: int) -> None:
        async with going:
            await say(dice.choice(replicas), f"/v25.0/{node}?fields=id,name")

    await asyncio.gather(*(read(node) for node in nodes))
    alone = sum(sum(each.told["alone"].values()) for each in replicas)
    gaps = sum(each.told["log"]["gaps"] for each in replicas)
    assert len(set(nodes)) <= behind.ledger.counted_calls <= len(set(nodes)) * (1 + gaps) + alone
