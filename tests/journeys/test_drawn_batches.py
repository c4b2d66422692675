"""Drawn batches, sent to Graph itself and through the sidecar: nobody can tell the difference.

`make long` draws more of them; `DRAWN_SEED='batch 17'` plays that one alone. A failure prints its seed, and the
smallest batch that still shows it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from proxy import emulator
from proxy.app import sidecar as app_sidecar
from proxy.shell.observe.stats import stats
from tests.conftest import EFFORT
from tests.journeys.conftest import MakeAsk, MakeSidecar
from tests.journeys.drawing import Case, Item, drawn
from tests.journeys.playing import Stage, shrunk
from tests.journeys.talking import Twins

DRAWN = EFFORT.batches
PARTS = 4
"""The tests that the drawn batches are split into: several processes share them."""
SEED = os.environ.get("DRAWN_SEED", "")

LONG_ENOUGH_S = 300 + DRAWN // 5
NOW = 1_790_000_000.0


def many(test: Any) -> Any:
    """Marks a test of thousands: it may take its time."""
    return pytest.mark.timeout(LONG_ENOUGH_S)(test)


Check = Callable[[Case], Awaitable[list[str]]]


@pytest.fixture
async def twins(lifetimes: AsyncExitStack, sidecar: MakeSidecar, ask: MakeAsk) -> Twins:
    """Twins whose clocks stand still; links are left alone, and the store is in memory: thousands of plays share it."""
    alone, behind = [
        await lifetimes.enter_async_context(emulator.running(emulator.Config(), clock=lambda: NOW)) for _ in range(2)
    ]
    front = await sidecar(behind, cache={"disk_mb": 0}, paging={"rewrite": False}, batch={"window_ms": 0})
    return Twins(alone, behind, front, await ask(alone.url), await ask(front.url))


@pytest.fixture
def stage(twins: Twins) -> Stage:
    """Where cases are played."""
    return Stage(twins)


@many
@pytest.mark.parametrize("part", range(PARTS))
async def test_nobody_can_tell_a_batch_through_the_sidecar_from_one_that_went_to_graph_itself(
    twins: Twins, stage: Stage, part: int
) -> None:
    """Whatever a batch holds, its slots, its side effects and how often it writes are those of Graph's own reply."""
    for seed in _seeds("batch", DRAWN)[part::PARTS]:
        await _hold(stage.differences, drawn(seed))
    assert SEED or _ways_taken(twins.front) == {"asked", "revalidated", "collapsed", "packed"}


