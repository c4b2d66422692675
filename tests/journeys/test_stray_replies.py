"""A reply that nobody asked for answers nobody: its connection ends, and the next caller gets what is its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests import strays
from tests.journeys.conftest import MakeAsk, MakeScripted
from tests.journeys.talking import Ask, Heard
from tests.strays import body_for, right_reply
from tests.wires import Listener, Wire, ok

ALONE = {"rules": [{"path": "/alone*", "batch": False}]}
WAYS: dict[str, dict[str, Any]] = {
    "a read in a batch": {"path": "/v25.0/{id}?fields=id"},
    "a read alone": {"path": "/v25.0/alone{id}?fields=id"},
    "a read that passes": {"path": "/v25.0/{id}/picture?redirect=0"},
    "HEAD that passes": {"path": "/v25.0/{id}/picture?redirect=0", "method": "HEAD"},
    "a write": {"path": "/v25.0/{id}/feed", "method": "POST", "data": {"message": "hello"}},
    "a batch with a write": {
        "path": "/",
        "method": "POST",
        "data": {
            "batch": json.dumps(
                [
                    {"method": "GET", "relative_url": "v25.0/{id}?fields=id"},
                    {"method": "POST", "relative_url": "v25.0/{id}/feed", "body": "message=hello"},
                ]
            )
        },
    },
}
STRAYS = (
    strays.doubled, strays.doubled_late, strays.doubled_in_part, strays.in_pieces, strays.unasked_timeout,
    strays.with_a_body, strays.chunked_and_more,
)  # fmt: skip

AT_ONCE = [stray for stray in STRAYS if stray not in {strays.doubled_late, strays.unasked_timeout}]
"""Those that have come before the connection has rested, however short that is."""


async def say(caller: Ask, way: str, name: str) -> Heard:
    """Ask by *way* for what belongs to *name* alone."""
    said = json.loads(json.dumps(WAYS[way]).replace("{id}", name))
    return await caller.say(said.pop("path"), token=name, **said)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stray", STRAYS, ids=lambda fault: fault.__name__)
async def test_a_stray_reply_answers_nobody(
    scripted: MakeScripted, ask: MakeAsk, stray: strays.Fault, way: str
) -> None:
    """Whatever comes after the reply to Ann, Bob gets the reply to Bob, by every way out."""

    async def serve(wire: Wire, at: Listener) -> None:
        while True:
            at.arrived.append(message := await wire.message())
            if len(at.arrived) == 1:
                await stray(wire, right_reply(message))
            else:
                await wire.send(right_reply(message))

    _at, front = await scripted(serve, **ALONE)
    caller = await ask(front.url)
    for name in ("ann111", "bob222", "cat333"):
        heard = await say(caller, way, name)
        others = {"ann111", "bob222", "cat333", "stray"} - {name}
        assert heard.status == 200, heard.body
        assert not [other for other in others if other in heard.body.decode()]
        assert name in heard.body.decode() or not heard.body


@pytest.mark.parametrize("stray", AT_ONCE, ids=lambda fault: fault.__name__)
async def test_a_stray_reply_on_a_connection_that_was_kept_answers_nobody(
    scripted: MakeScripted, ask: MakeAsk, stray: strays.Fault
) -> None:
    """The same where each batch leaves on a kept connection, so that no task waits for its reply."""

    async def serve(wire: Wire, at: Listener) -> None:
        while True:
            at.arrived.append(message := await wire.message())
            await (stray if len(at.arrived) == 3 else strays.plain)(wire, right_reply(message))

    at, front = await scripted(serve, upstream={"rest_ms": 1})
    caller = await ask(front.url)
    for name in ("ann111", "bob222", "cat333", "dan444", "eve555"):
        await asyncio.sleep(0.005)
        heard = await say(caller, "a read in a batch", name)
        others = {"ann111", "bob222", "cat333", "dan444", "eve555", "stray"} - {name}
        assert heard.status == 200, heard.body
        assert not [other for other in others if other in heard.body.decode()]
        assert name in heard.body.decode()
    assert len(at.arrived) >= 5


@pytest.mark.parametrize("way", ["a read alone", "a read that passes", "a write", "a batch with a write"])
async def test_a_late_head_takes_no_bytes_of_the_reply_behind_it(
    scripted: MakeScripted, ask: MakeAsk, way: str
) -> None:
    """A second reply to HEAD comes behind the next request: nobody gets the beginning of a reply for a body."""

    async def serve(wire: Wire, at: Listener) -> None:
        used, late = 0, b""
        while True:
            at.arrived.append(message := await wire.message())
            used += 1
            await wire.send((late if used > 1 else b"") + right_reply(message))
            late = right_reply(message) if message.method == "HEAD" else b""

    at, front = await scripted(serve, upstream={"rest_ms": 0}, **ALONE)
    caller = await ask(front.url)
    await say(caller, "HEAD that passes", "ann111")
    heard = await say(caller, way, "bob222")
    assert b"HTTP/1.1" not in heard.body
    assert "ann111" not in heard.body.decode()
    if heard.status == 200:
        assert "bob222" in heard.body.decode()
    else:
        assert heard.json["error"]["message"].startswith("graph-sidecar: ")
    assert len(at.arrived) > 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("way", ["a read that passes", "a write"])
async def test_a_body_where_there_is_none(scripted: MakeScripted, ask: MakeAsk, status: str, way: str) -> None:
    """What follows a 204 or 304 on its connection is not the next caller's reply."""

    async def serve(wire: Wire, at: Listener) -> None:
        while True:
            at.arrived.append(message := await wire.message())
            if len(at.arrived) == 1:
                await wire.send(f"HTTP/1.1 {status}\r\nETag: a\r\n\r\n", ok(body_for("stray", "body")))
            else:
                await wire.send(right_reply(message))

    _at, front = await scripted(serve)
    caller = await ask(front.url)
    assert (await say(caller, way, "ann111")).status == int(status[:3])
    heard = await say(caller, way, "bob222")
    assert (heard.status, heard.json["token"]) == (200, "bob222")


