"""Several replicas that share a store, for journeys: `await fleet(graph, 3, cache={...})` makes them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp

from proxy import emulator
from proxy.app.sidecar import Sidecar
from tests.journeys.talking import Ask, Heard, troubles
from tests.shell.valkey.servers import until

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


class Storm:
    """Writers that count upwards, and readers that know what they must see."""

    def __init__(self, a: Replica, others: list[Replica], ads: list[str], most: int) -> None:
        """Write through *a*, read through *others*, at least *most* reads."""
        self.a, self.others, self.ads = a, others, ads
        self.answered = dict.fromkeys(ads, 0)
        self.older: list[tuple[str, int, int]] = []
        self.reads = self.writes = self.fresh = 0
        self.most = most
        self.is_over = False
        self.dice = random.Random(3)

    @property
    def is_enough(self) -> bool:
        """Whether there were as many reads as wanted, and writes in all of that time."""
        return self.reads >= self.most and self.writes > 3 * len(self.ads)

    async def blow(self, trouble: Callable[[], None]) -> None:
        """Write and read, with *trouble* after a third of the reads."""
        writers = [asyncio.create_task(self.write(ad)) for ad in self.ads]
        readers = [asyncio.create_task(self.read(replica)) for replica in self.others for _ in range(3)]
        working = [*writers, *readers]
        try:
            await until(lambda: self.reads > self.most // 3 or any(task.done() for task in working), 300)
            trouble()
            await until(lambda: self.is_enough or any(task.done() for task in working), 600)
        finally:
            self.is_over = True
            ended = await asyncio.gather(*working, return_exceptions=True)
        assert [each for each in ended if each is not None] == []

    async def write(self, ad: str) -> None:
        """Give *ad* one number after the other."""
        number = 0
        while not self.is_over:
            number += 1
            await say(self.a, f"/v25.0/{ad}", method="POST", data={"name": f"number {number}"})
            self.answered[ad] = number
            self.writes += 1
            await asyncio.sleep(self.dice.random() * 0.2)

    async def read(self, replica: Replica) -> None:
        """Read any ad, alone or in the list."""
        while not self.is_over:
            ad = self.dice.choice(self.ads)
            known = dict(self.answered)
            if self.dice.random() < 0.5:
                heard = await say(replica, f"/v25.0/{ad}?fields=id,name")
                self._check(heard.json, known)
            else:
                heard = await say(replica, "/v25.0/act_1/ads?limit=6&fields=id,name")
                for each in heard.json["data"]:
                    self._check(each, known)
            self.reads += 1
            self.fresh += heard.cache.startswith("hit")

    def _check(self, ad: dict[str, str], known: dict[str, int]) -> None:
        number = int(ad["name"].split()[1]) if ad["name"].startswith("number ") else 0
        if number < known[ad["id"]]:
            self.older.append((ad["id"], number, known[ad["id"]]))
