"""What is asked in a batch reads as if it had been asked alone, cold and warm: links, usage, texts, header fields."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from proxy.core.quota.usage_headers import usage_levels
from tests.journeys.conftest import MakeScene, MakeTwins
from tests.journeys.operating import alike, assert_alike, batch, body, changes, gets, named, posts
from tests.journeys.talking import Twins
from tests.journeys.talking import assert_alike as assert_single_alike

FRESH: dict[str, Any] = {"cache": {"fresh_s": 3600}}
RULES = Path(__file__).parent.parent.parent / "config" / "rules"
OPAQUE = {"paging": {"rewrite": False}}
NESTED = "/v25.0/1?fields=id,feed.limit(2){id,comments.limit(1){id}}"
PAGE = "/v25.0/1/feed?limit=2&offset=2&fields=id"


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [NESTED, "/v25.0/1/feed?limit=2&fields=id", PAGE])
async def test_links_without_the_marks_of_a_batch(twins: MakeTwins, path: str) -> None:
    """However deep they stand and whichever way they lead, links of batched reads are those of a read of its own."""
    both = await twins(OPAQUE, batch_links="marked")
    for _time in ("cold", "warm"):
        heard = await both.alike(path, token="ann")
        assert b"next" in heard.body
        assert b"_fb_" not in heard.body
    assert both.behind.ledger.slots, "it was asked in a batch"


async def test_pages_are_followed_to_their_end(scene: MakeScene) -> None:
    """A caller that follows the links of batched reads comes to the last page."""
    here = await scene(batch_links="marked", edge_length=7)
    url, rows = "/v25.0/1/feed?limit=2&access_token=ann", 0
    while url:
        heard = await here.say(url)
        assert heard.status == 200, heard.body
        rows += len(heard.json["data"])
        url = heard.json.get("paging", {}).get("next", "")
    assert rows == 7


@pytest.mark.parametrize("beside", [[], posts("9/feed")], ids=["reads", "beside a write"])
async def test_links_in_a_batch_of_the_callers_own(twins: MakeTwins, beside: list[Any]) -> None:
    """Those of an application's own batch can be followed, too, merged reads or not."""
    both = await twins({**OPAQUE, "cache": {"fresh_s": 60}}, batch_links="marked")
    for _time in ("cold", "warm"):
        found = (
            await batch(both.through, [*gets("1/feed?limit=2&fields=id", "1/feed?limit=2&fields=name"), *beside])
        ).json
        for slot in found[:2]:
            link = urlsplit(body(slot)["paging"]["next"])
            assert "_fb_" not in link.query
            assert (await both.through.say(f"{link.path}?{link.query}")).status == 200


async def test_a_link_that_was_kept_from_before(twins: MakeTwins) -> None:
    """A link with the marks of a batch, followed alone: Graph refuses it directly, and here it is the read it was."""
    both = await twins()
    marked = "/v25.0/1/feed?_fb_batch_sig=x&limit=2&_fb_url=1"
    direct, through = await both.both(marked, token="ann")
    assert (direct.status, through.status) == (400, 200)
    assert (await both.through.say(f"{marked}&method=get", method="POST", token="ann")).status == 200


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["items", "outer", "both"])
async def test_usage_wherever_a_batch_tells_of_it(twins: MakeTwins, place: str) -> None:
    """A read tells its caller of usage as a direct one does, in every mode in which Graph is asked."""
    both = await twins({"cache": {"fresh_s": 0}}, usage_place=place, budget=1000)
    for _time in ("MISS", "REVALIDATED"):
        await both.alike("/v25.0/1", token="ann")
    for graph in (both.alone, both.behind):
        graph.world.touch("1")
    await both.alike("/v25.0/1", token="ann")  # CHANGED
    assert both.behind.ledger.slots == [1, 1, 1]


