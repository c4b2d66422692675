"""A write is sent once, as it came, and answered as Graph answered it: counted at a Graph that cuts connections."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.journeys.conftest import MakeAsk, MakeScene, MakeSidecar, MakeTwins
from tests.journeys.talking import Ask, assert_alike
from tests.wires import Listener, Wire, listening, ok

WRITES: dict[str, dict[str, Any]] = {
    "POST": {"path": "/v25.0/111", "method": "POST", "data": {"name": "new"}},
    "POST without a body": {"path": "/v25.0/111?name=new", "method": "POST"},
    "PUT": {"path": "/v25.0/111?name=new", "method": "PUT"},
    "DELETE": {"path": "/v25.0/111", "method": "DELETE"},
    "GET that deletes": {"path": "/v25.0/111?method=delete", "method": "GET"},
    "GET that deletes, spelt otherwise": {"path": "/v25.0/111?%6Dethod=DELETE", "method": "GET"},
    "GET whose body deletes": {"path": "/v25.0/111", "method": "GET", "data": {"method": "delete"}},
    "POST that deletes": {"path": "/v25.0/111", "method": "POST", "data": {"method": "delete"}},
    "POST that reads": {"path": "/v25.0/111?method=get", "method": "POST"},
}

Cut = Callable[[Wire], Awaitable[None]]
Cutting = Callable[..., Awaitable[tuple[Listener, Ask]]]
every_write = pytest.mark.parametrize("write", WRITES)


async def _cut_before(wire: Wire) -> None:
    wire.cut()


async def _close_before(wire: Wire) -> None:
    wire.writer.close()


async def _cut_in_head(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: appl")
    wire.cut()


async def _cut_in_body(wire: Wire) -> None:
    await wire.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"succ')
    wire.cut()


CUTS = [_cut_before, _close_before, _cut_in_head, _cut_in_body]


@pytest.fixture
def cutting(lifetimes: AsyncExitStack, sidecar: MakeSidecar, ask: MakeAsk) -> Cutting:
    """A Graph that answers so many messages on each connection and cuts the next, behind a sidecar with a caller."""

    async def make(cut: Cut, *, answers: int) -> tuple[Listener, Ask]:
        async def serve(wire: Wire, at: Listener) -> None:
            for _ in range(answers):
                at.arrived.append(await wire.message())
                await wire.send(ok('{"success":true}'))
            at.arrived.append(await wire.message())
            await cut(wire)

        at = await lifetimes.enter_async_context(listening(serve))
        front = await sidecar(at.url, upstream={"rest_ms": 0})  # the next message comes on the same connection
        return at, await ask(front.url)

    return make


@every_write
async def test_a_write_is_answered_as_graph_answers_it(twins: MakeTwins, write: str) -> None:
    """What a write does and what is said of it are the same as without the sidecar, down to the number of calls."""
    here = await twins()
    await here.alike(token="ann", **WRITES[write])
    assert here.behind.ledger.writes == here.alone.ledger.writes
    assert here.behind.ledger.counted_calls == here.alone.ledger.counted_calls == 1
    assert here.behind.ledger.batches == 0
    await here.alike("/v25.0/111", token="ann")


@every_write
async def test_a_write_that_is_refused_is_passed_on(twins: MakeTwins, write: str) -> None:
    """Graph's own 4xx and 5xx of a write come back as they are, and the write is not tried again."""
    here = await twins()
    for status, code in ((500, 1), (503, 2), (400, 100), (403, 200), (429, 4)):
        for world in (here.alone, here.behind):
            world.faults.clear()
            world.faults.add({"kind": "error", "code": code, "status": status, "message": "no"})
        heard = await here.alike(token="ann", **WRITES[write])
        assert heard.status == status
        assert heard.cache.startswith("fwd=")
    assert here.behind.ledger.http_calls == 5


