"""Credentials, limits, faults: everything that goes wrong on purpose."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.emulator.conftest import TOKEN, Asker, Opening, body, named

ITEMS = [{"relative_url": str(number)} for number in range(1, 6)]


async def struck(asker: Asker, **fault: Any) -> None:
    """Put a fault in force by the control call."""
    assert (await asker.ask("POST", "/__emulator__/faults", json=fault)).status == 200


async def test_a_refused_token_is_refused_everywhere(opening: Opening) -> None:
    """Alone, in a slot and on top; the error is 190."""
    asker = await opening(refused_tokens=("bad",), refused_subcode=460)
    reply = await asker.get("/1", "bad")
    assert (reply.status, reply.error["code"], reply.error["error_subcode"]) == (400, 190, 460)
    assert '"invalid_token"' in reply.headers["WWW-Authenticate"]
    (slot,) = await asker.batch({"relative_url": "1?access_token=bad"})
    assert slot["code"] == 400
    assert (await asker.batch(*ITEMS, token="bad"))["error"]["code"] == 190


async def test_a_token_may_be_refused_only_on_top(opening: Opening) -> None:
    """It is good in a slot and alone."""
    asker = await opening(refused_on_top=("sick",))
    assert (await asker.get("/1", "sick")).status == 200
    assert (await asker.batch({"relative_url": "1?access_token=sick"}))[0]["code"] == 200
    assert (await asker.batch(*ITEMS, token="sick"))["error"]["code"] == 190


async def test_nobody_reads_only_what_is_public(opening: Opening) -> None:
    """Without a token there is 104, and on /me its own words."""
    asker = await opening(public_ids=("7",))
    assert (await asker.get("/7", None)).status == 200
    assert (await asker.get("/8", None)).error["code"] == 104
    assert "current user" in (await asker.get("/me", None)).error["message"]


@pytest.mark.parametrize("scheme", ["Bearer", "OAuth", "bearer"])
async def test_a_token_may_come_in_a_header(asker: Asker, scheme: str) -> None:
    """It stands for the same user as in the query."""
    reply = await asker.get("/me", None, headers={"Authorization": f"{scheme} {TOKEN}"})
    assert reply.json["id"] == (await asker.get("/me")).json["id"]


@pytest.mark.parametrize(
    "given, subcode",
    [({"code": 613}, 1487742), ({"code": 613, "subcode": None}, None), ({"code": 613, "subcode": 5044001}, 5044001),
     ({"code": 17}, None), ({"code": 17, "subcode": 2446079}, 2446079), ({}, None)],
)  # fmt: skip
async def test_a_throttle_says_what_it_is_told_to(asker: Asker, given: dict[str, Any], subcode: int | None) -> None:
    """Code and subcode, which may be missing, and when to come back, where it is to say so; of one edge alone."""
    await struck(asker, kind="throttled", path="7/feed", count=1, retry_after_s=3, **given)
    assert (await asker.get("/7")).status == 200
    reply = await asker.get("/7/feed")
    assert (reply.status, reply.error["code"], reply.error.get("error_subcode")) == (400, given.get("code", 4), subcode)
    assert reply.headers["Retry-After"] == "3"
    assert (await asker.get("/7/feed")).status == 200


async def test_a_throttle_may_last_for_some_seconds(opening: Opening) -> None:
    """From the first call on that it refuses; those are counted."""
    now = [1_000_000.0]
    asker = await opening(clock=lambda: now[0])
    await struck(asker, kind="throttled", seconds=10)
    heard = []
    for later in (50, 0, 9.9, 0.2):
        now[0] += later
        reply = await asker.get("/7")
        heard.append(reply.status)
        assert "Retry-After" not in reply.headers
    assert heard == [400, 400, 400, 200]
    assert (await asker.ask("GET", "/__emulator__/ledger")).json["throttled_calls"] == 3


async def test_usage_grows_until_calls_are_refused(opening: Opening) -> None:
    """Each slot, each of ids= and each 304 counts; the window gives calls back."""
    now = [1_000_000.0]
    asker = await opening(clock=lambda: now[0], budget=10, window_s=60.0, throttle_code=17)
    await asker.batch(*ITEMS)
    usage = json.loads((await asker.get("/?ids=1,2,3")).headers["X-App-Usage"])
    assert usage["call_count"] == 80
    slots = await asker.batch(*ITEMS[:3])
    assert [slot["code"] for slot in slots] == [200, 200, 400]
    assert body(slots[2])["error"]["code"] == 17
    assert asker.graph.ledger.counted_calls == 11
    now[0] += 61
    assert (await asker.get("/1")).status == 200


async def test_an_account_has_a_budget_for_each_use(opening: Opening) -> None:
    """Its insights are refused with one code and the rest with another; neither takes anything from the other."""
    asker = await opening(account_budget=1)
    for path, code in (("/act_1/insights", 80000), ("/act_1/ads", 80004)):
        assert (await asker.get(path)).status == 200
        refused = await asker.get(path)
        assert refused.error["code"] == code
        assert json.loads(refused.headers["X-Business-Use-Case-Usage"])["1"][0]["call_count"] == 100
    assert (await asker.get("/act_2/ads")).status == 200
    assert (asker.graph.ledger.counted_calls, asker.graph.ledger.throttled_calls) == (5, 2)


async def test_calls_prolong_a_block(opening: Opening) -> None:
    """Who goes over a budget is refused for `block_s`, anew with each call; the header says how many minutes."""
    now = [1_000_000.0]
    asker = await opening(clock=lambda: now[0], account_budget=1, window_s=30.0, block_s=90.0)
    seen = []
    for later in (0, 0, 60, 60, 91):
        now[0] += later
        reply = await asker.get("/act_1/ads")
        (usage,) = json.loads(reply.headers["X-Business-Use-Case-Usage"])["1"]
        seen.append((reply.status, usage["estimated_time_to_regain_access"]))
    assert seen == [(200, 0), (400, 2), (400, 2), (400, 2), (200, 0)]


async def test_account_usage_rides_on_account_calls(asker: Asker) -> None:
    """Alone and in slots."""
    alone = await asker.get("/act_1/ads?limit=1")
    assert list(json.loads(alone.headers["X-Business-Use-Case-Usage"])) == ["1"]
    (slot,) = await asker.batch({"relative_url": "act_1/ads?limit=1"})
    assert "X-Ad-Account-Usage" in named(slot)


@pytest.mark.parametrize("kind,code", [("null", None), ("aborted", 960), ("error", 1)])
async def test_a_slot_fault_spoils_one_slot(asker: Asker, kind: str, code: int | None) -> None:
    """Once, for the object that was named, and not its mates."""
    await struck(asker, kind=kind, id="3", where="batch", count=1)
    slots = await asker.batch(*ITEMS)
    assert [slot is not None and slot["code"] for slot in slots].count(200) == 4
    assert code is None or body(slots[2])["error"]["code"] == code
    assert all(slot["code"] == 200 for slot in await asker.batch(*ITEMS))
    assert (await asker.get("/3")).status == 200


@pytest.mark.parametrize("place,left", [("tail", "123"), ("middle", "145"), ("head", "345")])
async def test_an_array_may_come_short(asker: Asker, place: str, left: str) -> None:
    """At either end or in the middle."""
    await struck(asker, kind="short", slots=2, place=place)
    assert "".join(body(slot)["id"] for slot in await asker.batch(*ITEMS)) == left


async def test_an_array_may_come_long(asker: Asker) -> None:
    """With slots that nobody asked for."""
    await struck(asker, kind="long", slots=2)
    assert len(await asker.batch(*ITEMS)) == 7


@pytest.mark.parametrize(
    "fault,status,found",
    [
        ({"kind": "refused"}, 400, '"code":190'),
        ({"kind": "refused", "code": 4, "status": 403}, 403, '"code":4'),
        ({"kind": "batch_exception"}, 400, "GraphBatchException"),
        ({"kind": "unknown"}, 500, '"code":1,'),
        ({"kind": "unavailable"}, 503, '"code":2,'),
        ({"kind": "html"}, 502, "<!DOCTYPE html>"),
        ({"kind": "html", "status": 200}, 200, "<!DOCTYPE html>"),
        ({"kind": "text"}, 200, "Service Unavailable"),
        ({"kind": "empty"}, 200, ""),
        ({"kind": "error_in_200"}, 200, '{"error":'),
    ],
)
async def test_a_whole_reply_may_be_something_else(asker: Asker, fault: Any, status: int, found: str) -> None:
    """In place of the array; nothing is carried out, and a second try succeeds."""
    await struck(asker, **fault, where="batch", count=1)
    items = [{"method": "POST", "relative_url": "5", "body": "name=x"}]
    reply = await asker.post("/", batch=json.dumps(items))
    assert reply.status == status
    assert found in reply.text
    assert asker.graph.ledger.as_json()["writes"] == []
    assert (await asker.batch(*items))[0]["code"] == 200


@pytest.mark.parametrize("kind", ["cut", "lost", "cut_middle"])
async def test_a_connection_may_be_cut(asker: Asker, kind: str) -> None:
    """Before the reply or within it."""
    await struck(asker, kind=kind, count=1)
    with pytest.raises(aiohttp.ClientError):
        await asker.post("/5", name="x")
    expected = "x" if kind != "cut" else (await asker.get("/5")).json["name"]
    assert (await asker.get("/5")).json["name"] == expected


async def test_a_reply_may_drip(asker: Asker) -> None:
    """It is whole in the end."""
    await struck(asker, kind="drip", ms=20)
    assert (await asker.get("/5")).json["id"] == "5"


async def test_faults_choose_their_victims(asker: Asker) -> None:
    """By path, by method, after so many, and by the dice."""
    await struck(asker, kind="unknown", path="*/insights", after=1)
    assert [(await asker.get("/act_1/insights")).status for _ in range(3)] == [200, 500, 500]
    assert (await asker.get("/act_1")).status == 200
    assert (await asker.ask("DELETE", "/__emulator__/faults")).json == {"faults": []}
    await struck(asker, kind="unknown", probability=0.5)
    assert {(await asker.get("/1")).status for _ in range(40)} == {200, 500}


async def test_nonsense_is_no_fault(asker: Asker) -> None:
    """The control call says what is wrong."""
    assert (await asker.ask("POST", "/__emulator__/faults", json={"kind": "nonsense"})).status == 400
    assert (await asker.ask("POST", "/__emulator__/settings", json={"nonsense": 1})).status == 400
    assert (await asker.ask("GET", "/__emulator__/nonsense")).status == 404


async def test_an_object_may_spoil_batches_only(opening: Opening) -> None:
    """The whole batch, or its slot; alone it is well."""
    whole = await opening(batch_poison_ids=("3",))
    assert (await whole.post("/", batch=json.dumps(ITEMS))).status == 500
    null = await opening(batch_poison_ids=("3",), batch_poison="null")
    assert [slot is None for slot in await null.batch(*ITEMS)] == [False, False, True, False, False]
    assert (await whole.get("/3")).status == (await null.get("/3")).status == 200


async def test_faults_may_be_there_from_the_start(opening: Opening) -> None:
    """As JSON in the settings."""
    asker = await opening(faults=('{"kind": "unavailable", "count": 1}',))
    assert [(await asker.get("/1")).status for _ in range(2)] == [503, 200]


async def test_settings_change_while_it_runs(asker: Asker) -> None:
    """Secrets are set and never shown."""
    changed = await asker.ask("POST", "/__emulator__/settings", json={"refused_tokens": ["bad"], "page_size": 2})
    assert (changed.json["refused_tokens"], changed.json["page_size"]) == (True, 2)
    assert (await asker.get("/1", "bad")).status == 400
    assert len((await asker.get("/1/feed")).json["data"]) == 2


async def test_the_ledger_counts_as_meta_counts(asker: Asker) -> None:
    """Calls, slots, writes, programs and connections, and no token in clear."""
    await asker.get("/v25.0/?ids=1,2&fields=name", headers={"User-Agent": "probe", "If-None-Match": '"x"'})
    await asker.batch(*ITEMS, {"method": "POST", "relative_url": "5?access_token=two", "body": "name=x"})
    reply = await asker.ask("GET", "/__emulator__/ledger")
    told = reply.json
    assert (told["http_calls"], told["batches"], told["slots"], told["counted_calls"]) == (2, 1, [6], 8)
    assert told["writes"] == [{"method": "POST", "path": "/5", "count": 1}]
    assert sorted(told["tokens"].values()) == [1, 7]
    assert told["user_agents"]["probe"] == 1
    assert told["connections"] == 1
    assert told["requests"][0]["if_none_match"] == '"x"'
    assert told["requests"][1]["slots"][0]["relative_url"] == "1"
    assert TOKEN not in reply.text
    assert "access_token=two" not in reply.text


async def test_replies_may_be_gzipped(opening: Opening) -> None:
    """For those who accept it; the ledger counts the bytes that went over the wire."""
    asker = await opening(compress=True, body_bytes=2000)
    reply = await asker.get("/1", headers={"Accept-Encoding": "gzip"})
    assert reply.headers["Content-Encoding"] == "gzip"
    assert reply.json["id"] == "1"
    packed = asker.graph.ledger.bytes_out
    assert packed == int(reply.headers["Content-Length"])
    await asker.get("/1", headers={"Accept-Encoding": "identity"})
    assert packed < asker.graph.ledger.bytes_out - packed


async def test_latency_is_per_call(opening: Opening) -> None:
    """A batch waits once."""
    asker = await opening(latency_ms=1.0)
    assert len(await asker.batch(*ITEMS)) == 5


@pytest.mark.parametrize(
    "path",
    [
        "/v25.0/act_1/insights?time_range=x",
        "/v25.0/1/export?bytes=x",
        "/v25.0/1/picture?height=x",
        "/v25.0/1?fields[a][b]=c",
        "/v25.0/1?date_format[]=U&fields=created_time",
        "/v25.0/1/feed?limit[]=1",
        "/v25.0/1/2/3",
        "/v25.0/",
        "/?ids=",
        "/?id=7",
        "/feed?id=7",
        "/%ff%00",
        "/v25.0/act_1/insights?level=nonsense&time_increment=0",
    ],
)
async def test_nonsense_never_breaks_it(asker: Asker, path: str) -> None:
    """Every question has an answer in Graph's shape, alone and in a slot."""
    reply = await asker.get(path)
    assert reply.status in {200, 400, 404}
    assert isinstance(reply.json, dict)
    (slot,) = await asker.batch({"relative_url": path})
    assert slot["code"] == reply.status


async def test_an_insights_job_may_be_ready_at_once(opening: Opening) -> None:
    """With no polls needed, its rows can be read straight away."""
    asker = await opening(report_polls=0)
    run = (await asker.post("/v25.0/act_1/insights")).json["report_run_id"]
    assert len((await asker.get(f"/v25.0/{run}/insights")).json["data"]) == 1
    assert (await asker.get(f"/v25.0/{run}")).json["async_status"] == "Job Completed"