async def test_usage_of_another_token(scene: MakeScene) -> None:
    """What a batch tells of the token on top is not told to another, who hears what was told of its own."""
    here = await scene({"cache": {"fresh_s": 0}, "batch": {"window_ms": 50, "in_flight": 1}},
                       usage_place="outer", budget=100, budget_scope="token")  # fmt: skip

    def used(heard: Any) -> list[float]:
        return [gauge.percent for gauge in usage_levels(tuple(heard.headers.items()))]

    for _time in range(8):
        await here.say("/v25.0/5", token="bob")
    assert used(await here.say("/v25.0/6", token="bob")) == [9.0]
    crowd = await here.crowd(
        "/v25.0/1?access_token=ann",
        "/v25.0/2?access_token=ann",
        "/v25.0/3?access_token=bob",
        "/v25.0/4?access_token=cat",
    )
    ann, ann_too, bob, cat = map(used, crowd)
    assert len(ann) == len(ann_too) == 1
    assert bob[0] >= 9.0
    assert cat == [] or cat != bob


async def test_usage_in_a_batch_of_the_callers_own(twins: MakeTwins) -> None:
    """It stands on the reply around the slots where Graph has it, and in the slots of reads as well."""
    both = await twins({"cache": {"fresh_s": 0}}, usage_place="outer", budget=1000)
    for _time in ("cold", "warm"):
        heard = await batch(both.through, gets("1", "2"))
        assert "X-App-Usage" in heard.headers
        assert all("x-app-usage" in named(slot) for slot in heard.json)
        assert "X-App-Usage" in (await batch(both.through, [*posts("1/feed"), *gets("2")])).headers


@pytest.mark.parametrize("which", ["all", "few"])
async def test_fields_that_any_direct_reply_has(twins: MakeTwins, which: str) -> None:
    """What Graph says around the slots alone stands on the reply to a read as well, whoever answers it."""
    both = await twins(FRESH, batch_fields=which)
    for _time in ("cold", "warm"):
        direct, through = await both.both("/v25.0/1", token="ann")
        for name in ("Access-Control-Allow-Origin", "Vary", "Strict-Transport-Security"):
            assert through.headers.getall(name) == direct.headers.getall(name)


# --- texts that strict readers refuse ---------------------------------------------------------------------------------

ODD = {"half an emoji": "\\ud83d", "control": "\x01", "no UTF-8": "\udcff", "escaped twice": "\\\\ud83d"}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_odd_text_in_one_slot(scene: MakeScene, odd: str) -> None:
    """One odd slot costs one call, not a call for each of its mates, and all get what is theirs."""
    here = await scene({"batch": {"window_ms": 50, "in_flight": 1}})
    here.graph.faults.add({"kind": "odd_bytes", "where": "batch", "message": odd, "after": 1})
    paths = [f"/v25.0/{number}?access_token=ann" for number in range(1, 29)]
    heard = await here.crowd(*paths)
    assert [one.status for one in heard] == [200] * 28
    assert [json.loads(one.body.decode("utf-8", "replace"), strict=False)["id"] for one in heard] == [
        str(number) for number in range(1, 29)
    ]
    assert sum(here.slots) == 28
    assert len(here.asked) == 28


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_odd_text_in_the_answer_to_a_write(twins: MakeTwins, odd: str) -> None:
    """What a write made is told: its id stands in the slot, and nothing is told as a failure."""
    both = await twins()
    both.trouble({"kind": "odd_bytes", "where": "batch", "message": odd})
    items = [*posts("1/feed", "2/feed"), *gets("3")]
    replies = [await batch(ask, items) for ask in (both.direct, both.through)]
    direct, through = [json.loads(one.body.decode("utf-8", "replace"), strict=False) for one in replies]
    assert [slot["code"] for slot in through] == [slot["code"] for slot in direct] == [200, 200, 200]
    ids = [[json.loads(slot["body"], strict=False)["id"] for slot in found] for found in (direct, through)]
    assert ids[0] == ids[1]
    assert changes(both.behind) == changes(both.alone)
    assert both.behind.ledger.writes == both.alone.ledger.writes


