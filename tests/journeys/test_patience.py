"""Callers that take their time, and too many of them: they end by themselves alone."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from tests.journeys.conftest import MakeScene, MakeScripted
from tests.wires import Listener, Message, Serve, Wire, calling, listening

HEAD = "GET /v25.0/111?access_token=EAABsecret HTTP/1.1\r\nHost: a\r\n"
POST = "POST /v25.0/111?access_token=EAABsecret HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"
LONG = {"head_timeout_s": 3600, "stall_timeout_s": 3600, "idle_timeout_s": 3600}


def listener(**changed: Any) -> dict[str, Any]:
    """Settings of a sidecar that waits for everything but what is *changed*."""
    return {"listener": LONG | changed}


async def test_half_a_head_is_waited_for_and_no_longer(scene: MakeScene) -> None:
    """A head that comes drop by drop is told 408, and its line ends (slowloris); another caller hears nothing of it."""
    here = await scene(listener(head_timeout_s=0.1))
    async with calling(here.front.url) as wire:
        await wire.send(HEAD)
        heard = await wire.message()
        assert (heard.status, json.loads(heard.body)["error"]["message"][:15]) == (408, "graph-sidecar: ")
        assert await wire.everything() == b""
    assert (await here.say("/v25.0/111", token="ann")).status == 200


async def test_who_says_nothing_is_let_go(scene: MakeScene) -> None:
    """A connection on which no message begins ends without a word."""
    here = await scene(listener(head_timeout_s=0.1))
    async with calling(here.front.url) as wire:
        assert await wire.everything() == b""


async def test_half_a_next_head_is_no_better(scene: MakeScene) -> None:
    """The same holds for a second message on a connection that is kept."""
    here = await scene(listener(head_timeout_s=0.1))
    async with calling(here.front.url) as wire:
        await wire.send(HEAD, "\r\n")
        assert (await wire.message()).status == 200
        await wire.send(HEAD)
        assert (await wire.message()).status == 408


async def test_a_body_that_stalls_ends_its_line(scene: MakeScene) -> None:
    """Half a body holds nothing for ever; Graph has no whole message of it."""
    here = await scene(listener(stall_timeout_s=0.1))
    async with calling(here.front.url) as wire:
        await wire.send(POST)
        await wire.ended()
    assert here.graph.ledger.writes.total() == 0
    assert (await here.say("/v25.0/111", token="ann")).status == 200


async def test_graphs_own_slowness_is_not_the_callers(scene: MakeScene) -> None:
    """Who has said all and waits for Graph is not cut off, however long Graph takes."""
    here = await scene(listener(stall_timeout_s=0.1, head_timeout_s=0.1), latency_ms=600)
    async with calling(here.front.url) as wire:
        await wire.send(HEAD, "\r\n")
        assert (await wire.message()).status == 200


async def test_who_takes_nothing_is_let_go(scripted: MakeScripted) -> None:
    """An answer that nobody reads is not held for ever: Graph's line of it ends as well."""
    over = asyncio.Event()

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                await wire.send(bytes(2**20))
        finally:
            over.set()

    _at, front = await scripted(serve, **listener(stall_timeout_s=0.1))
    async with calling(front.url) as wire:
        await wire.send("GET /v25.0/111/picture?access_token=t HTTP/1.1\r\nHost: a\r\n\r\n")
        await over.wait()


async def test_an_idle_connection_is_not_kept_for_ever(scene: MakeScene) -> None:
    """Between two messages a connection may rest for a while."""
    here = await scene(listener(idle_timeout_s=0.1))
    async with calling(here.front.url) as wire:
        await wire.send(HEAD, "\r\n")
        assert (await wire.message()).status == 200
        assert await wire.everything() == b""


