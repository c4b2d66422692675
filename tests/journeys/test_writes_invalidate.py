"""A write through the sidecar ends freshness and flights of its object, its edges, and every list that shows it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.app import sidecar
from tests.journeys.conftest import Clock, MakeAsk, MakeGate, MakeGraph, MakeScene, SidecarSettings
from tests.journeys.talking import Scene

FRESH: dict[str, Any] = {"cache": {"fresh_s": 3600, "stale_while_revalidate_s": 3600}}
ADS = "/v25.0/act_1/ads?limit=3&fields=id,name"
TOKENS = ("ann", "bob")


async def held(here: Scene, *paths: str) -> None:
    """Everyone reads *paths*, and they are fresh."""
    for path in paths:
        for token in TOKENS:
            await here.say(path, token=token)
            assert (await here.say(path, token=token)).cache.startswith("hit"), path


async def fresh(here: Scene, path: str) -> list[bool]:
    """Whether each gets *path* without a call."""
    return [(await here.say(path, token=token)).cache.startswith("hit") for token in TOKENS]


async def first_ad(here: Scene) -> str:
    """The id of the first ad of the account."""
    return str((await here.say(ADS, token="ann")).json["data"][0]["id"])


def batch(method: str, url: str, body: str = "") -> dict[str, Any]:
    """A client's own batch with one write, and a read beside it."""
    write = {"method": method, "relative_url": url, **({"body": body} if body else {})}
    return {"method": "POST", "path": "/v25.0/", "data": {"batch": json.dumps([write, {"relative_url": "222"}])}}


@pytest.mark.parametrize(
    "write",
    [
        {"path": "/v25.0/{ad}", "method": "POST", "data": {"name": "new"}},
        {"path": "/v25.0/{ad}", "method": "DELETE"},
        {"path": "/{ad}?method=delete", "method": "GET"},
        {"path": "/?id={ad}", "method": "POST", "data": {"name": "new"}},
        {"path": "/v25.0/", "method": "POST", "data": {"id": "{ad}", "name": "new"}},
        batch("POST", "{ad}", "name=new"),
        batch("DELETE", "v25.0/{ad}"),
        batch("POST", "", "id={ad}&name=new"),
    ],
    ids=lambda write: f"{write['method']} {write['path']} {json.dumps(write.get('data', ''))[:60]}",
)
async def test_the_list_that_shows_an_object_ends_with_it(scene: MakeScene, write: dict[str, Any]) -> None:
    """After a write to an ad, the account's list of ads is asked for again, by everybody; what is apart stays fresh."""
    here = await scene(FRESH)
    ad = await first_ad(here)
    inside = f"/v25.0/?ids={ad},222&fields=id,name"
    nested = "/v25.0/act_1?fields=id,ads.limit(2){id,name}"
    shows = (f"/v25.0/{ad}?fields=name", f"/{ad}/insights", ADS, "/v25.0/act_1/ads?limit=1", inside, nested)
    apart = ("/v25.0/act_2/ads?limit=1", "/v25.0/act_1/campaigns?limit=1", "/v25.0/act_1?fields=name")
    await held(here, *shows, *apart)
    filled = json.loads(json.dumps(write).replace("{ad}", ad))
    assert (await here.say(**filled, token="eve")).status == 200
    for path in shows:
        assert await fresh(here, path) == [False, False], path
    for path in apart:
        assert await fresh(here, path) == [True, True], path


async def test_a_write_that_succeeded_unreadably(scene: MakeScene, clock: Clock) -> None:
    """A write answered by `error.original_response` was done, and one whose answer was lost may have been."""
    here = await scene(FRESH)
    ad = await first_ad(here)
    faults: tuple[dict[str, Any], ...] = (
        {"kind": "original_response", "method": "POST"},
        {"kind": "lost", "method": "POST"},
        {"kind": "refused", "code": 100, "method": "POST"},
    )
    for count, fault in enumerate(faults):
        for token in TOKENS:
            await here.say(ADS, token=token)
        assert await fresh(here, ADS) == [True, True]
        here.graph.faults.add(fault)
        await here.say(f"/v25.0/{ad}", method="POST", data={"name": f"new {count}"}, token="ann")
        here.graph.faults.clear()
        assert await fresh(here, ADS) == [False, False]
        clock.ahead += 61


@pytest.mark.parametrize("path", ["/v25.0/111", "/v25.0/"])
async def test_a_write_of_unknown_fate_may_be_done_yet(scene: MakeScene, clock: Clock, path: str) -> None:
    """Nobody knows whether Graph is still at it: for a minute what is asked for is not fresh, then it is."""
    here = await scene(FRESH)
    data = {"name": "new"} if path.endswith("111") else batch("POST", "111", "name=new")["data"]
    here.graph.faults.add({"kind": "lost", "method": "POST"} if path.endswith("111") else {"kind": "lost"})
    assert (await here.say(path, method="POST", data=data, token="eve")).status == 502
    here.graph.faults.clear()
    for _time in range(2):
        assert await fresh(here, "/v25.0/111") == [False, False]
    clock.ahead += 61
    assert await fresh(here, "/v25.0/111") == [False, False]
    assert await fresh(here, "/v25.0/111") == [True, True]