async def test_an_answer_that_nobody_can_read(twins: MakeTwins) -> None:
    """Slots of writes that even lax readers cannot read are relayed byte for byte, in JSONP too."""
    both = await twins()
    both.trouble({"kind": "odd_bytes", "where": "batch", "message": '"'})
    direct, through = [await batch(ask, posts("1/feed")) for ask in (both.direct, both.through)]
    assert (through.status, through.body[:40]) == (direct.status, direct.body[:40]) == (200, through.body[:40])
    assert b"X-App-Usage" in through.body
    assert changes(both.behind) == changes(both.alone)


@pytest.mark.parametrize("odd", [ODD["half an emoji"], ODD["control"]], ids=["half an emoji", "control"])
async def test_odd_text_is_held_as_any(twins: MakeTwins, odd: str) -> None:
    """A cut emoji is no reason to fetch a feed anew: it is revalidated, and read as it was."""
    both = await twins()
    both.trouble({"kind": "odd", "message": odd})
    told = []
    for _time in ("cold", "warm"):
        direct, through = await both.both("/v25.0/1", token="ann")
        assert json.loads(through.body, strict=False) == json.loads(direct.body, strict=False)
        told.append(through.cache)
    assert told == ["fwd=uri-miss; stored", told[1]]


# --- what an operation carries, and what is said on top ---------------------------------------------------------------

PHP = ["User-Agent: fb-php-5.7.0", "Accept-Encoding: *"]


IGNORED: dict[str, Any] = {
    "PHP": PHP,
    "as a map": {"User-Agent": "fb-php-5.7.0", "Accept-Encoding": "*"},
    "types": ["Accept: application/json", "Content-Type: text/plain"],
    "a browser": [{"name": "User-Agent", "value": "Mozilla/5.0"}, {"name": "X-Anything", "value": "1"}],
    "connection": ["Connection: keep-alive"],
}


@pytest.mark.parametrize("headers", IGNORED.values(), ids=IGNORED)
async def test_operations_with_fields_that_say_nothing(twins: MakeTwins, headers: Any) -> None:
    """An operation with fields that a GET may carry is a plain read: answered rightly, then from what is held."""
    both = await twins(FRESH)
    items = [{**item, "headers": headers} for item in gets("111?fields=id,name", "?ids=1,2&fields=id", "err1")]
    await alike(both, items)
    found = await alike(both, items)
    assert named(found[0])["cache-status"].startswith("graph-sidecar; hit")
    assert (await both.through.say("/v25.0/111?fields=id,name", token="ann")).cache.startswith("hit")


TOPS = [
    {"format": "json"}, {"pretty": "0"}, {"debug": "all"}, {"locale": "da_DK"}, {"date_format": "U"},
    {"return_ssl_resources": "1"}, {"suppress_http_code": "1"}, {"format": "json", "pretty": "1", "locale": "de_DE"},
]  # fmt: skip


@pytest.mark.parametrize("top", TOPS, ids=json.dumps)
@pytest.mark.parametrize("beside", [[], posts("9/feed")], ids=["reads", "beside a write"])
async def test_what_is_said_on_top(twins: MakeTwins, top: dict[str, str], beside: list[Any]) -> None:
    """What RestFB, huandu and browsers say on top is understood: slots are Graph's, the batch is taken apart."""
    both = await twins()
    items = [*gets("111?fields=id,category,created_time", "err1", "1/feed?limit=100&fields=id"), *beside]
    for time in ("cold", "warm"):
        direct, through = await batch(both.direct, items, **top), await batch(both.through, items, **top)
        assert_alike(both, direct, through)
        assert "detail=batch" in through.headers["Cache-Status"]
        if "suppress_http_code" not in top:
            status = named(through.json[0])["cache-status"].removeprefix("graph-sidecar; fwd=")
            assert status == {"cold": "uri-miss; stored", "warm": "stale; fwd-status=304"}[time]


