"""The end of a listener: who has come in is answered, who says nothing is let go, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import uvloop
from aiohttp import web

from proxy.shell.http.listener import Listener
from proxy.shell.http.listener_drain import InFlight, drain
from proxy.shell.http.timeouts import TimedConnection, Timeouts
from tests.wires import calling

ASKED = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FOREVER = 3600.0


def pytest_asyncio_loop_factories() -> dict[str, type[asyncio.AbstractEventLoop]]:
    """On the loop that `serve` runs on."""
    return {"uvloop": uvloop.Loop}


@dataclass
class Standing:
    """A listener that answers `ok` as soon as it may."""

    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    runner: web.ServerRunner = field(init=False)

    def __post_init__(self) -> None:
        """Have what it takes."""
        self.inside = InFlight(self._answer)
        listener = Listener(self.inside.handle, timeouts=Timeouts(), access_log=None)
        self.runner = web.ServerRunner(listener, shutdown_timeout=0)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self.runner.addresses[0][1]
        return port

    @property
    def url(self) -> str:
        """The same as a URL."""
        return f"http://127.0.0.1:{self.port}"

    async def half_heard(self) -> int:
        """Connections of which a part of a head has come, a turn of the loop later."""
        await asyncio.sleep(0)
        server = self.runner.server
        assert server
        halves = [each for each in server.connections if isinstance(each, TimedConnection) and not each._is_silent]
        return sum(each._half is not None for each in halves)

    async def end(self) -> None:
        """Drain it; a drain that hangs fails the test."""
        async with asyncio.timeout(60):
            await drain(self.runner, FOREVER, self.inside)

    async def _answer(self, message: web.BaseRequest) -> web.StreamResponse:
        if message.path != "/stream":
            await self.may_answer.wait()
            return web.Response(text="ok")
        response = web.StreamResponse(headers={"Content-Length": "2"})
        await response.prepare(message)
        await self.may_answer.wait()
        await response.write(b"ok")
        return response


@asynccontextmanager
async def standing() -> AsyncIterator[Standing]:
    """One that listens."""
    made = Standing()
    await made.runner.setup()
    await web.TCPSite(made.runner, "127.0.0.1", 0, backlog=64).start()
    yield made


async def test_who_has_knocked_is_let_in() -> None:
    """Those whom the system has accepted for us are answered, though nobody has looked at them before the end."""
    async with standing() as here:
        here.may_answer.set()
        knocking = [socket.create_connection(("127.0.0.1", here.port)) for _ in range(20)]  # the loop stands still
        for each in knocking:
            each.sendall(ASKED)
        await here.end()
        heard = []
        for each in knocking:
            with each:
                heard.append(each.recv(65_536))
    assert [each[:15] for each in heard] == [b"HTTP/1.1 200 OK"] * 20
    assert all(b"Connection: close" in each for each in heard)


async def test_who_has_come_in_may_ask() -> None:
    """A connection that was made just before the end says its first message after it."""
    async with standing() as here, calling(here.url) as late:
        here.may_answer.set()
        ending = asyncio.ensure_future(here.end())
        await late.send(ASKED)
        heard = await late.message()
        assert (heard.status, heard.fields["Connection"]) == (200, "close")
        await ending


async def test_nobody_waits_for_those_who_say_nothing() -> None:
    """Neither for a kept connection between two messages, nor for one on which none ever began."""
    async with standing() as here, calling(here.url) as kept, calling(here.url) as silent:
        here.may_answer.set()
        await kept.send(ASKED)
        assert (await kept.message()).status == 200
        await here.end()
        assert (await kept.everything(), await silent.everything()) == (b"", b"")


async def test_what_is_said_half_is_heard_out() -> None:
    """A head that has begun to come, and a stream whose head promised to keep its connection."""
    async with standing() as here, calling(here.url) as asking, calling(here.url) as streaming:
        await streaming.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert "Connection" not in (await streaming.head()).fields
        await asking.send(ASKED[:-2])
        while not await here.half_heard():
            pass
        ending = asyncio.ensure_future(here.end())
        while here.runner.sites:
            await here.half_heard()
        await asking.send(ASKED[-2:])
        here.may_answer.set()
        assert (await asking.message()).fields["Connection"] == "close"
        assert await streaming.everything() == b"ok"
        await ending


async def test_a_drain_without_open_requests_sleeps_for_none() -> None:
    """Whether no caller has come, or one keeps its connection: the drain is over within a few turns of the loop."""
    for callers in (0, 1):
        async with standing() as here, AsyncExitStack() as connections:
            here.may_answer.set()
            for _ in range(callers):
                kept = await connections.enter_async_context(calling(here.url))
                await kept.send(ASKED)
                assert (await kept.message()).status == 200
            ending, turns = asyncio.ensure_future(here.end()), 0
            while not ending.done():
                await asyncio.sleep(0)
                turns += 1
            assert turns < 60
