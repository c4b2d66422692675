"""Programs that know no other address for Graph than its own: through CONNECT, in absolute form, by a hosts file."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from proxy.app import sidecar as app_sidecar
from proxy.settings import Settings
from proxy.shell.intercept.ca import ca_file
from tests.journeys.conftest import MakeAsk, MakeGraph, MakeScene, MakeScripted, MakeSidecar, MakeTwins
from tests.journeys.talking import Heard, asked, assert_alike
from tests.wires import Listener, Message, Wire, calling, listening, ok

GRAPH = "graph.facebook.com"
HEAD = "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n"
READ = "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n"
PATH = "/v25.0/1?fields=name&access_token=T"
TO_HERE = {"listen": "127.0.0.1:0"}


def trusting() -> ssl.SSLContext:
    """A client that trusts the authority of this test's machine, and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file(Settings().intercept.ca_dir))
    return context


@asynccontextmanager
async def connecting(
    front: app_sidecar.Sidecar, authority: str = f"{GRAPH}:443"
) -> AsyncIterator[tuple[Wire, Message]]:
    """A connection on which CONNECT was said, and what was answered."""
    async with calling(front.url) as wire:
        await wire.send(HEAD.format(authority))
        yield wire, await wire.message() if authority == "?" else await answer_to_connect(wire)


async def answer_to_connect(wire: Wire) -> Message:
    """The head alone where the way is open, for no body follows; else all of it."""
    found = await wire.head()
    if found.status != 200:
        found.body = await wire.reader.readexactly(int(found.fields["Content-Length"]))
    return found


async def secured(wire: Wire, name: str = GRAPH, **context: Any) -> ssl.SSLObject:
    """Begin TLS on *wire* as a client of *name*."""
    client = trusting()
    for key, value in context.items():
        getattr(client, key)(value)
    await wire.writer.start_tls(client, server_hostname=name)
    found = wire.writer.get_extra_info("ssl_object")
    assert isinstance(found, ssl.SSLObject)
    return found


@contextmanager
def free_port() -> Iterator[int]:
    """A port that is known before anybody listens there, and held meanwhile, so that no other test is given it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class Client:
    """A program with the proxy in its environment: one session of HTTPS."""

    def __init__(self, front: app_sidecar.Sidecar) -> None:
        self._front = front

    async def say(self, url: str, *, method: str = "GET", **said: Any) -> Heard:
        """One request to *url*, which is Graph's own."""
        async with (
            aiohttp.ClientSession(headers={"User-Agent": "graph-sidecar"}) as session,
            session.request(method, url, proxy=self._front.url, ssl=trusting(), **said) as reply,
        ):
            return Heard(reply.status, reply.headers, await reply.read())


async def warm(front: app_sidecar.Sidecar) -> None:
    """Have the authority made, which the first CONNECT does."""
    async with connecting(front):
        pass


async def test_a_connect_is_ended_here_and_served_by_the_stack(twins: MakeTwins) -> None:
    """A read through CONNECT comes as directly; the second is revalidated, and rides in a batch like any other."""
    here = await twins()
    await warm(here.front)
    client = Client(here.front)
    for cache in ("fwd=uri-miss; stored", "fwd=stale; fwd-status=304"):
        direct = await here.direct.say(PATH)
        heard = await client.say(f"https://{GRAPH}{PATH}")
        assert_alike(direct, heard)
        assert heard.cache == cache
    assert here.behind.ledger.slots == [1, 1]


async def test_all_ways_in_share_what_is_held(scene: MakeScene, ask: MakeAsk) -> None:
    """By base URL, by CONNECT, in absolute form, by TLS: one read, one entry."""
    here = await scene({"intercept": TO_HERE})
    await here.say(PATH)
    through = await Client(here.front).say(f"https://{GRAPH}{PATH}")
    async with calling(here.front.url) as wire:
        await wire.send(READ.format(f"https://{GRAPH}{PATH}", GRAPH))
        absolute = await wire.message()
    async with calling(f"http://{here.front.tls}") as wire:
        await secured(wire)
        await wire.send(READ.format(PATH, GRAPH))
        by_name = await wire.message()
    assert json.loads(absolute.body) == json.loads(by_name.body) == through.json
    for fields in (through.headers, absolute.fields, by_name.fields):
        assert fields["Cache-Status"] == "graph-sidecar; fwd=stale; fwd-status=304"


