"""Objects, edges, fields, paging, modifiers: what a GET gets."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.emulator.conftest import TOKEN, Asker, Opening


async def test_an_object_shows_its_default_fields(asker: Asker) -> None:
    """Any numeric id is an object, and its body names the viewer."""
    reply = await asker.get("/v25.0/111")
    assert (reply.status, reply.json["id"]) == (200, "111")
    assert reply.json["viewer"] != (await asker.get("/v25.0/111", "another")).json["viewer"]
    assert reply.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert reply.headers["Cache-Control"] == "private, no-cache, no-store, must-revalidate"


async def test_fields_come_in_the_asked_order_with_the_id_last(asker: Asker) -> None:
    """The order of keys is the caller's."""
    reply = await asker.get("/v25.0/111", params={"fields": "updated_time,link,name"})
    assert list(reply.json) == ["updated_time", "link", "name", "id"]
    assert r"https:\/\/www.facebook.com\/111\/caf\u00e9" in reply.text
    assert reply.json["updated_time"].endswith("+0000")


async def test_spellings_of_one_path_are_one_object(asker: Asker) -> None:
    """A trailing slash and an escaped comma change nothing."""
    one = await asker.get("/v25.0/111?fields=id,name")
    two = await asker.get("/v25.0/111/?fields=id%2Cname")
    assert one.text == two.text


@pytest.mark.parametrize("asked,told", [("", "v19.0"), ("/v25.0", "v25.0"), ("/v3.1", "v19.0")])
async def test_the_version_header_tells_the_truth(asker: Asker, asked: str, told: str) -> None:
    """An expired version is served by the oldest usable one, and no version by the default."""
    assert (await asker.get(f"{asked}/111")).headers["Facebook-API-Version"] == told


@pytest.mark.parametrize(
    "path,code,status",
    [
        ("/v25.0/1/nonsense", 100, 400),
        ("/v25.0/1?fields=nonsense", 100, 400),
        ("/v25.0/err1", 100, 400),
        ("/v25.0/404123", 100, 400),
        ("/v25.0/?ids=1,err2", 803, 404),
        ("/v25.0/1?fields=a{", 2500, 400),
        ("/v99.0/1", 2500, 400),
        ("/v25.0/1/feed?limit=x", 100, 400),
        ("/v25.0/1/feed?after=nonsense", 100, 400),
    ],
)
async def test_what_does_not_exist_is_refused(asker: Asker, path: str, code: int, status: int) -> None:
    """An error has the code, the challenge, no-store and no ETag."""
    reply = await asker.get(path)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert reply.headers["WWW-Authenticate"].startswith('OAuth "Facebook Platform" ')
    assert reply.headers["Cache-Control"] == "no-store"
    assert "ETag" not in reply.headers


async def test_several_ids_answer_under_their_names(asker: Asker) -> None:
    """`ids=` gives an object of objects, and of edges."""
    reply = await asker.get("/v25.0/?ids=2,1&fields=name")
    assert list(reply.json) == ["2", "1"]
    edges = await asker.get("/v25.0/feed?ids=2,1&limit=1")
    assert len(edges.json["1"]["data"]) == 1


async def test_pages_lead_through_the_whole_edge(opening: Opening) -> None:
    """Following `next` meets every object once; the last page has cursors and no `next`."""
    asker = await opening(edge_length=7)
    path, seen, last = "/v25.0/me/feed?limit=3&appsecret_proof=x", [], {}
    while path:
        last = (await asker.get(path)).json
        seen += [item["id"] for item in last["data"]]
        link = last["paging"].get("next", "")
        assert "appsecret_proof" not in link
        path = link.removeprefix("https://graph.facebook.com")
    assert len(seen) == len(set(seen)) == 7
    assert last["paging"]["cursors"]["after"]
    assert "previous" in last["paging"]


