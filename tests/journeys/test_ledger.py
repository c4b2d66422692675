"""The ledger against Graph's own: what /stats counts is what the emulator counted, to the last call.

Nothing that Meta has published tells whether calls count that Graph did not look at. The emulator plays both readings;
what the ledger counts for certain, and what it says may have been counted, holds for either.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.journeys.conftest import MakeGate, MakeScene
from tests.journeys.talking import Scene

RULES = {
    "merge": {"enabled": True},
    "rules": [
        {"path": "/5*", "fresh_s": 3600},
        {"path": "/6*", "stale_while_revalidate_s": 3600},
        {"path": "/", "fresh_s": 3600},
    ],
}


async def counts(here: Scene) -> dict[str, Any]:
    """What /stats says of calls, once nothing is on its way any more."""
    async with asyncio.timeout(60):
        while True:
            told: dict[str, Any] = await here.stats()
            if not (told["in_flight"] or told["queued"]):
                return told


async def counted_by_graph(here: Scene) -> int:
    """What the emulator counted."""
    ledger = (await here.caller.say(f"{here.graph.url}/__emulator__/ledger")).json
    counted: int = ledger["counted_calls"]
    return counted


async def check(here: Scene) -> dict[str, Any]:
    """The two ledgers agree, and the sidecar's adds up, as a whole and by application."""
    told = await counts(here)
    calls, avoided = told["calls"], sum(told["calls_avoided"].values())
    assert calls["counted"] <= await counted_by_graph(here) <= calls["counted"] + calls["uncertain"]
    assert calls["asked"] - avoided - calls["unsent"] + calls["own"] == calls["counted"] + calls["uncertain"]
    for lines in ("routes", "apps"):
        sums = {what: sum(line[what] for line in told[lines]) for what in ("asked", "counted", "uncertain", "avoided")}
        assert sums == {**{what: calls[what] for what in ("asked", "counted", "uncertain")}, "avoided": avoided}, lines
    return told


def batch(*operations: dict[str, Any], token: str = "ann") -> dict[str, Any]:
    """The form of an application's own batch."""
    return {"method": "POST", "data": {"access_token": token, "batch": json.dumps(operations)}}


def get(url: str, **more: Any) -> dict[str, Any]:
    """One read of a batch."""
    return {"method": "GET", "relative_url": url, **more}


def post(url: str, body: str, **more: Any) -> dict[str, Any]:
    """One write of a batch."""
    return {"method": "POST", "relative_url": url, "body": body, **more}


async def everything(here: Scene, *tokens: str) -> None:
    """Reads of all kinds, twins, several objects, batches of the application's own, writes and what passes through."""
    for token in tokens or ("ann", "bob"):
        await here.crowd(*[f"/v25.0/{number}" for number in range(100, 125)], token=token)
        await here.crowd(*["/v25.0/111"] * 20, "/v25.0/5000", "/v25.0/6000", token=token)
        await here.crowd(*[f"/v25.0/111?fields={each}" for each in ("id", "name", "id,name")], token=token)
        await here.crowd("/v25.0/?ids=1,2,3", "/v25.0/?ids=1,2,3", "/v25.0/?ids=3,4&fields=id", token=token)
        await here.crowd("/v25.0/?ids=51,52,53", token=token)
        await here.crowd("/v25.0/?ids=51,52,54", "/v25.0/6000", "/v25.0/5000", token=token)
        await here.say("/", **batch(*[get(f"{number}") for number in range(150, 205)], token=token))
        await here.say("/", **batch(get("111"), post("222", "name=x"), get("?ids=7,8,9"), get("6000"), token=token))
        chain = batch(get("me/accounts?limit=2", name="some"), get("?ids={result=some:$.data.*.id}"), token=token)
        await here.say("/", **chain)
        await here.say("/", **chain)
        await here.say("/v25.0/111", method="POST", data={"name": "y"}, token=token)
        await here.say("/v25.0/222", method="DELETE", token=token)
        await here.say("/v25.0/111/picture", token=token)
        await here.say("/v25.0/5001", token=token, headers={"Cache-Control": "only-if-cached"})
        await here.say("/v25.0/5001", token=token, headers={"Cache-Control": "no-store"})
        await here.say("/v25.0/404111", token=token)
    await here.say("/v25.0/111")
    unknown = {"access_token": "ann", "batch": '[{"relative_url":"1"},{"relative_url":"2"}]', "debug": "all"}
    await here.say("/", method="POST", data=unknown)


async def test_mixed_traffic_is_counted_as_graph_counts_it(scene: MakeScene) -> None:
    """Every kind of message, twice over: one pass fills the store, the other finds it full."""
    here = await scene(RULES)
    await everything(here)
    await everything(here)
    told = await check(here)
    assert all(told["calls_avoided"][cause] for cause in ("collapsed", "fresh", "stale"))
    assert told["calls"]["own"] >= told["replies"]["STALE"] > 0
    assert told["calls"]["uncertain"] == 0


