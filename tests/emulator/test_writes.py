"""POST, PUT and DELETE, uploads, and what later reads show of them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.emulator.conftest import TOKEN, Asker

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("verb", ["POST", "PUT"])
async def test_an_update_shows_in_the_next_read(asker: Asker, verb: str) -> None:
    """The written value replaces the generated one, and the ETag changes."""
    before = await asker.get("/v25.0/5?fields=name")
    assert (await asker.ask(verb, "/v25.0/5", data={"access_token": TOKEN, "name": "Søn & co"})).json == {
        "success": True
    }
    after = await asker.get("/v25.0/5?fields=name")
    assert after.json["name"] == "Søn & co"
    assert before.headers["ETag"] != after.headers["ETag"]


async def test_a_created_object_heads_its_edge(asker: Asker) -> None:
    """It can be read by its id and is listed first."""
    made = (await asker.post("/v25.0/act_1/campaigns", name="New", objective="X")).json["id"]
    assert (await asker.get(f"/v25.0/{made}?fields=name,objective")).json == {
        "name": "New",
        "objective": "X",
        "id": made,
    }
    listed = (await asker.get("/v25.0/act_1/campaigns?limit=2&summary=1")).json
    assert (listed["data"][0]["id"], listed["summary"]["total_count"]) == (made, 61)


async def test_a_deleted_object_is_gone(asker: Asker) -> None:
    """It is missing alone and on its edge."""
    first = (await asker.get("/v25.0/act_1/ads?limit=1")).json["data"][0]["id"]
    assert (await asker.ask("DELETE", f"/v25.0/{first}?access_token=T")).json == {"success": True}
    assert (await asker.get(f"/v25.0/{first}")).error["error_subcode"] == 33
    listed = (await asker.get("/v25.0/act_1/ads?limit=3&summary=1")).json
    assert first not in [item["id"] for item in listed["data"]]
    assert listed["summary"]["total_count"] == 59


async def test_the_method_parameter_decides(asker: Asker) -> None:
    """A GET with method=delete deletes, a POST with method=get reads."""
    assert (await asker.get("/v25.0/6?method=delete")).json == {"success": True}
    assert (await asker.get("/v25.0/6")).status == 400
    assert (await asker.post("/v25.0/7", method="get")).json["id"] == "7"


@pytest.mark.parametrize(
    "content_type,body",
    [
        (FORM, b"name=hej+%26+dav"),
        ("", b"name=hej%20%26%20dav"),
        ("application/json", b'{"name":"hej & dav","list":[]}'),
        ("text/plain", b'{"name":"hej & dav"}'),
    ],
)
async def test_bodies_are_read_in_every_shape(asker: Asker, content_type: str, body: bytes) -> None:
    """Form, JSON, or no type at all."""
    headers = {"Content-Type": content_type} if content_type else {}
    skip = [] if content_type else ["Content-Type"]
    await asker.ask("POST", f"/5?access_token={TOKEN}", data=body, headers=headers, skip_auto_headers=skip)
    assert (await asker.get("/5?fields=name")).json["name"] == "hej & dav"


async def test_a_gzipped_form_is_read(asker: Asker) -> None:
    """Mobile SDKs compress what they send."""
    body = gzip.compress(b"name=packed&access_token=T")
    await asker.ask("POST", "/5", data=body, headers={"Content-Type": FORM, "Content-Encoding": "gzip"})
    assert (await asker.get("/5?fields=name")).json["name"] == "packed"


async def test_a_get_with_an_empty_json_body_is_a_get(asker: Asker) -> None:
    """Meta's Node SDK sends `{}` with every GET."""
    assert (await asker.get("/5", json={})).json["id"] == "5"


async def test_images_are_answered_by_file_name(asker: Asker) -> None:
    """A multipart upload brings back a hash for each file."""
    form = aiohttp.FormData({"access_token": TOKEN})
    form.add_field("file0", b"PNG", filename="p.png")
    reply = await asker.ask("POST", "/v25.0/act_1/adimages", data=form)
    assert set(reply.json["images"]) == {"p.png"}
    assert len(reply.json["images"]["p.png"]["hash"]) == 32


async def test_a_flood_is_counted_and_hashed(asker: Asker) -> None:
    """A raw upload is answered with its size and its sha256."""
    piece = bytes(range(256)) * 4096

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield piece

    headers = {"Content-Type": "application/octet-stream", "Authorization": f"OAuth {TOKEN}"}
    reply = await asker.ask("POST", "/v25.0/1/videos", data=pieces(), headers=headers)
    assert reply.json["bytes"] == 12 * len(piece)
    assert reply.json["sha256"] == hashlib.sha256(piece * 12).hexdigest()
    assert asker.graph.ledger.bytes_in == 12 * len(piece)


async def test_touching_changes_an_object(asker: Asker) -> None:
    """The control call makes the next read differ."""
    before = await asker.get("/5")
    await asker.ask("POST", "/__emulator__/touch", json={"id": "5"})
    assert (await asker.get("/5")).text != before.text
    await asker.ask("POST", "/__emulator__/touch", json={"id": "5", "fields": {"name": "x"}})
    assert (await asker.get("/5")).json["name"] == "x"


async def test_crash_reports_need_no_token(asker: Asker) -> None:
    """Meta's Python SDK sends them without one."""
    assert (await asker.ask("POST", "/v25.0/999/instruments", data={"bizsdk_crash_report": "{}"})).json == {
        "success": True
    }


async def test_resets_undo_writes(asker: Asker) -> None:
    """After a reset the world is as generated."""
    before = (await asker.get("/5")).text
    await asker.post("/5", name="other")
    reset: Any = await asker.ask("POST", "/__emulator__/reset", data=json.dumps({"what": ["world"]}))
    assert reset.json == {"reset": ["world"]}
    assert (await asker.get("/5")).text == before
