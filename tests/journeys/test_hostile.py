"""Messages that no decent client sends: each is answered in Graph's shape, no token is logged, the next is served."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from tests.journeys.conftest import MakeScene, MakeScripted
from tests.journeys.talking import Scene
from tests.wires import Listener, Message, Wire, calling, ok, said

SECRET = "EAABsecret"
TARGET = f"/v25.0/111?access_token={SECRET}"
HOST = "Host: a\r\nConnection: close\r\n"
LARGEST_LINE = 65_536


def get(target: str = TARGET, *fields: str, rest: str = "") -> bytes:
    """A GET, odd in the one thing that is given."""
    lines = [f"GET {target} HTTP/1.1", "Host: a", "Connection: close", *fields, "", rest]
    return "\r\n".join(lines).encode("latin-1")


def post(*fields: str, rest: str = "hello") -> bytes:
    """A POST whose framing is odd."""
    return "\r\n".join([f"POST {TARGET} HTTP/1.1", "Host: a", "Connection: close", *fields, "", rest]).encode()


UNREADABLE = {
    "TLS": bytes.fromhex("16030100fa010000f60303") + b"\r\n\r\n",
    "another version": f"GET {TARGET} HTTP/3.7\r\n{HOST}\r\n".encode(),
    "an unknown method": f"FROB {TARGET} HTTP/1.1\r\n{HOST}\r\n".encode(),
    "a method in lower case": f"get {TARGET} HTTP/1.1\r\n{HOST}\r\n".encode(),
    "no host": f"GET {TARGET} HTTP/1.1\r\n\r\n".encode(),
    "two hosts": get(TARGET, "Host: b"),
    "a line beyond the limit": get(f"{TARGET}&x={'a' * LARGEST_LINE}"),
    "a line of megabytes": get(f"{TARGET}&x={'a' * 5_000_000}"),
    "a field beyond the limit": get(TARGET, f"X: {'a' * (LARGEST_LINE + 1)}"),
    "thousands of fields": get(TARGET, *(f"X-{number}: 1" for number in range(5000))),
    "NUL in the target": get(f"{TARGET}\0"),
    "a space in the target": get(f"/v25.0/1 11?access_token={SECRET}"),
    "no slash": get(TARGET[1:]),
    "no path": get(f"?access_token={SECRET}"),
    "a star": get("*"),
    "half an IPv6 address": get(f"http://[::1{TARGET}"),
    "an impossible port": get(f"http://a:99999999{TARGET}"),
    "a field without a colon": get(TARGET, "No colon here"),
    "a space before the colon": get(TARGET, "X : 1"),
    "a folded field": get(TARGET, "X: 1\r\n 2"),
    "NUL in a field": get(TARGET, "X: a\0b"),
    "length and chunks": post("Content-Length: 5", "Transfer-Encoding: chunked", rest="0\r\n\r\n"),
    "two lengths": post("Content-Length: 5", "Content-Length: 6"),
    "a negative length": post("Content-Length: -5"),
    "a length with letters": post("Content-Length: 5x"),
    "an endless length": post("Content-Length: 99999999999999999999999"),
    "a chunk without a size": post("Transfer-Encoding: chunked", rest="zz\r\nhello\r\n"),
    "a coding that is not chunked": post("Transfer-Encoding: gzip"),
    "HTTP/0.9": f"GET {TARGET}\r\n\r\n".encode(),
    "another protocol behind ours": f"GET {TARGET} HTTP/1.1x\r\n{HOST}\r\n".encode(),
    "140 fields": get(TARGET, *(f"X-{number}: 1" for number in range(140))),
    "a field before any": f"GET {TARGET} HTTP/1.1\r\n {HOST}\r\n".encode(),
    "a field without a name": get(TARGET, ": 1"),
    "a tab in a name": get(TARGET, "X\t: 1"),
    "brackets in a name": get(TARGET, "X(y): 1"),
    "a bare CR in a field": get(TARGET, "X: a\rb"),
    "a field behind a bare CR": get(TARGET, "X: a\rContent-Length: 5"),
    "a field behind a bare LF": get(TARGET, "X: a\nContent-Length: 5"),
    "bare LF for ends of lines": f"GET {TARGET} HTTP/1.1\nHost: a\nConnection: close\n\n".encode(),
    "a bare CR in the target": f"GET {TARGET}\r HTTP/1.1\r\n{HOST}\r\n".encode(),
    "chunks and length": post("Transfer-Encoding: chunked", "Content-Length: 5", rest="0\r\n\r\n"),
    "length and chunks of a read": get(TARGET, "Content-Length: 3", "Transfer-Encoding: chunked", rest="0\r\n\r\n"),
    "a length told twice": post("Content-Length: 5", "Content-Length: 5"),
    "a list of lengths": post("Content-Length: 5, 5"),
    "a length with a sign": post("Content-Length: +5"),
    "a length in hexadecimal": post("Content-Length: 0x5"),
    "a length with an underscore": post("Content-Length: 1_0", rest="hellohello"),
    "a length of nothing": post("Content-Length:"),
    "chunks of an old client": f"POST {TARGET} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(),
    "chunked twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", rest="0\r\n\r\n"),
    "chunked within chunked": post("Transfer-Encoding: chunked, chunked", rest="0\r\n\r\n"),
    "identity": post("Transfer-Encoding: identity"),
    "chunked, then identity": post("Transfer-Encoding: chunked, identity", rest="0\r\n\r\n"),
    "identity, then chunked": post("Transfer-Encoding: identity, chunked", rest="0\r\n\r\n"),
    "gzip, then chunked": post("Transfer-Encoding: gzip, chunked", rest="0\r\n\r\n"),
    "almost chunked": post("Transfer-Encoding: xchunked", rest="0\r\n\r\n"),
    "chunked behind a vertical tab": post("Transfer-Encoding: \x0bchunked", rest="0\r\n\r\n"),
    "chunked in quotes": post('Transfer-Encoding: "chunked"', rest="0\r\n\r\n"),
    "chunked on a folded line": post("Transfer-Encoding:\r\n chunked", rest="0\r\n\r\n"),
    "chunked with a space before the colon": post("Transfer-Encoding : chunked", rest="0\r\n\r\n"),
    "no coding at all": post("Transfer-Encoding:"),
    "a chunk's size with 0x": post("Transfer-Encoding: chunked", rest="0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk's size with a sign": post("Transfer-Encoding: chunked", rest="-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk's size beyond all bounds": post(
        "Transfer-Encoding: chunked", rest="fffffffffffffffff\r\nhello\r\n0\r\n\r\n"
    ),
    "a chunk's size and a space": post("Transfer-Encoding: chunked", rest="5 \r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than its size": post("Transfer-Encoding: chunked", rest="5\r\nhelloX\r\n0\r\n\r\n"),
    "chunks with bare LF": post("Transfer-Encoding: chunked", rest="5\nhello\n0\n\n"),
    "a bare LF in a chunk's extension": post("Transfer-Encoding: chunked", rest="5;a\nb\r\nhello\r\n0\r\n\r\n"),
}
SERVED = {
    "an empty line in front": b"\r\n" + get(),
    "HTTP/1.0": f"GET {TARGET} HTTP/1.0\r\n\r\n".encode(),
    "escapes that are none": get(f"{TARGET}&x=%zz&y=%"),
    "letters that are not escaped": get(f"{TARGET}&x=\xc3\xb8\xe9"),
    "bytes that are no UTF-8": get(f"{TARGET}&x=%ff%fe"),
    "a token that is no UTF-8": get("/v25.0/111?access_token=%ff"),
    "a token in the header that is no UTF-8": get("/v25.0/111", "Authorization: Bearer \xff\xfe"),
    "a fragment": get(f"{TARGET}#there"),
    "Graph's own name": get(f"http://graph.facebook.com{TARGET}"),
    "a host that is none": f"GET {TARGET} HTTP/1.1\r\nHost: a b<c>\r\nConnection: close\r\n\r\n".encode(),
    "an empty host": f"GET {TARGET} HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n".encode(),
    "60 KB of query": get(f"{TARGET}&x={'a' * 60_000}"),
    "60 KB of a field": get(TARGET, f"X: {'a' * 60_000}"),
    "an upgrade": get(TARGET, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"),
    "an age of many digits": get(TARGET, f"Cache-Control: max-age={'9' * 5000}"),
    "an age in other digits": get(TARGET, "Cache-Control: max-age=\xd9\xa3"),
    "tags that are none": get(TARGET, 'If-None-Match: "\xff, W/'),
    "a language that is none": get(TARGET, "Accept-Language: \xff\xfe"),
}
REFUSED_BY_GRAPH = {
    "escaped control letters": get(f"/v25.0/111%00%0d%0aX:%201?access_token={SECRET}%0d%0a"),
    "dots": get(f"/v25.0/../../etc/passwd?access_token={SECRET}"),
    "slashes": get(f"//////?access_token={SECRET}"),
    "a name after two slashes": get(f"//elsewhere.test/x?access_token={SECRET}"),
    "fields that do not pair up": get(f"{TARGET}&fields=a{{b(c"),
    "fields nested deeply": get(f"{TARGET}&fields={'a{' * 10_000}{'}' * 10_000}"),
    "OPTIONS of everything": f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n".encode(),
    "TRACE": f"TRACE / HTTP/1.1\r\n{HOST}\r\n".encode(),
    "no token after Bearer": get("/v25.0/111", "Authorization: Bearer "),
    "an Authorization of nothing": get("/v25.0/111", "Authorization:"),
}


def parsed(raw: bytes) -> Message:
    """The one reply that came before the connection ended."""
    head, _, body = raw.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    found = Message.of(start, "\r\n".join(lines))
    assert len(body) == int(found.fields["Content-Length"])
    found.body = body
    return found


async def assert_served(here: Scene) -> None:
    """The sidecar goes on."""
    assert (await here.say("/v25.0/222", token="ann")).status == 200


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_cannot_be_read_is_refused(scene: MakeScene, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """A message that is no HTTP gets a 400 in Graph's shape and its connection's end; Graph never sees any of it."""
    here = await scene()
    with caplog.at_level(logging.DEBUG):
        heard = parsed(await said(here.front.url, UNREADABLE[what]))
    error = json.loads(heard.body)["error"]
    assert (heard.status, heard.fields["Content-Type"]) == (400, "application/json; charset=UTF-8")
    assert heard.start.startswith(("HTTP/1.1 ", "HTTP/1.0 "))
    assert heard.fields["Connection"] == "close"
    assert error["message"].startswith("graph-sidecar: ")
    assert error["is_transient"] is False
    assert here.graph.ledger.http_calls == 0
    assert SECRET not in caplog.text + heard.body.decode()
    assert "Traceback" not in caplog.text
    await assert_served(here)


@pytest.mark.parametrize("what", SERVED)
async def test_what_is_only_odd_is_served(scene: MakeScene, what: str) -> None:
    """What Graph would answer is answered, however unusual the way in which it is asked."""
    here = await scene()
    heard = parsed(await said(here.front.url, SERVED[what]))
    assert (heard.status, json.loads(heard.body)["id"]) == (200, "111")
    await assert_served(here)


@pytest.mark.parametrize("what", REFUSED_BY_GRAPH)
async def test_what_graph_refuses_is_for_graph_to_refuse(scene: MakeScene, what: str) -> None:
    """What can be read and makes no sense goes on, and comes back with Graph's own words and not ours."""
    here = await scene()
    heard = parsed(await said(here.front.url, REFUSED_BY_GRAPH[what]))
    assert heard.status == 400
    assert not json.loads(heard.body)["error"]["message"].startswith("graph-sidecar: ")
    await assert_served(here)


