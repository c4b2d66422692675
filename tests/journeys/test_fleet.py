"""Replicas that share a store behave as one: what they hold, what is in flight, what writes end, what Graph limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.journeys.conftest import MakeGraph
from tests.journeys.fleets import FRESH, TOKEN, MakeFleet, Replica, control, first_ad, say, until_async
from tests.shell.valkey.servers import until


async def test_what_one_has_fetched_another_serves_as_fresh(graph: MakeGraph, fleet: MakeFleet) -> None:
    """What one has fetched another serves as fresh."""
    behind = await graph()
    a, b = await fleet(behind, **FRESH)
    first = await say(a, "/v25.0/me?fields=id,name")
    second = await say(b, "/v25.0/me?fields=id,name")
    assert second.body == first.body
    assert second.cache.startswith("hit")


async def test_what_one_has_fetched_another_revalidates(graph: MakeGraph, fleet: MakeFleet) -> None:
    """What one has fetched another revalidates."""
    behind = await graph()
    a, b = await fleet(behind)
    await say(a, "/v25.0/me?fields=id,name")
    assert "fwd-status=304" in (await say(b, "/v25.0/me?fields=id,name")).cache


async def test_one_asks_for_all_who_ask_alike_at_once(graph: MakeGraph, fleet: MakeFleet) -> None:
    """One asks for all who ask alike at once."""
    behind = await graph(latency_ms=150)
    replicas = await fleet(behind, 4)
    for path in ("/v25.0/me?fields=id,name", "/v25.0/me?fields=id,name", "/v25.0/nothing_of_this_name"):
        behind.ledger.clear()
        heard = await asyncio.gather(*(each.say(path) for each in replicas for _ in range(5)))
        assert behind.ledger.counted_calls == 1, path
        assert len({each.body for each in heard}) == 1
        assert sum("collapsed" in each.cache for each in heard) == 19


WRITES: list[dict[str, Any]] = [
    {"path": "/v25.0/{ad}", "method": "POST", "data": {"name": "new"}},
    {
        "path": "/v25.0/",
        "method": "POST",
        "data": {"batch": json.dumps([{"method": "POST", "relative_url": "{ad}", "body": "name=new"}])},
    },
]


@pytest.mark.parametrize("write", WRITES, ids=["alone", "in a batch"])
async def test_after_the_answer_to_a_write_no_replica_serves_what_was_before(
    graph: MakeGraph, fleet: MakeFleet, write: dict[str, Any]
) -> None:
    """After the answer to a write no replica serves what was before."""
    behind = await graph()
    a, b, c = await fleet(behind, 3, **FRESH)
    ad = await first_ad(a)
    paths = [f"/v25.0/{ad}?fields=id,name", "/v25.0/act_1/ads?limit=3&fields=id,name"]
    for path in paths:
        for each in (a, b, c):
            await say(each, path)
            assert (await say(each, path)).cache.startswith("hit")
    await say(a, **json.loads(json.dumps(write).replace("{ad}", ad)))
    for each in (b, c, a):
        for path in paths:
            heard = await say(each, path)
            assert b'"new"' in heard.body, path


async def test_a_write_whose_answer_is_lost_leaves_doubt_everywhere(graph: MakeGraph, fleet: MakeFleet) -> None:
    """A write whose answer is lost leaves doubt everywhere."""
    behind = await graph()
    a, b = await fleet(behind, **FRESH, upstream={"reply_timeout_s": 1})
    ad = await first_ad(a)
    path = f"/v25.0/{ad}?fields=id,name"
    await say(b, path)
    assert (await say(b, path)).cache.startswith("hit")
    await control(behind, "faults", kind="lost", method="POST", count=1)
    assert (await a.say(f"/v25.0/{ad}", method="POST", data={"name": "new"})).status >= 500
    await until(lambda: b.told["log"]["open_writes"] == 1)
    for _ in range(2):
        assert not (await say(b, path)).cache.startswith("hit")


async def test_a_purge_reaches_all(graph: MakeGraph, fleet: MakeFleet) -> None:
    """A purge reaches all."""
    behind = await graph()
    a, b = await fleet(behind, **FRESH)
    path = "/v25.0/me?fields=id,name"
    for each in (a, b):
        await say(each, path)
    heard = await a.say(f"{a.running.admin_url}/purge", token="", method="POST", data=json.dumps({"path": "/me"}))
    assert heard.json["dropped"] == 1
    assert (await say(b, path)).cache.startswith("fwd=uri-miss")


async def test_a_refused_token_is_refused_by_all(graph: MakeGraph, fleet: MakeFleet) -> None:
    """A refused token is refused by all."""
    behind = await graph()
    a, b = await fleet(behind, **FRESH)
    path = "/v25.0/me?fields=id,name"
    await say(b, path)
    await control(behind, "settings", refused_tokens=[TOKEN])
    assert (await a.say("/v25.0/act_1/ads")).status == 400
    await until_async(lambda: refused(b, path))


async def refused(replica: Replica, path: str) -> bool:
    """Whether it is refused."""
    return (await replica.say(path)).status == 400


async def test_what_one_was_asked_together_another_asks_together(graph: MakeGraph, fleet: MakeFleet) -> None:
    """Merged reads: a replica widens its read by what others' callers want, and answers from what others hold."""
    behind = await graph()
    a, b = await fleet(behind, cache={"fresh_s": 600}, merge={"enabled": True})
    node = "/v25.0/act_1?fields="
    await asyncio.gather(*(say(a, node + fields) for fields in ("id,name", "id,currency", "id,timezone_name")))
    await until(lambda: b.told["log"]["records"] >= 3)
    calls = behind.ledger.counted_calls
    for fields in ("id,currency", "id,name", "id,timezone_name"):
        assert set((await say(b, node + fields)).json) == set(fields.split(","))
    assert behind.ledger.counted_calls <= calls + 1