async def test_what_is_created_shows_at_once(scene: MakeScene) -> None:
    """A POST to an edge answers with an id, and the edge that it went to shows it at the next read."""
    here = await scene(FRESH)
    await held(here, ADS)
    made = await here.say("/v25.0/act_1/ads", method="POST", data={"name": "new"}, token="eve")
    for token in TOKENS:
        assert made.json["id"] in {ad["id"] for ad in (await here.say(ADS, token=token)).json["data"]}


async def test_a_write_by_number_may_be_one_to_me(scene: MakeScene) -> None:
    """Nobody has told who `me` is: what it was seen to hold may be what a write by number changes."""
    here = await scene(FRESH)
    number = (await here.say("/v25.0/me?fields=name", token="bob")).json["id"]
    mine = "/v25.0/me/feed?limit=1"
    await held(here, mine)
    made = (await here.say(f"/v25.0/{number}/feed", method="POST", data={"message": "x"}, token="eve")).json["id"]
    assert (await here.say(mine, token="bob")).json["data"][0]["id"] == made
    assert await fresh(here, mine) == [False, True]


async def test_me_and_the_number(scene: MakeScene) -> None:
    """Who writes to `/me/feed` has written to their own number, and the other way round."""
    here = await scene(FRESH)
    number = (await here.say("/v25.0/me?fields=name", token="ann")).json["id"]
    mine, theirs = "/v25.0/me/feed?limit=1", f"/v25.0/{number}/feed?limit=1"
    for write in ("/v25.0/me/feed", f"/v25.0/{number}/feed"):
        for read in (mine, theirs):
            await here.say(read, token="ann")
            assert (await here.say(read, token="ann")).cache.startswith("hit")
        made = (await here.say(write, method="POST", data={"message": write}, token="ann")).json["id"]
        for read in (mine, theirs):
            assert (await here.say(read, token="ann")).json["data"][0]["id"] == made


async def test_a_list_of_an_earlier_run(
    graph: MakeGraph, sidecar_settings: SidecarSettings, ask: MakeAsk, tmp_path: Path
) -> None:
    """A list that an earlier run has kept on disk is looked through before it is called fresh after a write."""
    behind, other = await graph(), "/v25.0/act_2/ads?limit=1"
    kept = {**FRESH["cache"], "dir": tmp_path / "kept", "key_file": tmp_path / "key"}
    settings = sidecar_settings(behind.url, cache=kept)
    async with sidecar.sidecar(settings) as front:
        caller = await ask(front.url)
        ad = (await caller.say(ADS, token="ann")).json["data"][0]["id"]
        await caller.say(other, token="ann")
    async with sidecar.sidecar(settings) as front:
        caller = await ask(front.url)
        await caller.say(f"/v25.0/{ad}", method="POST", data={"name": "new"}, token="eve")
        assert (await caller.say(other, token="ann")).cache.startswith("hit")
        heard = await caller.say(ADS, token="ann")
        assert heard.cache.startswith("fwd=stale")
        assert heard.json["data"][0]["name"] == "new"


async def test_a_read_after_a_write_joins_no_list_from_before(scene: MakeScene, gate: MakeGate) -> None:
    """The flight of a list that shows the object is closed as well: who reads after the write sees it."""
    here = await scene()
    ad = await first_ad(here)
    shut = gate(here.graph)
    shut.holds = lambda request: request.path == "/"
    before = await here.caller.start(here.say(ADS, token="ann"))
    await shut.has(1)
    await here.say(f"/v25.0/{ad}", method="POST", data={"name": "new"}, token="eve")
    after = await here.caller.start(here.say(ADS, token="ann"))
    await shut.has(2)
    shut.open()
    old, new = await asyncio.gather(*before, *after)
    assert [old.json["data"][0]["name"] == "new", new.json["data"][0]["name"] == "new"] == [False, True]


async def test_a_write_before_a_restart_is_seen_after_it(
    graph: MakeGraph, sidecar_settings: SidecarSettings, ask: MakeAsk, tmp_path: Path
) -> None:
    """What an earlier run has kept on disk and nobody has read since the write is asked for; the rest is fresh."""
    behind = await graph()
    kept = {**FRESH["cache"], "dir": tmp_path / "kept", "key_file": tmp_path / "key"}
    settings = sidecar_settings(behind.url, cache=kept)
    read, other = "/v25.0/111?fields=name", "/v25.0/222?fields=name"
    async with sidecar.sidecar(settings) as front:
        caller = await ask(front.url)
        for path in (read, other):
            await caller.say(path, token="ann")
        await caller.say("/v25.0/111", method="POST", data={"name": "new"}, token="eve")
    for _ in range(2):  # a run in which nothing happens leaves what it was told
        async with sidecar.sidecar(settings) as front:
            assert (await (await ask(front.url)).say(other, token="ann")).cache.startswith("hit")
    async with sidecar.sidecar(settings) as front:
        assert (await (await ask(front.url)).say(read, token="ann")).json["name"] == "new"
