"""`compare.percent`: some reads are also sent to Graph as they came; differences are counted, callers notice none."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from tests.journeys.conftest import MakeGate, MakeScene
from tests.journeys.talking import Scene

READ, TOKEN = "/v25.0/111?fields=id,name", "ann-0123456789"
ALL: dict[str, Any] = {"compare": {"percent": 100}}


async def told(here: Scene, done: int) -> Any:
    """What `/stats` tells of comparisons once so many reads were compared or passed over."""
    async with asyncio.timeout(20):
        while True:
            found = (await here.stats())["compare"]
            if found["reads"] + sum(found["skipped"].values()) >= done:
                return found


async def test_nothing_is_compared_unless_the_operator_says_so(scene: MakeScene) -> None:
    """As delivered no call is made for it."""
    here = await scene()
    await here.say(READ, token=TOKEN)
    assert here.graph.ledger.counted_calls == 1
    assert (await here.stats())["compare"] == {
        "percent": 0, "reads": 0, "same": 0, "status": 0, "json": 0, "headers": 0, "aged": 0, "skipped": {},
        "routes": [],
    }  # fmt: skip


ALIKE = [
    READ,
    "/v25.0/me",
    "/v25.0/me/feed?limit=2&fields=name,id",
    "/me/feed?limit=2&pretty=1&format=json",
    "/v25.0/?ids=111,222&fields=name",
    "/v25.0/act_1/insights",
    "/v25.0/act_1/campaigns?limit=1",
    "/v25.0/err1",
    "/v25.0/111?fields=nonsense",
    "/v25.0/111/posts",
    "/v25.0/111?fields=id,posts.limit(2){id}",
]


@pytest.mark.parametrize(
    "config",
    [{}, {"batch_links": "marked", "usage_place": "both", "batch_fields": "few", "batch_formatting": "pretty"}],
)
async def test_the_sidecar_replies_as_graph_does(scene: MakeScene, config: dict[str, Any]) -> None:
    """Reads of every kind, the first time and again: no difference, and each compared read is a call of its own."""
    here = await scene(ALL, **config)
    for number, path in enumerate(ALIKE * 2):
        await here.say(path, token=TOKEN)
        found = await told(here, number + 1)
        assert found["same"] == number + 1, (path, found)
    assert (await told(here, 1))["skipped"] == {}
    calls = (await here.stats())["calls"]
    assert calls["own"] == calls["asked"]
    assert calls["counted"] == here.graph.ledger.counted_calls


DIFFERENCES: list[tuple[dict[str, Any], str, str]] = [
    ({"faults": ('{"kind":"error","where":"batch","status":400,"code":100}',)}, "status", "400, directly 200"),
    ({"faults": ('{"kind":"odd","where":"batch","message":"x"}',)}, "json", "odd"),
    ({"slot_headers": "strings"}, "headers", "facebook-api-version, etag, x-app-usage"),
]


@pytest.mark.parametrize("config, kind, place", DIFFERENCES)
async def test_a_difference_is_counted_and_told(
    scene: MakeScene, caplog: pytest.LogCaptureFixture, config: dict[str, Any], kind: str, place: str
) -> None:
    """In all and by route in `/stats` and `/metrics`, and in the log with the place, without a value or a token."""
    caplog.set_level(logging.INFO)
    here = await scene(ALL, **config)
    await here.say("/v25.0/111?fields=id", token=TOKEN)
    found = await told(here, 1)
    assert (found["reads"], found["same"], found[kind]) == (1, 0, 1)
    [row] = found["routes"]
    assert (row["route"], row["reads"], row[kind]) == ("/{id}", 1, 1)
    metrics = (await here.say(f"{here.front.admin_url}/metrics", headers={"Accept": "text/plain; version=0.0.4"})).body
    assert f'graph_sidecar_compared_reads_total{{outcome="{kind}",route="/{{id}}"}} 1.0\n'.encode() in metrics
    [line] = [record.getMessage() for record in caplog.records if record.name == "graph_sidecar.compare"]
    assert line == f"/{{id}} differs from Graph's direct reply in {kind}: {place}"
    assert TOKEN not in json.dumps(found)


async def test_what_is_fresh_by_a_rule_is_told_apart(scene: MakeScene) -> None:
    """A body that a rule allows to be old is no mistake; how often that shows is counted."""
    here = await scene({**ALL, "cache": {"fresh_s": 3600}})
    await here.say(READ, token=TOKEN)
    await told(here, 1)
    await here.say(READ, token=TOKEN)
    assert (await told(here, 2))["same"] == 2
    here.graph.world.touch("111")
    heard = await here.say(READ, token=TOKEN)
    assert heard.cache.startswith("hit")
    found = await told(here, 3)
    assert (found["same"], found["aged"], found["json"]) == (2, 1, 0)


async def test_the_caller_waits_for_no_comparison(scene: MakeScene, gate: MakeGate) -> None:
    """Its reply is there while the direct calls are under way; four at the most, other reads pass them by."""
    here = await scene(ALL)
    held = gate(here.graph)
    held.holds = lambda request: request.method == "GET"
    for number in range(6):
        heard = await here.say(f"/v25.0/11{number}?fields=id", token=TOKEN)
        assert heard.status == 200
    await held.has(4)
    assert (await here.stats())["compare"]["skipped"] == {"busy": 2}
    held.open()
    assert (await told(here, 6))["same"] == 4


@pytest.mark.parametrize("used, compared", [(50, 1), (61, 0)])
async def test_no_call_is_made_near_a_limit(scene: MakeScene, used: int, compared: int) -> None:
    """From `quota.watch_pct` on the calls that are left belong to callers."""
    here = await scene(ALL, budget=100)
    call = here.graph.ledger
    for _ in range(used - 1):
        await here.caller.say(f"{here.graph.url}/v25.0/111?fields=id", token=TOKEN)
    before = call.counted_calls
    await here.say(READ, token=TOKEN)
    found = await told(here, 1)
    assert (found["reads"], call.counted_calls - before) == (compared, 1 + compared)
    assert found["skipped"] == ({} if compared else {"limit": 1})


async def test_a_direct_call_that_is_refused_is_no_difference_and_stops_the_limit(scene: MakeScene) -> None:
    """What it says of the limit holds for callers, too."""
    here = await scene(ALL, faults=('{"kind":"throttled","where":"single"}',))
    await here.say(READ, token=TOKEN)
    found = await told(here, 1)
    assert (found["reads"], found["skipped"]) == (0, {"limit": 1})
    assert (await here.stats())["stopped"]


async def test_plain_reads_alone_are_compared(scene: MakeScene) -> None:
    """No write, no batch of the application's own, no JSONP, nothing conditional; and a cut reply is no difference."""
    here = await scene(ALL)
    await here.say("/v25.0/111", method="POST", data={"name": "x", "access_token": TOKEN})
    await here.say("/v25.0/", method="POST", data={"batch": '[{"relative_url":"111"}]', "access_token": TOKEN})
    await here.say(f"{READ}&callback=f", token=TOKEN)
    await here.say(READ, token=TOKEN, headers={"If-None-Match": '"x"'})
    assert (await told(here, 2))["skipped"] == {"form": 2}
    assert [each["method"] for each in here.asked].count("POST") <= 2
    here.graph.faults.add({"kind": "cut", "where": "single"})
    await here.say(READ, token=TOKEN)
    assert (await told(here, 3))["skipped"] == {"failed": 1, "form": 2}


async def test_the_direct_call_is_as_the_caller_sent_it(scene: MakeScene) -> None:
    """With its spelling of the read, its User-Agent and its Authorization."""
    here = await scene(ALL)
    await here.say(
        "/v25.0/111?fields=name,id&pretty=0", headers={"Authorization": f"Bearer {TOKEN}", "User-Agent": "tap"}
    )
    assert (await told(here, 1))["same"] == 1
    direct = [each for each in here.graph.ledger.requests if not each.get("slots")]
    assert [each["target"] for each in direct] == ["/v25.0/111?fields=name,id&pretty=0"]
    assert "authorization" in direct[0]["headers"]
    assert here.graph.ledger.user_agents["tap"] == 1


@pytest.mark.parametrize("fresh_s", [0, 3600])
async def test_a_share_of_the_reads(scene: MakeScene, fresh_s: int) -> None:
    """About so many percent, also of those that memory answers without a call."""
    here = await scene({"compare": {"percent": 30}, "cache": {"fresh_s": fresh_s}})
    for _ in range(200):
        await here.say("/v25.0/111?fields=id", token=TOKEN)
    found = (await here.stats())["compare"]
    assert 20 <= found["reads"] + sum(found["skipped"].values()) <= 100
