"""Replies that Graph packs otherwise than it was asked, or packs and does not end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.journeys.conftest import MakeScene, MakeScripted, MakeTwins
from tests.journeys.talking import assert_alike
from tests.wires import Listener, Wire, calling, ok

READ = "/v25.0/111?fields=name"


@pytest.mark.parametrize("held", [False, True], ids=["cold", "held"])
@pytest.mark.parametrize("kind", ["cut_gzip", "cut_deflate", "unknown_coding"])
async def test_a_batch_that_cannot_be_unpacked_is_asked_otherwise(twins: MakeTwins, kind: str, *, held: bool) -> None:
    """Where a batch is cut or packed in a way that is not known, each read has the reply that Graph gives it alone."""
    here = await twins({"cache": {"fresh_s": 3600}} if not held else {})
    if held:
        await here.through.say(READ, token="ann")
        here.behind.world.touch("111", {"name": "changed since"})
        here.alone.world.touch("111", {"name": "changed since"})
    here.behind.faults.add({"kind": kind, "where": "batch"})
    await here.alike(READ, token="ann")


@pytest.mark.parametrize("enabled", [True, False], ids=["batched", "alone"])
@pytest.mark.parametrize("kind", ["cut_gzip", "cut_deflate"])
async def test_a_reply_that_is_cut_while_it_is_packed_is_no_reply(
    scene: MakeScene, kind: str, *, enabled: bool
) -> None:
    """Its caller is told 502, whatever its framing says, and nothing of it is held."""
    here = await scene({"batch": {"enabled": enabled}, "cache": {"fresh_s": 3600}})
    here.graph.faults.add({"kind": kind})
    heard = await here.say(READ, token="ann")
    assert (heard.status, heard.json["error"]["is_transient"]) == (502, True)
    here.graph.faults.clear()
    assert (await here.say(READ, token="ann")).cache == "fwd=uri-miss; stored"


@pytest.mark.parametrize("way", ["cold", "warm", "jsonp", "merged", "passed"])
async def test_a_coding_that_is_not_known_passes_as_it_is(twins: MakeTwins, way: str) -> None:
    """Its bytes and its name arrive as directly, nothing of it is held, and its connection serves the next."""
    here = await twins({"cache": {"fresh_s": 0}, "merge": {"enabled": way == "merged"}})
    if way == "warm":
        await here.through.say(READ, token="ann")
        for world in (here.alone.world, here.behind.world):
            world.touch("111", {"name": "changed since"})
    here.trouble({"kind": "unknown_coding"})
    path = READ + ("&callback=got" if way == "jsonp" else "")
    fields = {"Range": "bytes=0-"} if way == "passed" else {}
    direct, through = await here.both(path, token="ann", headers=fields)
    assert (through.status, through.headers["Content-Encoding"]) == (200, "x-fb-dz")
    if way != "jsonp":
        assert through.body == direct.body
    assert "stored" not in through.cache
    for graph in (here.alone, here.behind):
        graph.faults.clear()
    assert_alike(*await here.both(READ, token="ann"))


@pytest.mark.parametrize("kind", ["cut_gzip", "unknown_coding"])
async def test_a_batch_of_the_application_that_cannot_be_unpacked(twins: MakeTwins, kind: str) -> None:
    """The reads in it have the answers that they get alone; slots that are asked in vain say so in JSON."""
    here = await twins()
    operations = json.dumps([{"method": "GET", "relative_url": f"{number}?fields=id"} for number in (111, 222)])
    form = {"access_token": "ann", "batch": operations}

    async def bodies(**said: Any) -> list[tuple[int, Any]]:
        heard = await here.through.say("/v25.0/", method="POST", data=form, **said)
        return [(slot["code"], json.loads(slot["body"])) for slot in heard.json]

    here.behind.faults.add({"kind": kind, "where": "batch"})
    assert await bodies() == [(200, {"id": "111"}), (200, {"id": "222"})]
    here.behind.faults.add({"kind": kind})
    if kind == "unknown_coding":
        assert {code for code, _ in await bodies()} == {502}
    else:
        assert (await here.through.say("/v25.0/", method="POST", data=form)).status == 502


@pytest.mark.parametrize("kind, coding", [("unknown_coding", "x-fb-dz"), ("cut_gzip", "gzip")])
async def test_what_passes_is_packed_as_graph_packed_it(twins: MakeTwins, kind: str, coding: str) -> None:
    """A reply that passes is its caller's to unpack, cut or not: byte for byte what Graph sent."""
    here = await twins()
    here.trouble({"kind": kind})
    said = "GET /v25.0/111?access_token=t HTTP/1.1\r\nHost: a\r\nRange: bytes=0-\r\nAccept-Encoding: gzip\r\n\r\n"
    heard = []
    for url in (here.alone.url, here.front.url):
        async with calling(url) as wire:
            await wire.send(said)
            heard.append(await wire.message())
    assert heard[0].body == heard[1].body != b""
    assert heard[0].fields["Content-Encoding"] == heard[1].fields["Content-Encoding"] == coding


@pytest.mark.parametrize("version, continues", [("1.0", False), ("1.1", True)])
async def test_who_speaks_http_1_0_is_not_told_to_go_on(
    scripted: MakeScripted, version: str, *, continues: bool
) -> None:
    """A client of HTTP/1.0 would take `100 Continue` for the whole answer (RFC 9110 section 10.1.1)."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(ok('{"id":"1"}'))

    at, front = await scripted(serve)
    head = (
        f"POST /v25.0/1/feed?access_token=t HTTP/{version}\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n"
    )
    async with calling(front.url) as wire:
        await wire.send(head, "\r\n", "message=x")
        first = await wire.head()
    assert (first.status == 100) is continues
    if not continues:
        assert first.status == 200
        assert at.arrived[0].body == b"message=x"
        assert "Expect" not in at.arrived[0].fields
