"""One caller's slow calls hold nobody else up: connections to Graph are shared fairly."""

from __future__ import annotations

import asyncio
import string

import pytest

from tests.journeys.conftest import MakeGate, MakeScene
from tests.journeys.talking import Gate, Heard, Scene

PLACES = 16
LONE = 14
"""Connections of 16 that a lone token gets."""


async def slow(here: Scene, shut: Gate, count: int, *, token: str) -> list[asyncio.Task[Heard]]:
    """So many reads, one after the other, as many of which Graph works on as may be: from then on it is quick."""
    reads: list[asyncio.Task[Heard]] = []
    for number in range(count):
        reads += await here.caller.start(here.say(f"/v25.0/{1000 + number}", token=token))
        await shut.has(min(number + 1, LONE))
    shut.holds = lambda _request: False
    return reads


@pytest.mark.parametrize("token", ["ann", ""], ids=["a token", "no token"])
async def test_slow_reads_of_one_caller_leave_room(scene: MakeScene, gate: MakeGate, token: str) -> None:
    """Others are answered, by whatever way they ask, while Graph is at work on all that one caller may have."""
    public = tuple(str(1000 + number) for number in range(PLACES + 4))
    here = await scene({"upstream": {"connections": PLACES}}, public_ids=(*public, "7"))
    shut = gate(here.graph)
    held = await slow(here, shut, PLACES + 4, token=token)
    batch = '[{"method":"POST","relative_url":"9","body":"name=x"}]'
    for heard in (
        await here.say("/v25.0/5", token="bob"),
        await here.say("/v25.0/6", token="cem"),
        await here.say("/v25.0/7", token="" if token else "ann"),
        await here.say("/v25.0/8", token="bob", headers={"Range": "bytes=0-"}),
        await here.say("/v25.0/9", token="bob", method="POST", data={"name": "x"}),
        await here.say("/", method="POST", data={"access_token": "bob", "batch": batch}),
    ):
        assert heard.status == 200
    assert not any(read.done() for read in held)
    shut.open()
    assert {heard.status for heard in await asyncio.gather(*held)} == {200}


async def test_flights_hold_no_batch_back(scene: MakeScene, gate: MakeGate) -> None:
    """Batches that Graph is slow with are no reason for the next to wait, of the same token or another."""
    here = await scene({"batch": {"in_flight": 2}})
    shut = gate(here.graph)
    held = await slow(here, shut, LONE, token="ann")
    assert (await here.say("/v25.0/5", token="ann")).status == 200
    assert (await here.say("/v25.0/5", token="bob")).status == 200
    shut.open()
    await asyncio.gather(*held)


@pytest.mark.parametrize("token", ["ann", ""], ids=["in a batch", "alone"])
async def test_what_is_abandoned_gives_its_place_back(scene: MakeScene, gate: MakeGate, token: str) -> None:
    """A call that nobody waits for any more holds no connection from anybody, and counts as a call all the same."""
    here = await scene({"upstream": {"connections": 1}}, public_ids=("1", "2"))
    shut = gate(here.graph)
    (left,) = await here.caller.start(here.say("/v25.0/1", token=token))
    await shut.has(1)
    (waiting,) = await here.caller.start(here.say("/v25.0/2", token="bob"))
    shut.holds = lambda _request: False
    await here.leave(left)
    assert (await waiting).status == 200
    calls = (await here.stats())["calls"]
    assert (calls["counted"], calls["uncertain"]) == (1, 1)


async def test_mates_of_who_leaves_are_answered(scene: MakeScene, gate: MakeGate) -> None:
    """As long as one read of a batch is waited for, the call goes on."""
    here = await scene({"batch": {"window_ms": 200}})
    shut = gate(here.graph)
    first = await here.caller.start(here.say("/v25.0/1", token="ann"))
    await shut.has(1)
    left, stays = await here.caller.start(here.say("/v25.0/2", token="ann"), here.say("/v25.0/3", token="bob"))
    await shut.has(2)
    await here.leave(left)
    shut.open()
    assert (await stays).json["id"] == "3"
    await asyncio.gather(*first)
    assert here.slots == [1, 2]


async def test_one_tokens_queue_is_not_anothers(scene: MakeScene, gate: MakeGate) -> None:
    """Where one token has filled its queue, another's read leaves with the next batch, and not as the last."""
    here = await scene({"upstream": {"connections": 1}, "batch": {"slots": 2}})
    shut = gate(here.graph)
    first = await here.caller.start(here.say("/v25.0/1", token="ann"))
    await shut.has(1)
    crowd = await here.caller.start(*(here.say(f"/v25.0/{number}", token="ann") for number in range(10, 30)))
    await here.queue_of(20)
    late = await here.caller.start(here.say("/v25.0/5", token="bob"))
    await here.queue_of(21)
    shut.open()
    await asyncio.gather(*first, *crowd, *late)
    assert [len(slots) for call in here.graph.ledger.requests[1:2] if (slots := call["slots"])] == [2]
    assert "5" in {slot["relative_url"].partition("?")[0].rpartition("/")[2] for slot in here.asked[1:3]}


async def test_paths_that_nobody_can_read_hide_no_route(scene: MakeScene) -> None:
    """What is asked in vain fills the routes of `/metrics` only until a route is answered well."""
    here = await scene()
    names = [f"{one}{other}" for one in string.ascii_lowercase[:8] for other in string.ascii_lowercase[:10]]
    heard = await here.crowd(*(f"/v25.0/111/{name}x" for name in names), token="ann")
    assert all(each.status >= 400 for each in heard)
    for _ in range(4):
        assert (await here.say("/v25.0/act_1/campaigns", token="ann")).status == 200
    told = {line["route"]: line for line in (await here.stats())["routes"]}
    assert told["/act_{id}/campaigns"]["asked"] == 3
    metrics = (await here.say(f"{here.front.admin_url}/metrics")).body.decode()
    assert 'route="/act_{id}/campaigns"' in metrics