@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_a_body_that_turns_bad_is_its_senders_trouble(
    scene: MakeScene, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A chunk that cannot be read makes no whole message, holds up nobody else, and is no fault of the sidecar's."""
    here = await scene()
    async with calling(here.front.url) as wire:
        await wire.send(f"{verb} {TARGET} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n")
        await here.caller.settle()
        await wire.send("zz\r\n")
        await assert_served(here)
    await assert_served(here)
    assert here.graph.ledger.counted_calls == 2
    assert "a fault of the sidecar's own" not in caplog.text
    assert SECRET not in caplog.text


async def test_several_in_one_go_are_answered_in_their_order(scene: MakeScene) -> None:
    """A caller that does not wait for answers before it asks on gets them all, first asked first."""
    here = await scene()
    async with calling(here.front.url) as wire:
        await wire.send(*(f"GET /v25.0/{number}?access_token=t HTTP/1.1\r\nHost: a\r\n\r\n" for number in range(1, 40)))
        heard = [json.loads((await wire.message()).body)["id"] for _ in range(1, 40)]
    assert heard == [str(number) for number in range(1, 40)]


async def test_only_what_is_typed_into_a_target_is_escaped(scripted: MakeScripted) -> None:
    """The bytes that curl leaves as they were typed reach Graph escaped; a body's own first line stays as it is."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(ok("{}"))

    at, front = await scripted(serve)
    body = b"GET /\xc3\xb8 HTTP/1.1\r\n\r\n"
    async with calling(front.url) as wire:
        await wire.send(f"POST /v25.0/s\xf8g/feed HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        await wire.send(body)
        assert (await wire.message()).status == 200
    (arrived,) = at.arrived
    assert (arrived.target, arrived.body) == ("/v25.0/s%C3%B8g/feed", body)


async def test_a_message_may_come_letter_by_letter(scene: MakeScene) -> None:
    """However a network cuts a message up, it is one message."""
    here = await scene()
    async with calling(here.front.url) as wire:
        for letter in f"GET {TARGET} HTTP/1.1\r\nHost: a\r\n\r\n":
            await wire.send(letter)
            await asyncio.sleep(0)
        assert json.loads((await wire.message()).body)["id"] == "111"


async def test_half_a_message_holds_up_nobody(scene: MakeScene) -> None:
    """Who stops in the middle of a message waits alone, and can hang up without a trace."""
    here = await scene()
    for half in (f"GET {TARGET} HT", f"GET {TARGET} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{{"):
        async with calling(here.front.url) as wire:
            await wire.send(half)
            await assert_served(here)
    await assert_served(here)


def to(host: str, target: str = TARGET, fields: str = "") -> str:
    """A GET of *target* by the name *host*."""
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n"


NO_WAY = {
    "an absolute target": to("elsewhere.test", f"http://elsewhere.test{TARGET}"),
    "an absolute target behind Graph's name": to("elsewhere.test", f"http://graph.facebook.com@elsewhere.test{TARGET}"),
    "another port": to("graph.facebook.com:22"),
    "a name below Graph's": to("graph.facebook.com.elsewhere.test"),
    "this machine": to("127.0.0.1:9180"),
    "a cloud's metadata": to("169.254.169.254"),
    "several names": to("graph.facebook.com, elsewhere.test"),
    "a name that is forwarded": to(
        "a", fields="X-Forwarded-Host: elsewhere.test\r\nForwarded: host=elsewhere.test\r\n"
    ),
}


@pytest.mark.parametrize("what", NO_WAY)
async def test_no_way_leads_to_another_host(scene: MakeScene, what: str) -> None:
    """Whatever names a host that is in no list goes to Graph or nowhere, and never says that name upstream."""
    here = await scene()
    heard = parsed(await said(here.front.url, NO_WAY[what].encode()))
    assert heard.status in {200, 400, 403, 421}
    assert here.graph.ledger.http_calls == (heard.status == 200)
    await assert_served(here)


async def test_an_old_client_is_sent_no_chunks(scripted: MakeScripted) -> None:
    """HTTP/1.0 knows no chunks: what Graph streams in chunks comes to it as it is, and ends with the line."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")

    _at, front = await scripted(serve)
    heard = await said(front.url, f"GET /v25.0/1/picture?access_token={SECRET} HTTP/1.0\r\n\r\n")
    assert heard.partition(b"\r\n\r\n")[2] == b"hello"


async def test_what_graph_says_cannot_break_out(scripted: MakeScripted) -> None:
    """A header of a slot that holds a line break does not become two headers of a reply."""
    slot = {"code": 200, "headers": [{"name": "X-Odd", "value": "1\r\nSet-Cookie: a=b"}], "body": '{"id":"1"}'}

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(ok(json.dumps([slot])))

    _at, front = await scripted(serve)
    heard = await said(front.url, get())
    assert parsed(heard).status == 200
    assert b"Set-Cookie" not in heard
