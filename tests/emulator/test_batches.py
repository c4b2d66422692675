"""Root batches: every shape in, one slot out for each operation."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from proxy.emulator import proof_of
from tests.emulator.conftest import TOKEN, Asker, Opening, body, named

ONE = {"method": "GET", "relative_url": "1"}


@pytest.mark.parametrize("path", ["/", "/v25.0", "/v25.0/", "/me", "/v25.0/123"])
async def test_a_batch_may_be_posted_anywhere(asker: Asker, path: str) -> None:
    """Root, version and object all take one."""
    (slot,) = await asker.batch(ONE, path=path)
    assert (slot["code"], body(slot)["id"]) == (200, "1")


@pytest.mark.parametrize("shape", ["form", "query", "multipart", "json", "json text", "loose"])
async def test_a_batch_comes_in_many_shapes(asker: Asker, shape: str) -> None:
    """What holds the array does not matter."""
    text = json.dumps([ONE])
    top = {"access_token": TOKEN}
    multipart = aiohttp.FormData({**top, "batch": text}, default_to_multipart=True)
    shapes: dict[str, Any] = {
        "form": {"data": {**top, "batch": text}},
        "query": {"params": {**top, "batch": text}},
        "multipart": {"data": multipart},
        "json": {"json": {**top, "batch": [ONE]}},
        "json text": {"json": {**top, "batch": text}},
        "loose": {"data": {**top, "batch": "[{'method':'get', relative_url:'1',},]"}},
    }
    (slot,) = (await asker.ask("POST", "/", **shapes[shape])).json
    assert body(slot)["id"] == "1"


@pytest.mark.parametrize("url", ["1", "/1", "1/", "1?", "1/?fields=id", "/v24.0/1", "v24.0/1?fields=id,name", "?ids=1"])
async def test_relative_urls_come_in_many_shapes(asker: Asker, url: str) -> None:
    """Slashes and versions are optional; a version inside wins."""
    (slot,) = await asker.batch({"relative_url": url})
    assert slot["code"] == 200
    assert named(slot)["Facebook-API-Version"] == ("v24.0" if "v24" in url else "v25.0")


async def test_items_look_as_captured(asker: Asker) -> None:
    """Their headers are mixed case and hold usage, and no trace marks; those are outside."""
    reply = await asker.post("/", batch=json.dumps([ONE]))
    headers = named(reply.json[0])
    assert headers["Content-Type"] == "text/javascript; charset=UTF-8"
    assert {"X-App-Usage", "ETag", "Facebook-API-Version", "Expires"} <= set(headers)
    assert not any(name.lower().startswith("x-fb-") for name in headers)
    assert "x-fb-trace-id" in reply.headers
    assert reply.headers["Content-Type"] == "application/json; charset=UTF-8"


async def test_headers_can_be_left_out(asker: Asker) -> None:
    """include_headers=false takes them from every item."""
    (slot,) = await asker.batch(ONE, include_headers="false")
    assert set(slot) == {"code", "body"}


async def test_failures_stay_in_their_slot(asker: Asker) -> None:
    """One missing object leaves its mates alone."""
    good, bad = await asker.batch(ONE, {"relative_url": "err1"})
    assert (good["code"], bad["code"]) == (200, 400)
    assert named(bad)["Cache-Control"] == "no-store"
    assert "WWW-Authenticate" in named(bad)


async def test_a_picture_is_a_redirect_without_body(asker: Asker) -> None:
    """The slot has code 302 and a Location."""
    (slot,) = await asker.batch({"relative_url": "7/picture"})
    assert (slot["code"], "body" in slot, "Location" in named(slot)) == (302, False, True)


async def test_each_operation_may_have_its_own_token(asker: Asker) -> None:
    """The top-level token is only for those without one."""
    mine, other = await asker.batch({"relative_url": "me"}, {"relative_url": "me?access_token=other"})
    assert body(mine)["id"] == (await asker.get("/me")).json["id"]
    assert body(other)["id"] == (await asker.get("/me", "other")).json["id"]


async def test_the_top_level_token_is_required(asker: Asker) -> None:
    """Even when each operation has its own; batch_app_id may stand in."""
    item = json.dumps([{"relative_url": "1?access_token=x"}])
    assert (await asker.ask("POST", "/", data={"batch": item})).error["code"] == 104
    assert (await asker.ask("POST", "/", data={"batch": item, "batch_app_id": "9"})).json[0]["code"] == 200


async def test_references_carry_results_on(asker: Asker) -> None:
    """Raw or encoded; the operation referred to answers null unless it asks not to."""
    first = {"name": "a", "relative_url": "act_1/ads?limit=2"}
    for ids in ("{result=a:$.data.*.id}", "%7Bresult%3Da%3A%24.data.*.id%7D"):
        empty, found = await asker.batch(first, {"relative_url": f"?ids={ids}"})
        assert empty is None
        assert len(body(found)) == 2
    kept, _ = await asker.batch(
        {**first, "omit_response_on_success": False}, {"relative_url": "?ids={result=a:$.data..id}"}
    )
    assert kept["code"] == 200
    assert (await asker.batch(first))[0]["code"] == 200


async def test_a_created_id_reaches_a_body(asker: Asker) -> None:
    """`$.id` of a POST can be used in the next POST."""
    _, slot = await asker.batch(
        {"method": "POST", "name": "c", "relative_url": "act_1/campaigns", "body": "name=c"},
        {"method": "POST", "relative_url": "act_1/adsets", "body": "name=s&campaign_id={result=c:$.id}"},
    )
    made = body(slot)["id"]
    assert (await asker.get(f"/{made}?fields=campaign_id")).json["campaign_id"].startswith("1201")


async def test_the_child_of_a_failure_is_null(opening: Opening) -> None:
    """Or an error with code 960, in the other reading."""
    items = (
        {"name": "a", "relative_url": "err1"},
        {"relative_url": "{result=a:$.id}"},
        {"relative_url": "1", "depends_on": "a"},
    )
    parent, *children = await (await opening()).batch(*items)
    assert (parent["code"], children) == (400, [None, None])
    _, child, _ = await (await opening(dependent_failure="960")).batch(*items)
    assert (child["code"], body(child)["error"]["code"]) == (500, 960)


async def test_forward_references_fail_the_batch(asker: Asker) -> None:
    """The words are Graph's, double spaces and all."""
    reply = await asker.post(
        "/", batch=json.dumps([{"relative_url": "{result=f:$.id}"}, {"name": "f", "relative_url": "1"}])
    )
    assert reply.status == 400
    assert reply.error["type"] == "GraphBatchException"
    assert reply.error["message"] == (
        "Request 0 cannot depend on an  unresolved request with  name f. Requests can only depend on preceding requests"
    )


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[]", "[1]", json.dumps([ONE] * 51)])
async def test_what_is_no_batch_is_refused_whole(asker: Asker, text: str) -> None:
    """An object stands in for the array, with status 400."""
    reply = await asker.post("/v25.0/", batch=text)
    assert (reply.status, reply.error["type"]) == (400, "GraphBatchException")


