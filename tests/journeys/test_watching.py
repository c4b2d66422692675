"""Those who look on: what they are told is what /stats says, and they hold nothing up."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp

from tests.journeys.conftest import MakeGraph, MakeScene
from tests.journeys.processes import serving
from tests.journeys.talking import troubles
from tests.told import STATS


async def events(url: str, count: int) -> dict[str, Any]:
    """The data of the first *count* events, by name."""
    found = {}
    async with aiohttp.ClientSession() as session, session.get(f"{url}/events") as heard:
        assert heard.status == 200
        for _ in range(count):
            name, data = "", ""
            while line := (await heard.content.readuntil(b"\n")).decode().strip():
                kind, _, value = line.partition(": ")
                name, data = (value if kind == "event" else name), (value if kind == "data" else data)
            found[name] = json.loads(data)
    return found


async def test_the_sample_of_the_tests_is_like_the_real_one(scene: MakeScene) -> None:
    """Whatever the page and `top` are tested with has the names that /stats has."""
    here = await scene(budget=100)
    await here.say("/v25.0/act_1/campaigns", token="ann")
    await here.say("/v25.0/act_1/campaigns?fields=nonsense(", token="ann")
    real = await here.stats()
    for name, sample in STATS.items():
        if isinstance(sample, dict) and name not in {"slots_per_batch", "lanes", "asked_again", "paced", "stopped"}:
            assert sample.keys() <= real[name].keys(), name
        elif isinstance(sample, list):
            assert all(each.keys() == sample[0].keys() for each in real[name]), name
        assert name in real
    assert real["routes"]
    assert real["errors"]


async def test_a_sidecar_that_does_its_work_has_no_troubles(scene: MakeScene) -> None:
    """With and without a disk, and however little it has been asked."""
    for disk_mb in (0, 16):
        here = await scene({"cache": {"disk_mb": disk_mb}})
        await here.say("/v25.0/111", token="ann")
        assert troubles(await here.stats()) == []


async def test_events_tell_what_stats_say(scene: MakeScene) -> None:
    """The counts of an event are those of /stats, and the address to try is the sidecar's own."""
    here = await scene()
    await here.say("/v25.0/111", token="ann")
    told = await events(here.front.admin_url, 2)
    real = await here.stats()
    still = ("replies", "calls", "calls_avoided", "bytes_avoided", "round_trips_avoided", "routes")
    assert {name: told["stats"][name] for name in still} == {name: real[name] for name in still}
    assert told["history"]["listen"] == here.front.url
    assert told["history"]["rows"][0][told["history"]["columns"].index("replies.MISS")] == 0


async def test_lookers_do_not_hold_up_the_end(graph: MakeGraph, tmp_path: Path) -> None:
    """At SIGTERM their streams end by themselves, when all else has been seen to."""
    behind = await graph()
    async with (
        serving(behind.url, tmp_path, "drain_s=3600") as sidecar,
        aiohttp.ClientSession() as session,
        session.get(f"{sidecar.admin_url}/events") as heard,
    ):
        await heard.content.readuntil(b"event: stats")
        sidecar.signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            while await heard.content.read(65_536):
                pass
            assert await sidecar.ended() == 0
        assert "broken off" not in sidecar.said


async def test_top_shows_a_real_sidecar(scene: MakeScene) -> None:
    """The real command prints one frame where it has no terminal, with the numbers of /stats."""
    here = await scene()
    await here.crowd(*(f"/v25.0/{number}" for number in range(100, 140)), token="ann")
    top = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "proxy", "top", "--admin", here.front.admin_url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (top.returncode, top.stderr) == (0, "")
    lines = {line[:20].strip(): line[20:].split() for line in top.stdout.splitlines()}
    real = await here.stats()
    assert lines["round trips avoided"][1] == str(real["round_trips_avoided"])
    assert lines["calls Meta counted"][1] == str(real["calls"]["counted"])