@every_write
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("answers", [0, 1], ids=["on a fresh connection", "on a kept connection"])
async def test_a_write_is_never_repeated(cutting: Cutting, write: str, cut: Cut, answers: int) -> None:
    """When the connection is cut nobody knows whether the write was done: it is told, and not done again."""
    at, caller = await cutting(cut, answers=answers)
    for _ in range(answers):
        assert (await caller.say(token="ann", **WRITES[write])).status == 200
    if cut is _cut_in_body:
        with pytest.raises(aiohttp.ClientPayloadError):  # a broken transfer: the head was on its way
            await caller.say(token="ann", **WRITES[write])
    else:
        heard = await caller.say(token="ann", **WRITES[write])
        # Clients repeat what is called transient, and only a read may be.
        is_read = write == "POST that reads"
        assert (heard.status, heard.json["error"]["is_transient"]) == (502, is_read)
        assert heard.json["error"]["message"].startswith("graph-sidecar: ")
        way = "bypass" if is_read else "method"
        assert heard.headers["Cache-Status"] == f"graph-sidecar; fwd={way}; detail=cut"
    assert len(at.arrived) == answers + 1


async def test_a_cut_write_has_touched_what_it_was_to_change(scene: MakeScene) -> None:
    """After a write whose answer was lost, what the rules call fresh is asked for: the write may have been done."""
    here = await scene({"cache": {"fresh_s": 3600}})
    before = await here.say("/v25.0/111?fields=name", token="ann")
    assert (await here.say("/v25.0/111?fields=name", token="ann")).cache.startswith("hit")
    here.graph.faults.add({"kind": "lost", "method": "POST"})
    assert (await here.say("/v25.0/111", token="ann", method="POST", data={"name": "new"})).status == 502
    after = await here.say("/v25.0/111?fields=name", token="ann")
    assert (before.json["name"] != "new", after.json["name"]) == (True, "new")


async def test_a_caller_reads_its_own_write(scene: MakeScene) -> None:
    """A write through the sidecar ends the freshness of its object, for every token that reads it, and of no other."""
    here = await scene({"cache": {"fresh_s": 3600}})
    for path in ("/v25.0/111?fields=name", "/v25.0/222?fields=name"):
        for token in ("ann", "bob"):
            await here.say(path, token=token)
    assert (await here.say("/v25.0/111", token="ann", method="POST", data={"name": "new"})).status == 200
    for token in ("ann", "bob"):
        assert (await here.say("/v25.0/111?fields=name", token=token)).json["name"] == "new"
        assert (await here.say("/v25.0/222?fields=name", token=token)).cache.startswith("hit")


async def test_a_write_is_seen_as_the_caller_wrote_it(cutting: Cutting) -> None:
    """Target and body of a write reach Graph byte for byte: order, escapes, duplicates, version and token."""
    at, caller = await cutting(_cut_before, answers=1)
    target = "/v25.0/111//feed/?b=2&a=%7e&a=+x&fields=b,a&access_token=t%2Dt"
    await caller.say(target, method="POST", data=b"message=%e4&z=1&a=2")
    seen = at.arrived[0]
    assert (seen.start, seen.body) == (f"POST {target} HTTP/1.1", b"message=%e4&z=1&a=2")
    assert seen.fields["User-Agent"] == "graph-sidecar"


async def test_writes_of_one_caller_do_not_wait_in_batches(scene: MakeScene) -> None:
    """Ten writes are ten calls of their own, none rides with a stranger."""
    here = await scene()
    for number in range(10):
        await here.say(f"/v25.0/{number + 1}", token="ann", method="POST", data={"name": "x"})
    assert (here.graph.ledger.http_calls, here.graph.ledger.batches) == (10, 0)
    assert sum(here.graph.ledger.writes.values()) == 10


async def test_a_callers_own_batch_with_writes_is_sent_once(cutting: Cutting) -> None:
    """A batch that an application packed itself is a write like any, for its slots may be."""
    at, caller = await cutting(_cut_before, answers=0)
    batch = json.dumps([{"method": "DELETE", "relative_url": "1"}, {"method": "POST", "relative_url": "2"}])
    heard = await caller.say("/v25.0/", token="ann", method="POST", data={"batch": batch})
    assert (heard.status, len(at.arrived)) == (502, 1)


async def test_direct_and_through_agree_on_a_lost_object(twins: MakeTwins) -> None:
    """After a delete the object is gone for its readers, with Graph's own words."""
    here = await twins()
    await here.alike("/v25.0/111", token="ann")
    await here.alike("/v25.0/111", token="ann", method="DELETE")
    direct, through = await here.both("/v25.0/111", token="ann")
    assert_alike(direct, through)
    assert through.status == 400
