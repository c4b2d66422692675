"""The percentiles of `/stats` are those of the durations in the log: the same measure of the same replies."""

from __future__ import annotations

import json
import math
from typing import Any

from tests.journeys.conftest import MakeScene
from tests.journeys.test_replay import Recorder, recorder

__all__ = ["recorder"]


def agrees(told: float, values: list[float], percent: int) -> bool:
    """Whether *told*, which `/stats` says, is this percentile of the log's *values*, to an eighth."""
    true = sorted(values)[math.ceil(percent / 100 * len(values)) - 1]
    return abs(told - true) <= true / 8 + 0.11  # times are counted from 0.1 ms on


async def test_percentiles_are_those_of_the_log(scene: MakeScene, recorder: Recorder) -> None:
    """Of waits for a batch and for Graph, and of whole replies by route: hits, misses and collapsed reads."""
    here = await scene({"rules": [{"path": "/5*", "fresh_s": 600}]}, latency_ms=15)
    for turn in range(12):
        crowd = [f"/v25.0/{7000 + turn * 10 + each}" for each in range(6)]
        await here.crowd(*crowd, *crowd[:3], token="ann")
        await here.say("/v25.0/5001/posts", token="ann")
    for _ in range(60):
        await here.say("/v25.0/5001/posts", token="ann")
    told: dict[str, Any] = await here.stats()
    lines = [json.loads(line) for line in recorder.lines]
    own = [line for line in lines if line["mode"] != "COALESCED"]
    for name in ("window_ms", "upstream_ms"):
        values = [line[name] for line in own if name in line]
        for percent in (50, 90, 99):
            assert agrees(told[name][f"p{percent}"], values, percent), (name, percent, told[name], sorted(values))
    assert len(told["routes"]) == 2
    for route in told["routes"]:
        values = [line["total_ms"] for line in lines if line["route"] == route["route"]]
        assert agrees(route["p50_ms"], values, 50), (route, sorted(values))