SLOTS = {"path": "1??", "probability": 0.3}
TROUBLES: list[dict[str, Any]] = [
    {"kind": "null", **SLOTS}, {"kind": "aborted", **SLOTS}, {"kind": "error", **SLOTS},
    {"kind": "error", "code": 17, "status": 400, **SLOTS}, {"kind": "error", "code": 190, "status": 400, "id": "111"},
    {"kind": "short", "count": 2}, {"kind": "long", "count": 2}, {"kind": "cut_middle", "count": 3},
    {"kind": "lost", "count": 3, "where": "batch"}, {"kind": "lost", "count": 2, "where": "single"},
    *({"kind": kind, "count": 3} for kind in ("cut", "unavailable", "unknown", "html", "text", "empty")),
    {"kind": "error_in_200", "count": 3},
    {"kind": "batch_exception", "count": 3, "where": "batch"}, {"kind": "refused", "count": 3, "where": "batch"},
    {"kind": "refused", "code": 4, "count": 2, "where": "batch"}, {"kind": "refused", "count": 2, "where": "single"},
]  # fmt: skip
UNTOLD = frozenset({"null", "aborted", "cut", "unavailable", "unknown", "html", "text", "empty", "error_in_200",
                    "batch_exception"})  # fmt: skip
"""Kinds that Graph counts or not, for all that anybody can tell."""


def named(fault: dict[str, Any]) -> str:
    """What the test is called."""
    reading = {True: "counts", False: "does not"}.get(fault.get("counts", ""), "")
    return " ".join(str(part) for part in (fault["kind"], fault.get("code"), fault.get("where"), reading) if part)


@pytest.mark.parametrize(
    "fault",
    [
        fault | reading
        for fault in TROUBLES
        for reading in ([{"counts": True}, {"counts": False}] if fault["kind"] in UNTOLD else [{}])
    ],
    ids=named,
)
async def test_trouble_is_counted_as_far_as_can_be_known(scene: MakeScene, fault: dict[str, Any]) -> None:
    """What Graph answered counts; what it may have counted, by either reading, is what is called uncertain."""
    here = await scene(RULES, seed=7)
    here.graph.faults.add(fault)
    with contextlib.suppress(aiohttp.ClientError):  # what is cut off in the middle is handed on cut off
        await everything(here, "ann")
    here.graph.faults.clear()
    told = await check(here)
    is_told = fault.get("code") in {17, 190} or fault in TROUBLES[-1:]
    assert (told["calls"]["uncertain"] == 0) == is_told
    if fault["kind"] in {"null", "short", "long"}:
        assert told["asked_again"]
        assert told["calls"]["own"] > 0


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("settings", [{"refused_on_top": ("ann",)}, {"batch_poison_ids": ("111",)}], ids=str)
async def test_a_refused_batch_may_count(scene: MakeScene, settings: dict[str, Any], counts: bool) -> None:  # noqa: FBT001
    """And so may operations whose parents failed."""
    here = await scene(RULES, unperformed_count=counts, **settings)
    await everything(here, "ann")
    await here.say("/", **batch(get("404111", name="gone"), get("{result=gone:$.id}"), get("?ids={result=gone:$.id}")))
    assert (await check(here))["calls"]["uncertain"] > 0


async def test_a_throttle_is_counted(scene: MakeScene) -> None:
    """Graph counts a call that it answers with "too many calls"."""
    here = await scene(budget=40)
    await here.crowd(*[f"/v25.0/{number}" for number in range(100, 160)], token="ann")
    await here.crowd(*[f"/v25.0/{number}" for number in range(100, 160)], token="bob")
    await check(here)


async def test_those_who_leave_are_counted_as_what_became_of_their_calls(scene: MakeScene, gate: MakeGate) -> None:
    """Sent, or never sent: who asked and left is neither a saving nor a hole in the sum."""
    here = await scene({"upstream": {"connections": 1}})
    shut = gate(here.graph)
    (first,) = await here.caller.start(here.say("/v25.0/1", token="ann"))
    await shut.has(1)
    (twin,) = await here.caller.start(here.say("/v25.0/1", token="ann"))
    queued = await here.caller.start(here.say("/v25.0/2", token="ann"), here.say("/v25.0/3", token="ann"))
    await here.queue_of(2)
    await here.leave(first, queued[0])
    shut.open()
    await asyncio.gather(twin, queued[1])
    told = await check(here)
    assert told["calls"]["asked"] == 4
    assert told["calls"]["unsent"] == 1
    assert told["calls_avoided"]["collapsed"] == 1


async def test_graph_out_of_reach_counts_nothing(scene: MakeScene, ask: Callable[..., Any], sidecar: Any) -> None:
    """What could not leave is unsent, and what was held and stood in for it no saving."""
    del scene
    front = await sidecar("http://127.0.0.1:9")
    caller = await ask(front.url)
    assert (await caller.say("/v25.0/1", token="ann")).status == 502
    assert (await caller.say("/v25.0/1", method="POST", token="ann")).status == 502
    calls = (await caller.say(f"{front.admin_url}/stats")).json["calls"]
    assert (calls["asked"], calls["unsent"], calls["counted"]) == (2, 2, 0)
