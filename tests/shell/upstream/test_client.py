"""What goes to Graph, and what is made of all that can come back: a real socket, a Graph that misbehaves on order."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from urllib.parse import parse_qs

import pytest
from msgspec import structs

from proxy.core.batch.response import BatchFailure
from proxy.core.http.errors import Cut, Late, Nonsense, SidecarError, Unreachable
from proxy.core.model import Channel, Credential, Reply, Request
from proxy.shell.http.forms import write_form
from proxy.shell.upstream import idle_connections
from proxy.shell.upstream.client import UpstreamClient, UpstreamOptions
from proxy.shell.upstream.http1 import Http1Response
from tests.shell.fakes import ask
from tests.wires import Listener, Wire, listening, ok

Script = Callable[[Wire, Listener], Awaitable[None]]
WAY = UpstreamOptions(frozenset(), "graph-sidecar", connect_timeout_s=5, reply_timeout_s=5)
TOKEN = "EAABsecret"


class Stand:
    """An upstream and the Graph that it talks to."""

    def __init__(self, upstream: UpstreamClient, at: Listener) -> None:
        self.upstream, self.at = upstream, at

    def request(self, **fields: object) -> Request:
        """A read of that Graph's."""
        return ask(token=TOKEN, **({"host": f"127.0.0.1:{self.at.port}"} | fields))  # type: ignore[arg-type]

    async def single(self, **fields: object) -> Reply:
        return await self.upstream.single(self.request(**fields))

    async def batch(self, **fields: object) -> Reply | BatchFailure:
        return await self.upstream.batch([self.request(**fields)], Credential(TOKEN))


Stands = Callable[..., Awaitable[Stand]]


@pytest.fixture
async def stand() -> AsyncIterator[Stands]:
    """Sets an upstream up before a Graph that does as the script says."""
    async with AsyncExitStack() as lifetimes:

        async def make(script: Script, **way: object) -> Stand:
            at = await lifetimes.enter_async_context(listening(script))
            clear = frozenset({f"127.0.0.1:{at.port}"})
            upstream = UpstreamClient(replace(WAY, in_clear=clear, **way))  # type: ignore[arg-type]
            await upstream.open()
            lifetimes.push_async_callback(upstream.close)
            return Stand(upstream, at)

        yield make


def answering(*replies: bytes) -> Script:
    """Answers one message after the other with *replies*, on whatever connection."""
    left = iter(replies)

    async def serve(wire: Wire, at: Listener) -> None:
        while True:
            at.arrived.append(await wire.message())
            await wire.send(next(left))

    return serve


# --- what is said


async def test_a_single_read_as_graph_sees_it(stand: Stands) -> None:
    """The normal form, the caller's own token and language, the pinned User-Agent, and nothing that was not asked."""
    here = await stand(answering(ok()))
    await here.single(language="de", validator='"e1"', channel=Channel.DIRECT)
    seen = here.at.arrived[0]
    assert seen.start == f"GET /v25.0/111?fields=id&access_token={TOKEN} HTTP/1.1"
    assert dict(seen.fields) == {
        "CDN-Loop": WAY.loop_guard.field_value,
        "Host": f"127.0.0.1:{here.at.port}",
        "User-Agent": "graph-sidecar",
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Accept-Language": "de",
        "If-None-Match": '"e1"',
    }


async def test_a_batch_as_graph_sees_it(stand: Stands) -> None:
    """One urlencoded POST to the root: the top token in the form, everything else inside the slots."""
    here = await stand(answering(ok("[]")))
    await here.batch(language="de", validator='"e1"')
    seen = here.at.arrived[0]
    assert (seen.start, seen.fields["Content-Type"]) == ("POST / HTTP/1.1", "application/x-www-form-urlencoded")
    assert (seen.fields["Accept-Language"], seen.fields["User-Agent"]) == ("de", "graph-sidecar")
    assert "If-None-Match" not in seen.fields
    form = parse_qs(seen.body.decode())
    assert (form["access_token"], form["include_headers"]) == ([TOKEN], ["true"])
    assert TOKEN in form["batch"][0]


# --- what is heard


async def test_a_reply_comes_decoded_and_without_what_was_the_connections(stand: Stands) -> None:
    """A caller gets the body, however it was packed, and Graph's own fields but those of our connection to it."""
    packed = gzip.compress(b'{"id":"1"}')
    fields = ["Content-Encoding: gzip", "Connection: keep-alive, X-Mine", "X-Mine: 1", "Set-Cookie: a=b", 'ETag: "e"']
    here = await stand(answering(ok(packed, *fields)))
    reply = await here.single()
    assert (reply.status, reply.body, reply.channel) == (200, b'{"id":"1"}', Channel.DIRECT)
    assert {name for name, _ in reply.headers} == {"Content-Type", "ETag"}
    assert reply.upstream_s is not None


