"""tap-facebook, a whole ETL program: discovers its catalog, copies an ad account, has reports made."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clients.conftest import MakeStage
from tests.clients.staging import Run, Stage

OBJECTS = ("campaigns", "adsets", "ads", "adcreative")
LENGTH = 12
OURS = {"graph-sidecar"}

pytestmark = pytest.mark.clients


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The tap's own settings: small pages, and a report for each of two days."""
    day = f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%dT00:00:00Z}"
    path = tmp_path / "config.json"
    settings = {
        "account_id": "1",
        "access_token": "TOK|EN",
        "include_deleted": "false",
        "start_date": day,
        "end_date": day,
        "insights_buffer_days": 1,
        "result_return_limit": 5,
    }
    path.write_text(json.dumps(settings))
    return str(path)


async def selected(at: Stage, config: str, folder: Path, *streams: str) -> str:
    """A catalog as the tap discovers it, with every field of these streams selected."""
    catalog = json.loads((await at.directly("tap.py", "--config", config, "--discover")).text)
    for stream in catalog["streams"]:
        for each in stream["metadata"]:
            each["metadata"]["selected"] = stream["tap_stream_id"] in streams
    path = folder / "catalog.json"
    path.write_text(json.dumps(catalog))
    return str(path)


def messages(run: Run) -> list[dict[str, Any]]:
    """What the tap says, without the time at which it said it."""
    return [{name: value for name, value in told.items() if name != "time_extracted"} for told in run.said]


def records(run: Run) -> Counter[str]:
    """How many records of each stream."""
    return Counter(told["stream"] for told in run.said if told["type"] == "RECORD")


async def test_the_catalog_is_the_same(stage: MakeStage, config: str) -> None:
    """`--discover` finds its ad account and prints the same catalog through the sidecar as directly."""
    at = await stage("tap-facebook")
    arguments = ("tap.py", "--config", config, "--discover")
    alone, through = await at.directly(*arguments), await at.through(*arguments)
    assert through.text == alone.text
    assert len(through.reads) == 1


async def test_an_account_is_copied_the_same_and_revalidated_the_next_time(
    stage: MakeStage, config: str, tmp_path: Path
) -> None:
    """Every record and bookmark comes as directly; the next run, fields shuffled and batches too, moves few bytes."""
    at = await stage("tap-facebook", edge_length=LENGTH)
    arguments = ("tap.py", "--config", config, "--properties", await selected(at, config, tmp_path, *OBJECTS))
    alone, again, first, second = [await run(*arguments) for run in (at.directly, at.directly, at.through, at.through)]

    assert messages(first) == messages(second) == messages(alone)
    assert records(second) == dict.fromkeys(OBJECTS, LENGTH)
    assert first.agents == second.agents == OURS
    assert creatives(alone) != creatives(again), "the tap builds its fields out of a set"
    assert creatives(first) == creatives(second)
    assert len(creatives(second)) == LENGTH

    assert all(read.conditional for read in second.reads)
    assert second.not_modified == len(second.reads) == len(first.reads)
    assert second.bytes < first.bytes * 0.4


def creatives(run: Run) -> set[str]:
    """The reads of single creatives, which the tap asks for in batches of its own."""
    return {
        read.target for read in run.reads if read.packed and "thumbnail" in read.target and "act_" not in read.target
    }


async def test_reports_are_made_and_copied_the_same(stage: MakeStage, config: str, tmp_path: Path) -> None:
    """Each run has reports of its own made and copies every row of them, though reads are fresh for a minute."""
    at = await stage("tap-facebook", settings={"cache": {"fresh_s": 60}}, report_polls=0)
    arguments = ("tap.py", "--config", config, "--properties", await selected(at, config, tmp_path, "ads_insights"))
    alone = await at.directly(*arguments)
    for _ in range(2):
        through = await at.through(*arguments)
        assert messages(through) == messages(alone)
        assert records(through)["ads_insights"] >= 10
        assert through.ledger["writes"] == alone.ledger["writes"] == [
            {"method": "POST", "path": "/act_1/insights", "count": 2}
        ]  # fmt: skip


async def test_a_throttle_is_over_when_it_is_over_directly(stage: MakeStage, config: str, tmp_path: Path) -> None:
    """The tap's own backoff gets the next answer of Graph's, and no refusal from here: five seconds, not forty."""
    at = await stage("tap-facebook", edge_length=LENGTH)
    arguments = ("tap.py", "--config", config, "--properties", await selected(at, config, tmp_path, "campaigns"))
    at.trouble(kind="throttled", code=17, count=1, after=1)
    alone, through = await asyncio.gather(at.directly(*arguments), at.through(*arguments))
    assert messages(through) == messages(alone)
    assert through.ledger["throttled_calls"] == alone.ledger["throttled_calls"] == 1
    assert through.ledger["counted_calls"] == alone.ledger["counted_calls"]
    async with aiohttp.ClientSession() as session, session.get(f"{at.front.admin_url}/stats") as told:
        assert (await told.json())["calls_avoided"].get("throttle", 0) == 0