async def test_a_refusal_that_hides_its_status(twins: MakeTwins) -> None:
    """A batch that wants no status but 200 is refused under one."""
    both = await twins(refused_on_top=("ann",), refused_tokens=("ann",))
    for items in (gets("1", "2"), [*gets("1"), *posts("1/feed")]):
        direct, through = [await batch(ask, items, suppress_http_code="1") for ask in (both.direct, both.through)]
        assert (through.status, through.json["error"]["code"]) == (direct.status, direct.json["error"]["code"])


async def _same_error(both: Twins, path: str, **said: Any) -> None:
    direct, through = await both.both(path, token="ann", **said)
    assert_single_alike(direct, through)


# --- errors, lists, uploads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["old", "instagram"])
@pytest.mark.parametrize("code", [190, 4, 1])
async def test_errors_of_an_old_shape(twins: MakeTwins, shape: str, code: int) -> None:
    """With status 200 and without `error`, they are errors all the same: nobody is answered with one twice."""
    both = await twins({"cache": {"fresh_s": 3600}, "quota": {"enabled": False}})
    both.trouble({"kind": "error", "code": code, "status": 200, "shape": shape, "message": "no", "count": 1})
    await both.alike("/v25.0/1", token="ann")
    assert (await both.alike("/v25.0/1", token="ann")).json["id"] == "1"


@pytest.mark.parametrize(
    "fields", ["name,id,name", "name,id,name.as(x)", '["name","id","name"]', "id,link,name,id"],
)  # fmt: skip
async def test_a_field_that_is_named_twice(twins: MakeTwins, fields: str) -> None:
    """Graph's refusal names the place, and so is that of the list as it came; where Graph takes it, it is answered."""
    for refuses in (True, False):
        both = await twins({"rules": [{"path": "/*", "merge": True, "fresh_s": 60}]}, refuse_repeated_fields=refuses)
        for _time in ("cold", "warm"):
            heard = await both.alike(f"/v25.0/1?fields={fields}", token="ann")
            assert heard.status == (400 if refuses else 200)


async def test_a_callback_that_jquery_did_not_fill_in(twins: MakeTwins) -> None:
    """`callback=?` is for Graph to judge, alone, in an operation and around a batch."""
    both = await twins()
    for _time in ("cold", "warm"):
        await both.alike("/v25.0/1?callback=?", token="ann")
        await both.alike("/v25.0/1?callback=%3F", token="ann")
        await alike(both, gets("1?callback=?", "2"))
        await alike(both, gets("1", "2"), callback="?")


@pytest.mark.parametrize(
    "query, calls",
    [
        ("ids=[%22http%3A//a.dk/%3Fx=1,2,3%22,%22http%3A//b.dk/%22]", 2),
        ("ids=%5B%22http%3A%2F%2Fa.dk%2F%3Fx%3D1%2C2%22%5D", 1),
        ("ids=[%221%22,%222%22]", 2),
        ("ids[]=1&ids[]=2&ids[]=3", 3),
        ("ids=1,2", 2),
    ],
)
async def test_ids_are_counted_as_graph_counts_them(twins: MakeTwins, query: str, calls: int) -> None:
    """A comma inside a URL begins no other call, alone and in a batch."""
    both = await twins({"cache": {"fresh_s": 0}})
    await both.alike(f"/v25.0/?{query}&fields=id", token="ann")
    await alike(both, gets(f"?{query}&fields=id"))
    assert both.alone.ledger.counted_calls == both.behind.ledger.counted_calls == 2 * calls
    stats = (await both.through.say(f"{both.front.admin_url}/stats")).json
    assert stats["calls"]["asked"] == stats["calls"]["counted"] == 2 * calls