async def test_one_connection_carries_many_messages(scene: MakeScene) -> None:
    """Inside the tunnel a connection is kept, messages may be pipelined, and a write is sent once."""
    here = await scene()
    async with connecting(here.front) as (wire, opened):
        assert opened.start == "HTTP/1.1 200 Connection established"
        await secured(wire)
        await wire.send(READ.format(PATH, GRAPH) * 3)
        replies = [await wire.message() for _ in range(3)]
        await wire.send(f"POST /v25.0/1 HTTP/1.1\r\nHost: {GRAPH}\r\nContent-Length: 21\r\n\r\nname=x&access_token=T")
        assert (await wire.message()).status == 200
    assert [reply.status for reply in replies] == [200] * 3
    assert sum(here.graph.ledger.writes.values()) == 1


async def test_a_client_that_does_not_wait_loses_nothing(scene: MakeScene) -> None:
    """Its TLS may begin in the same packet as CONNECT's head, and its request in that of the handshake's end."""
    here = await scene()
    await warm(here.front)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting().wrap_bio(incoming, outgoing, server_hostname=GRAPH)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    async with calling(here.front.url) as wire:
        await wire.send(HEAD.format(f"{GRAPH}:443").encode() + outgoing.read())
        assert (await wire.head()).status == 200
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(await wire.reader.read(2**16))
        tls.write(READ.format(PATH, GRAPH).encode())
        await wire.send(outgoing.read())
        told = b""
        while b"\r\n\r\n" not in told:
            try:
                told += tls.read(2**16)
            except ssl.SSLWantReadError:
                incoming.write(await wire.reader.read(2**16))
    assert told.startswith(b"HTTP/1.1 200 OK")


async def test_links_stay_as_they_are(scene: MakeScene) -> None:
    """Who speaks to Graph by name comes back by itself: its links are Graph's own."""
    here = await scene()
    await warm(here.front)
    path = "/v25.0/act_1/campaigns?limit=2&access_token=T"
    through = await Client(here.front).say(f"https://{GRAPH}{path}")
    assert through.json["paging"]["next"].startswith(f"https://{GRAPH}/v25.0/")
    assert (await here.say(path)).json["paging"]["next"].startswith(here.front.url)


async def test_only_http_1_1_is_offered(scene: MakeScene) -> None:
    """A client that would rather speak h2 is told that it cannot."""
    here = await scene()
    async with connecting(here.front) as (wire, _):
        tls = await secured(wire, set_alpn_protocols=["h2", "http/1.1"])
        assert tls.selected_alpn_protocol() == "http/1.1"


async def test_hosts_that_do_not_batch_pass_through(graph: MakeGraph, ask: MakeAsk, sidecar: MakeSidecar) -> None:
    """graph-video by CONNECT reaches graph-video, by TLS as its name demands, and never rides with others."""
    behind = await graph()
    async with listening(_hang_up) as video:
        front = await sidecar(behind, upstream={"address": f"127.0.0.1:{video.port}"})
        await warm(front)
        heard = await Client(front).say(f"https://graph-video.facebook.com{PATH}")
        assert heard.status == 502
        assert heard.cache.startswith("fwd=bypass; detail=")
        assert video.connections
        assert video.arrived[0].start == "TLS"
    assert behind.ledger.http_calls == 0


async def _hang_up(wire: Wire, at: Listener) -> None:
    first = await wire.reader.readexactly(1)
    at.arrived.append(Message.of("TLS" if first == b"\x16" else "clear", ""))


async def test_a_message_for_another_host_is_misdirected(scene: MakeScene) -> None:
    """Inside a connection to one name, a request for another is answered 421, and nobody is asked."""
    here = await scene()
    async with connecting(here.front) as (wire, _):
        await secured(wire)
        await wire.send(READ.format(PATH, "graph-video.facebook.com"))
        reply = await wire.message()
        assert reply.status == 421
        assert json.loads(reply.body)["error"]["message"].startswith("graph-sidecar: ")
        await wire.send(READ.format(PATH, f"{GRAPH}:443"))
        assert (await wire.message()).status == 200
    assert here.graph.ledger.http_calls == 1


async def test_a_message_without_a_host_is_for_its_connections(scene: MakeScene) -> None:
    """HTTP/1.0 need not name one."""
    here = await scene()
    async with connecting(here.front) as (wire, _):
        await secured(wire)
        await wire.send(f"GET {PATH} HTTP/1.0\r\n\r\n")
        assert (await wire.message()).status == 200


async def test_connect_inside_a_connection_to_graph_is_refused(scene: MakeScene) -> None:
    """A tunnel in a tunnel leads nowhere."""
    here = await scene()
    async with connecting(here.front) as (wire, _):
        await secured(wire)
        await wire.send(HEAD.format(f"{GRAPH}:443"))
        assert (await wire.message()).status == 400


