"""Many tokens, one set of URLs, every way to pass a token, amid faults, changes and restarts: each sees its own."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy import emulator
from proxy.app import sidecar
from proxy.emulator.objects.values import user_of
from proxy.emulator.server.webhooks import signature
from tests.conftest import EFFORT
from tests.journeys.conftest import MakeGraph, SidecarSettings
from tests.journeys.talking import Ask, Heard
from tests.shell.valkey.servers import Server

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
TOKENS = [f"token-{number}" for number in range(200)]
IDS = ("111", "222", "333", "444")
READS = [f"/v25.0/{node}?fields={fields}" for node in IDS for fields in ("id,viewer", "name,viewer")] + [
    "/v25.0/111?fields=id,name,viewer",
    "/v25.0/me?fields=viewer",
    "/v25.0/?ids=111,222&fields=viewer",
]
RULES = [
    {"path": "/111", "fresh_s": 3600},
    {"path": "/222", "stale_while_revalidate_s": 3600},
    {"path": "/333", "fresh_s": 1, "stale_if_error_s": 3600},
    {"path": "/me", "fresh_s": 60, "merge": True},
]
FAULTS = [("null", "batch", 0.02), ("aborted", "batch", 0.02), ("short", "batch", 0.02), ("cut_middle", "any", 0.01),
          ("refused", "batch", 0.01), ("unavailable", "any", 0.01), ("lost", "any", 0.005)]  # fmt: skip
LIVES: list[dict[str, Any]] = [
    {},
    {"merge": {"enabled": True}},
    {"cache": {"memory_mb": 0}},
    {"cache": {"fresh_s": 3600}, "merge": {"enabled": True}},
    {"batch": {"group": "token"}},
]
"""Settings of one life of the sidecar after the other, on one cache folder."""


def viewers(found: Any) -> Iterator[str]:
    """Every viewer that a body names."""
    if isinstance(found, dict):
        yield from [found["viewer"]] if "viewer" in found else []
        for value in found.values():
            yield from viewers(value)
    elif isinstance(found, list):
        for value in found:
            yield from viewers(value)


@dataclass
class Storm:
    """Callers of one or more sidecars, and what they were told."""

    dice: random.Random = field(default_factory=lambda: random.Random(17))
    told: Counter[str] = field(default_factory=Counter)
    foreign: list[str] = field(default_factory=list)

    async def rage(self, fronts: list[tuple[Ask, sidecar.Sidecar]], requests: int) -> None:
        """Make so many requests, 64 at a time."""
        numbers = iter(range(requests))

        async def some() -> None:
            for _ in numbers:
                await self._one(*self.dice.choice(fronts))

        await asyncio.gather(*(some() for _ in range(64)))

    async def _one(self, caller: Ask, front: sidecar.Sidecar) -> None:
        do = self.dice.choices(list(WAYS), list(WAYS.values()))[0]
        try:
            async with asyncio.timeout(0.004 if self.dice.random() < 0.03 else 60):
                await do(self, caller, front)
        except TimeoutError:
            self.told["left"] += 1
        except aiohttp.ClientError:  # a transfer that breaks off, as Graph's own did
            self.told["broken off"] += 1

    def judge(self, body: Any, token: str) -> None:
        """Take down whom *body* names; it was for *token*."""
        names = set(viewers(body))
        self.told["own" if names == {user_of(token)} else "nobody's"] += 1
        if names - {user_of(token)}:
            self.foreign.append(f"{token}: {body}"[:300])

    def draw(self) -> tuple[str, str]:
        """A read and a token."""
        return self.dice.choice(READS), self.dice.choice(TOKENS)


async def in_query(storm: Storm, caller: Ask, _front: sidecar.Sidecar) -> None:
    """Pass the token in the query."""
    path, token = storm.draw()
    storm.judge((await caller.say(path, token=token)).json, token)


async def in_header(storm: Storm, caller: Ask, _front: sidecar.Sidecar) -> None:
    """Pass the token in Authorization."""
    path, token = storm.draw()
    scheme = storm.dice.choice(("Bearer", "OAuth", "bearer"))
    storm.judge((await caller.say(path, headers={"Authorization": f"{scheme} {token}"})).json, token)


async def in_body(storm: Storm, caller: Ask, _front: sidecar.Sidecar) -> None:
    """Read by POST, with the token in the form."""
    path, token = storm.draw()
    heard = await caller.say(path, method="POST", data={"method": "get", "access_token": token})
    storm.judge(heard.json, token)


async def in_batch(storm: Storm, caller: Ask, _front: sidecar.Sidecar) -> None:
    """A batch of the application's own: operations with tokens of their own, and one that has the batch's."""
    drawn = [storm.draw() for _ in range(3)]
    urls = [f"{path[1:]}&access_token={token}" for path, token in drawn[1:]]
    batch = json.dumps([{"method": "GET", "relative_url": url} for url in [drawn[0][0][1:], *urls]])
    heard = await caller.say("/", method="POST", data={"batch": batch, "access_token": drawn[0][1]})
    if isinstance(heard.json, list):
        for slot, (_, token) in zip(heard.json, drawn, strict=True):
            storm.judge(json.loads(slot["body"]) if slot and slot.get("body") else None, token)


async def by_write(storm: Storm, caller: Ask, _front: sidecar.Sidecar) -> None:
    """Change one of the objects."""
    _, token = storm.draw()
    heard: Heard = await caller.say(
        f"/v25.0/{storm.dice.choice(IDS)}", method="POST", token=token, data={"name": f"name {storm.dice.random()}"}
    )
    storm.judge(heard.json, token)


async def by_webhook(storm: Storm, caller: Ask, front: sidecar.Sidecar) -> None:
    """Tell that one of the objects was changed, as Meta does."""
    entry = {"id": storm.dice.choice(IDS), "time": 1, "changes": [{"field": "name", "value": None}]}
    body = json.dumps({"object": "page", "entry": [entry]}).encode()
    fields = {"X-Hub-Signature-256": signature(body, SECRET), "Content-Type": "application/json"}
    heard = await caller.say(f"{front.admin_url}/webhooks", method="POST", data=body, headers=fields)
    assert heard.status == 200
    storm.told["events"] += 1


async def by_purge(storm: Storm, caller: Ask, front: sidecar.Sidecar) -> None:
    """Forget one of the objects."""
    order = json.dumps({"id": storm.dice.choice(IDS)})
    heard = await caller.say(f"{front.admin_url}/purge", method="POST", data=order)
    assert heard.status == 200
    storm.told["purges"] += 1


WAYS: dict[Callable[[Storm, Ask, sidecar.Sidecar], Awaitable[None]], float] = {
    in_query: 45,
    in_header: 25,
    in_body: 5,
    in_batch: 20,
    by_write: 2,
    by_webhook: 1,
    by_purge: 0.3,
}


async def troubled(graph: MakeGraph) -> emulator.Running:
    """A Graph that loses, cuts and refuses a part of what it is asked."""
    behind = await graph()
    for kind, where, chance in FAULTS:
        behind.faults.add({"kind": kind, "where": where, "probability": chance, "place": "middle"})
    return behind


def check(storm: Storm, requests: int, behind: emulator.Running) -> None:
    """No body names another viewer, and most name their own."""
    assert storm.foreign == []
    assert storm.told["own"] > requests / 2, storm.told
    assert storm.told["left"] > requests / 500, storm.told
    assert behind.ledger.faults > requests / 500


@pytest.fixture
def settings(sidecar_settings: SidecarSettings, tmp_path: Path) -> Callable[..., Any]:
    """Make settings with rules and webhooks, for a Graph and a cache folder."""
    (tmp_path / "secret").write_text(SECRET)

    def make(behind: emulator.Running, folder: str, **tables: Any) -> Any:
        cache = {"dir": tmp_path / folder, "key_file": tmp_path / "key", **tables.pop("cache", {})}
        hooks = {"secret_file": tmp_path / "secret"}
        return sidecar_settings(behind.url, cache=cache, webhooks=hooks, rules=RULES, **tables)

    return make


async def test_a_storm_over_several_lives(graph: MakeGraph, settings: Callable[..., Any]) -> None:
    """One sidecar is started again and again on one cache folder, each time with other settings."""
    behind, storm, requests = await troubled(graph), Storm(), EFFORT.isolation * 3 // 5
    for life in LIVES:
        async with sidecar.sidecar(settings(behind, "cache", **life)) as front, Ask(front.url) as caller:
            await storm.rage([(caller, front)], requests // len(LIVES))
    check(storm, requests, behind)


async def test_a_storm_over_replicas(graph: MakeGraph, settings: Callable[..., Any], store: Server) -> None:
    """Two replicas share a store, which is emptied in the middle."""
    behind, storm, requests = await troubled(graph), Storm(), EFFORT.isolation * 2 // 5
    async with AsyncExitStack() as stack:
        fronts = []
        for name in ("one", "two"):
            made = settings(behind, name, shared={"url": store.url})
            front = await stack.enter_async_context(sidecar.sidecar(made))
            fronts.append((await stack.enter_async_context(Ask(front.url)), front))
        for _ in range(2):
            await storm.rage(fronts, requests // 2)
            store.ask("FLUSHALL")
    check(storm, requests, behind)
