"""Identical reads in flight are one call of Graph's; nobody who shares it depends on another."""

from __future__ import annotations

import asyncio

import pytest

from tests.journeys.conftest import MakeGate, MakeScene

READ = "/v25.0/111?fields=id,name,viewer"


@pytest.mark.parametrize("held", [False, True], ids=["cold", "stale"])
async def test_a_hundred_identical_reads_are_one_slot(scene: MakeScene, gate: MakeGate, *, held: bool) -> None:
    """However many callers want the same thing at once, Graph counts one call, whether it is held already or not."""
    here = await scene()
    if held:
        await here.say(READ, token="ann")
    here.graph.ledger.clear()
    shut = gate(here.graph)
    callers = await here.caller.start(*(here.say(READ, token="ann") for _ in range(100)))
    shut.open()
    heard = await asyncio.gather(*callers)
    assert here.slots == [1]
    assert here.graph.ledger.counted_calls == 1
    assert here.graph.ledger.not_modified["batch"] == held
    assert {(each.status, each.body) for each in heard} == {(200, heard[0].body)}
    assert sum("; collapsed" in each.cache for each in heard) == 99
    assert (await here.stats())["calls_avoided"]["collapsed"] == 99


async def test_spellings_share_a_flight(scene: MakeScene, gate: MakeGate) -> None:
    """Two programs that spell one read differently share the call as well."""
    here = await scene()
    shut = gate(here.graph)
    callers = await here.caller.start(
        here.say(READ, token="ann"),
        here.say("/v25.0/111/?fields=viewer%2Cname%2Cid", headers={"Authorization": "OAuth ann"}),
    )
    shut.open()
    first, second = await asyncio.gather(*callers)
    assert here.slots == [1]
    assert first.body == second.body


async def test_tokens_do_not_share_a_flight(scene: MakeScene, gate: MakeGate) -> None:
    """Two users who ask the same thing at the same moment each get what they may see."""
    here = await scene()
    shut = gate(here.graph)
    callers = await here.caller.start(here.say(READ, token="ann"), here.say(READ, token="bob"))
    shut.open()
    ann, bob = await asyncio.gather(*callers)
    assert len(here.asked) == 2
    assert ann.json["viewer"] != bob.json["viewer"]


async def test_an_error_is_shared_too(scene: MakeScene, gate: MakeGate) -> None:
    """Callers who share a call share its error, each with Graph's own words."""
    here = await scene()
    shut = gate(here.graph)
    callers = await here.caller.start(*(here.say("/v25.0/404111", token="ann") for _ in range(5)))
    shut.open()
    heard = await asyncio.gather(*callers)
    assert here.slots == [1]
    assert {(each.status, each.json["error"]["code"]) for each in heard} == {(400, 100)}


async def test_whoever_comes_after_the_answer_asks_again(scene: MakeScene) -> None:
    """Collapsing is no cache: a read that starts after the answer is checked with Graph."""
    here = await scene()
    await here.say(READ, token="ann")
    here.graph.world.touch("111")
    assert (await here.say(READ, token="ann")).json["name"].endswith("· 1")


@pytest.mark.parametrize("leaver", [0, 1], ids=["who came first", "who came later"])
async def test_a_caller_that_leaves_takes_nobody_along(scene: MakeScene, gate: MakeGate, leaver: int) -> None:
    """A caller that hangs up does not spoil the answer of those who wait for the same thing."""
    here = await scene()
    shut = gate(here.graph)
    callers = await here.caller.start(*(here.say(READ, token="ann") for _ in range(3)))
    await here.leave(callers.pop(leaver))
    shut.open()
    heard = await asyncio.gather(*callers)
    assert [each.status for each in heard] == [200, 200]
    assert here.slots == [1]


async def test_a_caller_that_leaves_does_not_hurt_its_batch(scene: MakeScene, gate: MakeGate) -> None:
    """A caller that hangs up while its batch is at Graph costs the others in that batch nothing."""
    here = await scene({"batch": {"slots": 4, "window_ms": 1000}})
    shut = gate(here.graph)
    flying = await here.caller.start(here.say("/1", token="ann"))
    await shut.has(1)
    callers = await here.caller.start(*(here.say(f"/10{number}", token="ann") for number in range(4)))
    await shut.has(2)
    await here.leave(callers.pop(2))
    shut.open()
    heard = await asyncio.gather(*flying, *callers)
    assert [each.json["id"] for each in heard] == ["1", "100", "101", "103"]
    assert here.slots == [1, 4]


async def test_what_nobody_waits_for_leaves_the_queue(scene: MakeScene, gate: MakeGate) -> None:
    """A read whose callers have all gone before it left for Graph is not asked, and costs no quota."""
    here = await scene({"upstream": {"connections": 1}})
    shut = gate(here.graph)
    flying = await here.caller.start(here.say("/1", token="ann"))
    await shut.has(1)
    gone = await here.caller.start(here.say(READ, token="ann"), here.say(READ, token="ann"))
    stays = await here.caller.start(here.say("/2", token="ann"))
    await here.queue_of(2)
    await here.leave(*gone)
    await here.queue_of(1)
    shut.open()
    await asyncio.gather(*flying, *stays)
    assert [each["relative_url"].partition("?")[0] for each in here.asked] == ["1", "2"]


async def test_one_of_two_that_leaves_keeps_the_place_in_the_queue(scene: MakeScene, gate: MakeGate) -> None:
    """A read that one of two callers gave up is still asked for the other."""
    here = await scene({"upstream": {"connections": 1}})
    shut = gate(here.graph)
    flying = await here.caller.start(here.say("/1", token="ann"))
    await shut.has(1)
    leaver, stayer = await here.caller.start(here.say(READ, token="ann"), here.say(READ, token="ann"))
    await here.queue_of(1)
    await here.leave(leaver)
    shut.open()
    await asyncio.gather(*flying)
    assert (await stayer).json["id"] == "111"


async def test_who_came_back_after_everybody_left_is_answered(scene: MakeScene, gate: MakeGate) -> None:
    """A read that everybody gave up while it was at Graph does not stand in the way of the next one."""
    here = await scene()
    shut = gate(here.graph)
    gone = await here.caller.start(here.say(READ, token="ann"))
    await shut.has(1)
    await here.leave(*gone)
    back = await here.caller.start(here.say(READ, token="ann"))
    shut.open()
    assert (await back[0]).json["id"] == "111"


async def test_a_caller_that_does_not_read_its_reply_holds_up_nobody(scene: MakeScene, gate: MakeGate) -> None:
    """A caller that takes nothing of its large reply does not keep the same reply from the others."""
    here = await scene(body_bytes=1_500_000)
    shut = gate(here.graph)
    listen = here.front.listen
    _reader, lazy = await asyncio.open_connection(listen.host, listen.port, limit=1024)
    lazy.write(b"GET /v25.0/111?access_token=ann HTTP/1.1\r\nHost: x\r\n\r\n")
    await lazy.drain()
    await here.caller.settle()
    callers = await here.caller.start(here.say("/v25.0/111", token="ann"))
    shut.open()
    assert len((await callers[0]).body) > 1_000_000
    assert here.slots == [1]
    lazy.transport.abort()
