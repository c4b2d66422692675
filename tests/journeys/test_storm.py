"""A storm: thousands of callers at once and a Graph that says more, less, later and earlier than it was asked."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.conftest import EFFORT
from tests.journeys.processes import serving
from tests.journeys.talking import Ask, Heard
from tests.strays import StrayGraph
from tests.wires import listening

STORM = ("a read in a batch", "a read without a token", "a read that passes", "HEAD that passes", "a write",
         "a batch with a write")  # fmt: skip


@dataclass
class Storm:
    """Callers by every way at once, each with a token and an object of its own."""

    caller: Ask
    dice: random.Random = field(default_factory=lambda: random.Random(11))
    told: Counter[str] = field(default_factory=Counter)
    foreign: list[str] = field(default_factory=list)

    async def rage(self, requests: int) -> None:
        """Make so many requests, 100 at a time; some callers leave before they are answered."""
        numbers = iter(range(requests))

        async def some() -> None:
            for number in numbers:
                await self._one(number, self.dice.choice(STORM), hurries=self.dice.random() < 0.02)

        await asyncio.gather(*(some() for _ in range(100)))

    async def _one(self, number: int, way: str, *, hurries: bool) -> None:
        token = "" if way == "a read without a token" else f"t{number % 300}"
        try:
            async with asyncio.timeout(0.02 if hurries else 60):
                heard = await self._say(way, token, number)
        except TimeoutError:
            self.told["left"] += 1
        except aiohttp.ClientError:  # a transfer that breaks off, as Graph's own did
            self.told["broken off"] += 1
        else:
            for body in self._bodies(heard):
                self._judge(body, token, number)

    async def _say(self, way: str, token: str, number: int) -> Heard:
        if way == "a batch with a write":
            operations = [
                {"method": "GET", "relative_url": f"v25.0/{number}?fields=id&access_token={token}"},
                {
                    "method": "POST",
                    "relative_url": f"v25.0/{number}/feed",
                    "body": f"write={number}&access_token={token}",
                },
            ]
            return await self.caller.say("/", method="POST", token=token, data={"batch": json.dumps(operations)})
        if way == "a write":
            data = {"write": str(number), "message": "x" * self.dice.choice((10, 200_000))}
            return await self.caller.say(f"/v25.0/{number}/feed", method="POST", token=token, data=data)
        passes = "passes" in way
        path = f"/v25.0/{number}/picture?redirect=0" if passes else f"/v25.0/{number}?fields=id"
        return await self.caller.say(path, method="HEAD" if "HEAD" in way else "GET", token=token)

    def _bodies(self, heard: Heard) -> list[Any]:
        """What was heard, slot by slot; a HEAD hears nothing."""
        if not heard.body:
            self.told["no body"] += 1
            return []
        if not isinstance(heard.json, list):
            return [heard.json]
        self.told["no slot"] += heard.json.count(None)
        return [json.loads(slot["body"]) for slot in heard.json if slot is not None]

    def _judge(self, body: Any, token: str, number: int) -> None:
        error = body.get("error", {}) if isinstance(body, dict) else {}
        if str(error.get("message", "")).startswith("graph-sidecar:"):
            self.told[str(error["message"])] += 1
        elif isinstance(body, dict) and (body.get("token"), re.split("[/&]", body["asked"])[1:2]) == (
            token,
            [str(number)],
        ):
            self.told["own"] += 1
        else:
            self.foreign.append(f"{token} {number}: {body}"[:200])


async def test_a_storm_of_strays(tmp_path: Path) -> None:
    """Doubled, late, early and cut replies among thousands: nobody gets what is another's, no write goes twice.

    Connections rest for longer than by default: on a busy machine second replies come later than this Graph means.
    """
    graph = StrayGraph(share=0.03)
    async with (
        listening(graph.serve) as at,
        serving(at.url, tmp_path, "upstream.rest_ms=1000") as sidecar,
        Ask(sidecar.url) as caller,
    ):
        storm = Storm(caller)
        await storm.rage(EFFORT.storm)
    faults = sum(graph.faults.values()) - graph.faults["plain"]
    troubles = sum(count for told, count in storm.told.items() if told.startswith("graph-sidecar:"))
    assert storm.foreign == []
    assert max(graph.writes.values()) == 1
    assert storm.told["own"] > EFFORT.storm / 2
    assert troubles <= faults
    assert faults > EFFORT.storm / 200