@pytest.mark.parametrize("way", ["a read in a batch", "a read alone", "a read that passes", "a write"])
async def test_an_idle_timeout_answers_nobody(scripted: MakeScripted, ask: MakeAsk, way: str) -> None:
    """A 408 that crosses the next message on its way is no answer to that message, on a connection that was kept."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(message := await wire.message())
        await wire.send(right_reply(message))
        at.arrived.append(message := await wire.message())
        await wire.send(ok(body_for("stray", "408"), status="408 Request Timeout"))

    _at, front = await scripted(serve, upstream={"rest_ms": 0}, **ALONE)
    caller = await ask(front.url)
    for name in ("ann111", "bob222", "cat333"):
        heard = await say(caller, way, name)
        assert "stray" not in heard.body.decode()
        assert heard.status == (502 if name == "bob222" and way in {"a write", "a read that passes"} else 200)


async def test_a_reply_of_the_other_kind_is_none(scripted: MakeScripted, ask: MakeAsk) -> None:
    """A single read gets no array and a batch no object: those were for somebody else."""
    array = json.dumps([{"code": 200, "body": body_for("stray", "slot")}] * 2)

    async def serve(wire: Wire, at: Listener) -> None:
        while True:
            at.arrived.append(message := await wire.message())
            await wire.send(ok(body_for("stray", "object") if message.method == "POST" else array))

    _at, front = await scripted(serve, **ALONE)
    caller = await ask(front.url)
    for way in ("a read alone", "a read in a batch", "a batch with a write"):
        heard = await say(caller, way, "ann111")
        assert (heard.status, "stray" in heard.body.decode()) == (502, False)


async def test_a_success_before_the_request_is_whole_is_not_believed(scripted: MakeScripted, ask: MakeAsk) -> None:
    """On a connection that was used before a 200 comes too early to be the answer to a write on its way."""
    begun, said = asyncio.Event(), asyncio.Event()

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(message := await wire.message())
        await wire.send(right_reply(message))
        at.arrived.append(await wire.head())
        begun.set()
        await said.wait()
        await wire.send(ok(body_for("stray", "early")))
        await wire.ended()

    async def slowly() -> Any:
        yield b"message="
        await begun.wait()
        said.set()
        await asyncio.Event().wait()

    _at, front = await scripted(serve, upstream={"rest_ms": 0})
    caller = await ask(front.url)
    assert (await say(caller, "a write", "ann111")).status == 200
    heard = await caller.say("/v25.0/bob222/feed", method="POST", token="bob222", data=slowly())
    assert (heard.status, "stray" in heard.body.decode()) == (502, False)


async def test_what_comes_while_nobody_asks_ends_the_connection(scripted: MakeScripted, ask: MakeAsk) -> None:
    """A byte on an idle connection closes it at once, without waiting for the next message."""
    closed = asyncio.Event()

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(message := await wire.message())
        await wire.send(right_reply(message))
        await asyncio.sleep(0)
        await wire.send(b"H")
        await wire.ended()
        closed.set()

    _at, front = await scripted(serve)
    await say(await ask(front.url), "a read in a batch", "ann111")
    await asyncio.wait_for(closed.wait(), 10)