@pytest.mark.parametrize("field", ["Content-Length: 3", "Transfer-Encoding: chunked"])
async def test_connect_carries_no_body(scene: MakeScene, field: str) -> None:
    """Where its body would end and TLS begin is anybody's guess."""
    here = await scene()
    async with calling(here.front.url) as wire:
        await wire.send(f"CONNECT {GRAPH}:443 HTTP/1.1\r\nHost: {GRAPH}:443\r\n{field}\r\n\r\n")
        assert (await wire.message()).status == 400
        await wire.ended()


async def test_absolute_form_is_served_for_graph_alone(scene: MakeScene) -> None:
    """Old axios asks its proxy in clear; what it asks of others is refused, and not sent to Graph instead."""
    here = await scene()
    async with calling(here.front.url) as wire:
        for target, status in {
            f"https://{GRAPH}{PATH}": 200,
            f"http://{GRAPH}{PATH}": 200,
            f"{here.front.url}{PATH}": 200,
            f"https://example.com{PATH}": 403,
            f"{here.front.admin_url}/stats": 403,
        }.items():
            await wire.send(READ.format(target, urlsplit(target).netloc))
            reply = await wire.message()
            assert reply.status == status, target
            assert reply.fields["Content-Type"].startswith("application/json")
    assert here.graph.ledger.http_calls == 3


async def test_an_authority_made_for_other_hosts_is_told(scene: MakeScene) -> None:
    """A host that was configured later gets a 502 that says what to do, before any TLS begins."""
    here = await scene()
    await warm(here.front)
    later = await scene({"upstream": {"origin": here.graph.url, "hosts": ["graph.later.test"]}})
    async with connecting(later.front, "graph.later.test:443") as (_, refused):
        assert refused.status == 502
        assert "ca init --force" in json.loads(refused.body)["error"]["message"]


# Tunnels


async def _echo(wire: Wire, at: Listener) -> None:
    """Say back what comes, and after its end that it has ended."""
    while piece := await wire.reader.read(2**16):
        await wire.send(piece)
    await wire.send(b"over")


async def test_other_hosts_are_blind_tunnels(scene: MakeScene) -> None:
    """Bytes pass both ways as they are; a half that is closed stays half closed."""
    here = await scene()
    async with listening(_echo) as other, connecting(here.front, f"127.0.0.1:{other.port}") as (wire, opened):
        assert opened.status == 200
        await wire.send(b"\x00\xffnot http")
        assert await wire.reader.readexactly(10) == b"\x00\xffnot http"
        wire.writer.write_eof()
        assert await wire.everything() == b"over"


async def test_what_is_said_at_once_goes_into_the_tunnel(scene: MakeScene) -> None:
    """Bytes behind the head of CONNECT are the tunnel's."""
    here = await scene()
    async with listening(_echo) as other, calling(here.front.url) as wire:
        await wire.send(HEAD.format(f"127.0.0.1:{other.port}") + "early")
        assert (await wire.head()).status == 200
        assert await wire.reader.readexactly(5) == b"early"


