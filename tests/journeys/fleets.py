"""Several replicas that share a store, for journeys: `await fleet(graph, 3, cache={...})` makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp

from proxy import emulator
from proxy.app.sidecar import Sidecar
from tests.journeys.talking import Ask, Heard, troubles

TOKEN = "EAAfleetTokenNobodyMaySee"
FRESH: dict[str, Any] = {"cache": {"fresh_s": 600}}


@dataclass
class Replica:
    """One of the fleet, and a caller of it."""

    running: Sidecar
    ask: Ask

    async def say(self, path: str, **options: Any) -> Heard:
        """Ask it, with the token of the fleet's callers."""
        return await self.ask.say(path, **{"token": TOKEN, **options})

    @property
    def told(self) -> Any:
        """What it tells of what it shares."""
        return self.running.telemetry.gauges.shared()

    async def stats(self) -> Any:
        """What `/stats` tells."""
        return (await self.ask.say(f"{self.running.admin_url}/stats")).json


MakeFleet = Callable[..., Awaitable[list[Replica]]]


async def say(replica: Replica, path: str, **options: Any) -> Heard:
    """What the replica answers, which is good."""
    heard = await replica.say(path, **options)
    assert heard.status == 200, heard.body
    return heard


async def is_fresh(replica: Replica, path: str) -> bool:
    """Whether it answers *path* without a call."""
    return (await say(replica, path)).cache.startswith("hit")


async def share(one: Replica, other: Replica) -> None:
    """Wait until *other* answers without a call what *one* has fetched: each try asks for something new."""
    tries = count(100)

    async def is_shared() -> bool:
        path = f"/v25.0/act_1/ads?limit={next(tries)}&fields=id"
        await say(one, path)
        return await is_fresh(other, path)

    await until_async(is_shared, 60)


async def is_untroubled(replica: Replica) -> bool:
    """Whether it tells of no trouble but those of a busy machine."""
    return not troubles(await replica.stats())


async def first_ad(replica: Replica) -> str:
    """The id of an ad."""
    return str((await say(replica, "/v25.0/act_1/ads?limit=3&fields=id,name")).json["data"][0]["id"])


async def control(graph: emulator.Running, what: str, **body: Any) -> None:
    """Tell the Graph to be another."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{graph.url}/__emulator__/{what}", json=body) as reply,
    ):
        assert reply.status == 200, await reply.text()


async def until_async(true: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Wait until it is *true*."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - the state of another process
            await asyncio.sleep(0.01)
