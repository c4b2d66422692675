"""A read that begins after a write was answered shows that write, by whatever way it is answered."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.journeys.conftest import MakeScene
from tests.journeys.talking import Heard, Scene

NODES = ("3001", "3002", "3003")
TOKENS = ("ann", "bob", "eve")
WRITES, READERS = 15, 8


@dataclass
class Story:
    """Writers that number their writes, one for each object, and readers that remember how far the writers were."""

    here: Scene
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NODES, 0))
    outdated: list[tuple[str, str, int, int]] = field(default_factory=list)
    ways: set[str] = field(default_factory=set)

    async def write(self, node: str) -> None:
        """Give *node* one name after another, by single writes and in batches."""
        for number in range(1, WRITES + 1):
            if number % 3:
                heard = await self.here.say(f"/v25.0/{node}", method="POST", data={"name": number}, token="ann")
            else:
                heard = await self._batch({"method": "POST", "relative_url": node, "body": f"name={number}"})
            assert b"success" in heard.body
            self.done[node] = number

    async def read(self, dice: random.Random) -> None:
        """Read until all is written."""
        while min(self.done.values()) < WRITES:
            way, token, node = dice.choice(WAYS), dice.choice(TOKENS), dice.choice(NODES)
            before = dict(self.done)
            for at, name in self._names(way, node, await self._ask(way, token, node)):
                number = int(name) if name.isdigit() else 0
                if number < before[at]:
                    self.outdated.append((way, at, number, before[at]))
            self.ways.add(way)

    async def _ask(self, way: str, token: str, node: str) -> Heard:
        if way == "batch":
            return await self._batch(*({"relative_url": f"{each}?fields=id,name"} for each in NODES), token=token)
        if way == "ids":
            return await self.here.say(f"/v25.0/?ids={','.join(NODES)}&fields=id,name", token=token)
        path, headers = f"/v25.0/{node}?fields=id,name", {}
        if way == "fewer fields":
            path = f"/v25.0/{node}?fields=name"
        elif way == "another proof":
            path += "&appsecret_proof=ab"
        elif way == "another token's header":
            return await self.here.say(path, headers={"Authorization": f"Bearer {token}"})
        elif way == "stale for an hour":
            headers = {"Cache-Control": "stale-if-error=3600"}
        return await self.here.say(path, token=token, headers=headers)

    async def _batch(self, *operations: dict[str, Any], token: str = "ann") -> Heard:
        made = [{"method": "GET", **operation} for operation in operations]
        return await self.here.say("/v25.0/", method="POST", data={"access_token": token, "batch": json.dumps(made)})

    @staticmethod
    def _names(way: str, node: str, heard: Heard) -> Iterator[tuple[str, str]]:
        assert heard.status == 200
        if way == "ids":
            yield from ((each["id"], each["name"]) for each in heard.json.values())
        elif way == "batch":
            bodies = [json.loads(slot["body"]) for slot in heard.json]
            yield from ((each["id"], each["name"]) for each in bodies)
        else:
            yield node, heard.json["name"]


WAYS = (
    "plain",
    "plain",
    "fewer fields",
    "another proof",
    "another token's header",
    "stale for an hour",
    "ids",
    "batch",
)


@pytest.mark.parametrize(
    "settings",
    [{}, {"cache": {"fresh_s": 60}}, {"cache": {"fresh_s": 60, "memory_mb": 0}, "merge": {"enabled": True}}],
    ids=["", "fresh", "merged and from disk"],
)
async def test_a_read_after_a_write_shows_it(scene: MakeScene, settings: dict[str, Any]) -> None:
    """Writers and readers at once, with purges among them."""
    here = await scene(settings)
    story = Story(here)
    async with asyncio.TaskGroup() as group:
        for node in NODES:
            group.create_task(story.write(node))
        for number in range(READERS):
            group.create_task(story.read(random.Random(number)))
        for order in ('{"id": "3001"}', '{"path": "/3*"}', '{"all": true}'):
            await here.say(f"{here.front.admin_url}/purge", method="POST", data=order)
    assert story.outdated == []
    assert story.ways == set(WAYS)