async def test_a_tunnel_holds_no_more_than_its_slower_side_takes(scene: MakeScene) -> None:
    """Who does not read is not read for: the sender is held up, and then all arrives."""
    size, stuck = 64 * 2**20, asyncio.Event()

    async def give(wire: Wire, at: Listener) -> None:
        piece = bytes(2**20)
        for _ in range(size // len(piece)):
            wire.writer.write(piece)
            try:
                async with asyncio.timeout(0.5):
                    await wire.writer.drain()
            except TimeoutError:
                stuck.set()
                await wire.writer.drain()

    here = await scene()
    async with listening(give) as other, connecting(here.front, f"127.0.0.1:{other.port}") as (wire, _):
        await stuck.wait()
        assert len(await wire.everything()) == size


@pytest.mark.parametrize("near_leaves", [True, False])
async def test_a_tunnel_ends_with_either_side(scene: MakeScene, *, near_leaves: bool) -> None:
    """When one side goes, the other hears of it."""
    gone, go = asyncio.Event(), asyncio.Event()

    async def serve(wire: Wire, at: Listener) -> None:
        await wire.send(b"hello")
        if near_leaves:
            await wire.ended()
            gone.set()
        else:
            await go.wait()

    here = await scene()
    async with listening(serve) as other, connecting(here.front, f"127.0.0.1:{other.port}") as (wire, _):
        assert await wire.reader.readexactly(5) == b"hello"
        if near_leaves:
            wire.cut()
            await gone.wait()
        else:
            go.set()
            await wire.ended()


async def test_tunnels_are_as_the_setting_says(scene: MakeScene) -> None:
    """`none` and a list refuse what they do not name with a Graph-shaped 403; the list still opens what it does."""
    async with listening(_echo) as other:
        at = f"127.0.0.1:{other.port}"
        closed = await scene({"intercept": {"tunnel": "none"}})
        listed = await scene({"intercept": {"tunnel": [at]}})
        for front, authority, status in ((closed, at, 403), (listed, at, 200), (listed, "127.0.0.1:1", 403)):
            async with connecting(front.front, authority) as (_, answer):
                assert answer.status == status
                if status == 403:
                    assert "intercept.tunnel" in json.loads(answer.body)["error"]["message"]


async def test_a_listener_for_others_is_no_open_proxy(scene: MakeScene) -> None:
    """`any` holds on loopback alone: where other machines can ask, it opens nothing; Graph is served all the same."""
    here = await scene({"listen": "0.0.0.0:0"})
    async with listening(_echo) as other, connecting(here.front, f"127.0.0.1:{other.port}") as (_, answer):
        assert answer.status == 403
    async with connecting(here.front) as (_, answer):
        assert answer.status == 200


async def test_no_tunnel_leads_to_the_sidecar_itself(scene: MakeScene) -> None:
    """Neither to its first listener, which would be a circle, nor to those that are for others, by whatever address."""
    here = await scene({"admin": "0.0.0.0:0", "webhooks": {"listen": "0.0.0.0:0"}})
    for at in (here.front.listen, here.front.admin, here.front.webhooks):
        async with connecting(here.front, f"127.0.0.1:{at.port}") as (_, answer):
            assert answer.status == 403
    for at in (here.front.admin, here.front.webhooks):
        async with connecting(here.front, f"127.0.0.2:{at.port}") as (_, answer):
            assert answer.status == 403


async def test_a_tunnel_to_nobody_is_told(scene: MakeScene) -> None:
    """502 where nobody listens or no such host is, in Graph's shape."""
    here = await scene()
    with free_port() as port:
        for authority in (f"127.0.0.1:{port}", f"{'x' * 80}.invalid:443"):
            async with connecting(here.front, authority) as (_, answer):
                assert answer.status == 502
                assert json.loads(answer.body)["error"]["code"] == 2


async def test_a_sidecar_ends_though_tunnels_are_open(
    scene: MakeScene, sidecar_settings: Any, graph: MakeGraph
) -> None:
    """At the end a quiet tunnel is not waited for."""
    async with listening(_echo) as other:
        async with app_sidecar.sidecar(sidecar_settings((await graph()).url, drain_s=600)) as front:
            reader, writer = await asyncio.open_connection("127.0.0.1", front.listen.port)
            writer.write(HEAD.format(f"127.0.0.1:{other.port}").encode())
            await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""
        writer.close()


# The listener for TLS


async def test_tls_is_ended_by_name(scene: MakeScene) -> None:
    """Each of Graph's hosts has its certificate; without a name, or under another, there is none."""
    here = await scene({"intercept": TO_HERE})
    for name in (GRAPH, "graph-video.facebook.com", "graph.instagram.com"):
        async with calling(f"http://{here.front.tls}") as wire:
            tls = await secured(wire, name)
            assert ("DNS", name) in tls.getpeercert()["subjectAltName"]  # type: ignore[index]
    for stranger in ("example.com", ""):
        async with calling(f"http://{here.front.tls}") as wire:
            blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
            with pytest.raises(OSError, match=r"(?i)unrecognized.?name"):
                await wire.writer.start_tls(blind, server_hostname=stranger or None)


async def test_a_stranger_at_the_door_harms_nobody(scene: MakeScene) -> None:
    """What is no TLS is hung up on."""
    here = await scene({"intercept": TO_HERE})
    async with calling(f"http://{here.front.tls}") as wire:
        await wire.send(READ.format(PATH, GRAPH))
        await wire.ended()
    async with calling(f"http://{here.front.tls}") as wire:
        await secured(wire)
        await wire.send(READ.format(PATH, GRAPH))
        assert (await wire.message()).status == 200


# The way out


async def test_a_call_that_comes_back_is_answered_508(sidecar: MakeSidecar, ask: MakeAsk) -> None:
    """An origin that leads here, read or write, batch or stream, is a circle that is told, not run through."""
    with free_port() as port:
        front = await sidecar(f"http://127.0.0.1:{port}", listen=f"127.0.0.1:{port}")
    caller = await ask(front.url)
    for method in ("GET", "POST"):
        heard = await caller.say(PATH, method=method, data={"name": "x"} if method == "POST" else None)
        assert heard.status == 508
        assert heard.json["error"]["message"].startswith("graph-sidecar: the way to Graph leads back to the sidecar")


async def test_tls_that_comes_back_is_answered_508(sidecar: MakeSidecar, ask: MakeAsk) -> None:
    """A hosts file that leads our own calls to our own door is recognised, though we would not trust ourselves."""
    with free_port() as port:
        front = await sidecar(
            f"https://{GRAPH}",
            intercept={"listen": f"127.0.0.1:{port}"},
            upstream={"address": f"127.0.0.1:{port}"},
        )
    heard = await (await ask(front.url)).say(PATH)
    assert heard.status == 508
    assert "upstream.nameservers" in heard.json["error"]["message"]


async def test_two_sidecars_in_a_circle_are_told(sidecar: MakeSidecar, ask: MakeAsk, tmp_path: Path) -> None:
    """Each is the other's Graph."""
    with free_port() as first, free_port() as second:
        front = await sidecar(f"http://127.0.0.1:{second}", listen=f"127.0.0.1:{first}")
        await sidecar(
            f"http://127.0.0.1:{first}", listen=f"127.0.0.1:{second}", cache={"dir": tmp_path / "the other's"}
        )
    assert (await (await ask(front.url)).say(PATH)).status == 508


async def test_a_sidecar_behind_another_is_no_circle(
    scene: MakeScene, sidecar: MakeSidecar, ask: MakeAsk, tmp_path: Path
) -> None:
    """A pod's sidecar in front of a shared one is a chain that works."""
    here = await scene()
    front = await sidecar(here.front.url, cache={"dir": tmp_path / "the other's"})
    assert (await (await ask(front.url)).say(PATH)).status == 200


async def test_streams_keep_what_others_have_signed(scripted: MakeScripted, ask: MakeAsk) -> None:
    """RFC 8586: a member is added, and none is taken away."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(ok())

    at, front = await scripted(serve)
    await (await ask(front.url)).say("/1", method="POST", headers={"CDN-Loop": "cloudflare"}, data=b"x")
    assert at.arrived[0].fields["CDN-Loop"].startswith("cloudflare, graph-sidecar;id=")


class Names(asyncio.DatagramProtocol):
    """A name server that knows one address for everything."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer A with 127.0.0.1, and other questions with nothing (RFC 1035 section 4.1)."""
        end = data.index(0, 12) + 5
        self.asked.add(_name(data[12:end]))
        is_a = struct.unpack("!H", data[end - 4 : end - 2]) == (1,)
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, int(is_a), 0, 0)
        answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 1]) if is_a else b""
        self._transport.sendto(head + data[12:end] + answer, addr)  # type: ignore[attr-defined]


