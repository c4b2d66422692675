"""Replicas that share a store behave as one: what they hold, what is in flight, what writes end, what Graph limits."""

from __future__ import annotations

import asyncio
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.emulator.server.webhooks import signature
from tests.journeys.conftest import MakeGraph
from tests.journeys.fleets import FRESH, TOKEN, MakeFleet, Replica, control, first_ad, is_fresh, say, until_async
from tests.shell.valkey.servers import Server, until

APP_SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
DOCS = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()


async def test_a_reply_fetched_by_one_replica_is_fresh_in_another(graph: MakeGraph, fleet: MakeFleet) -> None:
    """Graph is asked once."""
    behind = await graph()
    a, b = await fleet(behind, **FRESH)
    first = await say(a, "/v25.0/me?fields=id,name")
    second = await say(b, "/v25.0/me?fields=id,name")
    assert second.body == first.body
    assert second.cache.startswith("hit")


async def test_a_reply_fetched_by_one_replica_is_revalidated_by_another(graph: MakeGraph, fleet: MakeFleet) -> None:
    """The body comes from Graph once; the other replica gets a 304."""
    behind = await graph()
    a, b = await fleet(behind)
    await say(a, "/v25.0/me?fields=id,name")
    assert "fwd-status=304" in (await say(b, "/v25.0/me?fields=id,name")).cache


async def test_equal_reads_through_several_replicas_are_one_call(graph: MakeGraph, fleet: MakeFleet) -> None:
    """One replica asks Graph, the others wait for its answer."""
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


async def test_after_a_write_without_an_answer_every_replica_asks_graph(graph: MakeGraph, fleet: MakeFleet) -> None:
    """Graph may have performed the write, so no entry of its object is fresh."""
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


async def test_a_purge_reaches_all_replicas(graph: MakeGraph, fleet: MakeFleet) -> None:
    """An order to one ends what the others hold."""
    behind = await graph()
    a, b = await fleet(behind, **FRESH)
    path = "/v25.0/me?fields=id,name"
    for each in (a, b):
        await say(each, path)
    heard = await a.say(f"{a.running.admin_url}/purge", token="", method="POST", data=json.dumps({"path": "/me"}))
    assert heard.json["dropped"] == 1
    assert (await say(b, path)).cache.startswith("fwd=uri-miss")


async def test_a_token_refused_to_one_replica_gets_nothing_fresh_from_another(
    graph: MakeGraph, fleet: MakeFleet
) -> None:
    """The other replica asks Graph, and gives its refusal."""
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


async def test_an_event_that_meta_posts_to_one_ends_freshness_everywhere(
    graph: MakeGraph, fleet: MakeFleet, tmp_path: Path
) -> None:
    """Meta knows one address, so one replica hears of a change at Meta's own site; no other serves what was before."""
    (tmp_path / "secret").write_text(APP_SECRET)
    (tmp_path / "verify").write_text("what-meta-was-told-of-us")
    behind = await graph(app_secret=APP_SECRET, webhook_verify_token="what-meta-was-told-of-us")
    files = {"secret_file": tmp_path / "secret", "verify_token_file": tmp_path / "verify"}
    a, b, c = await fleet(behind, 3, **FRESH, webhooks=files)
    path, other = "/v25.0/111?fields=id,name", "/v25.0/222?fields=id,name"
    for each in (a, b, c):
        for read in (path, other):
            await say(each, read)
            assert await is_fresh(each, read)
    await control(behind, "touch", id="111", fields={"name": "renamed"})
    told = {"object": "page", "entry": [{"id": "111", "time": 1, "changes": [{"field": "name", "value": "renamed"}]}]}
    body = json.dumps(told).encode()
    fields = {
        "X-Hub-Signature-256": signature(body, APP_SECRET),
        "Content-Type": "application/json",
    }
    url = f"http://{a.running.webhooks}/webhooks"
    assert (await a.ask.say(url, method="POST", data=body, headers=fields)).status == 200
    for each in (a, b, c):
        await until_async(partial(shows, each, path, "renamed"))
        await until_async(partial(is_fresh, each, other))
    refused = await b.ask.say(url, method="POST", data=body, headers={**fields, "X-Hub-Signature-256": "sha256=0"})
    assert refused.status >= 400


async def shows(replica: Replica, path: str, name: str) -> bool:
    """Whether what it answers has this *name*."""
    return bool((await say(replica, path)).json["name"] == name)


async def test_the_user_of_the_docs_may_do_all_that_replicas_do(
    graph: MakeGraph, fleet: MakeFleet, store: Server, tmp_path: Path
) -> None:
    """Entries, flights, writes, purges and probes, by a user with the rights in docs/fleet.md and no others."""
    line = re.search(r"ACL SETUSER graph-sidecar on >PASSWORD (.*)", DOCS)
    assert line is not None
    assert store.ask("ACL", "SETUSER", "graph-sidecar", "on", ">a password", *line[1].split()) == b"OK"
    (tmp_path / "user").write_text("graph-sidecar\n")
    (tmp_path / "password").write_text("a password\n")
    user = {"username_file": tmp_path / "user", "password_file": tmp_path / "password"}
    behind = await graph(latency_ms=50)
    a, b = await fleet(behind, **FRESH, shared=user)
    read = "/v25.0/act_1?fields=id,name"
    await asyncio.gather(*(say(each, read) for each in (a, b)))
    ad = await first_ad(a)
    await say(b, f"/v25.0/{ad}?fields=id,name")
    await say(a, f"/v25.0/{ad}", method="POST", data={"name": "new"})
    await a.say(f"{a.running.admin_url}/purge", token="", method="POST", data=json.dumps({"path": "/act_1"}))
    behind.faults.add({"kind": "throttled", "status": 429, "retry_after_s": 1, "count": 1})
    await a.say("/v25.0/act_2?fields=id")
    await until_async(partial(is_answered, b, "/v25.0/act_2?fields=id"))
    assert [each.told["refused"] for each in (a, b)] == [0, 0]
    assert store.ask("ACL", "LOG") == []


async def is_answered(replica: Replica, path: str) -> bool:
    """Whether it answers *path*."""
    return (await replica.say(path)).status == 200


async def test_what_is_larger_than_the_store_should_hold_stays_where_it_was_fetched(
    graph: MakeGraph, fleet: MakeFleet, store: Server
) -> None:
    """A replica serves it from its own memory, another asks for it, and small ones are shared as ever."""
    behind = await graph(body_bytes=20_000)
    a, b = await fleet(behind, **FRESH, shared={"entry_kb": 1})
    large, small = "/v25.0/111", "/v25.0/me?fields=id,name"
    body = (await say(a, large)).body
    await say(a, small)
    await until(lambda: entries_in(store) == 1)
    calls = behind.ledger.counted_calls
    assert await is_fresh(a, large)
    assert await is_fresh(b, small)
    assert behind.ledger.counted_calls == calls
    assert (await say(b, large)).body == body
    assert behind.ledger.counted_calls == calls + 1
    assert entries_in(store) == 1


def entries_in(store: Server) -> int:
    """How many entries *store* has."""
    keys = store.ask("KEYS", "*:e:*")
    assert isinstance(keys, list)
    return len(keys)
