"""Our own paths: probes that do not depend on Graph, and numbers that agree with what Graph itself counted."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from proxy.core.quota.ledger import CAUSES
from tests.journeys.conftest import MakeAsk, MakeGate, MakeScene, MakeSidecar
from tests.journeys.talking import Scene

TOKENS = ("ann", "bob")
PATHS = [f"/v25.0/{number}" for number in range(100, 130)]


async def numbers(here: Scene) -> dict[str, Any]:
    """What /stats says."""
    found: dict[str, Any] = await here.stats()
    return found


async def everything(here: Scene) -> int:
    """Ask for every path with every token, all at once; the bytes of the bodies that came."""
    heard = [each for token in TOKENS for each in await here.crowd(*PATHS, token=token)]
    assert {each.status for each in heard} == {200}
    return sum(len(each.body) for each in heard)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_probes_do_not_ask_graph(sidecar: MakeSidecar, ask: MakeAsk, path: str) -> None:
    """A Graph that is gone is no reason to restart pods or to take them out of service."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        front = await sidecar(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        caller, probe = await ask(front.url), await ask(front.admin_url)
        assert (await caller.say("/v25.0/1", token="ann")).status == 502
        heard = await probe.say(path)
    assert (heard.status, heard.body) == (200, b"ok\n")


async def test_our_paths_are_not_graphs(scene: MakeScene, ask: MakeAsk) -> None:
    """Every path of the first listener belongs to Graph, and none of Graph's is on the second."""
    here = await scene()
    assert (await here.say("/livez", token="ann")).json["error"]
    assert len(here.asked) == 1
    assert (await (await ask(here.front.admin_url)).say("/v25.0/111?access_token=ann")).status == 404
    assert len(here.asked) == 1


async def test_calls_and_round_trips_agree_with_graphs_ledger(scene: MakeScene) -> None:
    """Batches, slots and calls alone are as many as Graph received; a round trip is avoided by each slot but one."""
    here = await scene(public_ids=("7",))
    await everything(here)
    await here.say("/v25.0/7")
    told, ledger = await numbers(here), here.graph.ledger
    assert {name: told["calls"][name] for name in ("batches", "slots", "alone")} == {
        "batches": ledger.batches, "slots": sum(ledger.slots), "alone": 1
    }  # fmt: skip
    assert told["slots_per_batch"] == {str(size): ledger.slots.count(size) for size in sorted(set(ledger.slots))}
    assert told["round_trips_avoided"] == sum(ledger.slots) - ledger.batches
    assert told["calls"]["counted"] == ledger.counted_calls
    assert not any(told["calls_avoided"].values())
    assert told["bytes_avoided"] == 0


async def test_bytes_avoided_are_those_that_did_not_come(scene: MakeScene) -> None:
    """A second pass moves none of the bodies: what /stats says was avoided is what they measure, and no call less."""
    here = await scene(body_bytes=2000)
    size = await everything(here)
    first = here.graph.ledger.bytes_out
    assert await everything(here) == size
    told, ledger = await numbers(here), here.graph.ledger
    assert told["bytes_avoided"] == size
    assert ledger.bytes_out - first < size / 2
    assert ledger.not_modified["batch"] == told["replies"]["REVALIDATED"] == len(TOKENS) * len(PATHS)
    assert told["calls"]["slots"] == ledger.counted_calls == 2 * len(TOKENS) * len(PATHS)
    assert not any(told["calls_avoided"].values())


async def test_calls_avoided_are_those_that_graph_did_not_count(scene: MakeScene, gate: MakeGate) -> None:
    """Collapsed and reused reads are told apart, each as many calls as Graph would have counted: `ids=` as its ids."""
    here = await scene({"rules": [{"path": "/*", "fresh_s": 3600}, {"path": "/", "fresh_s": 3600}]})
    shut = gate(here.graph)
    twins = await here.caller.start(*(here.say("/v25.0/111", token="ann") for _ in range(10)))
    several = await here.caller.start(*(here.say("/v25.0/?ids=1,2,3", token="ann") for _ in range(3)))
    shut.open()
    await asyncio.gather(*twins, *several)
    for path, times in (("/v25.0/111", 4), ("/v25.0/?ids=1,2,3", 2)):
        for _ in range(times):
            assert (await here.say(path, token="ann")).cache.startswith("hit")
    told = await numbers(here)
    assert told["calls_avoided"] == dict.fromkeys(CAUSES, 0) | {"collapsed": 9 + 2 * 3, "fresh": 4 + 2 * 3}
    assert here.graph.ledger.counted_calls == 1 + 3
    assert told["bytes_avoided"] == 0


