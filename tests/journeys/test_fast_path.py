"""The fast path: messages in any order and in any pieces, and callers that join and leave.

`test_two_ways` compares its answers with those of the handler.
"""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode

import pytest

from proxy.core.fast_path.batch_answer import BatchAnswer
from proxy.shell.downstream.fast_flight import FastFlight
from proxy.shell.upstream.plain_exchange import PlainExchange
from tests.journeys.conftest import MakeGate, MakeScene
from tests.wires import calling

UNUSUAL = "X-Way:usual"
"""A field by which no head is known by its bytes."""


async def test_a_batch_of_plain_reads_takes_no_task_for_each(scene: MakeScene) -> None:
    """Its fifty reads are asked in one call, and start fewer tasks than there are reads."""
    here = await scene()
    loop, started = asyncio.get_running_loop(), 0

    def count(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        nonlocal started
        started += 1
        return asyncio.Task(work, loop=loop, **more)

    items = [{"method": "GET", "relative_url": f"v25.0/{111 + at}?fields=id"} for at in range(50)]
    body = urlencode({"access_token": "ann", "batch": json.dumps(items)})
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    async with calling(here.front.url) as wire:
        loop.set_task_factory(count)
        try:
            for _ in range(2):
                await wire.send(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}")
                slots = json.loads((await wire.message()).body)
                assert [json.loads(slot["body"])["id"] for slot in slots] == [str(111 + at) for at in range(50)]
        finally:
            loop.set_task_factory(None)
    assert here.slots == [50, 50]
    assert started < 50
    assert (await here.stats())["replies"]["REVALIDATED"] == 50


async def test_messages_behind_one_another_are_answered_in_their_order(scene: MakeScene) -> None:
    """Whole heads in one piece, in several, and in pieces that end anywhere."""
    here = await scene({"rules": [{"path": "/*", "fresh_s": 60}]})
    paths = ["/v25.0/111?fields=id", "/v25.0/222?fields=id", "/v25.0/112?fields=id"]
    for path in paths:
        await here.say(path, token="ann")
    messages = [f"GET {each} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann\r\n\r\n" for each in paths]
    text, wanted = "".join(messages), ["111", "222", "112"]
    for cuts in ((), (len(messages[0]),), (len(messages[0]) + len(messages[1]),), (len(text) - 9,), (3,)):
        pieces = [text[start:end] for start, end in zip((0, *cuts), (*cuts, len(text)), strict=True)]
        async with calling(here.front.url) as wire:
            await wire.send(*pieces)
            assert [json.loads((await wire.message()).body)["id"] for _ in paths] == wanted


ASKED = "GET /v25.0/111?fields=id HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann\r\n\r\n"
OTHERWISE = ASKED.replace("Host: a\r\n", f"Host: a\r\n{UNUSUAL}\r\n")


@pytest.mark.parametrize("order", [(ASKED, OTHERWISE, ASKED), (OTHERWISE, ASKED, OTHERWISE)])
async def test_twins_share_one_call_by_whichever_way_they_came(
    scene: MakeScene, gate: MakeGate, order: tuple[str, ...]
) -> None:
    """The first starts a flight, and the others join it; all get what Graph said."""
    here = await scene()
    held = gate(here.graph)
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(calling(here.front.url)) for _ in order]
        for wire, message in zip(wires, order, strict=True):
            await wire.send(message)
            await here.caller.settle()
        held.open()
        heard = [await wire.message() for wire in wires]
    assert here.slots == [1]
    assert [json.loads(each.body) for each in heard] == [{"id": "111"}] * 3
    assert [("collapsed" in each.fields["Cache-Status"]) for each in heard] == [False, True, True]
    assert (await here.stats())["calls"]["asked"] == 3


async def test_what_comes_behind_a_message_that_waits_is_answered_after_it(scene: MakeScene, gate: MakeGate) -> None:
    """Also what memory could answer at once, and what the handler answers."""
    here = await scene({"rules": [{"path": "/2*", "fresh_s": 60}]})
    await here.say("/v25.0/222?fields=id", token="ann")
    held = gate(here.graph)
    async with calling(here.front.url) as wire:
        await wire.send(ASKED)
        await here.caller.settle()
        await wire.send(ASKED.replace("111", "222"))
        await here.caller.settle()
        await wire.send(OTHERWISE.replace("111", "112"))
        await held.has(1)
        held.open()
        assert [json.loads((await wire.message()).body)["id"] for _ in range(3)] == ["111", "222", "112"]


