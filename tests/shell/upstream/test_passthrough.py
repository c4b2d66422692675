"""The stream alone: between a caller on one socket and a Graph on another, both of which do as the test says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web

from proxy.core.http.errors import SidecarError
from proxy.core.model import Headers
from proxy.shell.upstream.client import UpstreamOptions
from proxy.shell.upstream.passthrough import Passthrough
from tests.wires import Listener, Wire, calling, listening, ok

WAY = UpstreamOptions(frozenset(), "graph-sidecar", connect_timeout_s=5, reply_timeout_s=5)
HELLO = b"GET /x HTTP/1.1\r\nHost: caller\r\n\r\n"
Script = Callable[[Wire, Listener], Awaitable[None]]


@dataclass
class Stand:
    """A passthrough on a port of its own, the Graph behind it, and what the passthrough told its server."""

    url: str
    at: Listener
    answered: list[tuple[int, Headers]] = field(default_factory=list)
    departures: list[None] = field(default_factory=list)
    raised: list[BaseException] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def left(self) -> None:
        self.departures.append(None)


Stands = Callable[..., Awaitable[Stand]]


@pytest.fixture
async def stand() -> AsyncIterator[Stands]:
    """Sets a passthrough up before a Graph that does as the script says."""
    async with AsyncExitStack() as lifetimes:

        async def make(script: Script, *, buffered: bytes = b"", **way: object) -> Stand:
            at = await lifetimes.enter_async_context(listening(script))
            clear = frozenset({f"127.0.0.1:{at.port}"})
            here = replace(WAY, in_clear=clear, **way)  # type: ignore[arg-type]
            return await lifetimes.enter_async_context(_standing(at, here, buffered))

        yield make


@asynccontextmanager
async def _standing(at: Listener, way: UpstreamOptions, buffered: bytes) -> AsyncIterator[Stand]:
    passthrough = Passthrough(way)
    here = Stand("", at)

    async def handle(message: web.BaseRequest) -> web.StreamResponse:
        try:
            return await passthrough.stream(
                message,
                host=f"127.0.0.1:{at.port}",
                target=message.raw_path,
                buffered=buffered,
                extra=(("Cache-Status", "graph-sidecar; fwd=method"),),
                on_sent=here.left,
                on_response=lambda *told: here.answered.append(told),
            )
        except SidecarError as error:
            here.raised.append(error)
            return web.Response(status=error.status, text=error.detail)
        except BaseException as fault:
            here.raised.append(fault)
            raise
        finally:
            here.ended.set()

    runner = web.ServerRunner(
        web.Server(handle, handler_cancellation=True, auto_decompress=False, access_log=None), shutdown_timeout=0.1
    )
    await passthrough.open()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    here.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield here
    finally:
        await runner.cleanup()
        await passthrough.close()


def answering(*pieces: bytes) -> Script:
    """Reads one message and says *pieces*."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(*pieces)
        await wire.ended()

    return serve