async def test_a_resumable_upload(twins: MakeTwins) -> None:
    """A session's name arrives byte for byte, the token stays in its header, and its offset is asked for each time."""
    both = await twins({"cache": {"fresh_s": 3600}, "quota": {"enabled": False}})
    opened = await both.alike("/v25.0/999/uploads?file_name=a.png&file_length=9", method="POST", token="ann")
    name = opened.json["id"]
    assert "==?sig=" in name
    who = {"Authorization": "OAuth ann"}
    offsets = []
    for offset, piece in ((0, b'{"batch":'), (9, b"[{}]}")):
        told = {**who, "file_offset": str(offset), "Content-Type": "application/octet-stream"}
        offsets.append((await both.alike(f"/v25.0/{name}", headers=who)).json["file_offset"])
        await both.alike(f"/v25.0/{name}", method="POST", headers=told, data=piece)
    assert [*offsets, (await both.alike(f"/v25.0/{name}", headers=who)).json["file_offset"]] == [0, 9, 14]
    targets = {request["target"] for request in both.behind.ledger.requests if "upload:" in request["target"]}
    assert targets == {f"/v25.0/{name}"}
    assert both.behind.ledger.slots == []


# --- what is not final, in other words --------------------------------------------------------------------------------

UNFINISHED: list[tuple[str, Any, Any]] = [
    ("status", {"video_status": "processing"}, {"video_status": "ready"}),
    ("status", {"video_status": "upload_complete"}, {"video_status": "ready"}),
    ("status", "In progress: your media is being processed", "Published: Media has been published."),
    ("operation_status", {"code": 300, "description": "Updating"}, {"code": 200, "description": "Normal"}),
    ("effective_status", "PENDING_REVIEW", "ACTIVE"),
    ("effective_status", "IN_PROCESS", "ACTIVE"),
    ("status", {"phases": [{"name": "a", "status": "new"}]}, {"phases": [{"name": "a", "status": "complete"}]}),
]


@pytest.mark.parametrize(
    "field, early, late", UNFINISHED, ids=[f"{field} {early}"[:40] for field, early, _ in UNFINISHED]
)
async def test_what_is_not_final_is_never_fresh(scene: MakeScene, field: str, early: Any, late: Any) -> None:
    """A poller sees the end at once, of an object, on an edge, among several and in a batch; the end may be fresh."""
    here = await scene(FRESH)
    row = (await here.say("/v25.0/1/videos?limit=1&fields=id", token="ann")).json["data"][0]["id"]
    reads = [
        f"/v25.0/{row}?fields=id,{field}",
        f"/v25.0/1/videos?limit=1&fields=id,{field}",
        f"/v25.0/?ids={row},2&fields=id,{field}",
    ]
    for node in (row, "2"):
        here.graph.world.touch(node, {field: late})
    for value in (early, late):
        here.graph.world.touch(row, {field: value})
        for read in reads:
            text = json.dumps((await here.say(read, token="ann")).json)
            assert json.dumps(value) in text, read
            assert json.dumps(value) in json.dumps(body((await batch(here.caller, gets(read[7:]))).json[0])), read
    assert all([(await here.say(read, token="ann")).cache.startswith("hit") for read in reads])


async def test_a_page_app_that_waits_for_its_video(scene: MakeScene) -> None:
    """By the rules that are shipped for pages, the edge that holds a video in processing is asked each time."""
    rules = tomllib.loads((RULES / "page-app.toml").read_text())["rules"]
    here = await scene({"rules": rules})
    edge = "/v25.0/1/videos?limit=1&fields=id,status"
    row = (await here.say("/v25.0/1/videos?limit=1&fields=id", token="ann")).json["data"][0]["id"]
    for status in ("upload_complete", "processing", "ready"):
        here.graph.world.touch(row, {"status": {"video_status": status}})
        assert (await here.say(edge, token="ann")).json["data"][0]["status"]["video_status"] == status
    assert (await here.say(edge, token="ann")).cache.startswith("hit")