async def test_a_batch_in_a_batch_is_refused(asker: Asker) -> None:
    """Only its slot fails."""
    (slot,) = await asker.batch({"method": "POST", "relative_url": "/", "body": "batch=[]"})
    assert slot["code"] == 400


async def test_attached_files_reach_their_operations(asker: Asker) -> None:
    """A list of names or an object; one file may serve several operations."""
    items = [
        {"method": "POST", "name": "i", "relative_url": "act_1/adimages", "attached_files": "f1"},
        {"method": "POST", "relative_url": "act_1/adimages", "attached_files": {"File0": "f1"}},
        {"method": "POST", "relative_url": "act_1/ads", "body": "name={result=i:$.images.*.hash}"},
        {"method": "POST", "relative_url": "me/photos", "attached_files": "absent"},
    ]
    form = aiohttp.FormData({"access_token": TOKEN, "batch": json.dumps(items)})
    form.add_field("f1", b"GIF", filename="cat.gif")
    slots = (await asker.ask("POST", "/", data=form)).json
    assert set(body(slots[1])["images"]) == {"cat.gif"}
    made = body(slots[2])["id"]
    assert len((await asker.get(f"/{made}?fields=name")).json["name"]) == 32
    assert slots[3]["code"] == 400


async def test_a_batch_speaks_jsonp(asker: Asker) -> None:
    """The callback wraps the array, not the items."""
    reply = await asker.post("/", batch=json.dumps([ONE]), callback="cb")
    assert reply.text.startswith("/**/ cb([{")
    assert reply.headers["Content-Type"].startswith("text/javascript")


async def test_proofs_go_with_their_tokens(opening: Opening) -> None:
    """The top proof covers the top token; an operation with a token of its own needs its own proof."""
    asker = await opening(app_secret="s", require_proof=True)
    top = proof_of("s", TOKEN)
    own = f"1?access_token=x&appsecret_proof={proof_of('s', 'x')}"
    urls = ("1", own, "1?access_token=x", f"1?access_token=x&appsecret_proof={top}")
    slots = await asker.batch(*({"relative_url": url} for url in urls), appsecret_proof=top)
    assert [slot["code"] for slot in slots] == [200, 200, 400, 400]
    assert (await asker.batch(ONE))["error"]["message"].startswith("API calls from the server require")
    assert (await asker.batch(ONE, appsecret_proof="0"))["error"]["message"].startswith("Invalid appsecret_proof")


async def test_a_timed_proof_is_checked(opening: Opening) -> None:
    """It signs the token and the time."""
    asker = await opening(app_secret="s")
    good = {"appsecret_time": "17", "appsecret_proof": proof_of("s", TOKEN, "17")}
    assert (await asker.get("/1", params=good)).status == 200
    assert (await asker.get("/1", params={**good, "appsecret_time": "18"})).status == 400
    assert (await asker.get("/1")).status == 200