async def test_a_message_goes_on_as_it_came(stand: Stands) -> None:
    """Verb, target, body and end-to-end fields reach Graph; Host and User-Agent are ours, hop-by-hop ends here."""
    here = await stand(answering(ok(b"done", "X-App-Usage: {}", "Connection: X-Hop", "X-Hop: 1")))
    async with calling(here.url) as wire:
        await wire.send(
            b"POST /v25.0/1/feed?b=2&a=%2f HTTP/1.1\r\nHost: caller\r\nUser-Agent: app/1\r\nX-Twice: 1\r\n"
            b"X-Twice: 2\r\nConnection: X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nContent-Type: text/plain\r\n"
            b"Content-Length: 5\r\n\r\nhello"
        )
        reply = await wire.message()
    seen = here.at.arrived[0]
    assert (seen.start, seen.body) == ("POST /v25.0/1/feed?b=2&a=%2f HTTP/1.1", b"hello")
    assert sorted((name.lower(), value) for name, value in seen.fields.items()) == [
        ("cdn-loop", WAY.loop_guard.field_value),
        ("content-length", "5"),
        ("content-type", "text/plain"),
        ("host", f"127.0.0.1:{here.at.port}"),
        ("user-agent", "graph-sidecar"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ]
    assert (reply.start, reply.body) == ("HTTP/1.1 200 OK", b"done")
    assert reply.fields["Cache-Status"] == "graph-sidecar; fwd=method"
    assert reply.fields["Server"] == "graph-sidecar"
    assert "X-Hop" not in reply.fields
    assert (here.answered[0][0], dict(here.answered[0][1])["X-App-Usage"]) == (200, "{}")


async def test_nothing_is_added_that_the_caller_did_not_say(stand: Stands) -> None:
    """No Accept, no Accept-Encoding, no Content-Type of ours: Graph's answer depends on them."""
    here = await stand(answering(ok(b"{}")))
    async with calling(here.url) as wire:
        await wire.send(HELLO)
        await wire.message()
    assert {name.lower() for name in here.at.arrived[0].fields} == {"host", "user-agent", "cdn-loop"}


async def test_what_was_looked_at_goes_first(stand: Stands) -> None:
    """The bytes that were read to see what a message is are not lost to Graph."""
    here = await stand(answering(ok(b"{}")), buffered=b"seen ")
    async with calling(here.url) as wire:
        await wire.send(b"POST /x HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nrest\r\n0\r\n\r\n")
        await wire.message()
    assert here.at.arrived[0].body == b"seen rest"


async def test_trouble_before_an_answer_is_an_error_of_ours(stand: Stands) -> None:
    """While the caller has heard nothing it can still be told, and whoever counts writes is told first."""

    async def cut(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        wire.cut()

    here = await stand(cut)
    async with calling(here.url) as wire:
        await wire.send(HELLO)
        assert (await wire.message()).status == 502
    assert (here.answered, len(here.at.arrived)) == ([(0, ())], 1)


async def test_nobody_there_is_unreachable(stand: Stands) -> None:
    """A Graph that refuses connections is a 502 of ours."""
    here = await stand(answering(ok()))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        here.at.port = nobody.getsockname()[1]
        async with calling(here.url) as wire:
            await wire.send(HELLO)
            assert (await wire.message()).status == 502


async def test_silence_is_bounded(stand: Stands) -> None:
    """A Graph that says nothing for reply_timeout_s is given up with a 504."""
    here = await stand(answering(), reply_timeout_s=0.05)
    async with calling(here.url) as wire:
        await wire.send(HELLO)
        assert (await wire.message()).status == 504


async def test_the_callers_own_time_does_not_count(stand: Stands) -> None:
    """A caller that takes long over its body is waited for longer than Graph would be."""
    here = await stand(answering(ok(b"done")), reply_timeout_s=0.2)
    async with calling(here.url) as wire:
        await wire.send(b"POST /x HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\na")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(here.ended.wait()), 0.5)
        await wire.send(b"b")
        assert (await wire.message()).body == b"done"


@pytest.mark.parametrize(
    "framing,start",
    [(b"Content-Length: 1000\r\n\r\n", b"half"), (b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nhalf\r\n")],
)
@pytest.mark.parametrize("then", ["cut", "silence"])
async def test_half_an_answer_is_not_a_whole_one(stand: Stands, framing: bytes, start: bytes, then: str) -> None:
    """If Graph's answer breaks off or stalls in the middle, the caller sees a broken transfer."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(b"HTTP/1.1 200 OK\r\n", framing, start)
        if then == "silence":
            await wire.ended()

    here = await stand(serve, reply_timeout_s=0.1)
    async with calling(here.url) as wire:
        await wire.send(HELLO)
        heard = await wire.everything()
    assert b"half" in heard
    assert not heard.endswith(b"0\r\n\r\n")
    assert heard.partition(b"\r\n\r\n")[2].count(b"half") == 1
    assert len(here.raised) == 1


async def test_a_caller_that_leaves_ends_the_call(stand: Stands) -> None:
    """Graph's connection is not kept busy for somebody who has gone."""
    gone, heard = asyncio.Event(), asyncio.Event()

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        heard.set()
        await wire.ended()
        gone.set()

    here = await stand(serve)
    async with calling(here.url) as wire:
        await wire.send(HELLO)
        await heard.wait()
    await gone.wait()
    await here.ended.wait()
    assert isinstance(here.raised[0], asyncio.CancelledError)


async def test_continue_is_said_when_there_is_somewhere_to_send_to(stand: Stands) -> None:
    """A caller that expects 100 is told to go on, once, and `Expect` goes no further."""
    here = await stand(answering(ok(b"done")))
    async with calling(here.url) as wire:
        await wire.send(b"POST /x HTTP/1.1\r\nHost: c\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await wire.head()).start == "HTTP/1.1 100 Continue"
        await wire.send(b"hello")
        reply = await wire.message()
    assert (reply.start, reply.body) == ("HTTP/1.1 200 OK", b"done")
    assert "Expect" not in here.at.arrived[0].fields
    assert here.at.arrived[0].body == b"hello"


async def test_close_before_open_is_nothing() -> None:
    """A start that failed halfway can be undone."""
    await Passthrough(WAY).close()