async def test_one_connection_too_many_is_told(scene: MakeScene) -> None:
    """Over the cap a caller reads 503 and may come again; those inside go on, and when one leaves there is room."""
    here = await scene(listener(connections=2))
    async with AsyncExitStack() as stack:
        first, second, third = [await stack.enter_async_context(calling(here.front.url)) for _ in range(3)]
        refused: Message = await third.message()
        assert (refused.status, refused.fields["Retry-After"]) == (503, "1")
        assert "listener.connections" in json.loads(refused.body)["error"]["message"]
        for wire in (first, second):
            await wire.send(HEAD, "\r\n")
            assert (await wire.message()).status == 200
        second.cut()
        while True:
            async with calling(here.front.url) as again:
                await again.send(HEAD, "\r\n")
                if (await again.message()).status == 200:
                    break


@pytest.mark.parametrize("which", ["admin", "webhooks"])
async def test_our_own_paths_are_as_patient(scene: MakeScene, which: str) -> None:
    """Neither the admin listener nor the one that the world may reach holds half a message for ever."""
    here = await scene({**listener(head_timeout_s=0.1), "webhooks": {"listen": "127.0.0.1:0"}})
    async with calling(f"http://{getattr(here.front, which)}") as wire:
        await wire.send("POST /webhooks HTTP/1.1\r\n")
        assert (await wire.message()).status == 408


@pytest.mark.parametrize("which", ["admin", "webhooks"])
async def test_our_own_paths_have_room_for_so_many(scene: MakeScene, which: str) -> None:
    """Each of them counts its own connections: who fills one up keeps nobody out of another."""
    here = await scene({**listener(connections=2), "webhooks": {"listen": "127.0.0.1:0"}})
    url = f"http://{getattr(here.front, which)}"
    async with calling(url), calling(url), calling(url) as third:
        assert (await third.message()).status == 503
        assert (await here.say("/v25.0/111", token="ann")).status == 200


@pytest.fixture
def near() -> Serve:
    """A host that says nothing."""

    async def serve(wire: Wire, _at: Listener) -> None:
        await wire.ended()

    return serve


async def connected(wire: Wire, authority: str) -> int:
    """The status of the answer to a CONNECT to *authority*."""
    await wire.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
    return (await wire.head()).status


@pytest.mark.parametrize("is_graphs", [True, False])
async def test_tunnels_are_connections(scene: MakeScene, near: Serve, *, is_graphs: bool) -> None:
    """What CONNECT begins counts among `listener.connections`, and no more when it has ended."""
    here = await scene(listener(connections=4))

    async def three(stack: AsyncExitStack, authority: str) -> list[int]:
        wires = [await stack.enter_async_context(calling(here.front.url)) for _each in range(3)]
        return [await connected(wire, authority) for wire in wires]

    async with listening(near) as far:
        authority = "graph.facebook.com:443" if is_graphs else f"127.0.0.1:{far.port}"
        async with AsyncExitStack() as tunnels:
            assert await three(tunnels, authority) == [200] * 3
            async with calling(here.front.url) as last, calling(here.front.url) as late:
                await last.send(HEAD, "\r\n")
                assert (await last.message()).status == 200
                assert (await late.message()).status == 503
        async with asyncio.timeout(60):
            heard: list[int] = []
            while heard != [200] * 3:  # the sidecar has not heard yet that the tunnels have ended
                async with AsyncExitStack() as again:
                    with suppress(ConnectionError, asyncio.IncompleteReadError):
                        heard = await three(again, authority)


async def test_a_tunnel_in_which_nothing_moves_ends(scene: MakeScene, near: Serve) -> None:
    """It is let go like any connection on which nothing is said, on both sides."""
    here = await scene(listener(idle_timeout_s=0.2))
    async with listening(near) as far, calling(here.front.url) as wire:
        assert await connected(wire, f"127.0.0.1:{far.port}") == 200
        await wire.ended()


async def test_a_connect_that_does_not_begin_tls_ends(scene: MakeScene) -> None:
    """One that says nothing, and one that says half of its hello, are let go as for the head of a message."""
    here = await scene(listener(head_timeout_s=0.2))
    for hello in (b"", bytes.fromhex("16030100fa010000f60303")):
        async with calling(here.front.url) as wire:
            assert await connected(wire, "graph.facebook.com:443") == 200
            await wire.send(hello)
            await wire.ended()
