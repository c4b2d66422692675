"""Validators, in every reading of what Meta documents."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.emulator.conftest import Asker, Opening, body, named


async def test_an_etag_is_forty_quoted_hex_digits(asker: Asker) -> None:
    """It is strong, and the same for the same body."""
    one, two = await asker.get("/v25.0/1"), await asker.get("/v25.0/1")
    assert re.fullmatch(r'"[0-9a-f]{40}"', one.headers["ETag"])
    assert one.headers["ETag"] == two.headers["ETag"]


async def test_a_known_etag_is_answered_304(asker: Asker) -> None:
    """There is no body and no ETag, and it counts as a call all the same."""
    etag = (await asker.get("/v25.0/1")).headers["ETag"]
    reply = await asker.get("/v25.0/1", headers={"If-None-Match": etag})
    assert (reply.status, reply.text) == (304, "")
    assert "ETag" not in reply.headers
    assert {"Cache-Control", "Content-Type", "Expires", "Pragma"} <= set(reply.headers)
    assert asker.graph.ledger.counted_calls == 2
    assert asker.graph.ledger.not_modified["single"] == 1


async def test_a_304_says_content_length_0_on_the_wire(asker: Asker) -> None:
    """The documented sample shows it."""
    etag = (await asker.get("/v25.0/1", "T", headers={"User-Agent": ""})).headers["ETag"]
    port = int(asker.graph.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /v25.0/1?access_token=T HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIf-None-Match: {etag}\r\n\r\n"
    writer.write(head.encode())
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert raw.startswith(b"HTTP/1.1 304")
    assert b"\r\nContent-Length: 0\r\n" in raw


async def test_the_user_agent_is_part_of_the_etag(opening: Opening) -> None:
    """Two programs get two ETags, unless switched off."""
    for apart in (True, False):
        asker = await opening(etag_by_user_agent=apart)
        one = await asker.get("/1", headers={"User-Agent": "a"})
        two = await asker.get("/1", headers={"User-Agent": "b"})
        assert (one.headers["ETag"] != two.headers["ETag"]) is apart


async def test_an_item_honours_its_validator(asker: Asker) -> None:
    """A GET in a batch has an ETag, and 304 with a null body when it is sent back."""
    (first,) = await asker.batch({"method": "GET", "relative_url": "1"})
    etag = named(first)["ETag"]
    for headers in ([f"If-None-Match: {etag}"], [{"name": "If-None-Match", "value": etag}], {"if-none-match": etag}):
        (slot,) = await asker.batch({"method": "GET", "relative_url": "1", "headers": headers})
        assert (slot["code"], slot["body"]) == (304, None)
    assert asker.graph.ledger.not_modified["batch"] == 3


@pytest.mark.parametrize("formatting,pretty", [("same", False), ("compact", False), ("pretty", True)])
async def test_a_batch_may_format_differently(opening: Opening, formatting: str, *, pretty: bool) -> None:
    """Only where formatting and channel are the same is the ETag the same."""
    asker = await opening(batch_formatting=formatting, etag_by_channel=False)
    single = await asker.get("/v25.0/1")
    (slot,) = await asker.batch({"method": "GET", "relative_url": "1"})
    assert ("\n" in slot["body"]) is pretty
    assert body(slot) == single.json
    assert (named(slot)["ETag"] == single.headers["ETag"]) is not pretty


async def test_writes_have_no_etag(asker: Asker) -> None:
    """Neither alone nor in a batch."""
    assert "ETag" not in (await asker.post("/1", name="x")).headers
    (slot,) = await asker.batch({"method": "POST", "relative_url": "1", "body": "name=y"})
    assert "ETag" not in named(slot)


async def test_a_304_may_repeat_the_etag(opening: Opening) -> None:
    """The setting plays the other reading."""
    asker = await opening(etag_on_304=True)
    etag = (await asker.get("/1")).headers["ETag"]
    assert (await asker.get("/1", headers={"If-None-Match": etag})).headers["ETag"] == etag