async def test_the_three_numbers_are_never_one(scene: MakeScene) -> None:
    """Calls, bytes and round trips are different things to Meta: nothing in /stats adds them up."""
    told = await numbers(await scene())
    assert {"calls_avoided", "bytes_avoided", "round_trips_avoided"} <= told.keys()
    assert not {"saved", "savings", "avoided", "total"} & told.keys()


async def test_every_reply_is_counted_by_how_it_came_about(scene: MakeScene) -> None:
    """The words of the modes stand in /stats, each with as many replies as went out that way."""
    here = await scene({"rules": [{"path": "/5*", "fresh_s": 3600}]})
    for path in ("/v25.0/111", "/v25.0/111", "/v25.0/555", "/v25.0/555", "/v25.0/111/picture"):
        await here.say(path, token="ann")
    here.graph.world.touch("111", {"name": "new"})
    await here.say("/v25.0/111", token="ann")
    await here.say("/v25.0/111", token="ann", method="POST", data={"name": "newer"})
    await here.say("/v25.0/999", token="ann", headers={"Cache-Control": "only-if-cached"})
    replies = {mode: count for mode, count in (await numbers(here))["replies"].items() if count}
    assert replies == {"MISS": 2, "REVALIDATED": 1, "REUSED": 1, "CHANGED": 1, "SKIPPED": 2, "FAILED": 1}


async def test_trouble_is_counted_by_its_cause(scene: MakeScene, gate: MakeGate) -> None:
    """Reads that had to be asked again are told, with the reason, and so is the queue while it lasts."""
    here = await scene({"upstream": {"connections": 1}})
    shut = gate(here.graph)
    first = await here.caller.start(here.say("/v25.0/1", token="ann"))
    await shut.has(1)
    rest = await here.caller.start(*(here.say(path, token="ann") for path in PATHS[:4]))
    await here.queue_of(4)
    here.graph.faults.add({"kind": "null", "id": "101", "count": 1})
    shut.open()
    await asyncio.gather(*first, *rest)
    told = await numbers(here)
    assert (told["asked_again"], told["queued"]) == ({"slot": 1}, 0)


async def test_the_stores_numbers_are_there(scene: MakeScene) -> None:
    """What is held, in memory and on disk, can be read while it runs."""
    here = await scene()
    await everything(here)
    store = (await numbers(here))["store"]
    assert store["memory_entries"] == len(TOKENS) * len(PATHS)
    assert store["breaker"] != "none"


async def test_the_log_is_turned_up_and_down(scene: MakeScene) -> None:
    """By query or JSON; what makes no sense changes nothing, and a page from elsewhere may not."""
    here, root = await scene(), logging.getLogger()
    before = root.level
    try:
        for said, level in (("?level=debug", "debug"), ("?level=WARNING&replies=true", "warning")):
            heard = await here.say(f"{here.front.admin_url}/log{said}", method="POST")
            assert (heard.status, heard.json["level"], root.level) == (200, level, getattr(logging, level.upper()))
        heard = await here.say(f"{here.front.admin_url}/log", method="POST", data='{"level": "info", "replies": false}')
        assert heard.json == {"level": "info", "replies": False}
        for said in ("?level=loud", "?volume=1", "?replies=perhaps"):
            assert (await here.say(f"{here.front.admin_url}/log{said}", method="POST")).status == 400
        assert (await here.say(f"{here.front.admin_url}/log", method="POST", data="[1]")).status == 400
        assert root.level == logging.INFO
        abroad = {"Origin": "https://elsewhere.example"}
        assert (await here.say(f"{here.front.admin_url}/log?level=debug", method="POST", headers=abroad)).status == 403
    finally:
        root.setLevel(before)
        logging.getLogger("graph_sidecar.reply").setLevel(logging.NOTSET)


async def test_no_token_is_told(scene: MakeScene) -> None:
    """Nothing on the admin listener names a credential."""
    here = await scene()
    await here.say("/v25.0/111", token="EAABvery-secret")
    raw = await here.caller.say(f"{here.front.admin_url}/stats")
    assert b"secret" not in raw.body
    assert raw.headers["Content-Type"].startswith("application/json")
