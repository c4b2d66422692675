"""A read that begins after a write was answered shows that write, by whatever way it is answered."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.journeys.conftest import MakeGraph, MakeScene
from tests.journeys.fleets import FRESH, MakeFleet
from tests.journeys.talking import Ask, Heard

NODES = ("3001", "3002", "3003")
TOKENS = ("ann", "bob", "eve")
WRITES, READERS = 10, 8


@dataclass
class Story:
    """Writers that number their writes, one for each object, and readers that remember how far the writers were."""

    replicas: Sequence[Ask]
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NODES, 0))
    outdated: list[tuple[str, str, int, int]] = field(default_factory=list)
    ways: set[str] = field(default_factory=set)

    @property
    def _any(self) -> Ask:
        """A caller of one of the replicas."""
        return self.dice.choice(self.replicas)

    async def play(self, *purges: Coroutine[Any, Any, Heard]) -> None:
        """Write and read at once, with *purges* among that."""
        async with asyncio.TaskGroup() as group:
            for node in NODES:
                group.create_task(self.write(node))
            for number in range(READERS):
                group.create_task(self.read(random.Random(number)))
            for purge in purges:
                await purge
        assert self.outdated == []
        assert self.ways == set(WAYS)

    async def write(self, node: str) -> None:
        """Give *node* one name after another, by single writes and in batches."""
        for number in range(1, WRITES + 1):
            if number % 3:
                heard = await self._any.say(f"/v25.0/{node}", method="POST", data={"name": number}, token="ann")
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
            return await self._any.say(f"/v25.0/?ids={','.join(NODES)}&fields=id,name", token=token)
        path, headers = f"/v25.0/{node}?fields=id,name", {}
        if way == "fewer fields":
            path = f"/v25.0/{node}?fields=name"
        elif way == "another proof":
            path += "&appsecret_proof=ab"
        elif way == "another token's header":
            return await self._any.say(path, headers={"Authorization": f"Bearer {token}"})
        elif way == "stale for an hour":
            headers = {"Cache-Control": "stale-if-error=3600"}
        return await self._any.say(path, token=token, headers=headers)

    async def _batch(self, *operations: dict[str, Any], token: str = "ann") -> Heard:
        made = [{"method": "GET", **operation} for operation in operations]
        return await self._any.say("/v25.0/", method="POST", data={"access_token": token, "batch": json.dumps(made)})

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
    purge = f"{here.front.admin_url}/purge"
    orders = '{"id": "3001"}', '{"path": "/3*"}', '{"all": true}'
    await Story([here.caller]).play(*(here.say(purge, method="POST", data=order) for order in orders))


async def test_a_read_after_a_write_by_another_replica_shows_it(graph: MakeGraph, fleet: MakeFleet) -> None:
    """Replicas that share a store write and read by turns."""
    replicas = await fleet(await graph(), 3, **FRESH)
    await Story([replica.ask for replica in replicas]).play()
