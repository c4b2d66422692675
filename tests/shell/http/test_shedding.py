"""Requests that wait for the processor: in their order, for as long as their callers do, and refused as those ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.core.http import errors
from proxy.core.http.pacing import LEAST
from proxy.shell.downstream.shared.waiting_reads import WaitingRead
from proxy.shell.http.listener import Listener
from proxy.shell.http.shedding import PER_TURN, REFUSED_PER_TURN, QueuedRequest, Shedder
from proxy.shell.http.timeouts import Timeouts
from tests.wires import Wire, calling


@dataclass
class Busy:
    """A listener whose processor counts as busy, and what its handler was asked for."""

    url: str
    shedder: Shedder
    callers: set[Any]
    asked: list[str] = field(default_factory=list)
    refused: int = 0

    async def handle(self, message: web.BaseRequest) -> web.StreamResponse:
        """Answer with what was asked for."""
        self.asked.append(message.path)
        return web.Response(text=message.path)

    def shed(self, _error: errors.SidecarError, count: int) -> None:
        """Count."""
        self.refused += count

    async def has(self, waiting: int) -> None:
        """Wait until so many wait."""
        while len(self.callers) != waiting:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


@asynccontextmanager
async def busy() -> AsyncIterator[Busy]:
    """A listener whose processor counts as busy, though nothing is refused yet."""
    made = Busy("", None, set())  # type: ignore[arg-type]
    made.shedder = Shedder(1.0, made, made.callers)
    made.shedder.is_calm = False
    listener = Listener(made.handle, timeouts=Timeouts(), shedder=made.shedder)
    server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await listener.shutdown(0)


def read(path: str, *fields: str) -> str:
    """A plain GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *fields, "", ""])


class Held:
    """Stops the queue: nothing is taken up while the context lasts."""

    def __init__(self, shedder: Shedder) -> None:
        """Stop *shedder*."""
        self.shedder = shedder

    def __enter__(self) -> None:
        """Stop it."""
        self.shedder._turn = asyncio.get_running_loop().call_later(3600, lambda: None)

    def __exit__(self, *_error: object) -> None:
        """Let it go on."""
        assert self.shedder._turn is not None
        self.shedder._turn.cancel()
        self.shedder._take_up()


async def test_requests_are_taken_up_in_their_order_a_few_in_a_turn() -> None:
    """All that have come are answered; what comes behind one on its connection waits for its answer."""
    async with busy() as at, AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(calling(at.url)) for _ in range(3 * PER_TURN)]
        with Held(at.shedder):
            for number, wire in enumerate(wires):
                await wire.send(read(f"/{number}"))
                await at.has(number + 1)
            await wires[0].send(read("/behind"))
            await asyncio.sleep(0.01)
            assert at.shedder.waited_s() > 0
        assert len(at.callers) == 2 * PER_TURN
        assert [(await wire.message()).body for wire in wires] == [f"/{at}".encode() for at in range(3 * PER_TURN)]
        assert (await wires[0].message()).body == b"/behind"
        assert [path for path in at.asked if path != "/behind"] == [f"/{at}" for at in range(3 * PER_TURN)]
    assert not at.callers


async def test_who_leaves_waits_no_longer() -> None:
    """The place is free at once, and the request is not answered; the others are."""
    async with busy() as at, calling(at.url) as stays:
        with Held(at.shedder):
            async with calling(at.url) as leaves:
                await leaves.send(read("/leaves"))
                await at.has(1)
                await stays.send(read("/stays"))
                await at.has(2)
            await at.has(1)
        assert (await stays.message()).body == b"/stays"
        assert at.asked == ["/stays"]


async def test_what_is_no_plain_read_does_not_wait() -> None:
    """Writes and what says more of its connection go past the queue."""
    async with busy() as at, calling(at.url) as waits, calling(at.url) as writes:
        with Held(at.shedder):
            await waits.send(read("/waits"))
            await at.has(1)
            await writes.send("POST /writes HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            assert (await writes.message()).body == b"/writes"
        assert (await waits.message()).body == b"/waits"


async def test_a_refusal_ends_the_connection_where_the_request_does() -> None:
    """Otherwise the next request is taken on the same one."""
    async with busy() as at, calling(at.url) as stays, calling(at.url) as leaves:
        at.shedder.admission.most = 0
        await stays.send(read("/1", "Connection: keep-alive"))
        await leaves.send(read("/2", "Connection: close"))
        for wire in (stays, leaves):
            refused = await wire.message()
            assert refused.status == 503
            assert refused.fields.get("Connection") == ("close" if wire is leaves else None)
        await leaves.ended()
        at.shedder.admission.most = 1
        await stays.send(read("/3"))
        assert (await stays.message()).body == b"/3"
        assert at.asked == ["/3"]


async def test_of_those_who_are_too_many_the_oldest_are_refused_some_in_a_turn() -> None:
    """The newest, who have waited least, are answered; who leaves meanwhile is not told."""
    too_many = 2 * REFUSED_PER_TURN
    async with busy() as at, AsyncExitStack() as stack:
        leaving = AsyncExitStack()
        leaves = await leaving.enter_async_context(calling(at.url))
        wires = [await stack.enter_async_context(calling(at.url)) for _ in range(too_many + int(LEAST) - 1)]
        with Held(at.shedder):
            for number, wire in enumerate([leaves, *wires]):
                await wire.send(read(f"/{number}"))
                await at.has(number + 1)
            at.shedder.admission.is_overloaded = True
            at.shedder._end_beat(0.05)
            await leaving.aclose()
            await at.has(len(wires))
        assert at.shedder._beat.refused == REFUSED_PER_TURN
        statuses = [(await wire.message()).status for wire in wires]
        assert statuses == [503] * (too_many - 1) + [200] * int(LEAST)
    assert not at.callers


async def test_who_still_waits_when_the_sidecar_ends_is_told() -> None:
    """As every caller that waits for an answer."""
    async with busy() as at, calling(at.url) as wire:
        with Held(at.shedder):
            await wire.send(read("/1"))
            await at.has(1)
            (request,) = at.callers
            assert isinstance(request, QueuedRequest)
            request.break_off(errors.Draining("the sidecar has stopped"))
            await told_of_the_end(wire)
        assert not at.callers
        assert not at.asked


async def told_of_the_end(wire: Wire) -> None:
    """Check what *wire* hears."""
    heard = await wire.message()
    assert (heard.status, heard.fields["Connection"]) == (503, "close")
    assert b"the sidecar has stopped" in heard.body
    await wire.ended()


async def test_a_request_that_waits_shows_no_token() -> None:
    """Whatever prints it, a log line or a traceback: the head with the token is not in it."""
    async with busy() as here, calling(here.url) as wire:
        await wire.send("GET /v25.0/me?access_token=EAABsecret HTTP/1.1\r\nHost: graph.facebook.com\r\n\r\n")
        await here.has(1)
        (waiting,) = here.callers
        hit = WaitingRead(None, waiting.connection, waiting.data)  # type: ignore[arg-type]
        assert "EAABsecret" not in repr((waiting, hit))
        here.shedder.is_calm = True