async def test_a_304_nobody_asked_for_is_nonsense(stand: Stands) -> None:
    """Without a condition there is nothing that a 304 could confirm."""
    here = await stand(answering(b"HTTP/1.1 304 Not Modified\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n"))
    with pytest.raises(Nonsense):
        await here.single()
    assert (await here.single(validator='"e1"')).status == 304


async def test_a_redirect_is_the_callers(stand: Stands) -> None:
    """Nothing is followed: where a token goes is for its owner to say."""
    here = await stand(answering(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"))
    reply = await here.single()
    assert (reply.status, reply.header("Location"), len(here.at.arrived)) == (302, "/elsewhere", 1)


async def _cut_before(wire: Wire, at: Listener) -> None:
    at.arrived.append(await wire.message())
    wire.cut()


async def _close_before(wire: Wire, at: Listener) -> None:
    at.arrived.append(await wire.message())


def _ending_with(said: bytes) -> Script:
    """A Graph that says so much of a reply, and hangs up."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(said)

    return serve


async def _silence(wire: Wire, at: Listener) -> None:
    at.arrived.append(await wire.message())
    await wire.ended()


async def _stall(wire: Wire, at: Listener) -> None:
    at.arrived.append(await wire.message())
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{")
    await wire.ended()


@pytest.mark.parametrize(
    "script,error,call",
    [
        (_cut_before, Cut, BatchFailure.CUT),
        (_close_before, Cut, BatchFailure.CUT),
        (_ending_with(b"HTTP/1.1 200 OK\r\nContent-Ty"), Cut, BatchFailure.CUT),
        (_ending_with(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{"), Cut, BatchFailure.CUT),
        (_ending_with(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[{\r\n"), Cut, BatchFailure.CUT),
        (_ending_with(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Nonsense, BatchFailure.CUT),
        (_ending_with(ok(b"no gzip at all", "Content-Encoding: gzip")), SidecarError, BatchFailure.CUT),
        (_silence, Late, None),
        (_stall, Late, None),
    ],
    ids=["cut", "closed", "head", "body", "chunks", "gibberish", "gzip", "silence", "stall"],
)
async def test_trouble_has_a_name(
    stand: Stands, script: Script, error: type[SidecarError], call: BatchFailure | None
) -> None:
    """Whatever Graph or the network does, it comes out as one of our few errors, without a URL and so a token."""
    patience = 0.05 if error is Late else 30.0
    here = await stand(script, reply_timeout_s=patience, connect_timeout_s=patience)
    with pytest.raises(error) as caught:
        await here.single()
    assert TOKEN not in repr(caught.value) + str(caught.value.__cause__)
    assert caught.value.__suppress_context__
    if call is not None:
        assert await here.batch() is call
        return
    with pytest.raises(error):
        await here.batch()


async def test_a_refused_connection_is_unreachable(stand: Stands) -> None:
    """Where nobody listens, both forms of asking say so."""
    here = await stand(_silence)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{nobody.getsockname()[1]}"
        for asking in (here.single(host=host), here.batch(host=host)):
            with pytest.raises(Unreachable, match="no connection to Graph"):
                await asking


async def test_a_name_that_means_nothing_is_unreachable(stand: Stands) -> None:
    """A host that has no address is the same to a caller as one that refuses, and the operator reads what is wrong."""
    here = await stand(_silence)
    with pytest.raises(Unreachable, match="host name"):
        await here.single(host="no-such-host.invalid")


async def test_a_connection_that_does_not_come_about_is_unreachable(stand: Stands) -> None:
    """A peer that never answers the knock is given up after connect_timeout_s, not after reply_timeout_s."""
    here = await stand(_silence, connect_timeout_s=0.05, reply_timeout_s=30)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        where = full.getsockname()
        with socket.create_connection(where), pytest.raises(Unreachable, match="in time"):
            await here.single(host=f"127.0.0.1:{where[1]}")


async def test_a_connection_is_kept(stand: Stands) -> None:
    """A second call does not pay for a second handshake."""
    here = await stand(answering(ok(), ok("[]"), ok()))
    await here.single()
    await here.batch()
    await here.single()
    assert (here.at.connections, len(here.at.arrived)) == (1, 3)


async def test_a_connection_rests_before_it_is_used_again(stand: Stands) -> None:
    """Until the rest of the first has ended, each further read takes a connection of its own."""
    here = await stand(answering(ok(), ok(), ok()), rest_s=3600)
    for _ in range(3):
        await here.single()
    assert here.at.connections == 3


async def test_idle_connections_are_closed_after_a_while(stand: Stands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graph sees the end of a connection that no further read has used."""
    monkeypatch.setattr(idle_connections, "KEPT_S", 0.05)
    ended = asyncio.Event()

    async def until_the_end(wire: Wire, _at: Listener) -> None:
        await wire.message()
        await wire.send(ok())
        try:
            await wire.message()
        finally:
            ended.set()

    here = await stand(until_the_end)
    await here.single()
    async with asyncio.timeout(20):
        await ended.wait()


async def _hang_up_after_each(wire: Wire, at: Listener) -> None:
    """Answers one message as if the connection were kept, and closes it when the next has come."""
    at.arrived.append(await wire.message())
    await wire.send(ok(b"[]"))
    at.arrived.append(await wire.message())


async def test_a_kept_connection_that_ends(stand: Stands) -> None:
    """A read is asked once more on a new connection; a batch, which may hold writes, is sent once and told as cut."""
    here = await stand(_hang_up_after_each)
    await here.single()
    assert (await here.single()).body == b"[]"
    assert [message.method for message in here.at.arrived] == ["GET", "GET", "GET"]
    assert await here.batch() is BatchFailure.CUT
    assert [message.method for message in here.at.arrived[3:]] == ["POST"]
    assert here.at.connections == 2


def chunked(body: bytes, *fields: str) -> bytes:
    """A reply in chunks of seven bytes."""
    head = "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *fields, "", ""]).encode()
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("framed", [ok, chunked], ids=["by length", "in chunks"])
@pytest.mark.parametrize("coding, pack", [("gzip", gzip.compress), ("deflate", zlib.compress)], ids=["gzip", "deflate"])
async def test_a_packed_body_that_ends_early_is_cut(
    stand: Stands, framed: Callable[..., bytes], coding: str, pack: Callable[[bytes], bytes]
) -> None:
    """Framed as if it were whole, it is not: nothing of it is anybody's answer, and the connection is not kept."""
    whole = framed(pack(b'{"id":"1"}'), f"Content-Encoding: {coding}")
    cut = framed(pack(b'{"id":"1"}')[:-1], f"Content-Encoding: {coding}")
    here = await stand(answering(cut, cut, whole))
    with pytest.raises(Cut):
        await here.single()
    assert await here.batch() is BatchFailure.CUT
    assert (await here.single()).body == b'{"id":"1"}'
    assert here.at.connections == 3


@pytest.mark.parametrize("coding", ["x-fb-dz", "gzip, x-fb-dz", "br"])
async def test_a_coding_that_nobody_asked_for(stand: Stands, coding: str) -> None:
    """A body that cannot be unpacked here is its caller's as it came, and says so; a batch in it tells nothing."""
    packed = ok(b"\x01\x02packed", f"Content-Encoding: {coding}")
    here = await stand(answering(packed, packed))
    reply = await here.single()
    assert (reply.body, reply.header("content-encoding")) == (b"\x01\x02packed", coding)
    assert await here.batch() is BatchFailure.CUT


async def test_a_connection_that_ends_late_had_been_at_work(stand: Stands) -> None:
    """A read whose connection ends after longer than a new one takes to open is not asked again."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await asyncio.sleep(0.1)

    here = await stand(serve, connect_timeout_s=0.05)
    with pytest.raises(Cut):
        await here.single()
    assert len(here.at.arrived) == 1


async def test_what_comes_before_the_answer(stand: Stands) -> None:
    """Answers of the 1xx kind say that another will come; that one is the caller's."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    here = await stand(answering(early + ok(), ok()))
    assert [(await here.single()).status, (await here.single()).status] == [200, 200]
    assert here.at.connections == 1


async def test_a_large_batch_arrives_whole(stand: Stands) -> None:
    """Written in pieces, it is one message all the same."""
    here = await stand(answering(ok("[]")))
    asked = [here.request(query=f"fields={'a' * 60_000}", path=f"/{number}") for number in range(40)]
    assert isinstance(await here.upstream.batch(asked, Credential(TOKEN)), Reply)
    operations = json.loads(parse_qs(here.at.arrived[0].body.decode())["batch"][0])
    assert [each["relative_url"].partition("?")[0] for each in operations] == [f"v25.0/{n}" for n in range(40)]


async def test_long_heads_from_graph_are_read(stand: Stands) -> None:
    """Usage headers grow with the number of accounts; 60 KB of them are no trouble."""
    usage = '{"' + "1" * 60_000 + '":[]}'
    here = await stand(answering(ok(b"{}", f"X-Business-Use-Case-Usage: {usage}")))
    assert (await here.single()).header("x-business-use-case-usage") == usage


async def test_close_before_open_is_nothing() -> None:
    """A start that failed halfway can be undone."""
    await UpstreamClient(WAY).close()


async def test_no_step_on_the_way_shows_a_token() -> None:
    """Neither what is asked nor what comes back nor a form says in its repr what it carries."""
    shown = []

    class Listened(UpstreamClient):
        async def _ask(self, asked: object, channel: Channel, on_sent: object) -> Reply:
            shown.append(asked)
            return Reply(200, (), b"{}")

    upstream = Listened(UpstreamOptions(frozenset(), "graph-sidecar", 1, 1))
    read = structs.replace(ask(), credential=Credential(TOKEN))
    await upstream.single(read)
    await upstream.batch([read], Credential(TOKEN))
    form = write_form({"access_token": TOKEN})
    answer = Http1Response(200, (("Link", TOKEN),), TOKEN.encode())
    assert len(shown) == 2
    assert TOKEN.encode() in form.body
    assert TOKEN not in repr([*shown, form, answer])