async def test_links_hold_the_token_and_the_real_id(opening: Opening) -> None:
    """`me` is resolved, parameters are echoed, and the host is the configured one."""
    asker = await opening(link_origin="http://here:1")
    user = (await asker.get("/v25.0/me")).json["id"]
    link = urlsplit((await asker.get("/v25.0/me/feed?limit=2&fields=message")).json["paging"]["next"])
    query = parse_qs(link.query)
    assert (link.netloc, link.path) == ("here:1", f"/v25.0/{user}/feed")
    assert (query["access_token"], query["fields"], query["limit"]) == ([TOKEN], ["message"], ["2"])


async def test_nested_edges_have_paging_of_their_own(asker: Asker) -> None:
    """Field expansion pages inside the body."""
    reply = await asker.get("/v25.0/act_1/campaigns?limit=1&fields=name,ads.limit(2){id,creative{name}}&summary=true")
    ads = reply.json["data"][0]["ads"]
    assert len(ads["data"]) == 2
    assert "/ads?access_token=" in ads["paging"]["next"]
    assert reply.json["summary"] == {"total_count": 60}


async def test_pictures_are_elsewhere(asker: Asker) -> None:
    """A picture needs no token and redirects, unless told not to."""
    assert (await asker.get("/v25.0/7/picture", None)).headers["Location"].startswith("https://scontent")
    assert set((await asker.get("/v25.0/7/picture?redirect=0")).json["data"]) == {
        "height",
        "is_silhouette",
        "url",
        "width",
    }


async def test_modifiers_change_the_bytes(asker: Asker) -> None:
    """pretty, callback, debug, metadata, locale and date_format are honoured."""
    assert (await asker.get("/1?pretty=1")).text.startswith('{\n   "id"')
    wrapped = await asker.get("/1?callback=cb")
    assert wrapped.text.startswith("/**/ cb({")
    assert wrapped.headers["Content-Type"] == "text/javascript; charset=UTF-8"
    assert "messages" in (await asker.get("/1?debug=all")).json["__debug__"]
    assert (await asker.get("/1?metadata=1")).json["metadata"]["type"] == "page"
    danish = await asker.get("/1?fields=category", headers={"Accept-Language": "da-DK"})
    assert danish.json["category"] != (await asker.get("/1?fields=category")).json["category"]
    assert isinstance((await asker.get("/1?fields=created_time&date_format=U")).json["created_time"], int)
    quiet = await asker.get("/err1?suppress_http_code=1")
    assert (quiet.status, quiet.error["code"]) == (200, 100)


async def test_bodies_have_the_asked_size(opening: Opening) -> None:
    """`body_bytes` makes default bodies about so large."""
    asker = await opening(body_bytes=2048)
    assert 1800 < len((await asker.get("/v25.0/111")).text) < 2300


async def test_an_insights_job_goes_through_its_states(asker: Asker) -> None:
    """POST starts a run, polls move it, and its rows can be read when it is complete."""
    started = await asker.post("/v25.0/act_1/insights", level="ad", fields='["impressions","ad_id"]')
    run = started.json["report_run_id"]
    assert (await asker.get(f"/v25.0/{run}/insights")).error["code"] == 2601
    states = [(await asker.get(f"/v25.0/{run}/")).json["async_status"] for _ in range(5)]
    assert (states[0], states[-1]) == ("Job Not Started", "Job Completed")
    rows = await asker.get(f"/v25.0/{run}/insights")
    assert set(rows.json["data"][0]) == {"impressions", "ad_id", "date_start", "date_stop"}
    assert "X-FB-Ads-Insights-Throttle" in rows.headers


async def test_objects_change_by_themselves(opening: Opening) -> None:
    """With `change_every_s` an object has a new body in its next period."""
    now = [1_000_000.0]
    asker = await opening(clock=lambda: now[0], change_every_s=100.0)
    before = (await asker.get("/1")).text
    now[0] += 101
    assert (await asker.get("/1")).text != before


async def test_an_export_streams_so_many_bytes(asker: Asker) -> None:
    """The export path sends any amount."""
    reply = await asker.get("/v25.0/1/export?bytes=1000000")
    assert (len(reply.text), reply.headers["Content-Type"]) == (1_000_000, "application/octet-stream")
