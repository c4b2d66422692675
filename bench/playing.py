"""A trace is played: its callers on real sockets, through the real sidecar, to the real emulator, by a told clock."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.trace import LOW, Look, Trace, Versions
from bench.virtual import Loop
from proxy.app.components import Clocks
from proxy.app.sidecar import sidecar
from proxy.commands.demo.client import ClientConnection, ClientReply, LostConnectionError, open_connection, request
from proxy.emulator import Config, running
from proxy.settings import Settings

LATENCY_MS, WINDOW_S = 80, 300
"""How long Graph takes for an answer, and the window over which it adds up calls."""


class World(Protocol):
    """What the emulator has of objects."""

    def touch(self, node: str, fields: Mapping[str, Any]) -> None:
        """Change one."""


@dataclass
class Seen:
    """What came of it."""

    counted: int = 0
    oldest_s: float = 0.0
    throttled: Counter[bool] = field(default_factory=Counter)  # by whether the caller can wait


def played(trace: Trace, *, budget: int | None = None, **settings: Any) -> Seen:
    """All of *trace*, through a sidecar with these *settings*, within that *budget* of calls per window."""
    loop = Loop()
    try:
        return loop.run_until_complete(_play(loop, trace, budget, settings))
    finally:
        loop.close()


async def _play(loop: Loop, trace: Trace, budget: int | None, settings: Mapping[str, Any]) -> Seen:
    config = Config(latency_ms=LATENCY_MS, ledger_requests=0, budget=budget, window_s=WINDOW_S)
    with tempfile.TemporaryDirectory() as folder:
        async with running(config, clock=loop.wall) as origin:
            ours = Settings.model_validate(
                {
                    "listen": "127.0.0.1:0",
                    "admin": "127.0.0.1:0",
                    "listener": {"lag_s": 0},  # the lag is measured in real time, and the clock here is told
                    "upstream": {"origin": origin.url},
                    "cache": {"dir": folder, "disk_mb": 0, "key_file": "ephemeral"},
                    **settings,
                }
            )
            async with sidecar(ours, Clocks(loop.wall, loop.time)) as here:
                play = _Play(loop, trace, here.url)
                await asyncio.gather(play.change(origin.world), *map(play.call, _by_caller(trace.looks)))
                play.seen.counted = origin.ledger.as_json()["counted_calls"]
                return play.seen


def _by_caller(looks: Sequence[Look]) -> list[list[Look]]:
    found: dict[int, list[Look]] = {}
    for look in looks:
        found.setdefault(look.caller, []).append(look)
    return list(found.values())


class _Play:
    """One playing of a trace, from its beginning."""

    def __init__(self, loop: Loop, trace: Trace, url: str) -> None:
        self._loop, self._trace, self._url, self._began = loop, trace, url, loop.time()
        self._versions = Versions(trace.changes)
        self.seen = Seen()

    async def change(self, world: World) -> None:
        """Change the objects of *world* as they do: each name tells which version of the object it is."""
        versions: Counter[str] = Counter()
        for change in self._trace.changes:
            await self._until(change.at)
            versions[change.node] += 1
            world.touch(change.node, {"name": f"version {versions[change.node]}"})

    async def call(self, looks: Sequence[Look]) -> None:
        """One caller: each look at its time, or as soon as the one before has been answered."""
        connection = None
        for look in looks:
            await self._until(look.at)
            connection, answer = await self._ask(connection, look)
            self._note(look, answer)
        if connection is not None:
            connection.close()

    async def _ask(self, connection: ClientConnection | None, look: Look) -> tuple[ClientConnection, ClientReply]:
        """The answer, on a new connection where the old one has been idle for too long."""
        asked = request(self._url, "GET", f"/v25.0/{look.node}?fields=name", token=look.token)
        asked = asked.replace(b"\r\n\r\n", f"\r\nPriority: u={look.urgency}\r\n\r\n".encode(), 1)
        if connection is not None:
            try:
                return connection, await connection.ask(asked)
            except LostConnectionError:
                pass
        connection = await open_connection(self._url)
        return connection, await connection.ask(asked)

    async def _until(self, at: float) -> None:
        await asyncio.sleep(self._began + at - self._loop.time())

    def _note(self, look: Look, answer: ClientReply) -> None:
        if answer.status != 200:
            self.seen.throttled[look.urgency == LOW] += 1
            return
        name = json.loads(answer.text)["name"]
        version = int(name.rpartition(" ")[2]) if name.startswith("version") else 0
        age = self._versions.age(look.node, version, self._loop.time() - self._began)
        self.seen.oldest_s = max(self.seen.oldest_s, age)