@many
async def test_trouble_with_reads_is_healed(stage: Stage) -> None:
    """Null and aborted slots of reads, and batches of reads that fail as a whole, come back as if nothing had been."""
    for seed in _seeds("trouble with reads", DRAWN // 4):
        await _hold(stage.differences, drawn(seed, faulty="reads"))


@many
async def test_whatever_happens_no_write_is_repeated_or_made_up_and_no_read_is_answered_wrongly(stage: Stage) -> None:
    """Slots left out or aborted, replies cut, lost, short or no JSON at all: a write happens once at most."""
    for seed in _seeds("any trouble", DRAWN // 4):
        await _hold(stage.broken_promises, drawn(seed, faulty="any"))


async def _hold(check: Check, case: Case) -> None:
    """Fail if *check* finds something, with the smallest case in which it does."""
    if not (found := await check(case)):
        return
    smallest = await shrunk(case, check)
    told = "\n".join(await check(smallest) or found)
    pytest.fail(f"DRAWN_SEED={case['seed']!r}\n{told}\nin {json.dumps(smallest, ensure_ascii=False)}", pytrace=False)


def _seeds(kind: str, count: int) -> list[str]:
    """The seeds to play: so many of this kind, or the one that was asked for."""
    if SEED:
        return [SEED] if SEED.startswith(f"{kind} ") else []
    return [f"{kind} {number}" for number in range(count)]


def _ways_taken(front: app_sidecar.Sidecar) -> set[str]:
    """The ways in which reads of the drawn batches were answered."""
    told = stats(front.telemetry)
    counts = {
        "asked": told["replies"]["MISS"],
        "revalidated": told["replies"]["REVALIDATED"],
        "collapsed": told["replies"]["COALESCED"],
        "packed": told["calls"]["batches"],
    }
    return {way for way, count in counts.items() if count}


# --- what was found once ---


def _case(*items: Item, times: int = 1, **more: Any) -> Case:
    """A case of one batch, sent so often; *more* is laid over the call, `config` and `faults` over the case."""
    call = {"path": "/v25.0", "body": "form", "top": 0, "top_in": "query", "items": list(items), **more}
    config, faults = call.pop("config", {}), call.pop("faults", [])
    return {"seed": "", "config": config, "faults": faults, "batches": [call], "steps": [["send", 0]] * times}


def _get(relative_url: str, **more: Any) -> Item:
    return {"method": "GET", "relative_url": relative_url, **more}


def _post(relative_url: str, body: str, **more: Any) -> Item:
    return {"method": "POST", "relative_url": relative_url, "body": body, **more}


FOUND = {
    "a read is not performed if what it depends on has failed": _case(
        _get("111?fields=nothing", name="c"), _get("me/adaccounts", depends_on="c")
    ),
    "in a part of a larger batch what names an operation that is not performed is not performed": _case(
        _get("err17", name="a"), *[_get("1")] * 49, _get("{result=a:$.id}", name="b"),
        _post("act_1/ads", "adset_id={result=b:$.id}"), _post("act_1/ads", "name=w1")
    ),
    "a batch refused as a whole is refused in JSONP": _case(
        _get("1"), callback="cb", config={"refused_tokens": ["<token:0>"]}
    ),
    "one read of a path that nobody knows does not refuse its neighbours": _case(_get("v99.0/111"), _get("1")),
    "the refusal of a batch shows nothing of how one read wanted its answer": _case(
        _get("1?debug=all"), config={"app_secret": "hush"}, proof="wrong"
    ),
    "a read that means something else alone stays in the batch": _case(
        _get("111?suppress_http_code=1&fields=nothing"), _get("1")
    ),
    "the order of fields that a reference walks is that of the caller": _case(
        _get("120110001?fields=status,created_time", name="a"), _post("act_1/ads", "of={result=a:$.*}")
    ),
    "what names a conditional read gets what Graph says": _case(
        _get("111", name="a", omit_response_on_success=False, **{"~tag": "strings"}),
        _get("{result=a:$.id}?fields=name"),
        times=2,
    ),
    "a chain that leads to something other than a read with a body is followed": _case(
        _get("111", name="a"), _get("{result=a:$.id}/picture"), times=2
    ),
    "a language told for the batch holds for its reads": _case(_get("me/accounts"), language="de"),
    "a chain whose batch was cut off is asked again": _case(
        _get("1?fields=status,from", name="c"), _get("?ids={result=c:$..id}&fields=name"),
        faults=[{"kind": "cut", "where": "batch", "count": 1}]
    ),
}  # fmt: skip


@pytest.mark.parametrize("promise", FOUND)
async def test_found_before(stage: Stage, promise: str) -> None:
    """What a drawn batch once showed to be different is alike."""
    assert await stage.differences(FOUND[promise]) == []


# --- the draw itself ---


def test_a_seed_draws_the_same_batch_again() -> None:
    """What failed in the night can be played again by day."""
    assert json.dumps(drawn("batch 17")) == json.dumps(drawn("batch 17"))
    assert json.dumps(drawn("batch 17")) != json.dumps(drawn("batch 18"))


async def test_a_failure_is_told_in_the_smallest_batch_that_shows_it() -> None:
    """Nobody has to read fifty operations to see which one went wrong."""

    def verbs(case: Case) -> list[str]:
        return [item["method"].upper() for item in case["batches"][0]["items"]]

    async def finds_deletes(case: Case) -> list[str]:
        await asyncio.sleep(0)
        return ["a delete"] if "DELETE" in verbs(case) else []

    large = next(case for at in range(1000) if {"DELETE", "POST"} <= set(verbs(case := drawn(f"shrinking {at}"))))
    assert verbs(await shrunk(large, finds_deletes)) == ["DELETE"]