def _name(question: bytes) -> str:
    labels, at = [], 0
    while size := question[at]:
        labels.append(question[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels)


async def test_graph_is_found_past_the_hosts_file(
    graph: MakeGraph, sidecar: MakeSidecar, ask: MakeAsk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `upstream.nameservers` they are asked, though a hosts file leads Graph's name to where nobody is."""
    (tmp_path / "hosts").write_text(f"127.0.0.9 {GRAPH}\n")
    monkeypatch.setenv("CARES_HOSTS", str(tmp_path / "hosts"))
    behind = await graph()
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(Names, ("127.0.0.1", 0))
    at = transport.get_extra_info("sockname")[1]
    front = await sidecar(f"http://{GRAPH}:{urlsplit(behind.url).port}", upstream={"nameservers": [f"127.0.0.1:{at}"]})
    heard = await (await ask(front.url)).say(PATH)
    transport.close()
    assert heard.status == 200
    assert server.asked == {GRAPH}
    assert len(asked(behind)) == 1


async def test_graph_is_where_a_fixed_address_says(graph: MakeGraph, sidecar: MakeSidecar, ask: MakeAsk) -> None:
    """With `upstream.address` its name is not looked up at all; port included."""
    behind = await graph()
    front = await sidecar(f"http://{GRAPH}", upstream={"address": behind.url.removeprefix("http://")})
    caller = await ask(front.url)
    assert (await caller.say(PATH)).status == 200
    assert (await caller.say("/v25.0/1", method="POST", token="T", data={"name": "x"})).status == 200
    assert behind.ledger.http_calls == 2
