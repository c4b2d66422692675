"""Twins: emulators with equal settings, clocks and calls, and what tells whether they were changed alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.emulator.conftest import TOKEN, Answer, Asker, Opening

NOW = 1_750_000_000.0
Step = tuple[str, str, dict[str, Any]]

WRITES: list[Step] = [
    ("POST", "/v25.0/act_1/campaigns", {"name": "A"}),
    ("POST", "/v25.0/act_1/campaigns", {"name": "B"}),
    ("POST", "/v25.0/act_1/campaigns", {"name": "A"}),
    ("POST", "/v25.0/7/feed", {"message": "Søndag"}),
    ("POST", "/v25.0/me/photos", {"message": "x"}),
    ("POST", "/v25.0/act_1/insights", {"level": "ad", "fields": "spend"}),
    ("POST", "/v25.0/8", {"name": "new"}),
    ("DELETE", "/v25.0/9", {}),
    ("POST", "/v25.0/act_1/asyncadrequestsets", {"name": "s", "ad_specs": '[{"name":"a"},{"name":"a"}]'}),
    ("POST", "/v25.0/", {"asyncbatch": '[{"relative_url":"5/copies","name":"c"}]'}),
]
BATCH = [
    {"method": "POST", "relative_url": "act_1/campaigns", "body": "name=C", "name": "c"},
    {"method": "GET", "relative_url": "{result=c:$.id}?fields=name,created_time"},
    {"method": "GET", "relative_url": "act_1/campaigns?limit=3"},
    {"method": "GET", "relative_url": "err1"},
]


async def twins(opening: Opening, **settings: Any) -> tuple[Asker, Asker]:
    """Two emulators whose clocks stand still at the same moment."""
    return await opening(clock=lambda: NOW, **settings), await opening(clock=lambda: NOW, **settings)


async def done(asker: Asker, *steps: Step) -> list[Answer]:
    """Send calls one after another."""
    form = {"access_token": TOKEN}
    return [await asker.ask(verb, path, data=form | given) for verb, path, given in steps]


async def world(asker: Asker) -> Any:
    """What writes have changed."""
    return (await asker.ask("GET", "/__emulator__/world")).json


def told(answers: list[Answer]) -> list[tuple[int, str, str | None]]:
    """All of a reply that a caller can compare."""
    return [(each.status, each.text, each.headers.get("ETag")) for each in answers]


async def test_equal_calls_get_equal_replies(opening: Opening) -> None:
    """Status, body to the last byte, ids, trace marks and ETags; and the world is the same."""
    one, other = await twins(opening)
    steps: list[Step] = [*WRITES, ("POST", "/v25.0/", {"batch": json.dumps(BATCH)}), ("GET", "/v25.0/act_1/ads", {})]
    assert told(await done(one, *steps)) == told(await done(other, *steps))
    assert await world(one) == await world(other)


async def test_another_seed_gives_other_ids(opening: Opening) -> None:
    """The ids are drawn, not counted."""
    one, other = await opening(), await opening(seed=2)
    assert (await done(one, WRITES[0]))[0].text != (await done(other, WRITES[0]))[0].text


async def test_the_order_of_different_writes_does_not_show(opening: Opening) -> None:
    """Whichever comes first, each gets the id that it gets alone; so the parts of a batch may run side by side."""
    one, other = await twins(opening, edge_order="id", async_polls=0)
    await done(one, *WRITES)
    await done(other, *reversed(WRITES))
    assert await world(one) == await world(other)
    listed: Step = ("GET", f"/v25.0/act_1/campaigns?limit=5&fields=name&access_token={TOKEN}", {})
    assert told(await done(one, listed)) == told(await done(other, listed))


async def test_alone_or_in_a_batch_a_write_does_the_same(opening: Opening) -> None:
    """The world does not tell by which way a write came, nor where its token stood."""
    one, other = await twins(opening)
    await done(one, ("POST", "/v25.0/act_1/campaigns", {"name": "A"}))
    await other.batch({"method": "POST", "relative_url": f"act_1/campaigns?access_token={TOKEN}", "body": "name=A"})
    assert await world(one) == await world(other)


async def test_the_world_tells_what_was_done(opening: Opening) -> None:
    """Created, updated, deleted, reports and sets; nothing before, and nothing of reads."""
    asker = await opening(async_polls=0)
    empty: dict[str, Any] = {"created": {}, "updated": {}, "deleted": [], "writes": [], "reports": {}, "async": {}}
    await asker.get("/v25.0/1")
    assert await world(asker) == empty
    answers = await done(asker, *WRITES)
    shown = await world(asker)
    campaign = shown["created"][answers[0].json["id"]]
    assert campaign == {"parent": "act_1", "edge": "campaigns", "values": {"name": "A"}}
    assert shown["updated"] == {"8": {"times": 1, "values": {"name": "new"}}}
    assert shown["deleted"] == ["9"]
    assert list(shown["reports"]) == [answers[5].json["report_run_id"]]
    statuses = [each["status"] for each in shown["async"][answers[8].json["id"]]["requests"]]
    assert statuses == ["success", "success"]
    assert TOKEN not in json.dumps(shown)
    await asker.ask("POST", "/__emulator__/reset")
    assert await world(asker) == empty


async def test_each_write_is_counted_as_often_as_it_was_done(opening: Opening) -> None:
    """One that was sent twice shows, one that was refused does not, and one that is done later counts then."""
    asker = await opening(async_polls=None)
    await done(asker, *WRITES[:3], ("POST", "/v25.0/err1", {"name": "x"}), WRITES[8])

    async def counted() -> dict[tuple[str, str], int]:
        return {
            (each["path"], each["values"].get("name", "")): each["count"] for each in (await world(asker))["writes"]
        }

    before = {("/act_1/asyncadrequestsets", "s"): 1, ("/act_1/campaigns", "A"): 2, ("/act_1/campaigns", "B"): 1}
    assert await counted() == before
    await asker.ask("POST", "/__emulator__/advance")
    assert await counted() == before | {("/act_1/ads", "a"): 2}


@pytest.mark.parametrize("way", ["alone", "batch"])
async def test_a_write_may_be_done_and_its_read_fail(asker: Asker, way: str) -> None:
    """The error holds the good answer, the object is there, and reads are not struck."""
    asker.graph.faults.add({"kind": "original_response", "count": 1})
    assert (await asker.get("/v25.0/1")).status == 200
    if way == "alone":
        reply = await asker.post("/v25.0/act_1/campaigns", name="A")
        status, error = reply.status, reply.error
    else:
        item = {"method": "POST", "relative_url": "act_1/campaigns", "body": "name=A"}
        (slot,) = await asker.batch(item)
        status, error = slot["code"], json.loads(slot["body"])["error"]
    assert (status, error["code"], error["type"]) == (400, 100, "FacebookApiException")
    made = error["original_response"]["id"]
    assert (await asker.get(f"/v25.0/{made}?fields=name")).json["name"] == "A"
    assert (await world(asker))["writes"][0]["count"] == 1