async def test_the_same_message_behind_one_that_waits_is_answered_from_what_that_stored(
    scene: MakeScene, gate: MakeGate
) -> None:
    """The body is held before the message behind it is looked at, so Graph is asked once."""
    here = await scene({"rules": [{"path": "/*", "fresh_s": 60}]})
    held = gate(here.graph)
    async with calling(here.front.url) as wire:
        await wire.send(ASKED)
        await held.has(1)
        await wire.send(ASKED)
        await here.caller.settle()
        held.open()
        heard = [await wire.message() for _ in range(2)]
    assert [json.loads(each.body) for each in heard] == [{"id": "111"}] * 2
    assert ["hit" in each.fields["Cache-Status"] for each in heard] == [False, True]
    assert here.slots == [1]


async def test_a_flight_goes_on_while_any_caller_waits_and_no_longer(scene: MakeScene, gate: MakeGate) -> None:
    """The caller who began it may leave; when the last has left, nobody is open, and Graph's answer is nobody's."""
    here = await scene()
    held = gate(here.graph)
    async with calling(here.front.url) as stays:
        async with calling(here.front.url) as leaves:
            await leaves.send(ASKED)
            await held.has(1)
            await stays.send(ASKED)
            await here.caller.settle()
            assert (await here.stats())["open"] == 2
        await here.caller.settle()
        assert (await here.stats())["open"] == 1
        held.open()
        assert json.loads((await stays.message()).body) == {"id": "111"}
    assert here.slots == [1]


async def test_who_joins_after_the_first_has_left_shares_the_call_that_was_made_for_the_first(
    scene: MakeScene, gate: MakeGate
) -> None:
    """The reply says that it is shared, and the first caller's call is counted once."""
    here = await scene()
    held = gate(here.graph)
    async with calling(here.front.url) as stays:
        async with calling(here.front.url) as leaves:
            await leaves.send(ASKED)
            await held.has(1)
            await stays.send(OTHERWISE)
            await here.caller.settle()
        await here.caller.settle()
        async with calling(here.front.url) as joins:
            await joins.send(ASKED)
            await here.caller.settle()
            held.open()
            for wire in (joins, stays):
                heard = await wire.message()
                assert (json.loads(heard.body), "collapsed" in heard.fields["Cache-Status"]) == ({"id": "111"}, True)
    assert here.slots == [1]
    calls = (await here.stats())["calls"]
    assert (calls["asked"], calls["counted"]) == (3, 1)


@pytest.mark.parametrize("message", [ASKED, OTHERWISE], ids=["by its bytes", "by the handler"])
async def test_a_body_that_is_on_disk_alone_is_confirmed_and_replaced(scene: MakeScene, message: str) -> None:
    """The validator leaves while the body is read; each reply is counted and told of as if it came from memory."""
    here = await scene({"cache": {"memory_mb": 0, "disk_mb": 64}})
    told = []
    async with calling(here.front.url) as wire:
        for change in (False, False, False, True, False):
            if change:
                url = f"{here.graph.url}/v25.0/111"
                await here.say(url, method="POST", data={"name": "another"}, token="ann")
            await wire.send(message.replace("fields=id", "fields=id,name"))
            heard = await wire.message()
            status = heard.fields["Cache-Status"].removeprefix("graph-sidecar; ")
            told.append((status, json.loads(heard.body)["name"] == "another"))
    stale, changed = "fwd=stale; fwd-status=304", "fwd=stale; fwd-status=200; stored"
    assert told == [
        ("fwd=uri-miss; stored", False),
        (stale, False),
        (stale, False),
        (changed, True),
        (stale, True),
    ]
    stats = await here.stats()
    assert stats["calls"]["asked"] == stats["calls"]["counted"]


async def test_the_log_tells_how_each_reply_came_about(scene: MakeScene, caplog: pytest.LogCaptureFixture) -> None:
    """Also where Graph gives the same body and ETag anew that it has confirmed again and again."""
    caplog.set_level("INFO", "graph_sidecar.reply")
    here = await scene()
    async with calling(here.front.url) as wire:
        for purges in (False, False, False, True, False):
            if purges:
                await here.say(f"{here.front.admin_url}/purge", method="POST", data='{"id": "111"}')
            await wire.send(ASKED)
            await wire.message()
    modes = ["MISS", "REVALIDATED", "REVALIDATED", "MISS", "REVALIDATED"]
    assert [each.getMessage().split()[0] for each in caplog.records if each.name == "graph_sidecar.reply"] == modes


async def test_what_a_batch_made_is_free_when_it_ends(scene: MakeScene) -> None:
    """Nothing of it refers to itself: else bodies stay until Python searches for cycles, and searches take long."""
    here = await scene({"upstream": {"rest_ms": 0}})
    messages = [ASKED, ASKED.replace("111", "222")]
    async with calling(here.front.url) as wire:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                for message in messages:
                    await wire.send(message)
                    assert (await wire.message()).status == 200
            await here.caller.settle()
            left = [each for each in gc.get_objects() if isinstance(each, FastFlight | BatchAnswer | PlainExchange)]
        finally:
            gc.enable()
    assert here.slots == [1] * 6
    assert not left
