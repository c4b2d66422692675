"""Programs that offer HTTP/2 with each request (Java's HttpClient, `curl --http2`) are read as those that do not."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from tests.journeys.conftest import MakeScene, MakeScripted, MakeTwins
from tests.wires import Listener, Wire, calling, ok, said

OFFER = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
"""What Java's HttpClient says in each request in clear."""
LINES = "".join(f"{name}: {value}\r\n" for name, value in OFFER.items())
READ = f"GET /v25.0/111?access_token=t HTTP/1.1\r\nHost: a\r\n{LINES}\r\n"


async def test_an_offer_of_http_2_is_a_plain_read(twins: MakeTwins) -> None:
    """The reply is Graph's own, cold and warm; the second one is revalidated, as without the offer."""
    pair = await twins()
    cold = await pair.alike("/v25.0/111", token="ann", headers=OFFER)
    warm = await pair.alike("/v25.0/111", token="ann", headers=OFFER)
    assert (cold.cache, warm.cache) == ("fwd=uri-miss; stored", "fwd=stale; fwd-status=304")


async def test_reads_that_offer_http_2_share_a_batch(scene: MakeScene) -> None:
    """Five reads behind one another leave in fewer calls than five."""
    here = await scene({"batch": {"window_ms": 200}, "upstream": {"connections": 1}}, latency_ms=30)
    asked = await here.caller.start(
        *(here.say(f"/v25.0/{number}", token="ann", headers=OFFER) for number in range(1, 6))
    )
    assert [(await each).status for each in asked] == [200] * 5
    assert here.graph.ledger.http_calls < 5


@pytest.mark.parametrize("offer", ["h2c", "websocket", "TLS/1.0, HTTP/2.0"])
async def test_what_comes_behind_an_offer_is_answered(scene: MakeScene, offer: str) -> None:
    """Any protocol may be offered, and the next messages may have come in the same go."""
    here = await scene()
    async with calling(here.front.url) as wire:
        await wire.send(READ.replace("h2c", offer) * 3)
        heard = [json.loads((await wire.message()).body)["id"] for _ in range(3)]
    assert heard == ["111"] * 3


async def test_an_offer_is_not_passed_on(scripted: MakeScripted) -> None:
    """A write with the offer comes to Graph without it: it was made to the sidecar alone."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(ok('{"id":"1"}'))

    at, front = await scripted(serve)
    write = READ.replace("GET", "POST").replace("Connection: Upgrade, HTTP2-Settings", "Connection: Upgrade, close")
    assert b"200 OK" in await said(front.url, write.replace("\r\n\r\n", "\r\nContent-Length: 9\r\n\r\nmessage=x"))
    assert not {"upgrade", "http2-settings"} & {name.lower() for name in at.arrived[0].fields}


@pytest.mark.parametrize("more", [b"", b"\0\0\x06\4\0\0\0\0\0\0\4\xff\xff\xff\xff"])
async def test_http_2_without_an_offer_is_told_what_is_spoken_here(scene: MakeScene, more: bytes) -> None:
    """The preface of HTTP/2 gets a 505 in words that HTTP/1.1 is asked for, and its connection ends."""
    here = await scene()
    heard = await said(here.front.url, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + more)
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.partition(b"\r\n")[0].split(b" ")[1] == b"505"
    assert b"Connection: close" in head
    assert "HTTP/1.1" in json.loads(body)["error"]["message"]
    assert here.graph.ledger.http_calls == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_head_of_http_1_that_says_http_2_is_told_so(scene: MakeScene, method: str) -> None:
    """It gets a 505 by HTTP/1.1, and Graph sees none of it."""
    here = await scene()
    heard = await said(here.front.url, f"{method} /v25.0/1/picture?access_token=ann HTTP/2.0\r\nHost: a\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 505 ")
    assert here.graph.ledger.http_calls == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_curl_that_offers_http_2(scene: MakeScene) -> None:
    """`curl --http2` is answered, and from what is held the second time."""
    here = await scene()
    for mode in ("fwd=uri-miss; stored", "fwd=stale; fwd-status=304"):
        curl = await asyncio.create_subprocess_exec(
            "curl", "--http2", "-sS", "-i", f"{here.front.url}/v25.0/111?access_token=t", stdout=asyncio.subprocess.PIPE
        )
        told, _ = await curl.communicate()
        assert f"Cache-Status: graph-sidecar; {mode}\r\n".encode() in told
