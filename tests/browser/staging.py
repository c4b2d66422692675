"""What the pages look at: numbers that a test writes, or a real sidecar's."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from proxy import emulator
from proxy.app import sidecar
from proxy.core.observe.time_series import STEP_S
from proxy.core.routing.admin_access import Guard
from proxy.settings import Settings
from proxy.shell.admin.app import admin
from proxy.shell.admin.dashboard import Dashboard
from proxy.shell.admin.event_stream import EventStream
from tests.told import STATS

NO_READS = {
    "replies": dict.fromkeys(STATS["replies"], 0),
    "outcomes": dict.fromkeys(STATS["outcomes"], 0),
    "error_replies": dict.fromkeys(STATS["error_replies"], 0),
    "calls": dict.fromkeys(STATS["calls"], 0),
    "calls_avoided": dict.fromkeys(STATS["calls_avoided"], 0),
    "bytes_avoided": 0,
    "round_trips_avoided": 0,
    "slots_per_batch": {},
    "lanes": {},
}


class Board:
    """An admin listener with the dashboard: time and numbers are the test's."""

    def __init__(self) -> None:
        """Tell the sample."""
        self.stats = copy.deepcopy(STATS)
        self.token = ""
        self.came_back_with: list[str] = []
        self._runs = 0
        self._port = 0
        self._clock = 0.0
        self._lifetimes = AsyncExitStack()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Begin a run: with the same port, but otherwise knowing nothing of the last."""
        self._runs += 1
        self._watch = EventStream(lambda: self.stats, lambda: self._clock, f"run{self._runs}")
        self._watch.listen = "http://127.0.0.1:8080"
        served = admin([Dashboard(self._watch).routes()], lambda: Guard(token=self.token))
        served.middlewares.append(self._note)
        self._runner = runner = web.AppRunner(served, shutdown_timeout=0)
        await runner.setup()
        self._lifetimes.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        self._port = runner.addresses[0][1]
        await self._lifetimes.enter_async_context(self._watch.sampling())
        self._watch.sample()

    async def stop(self) -> None:
        """End the run."""
        await self._lifetimes.aclose()

    def tell(self, steps: int = 1, **numbers: Any) -> None:
        """Let so many steps pass, at the end of which these numbers hold."""
        for step in range(steps):
            self._clock += STEP_S
            self.stats["now"] += STEP_S
            self.stats["uptime_s"] += STEP_S
            if step == steps - 1:
                self.stats.update(numbers)
            self._watch.sample()

    def cut(self) -> None:
        """Break all connections, as a network does."""
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()

    @property
    def _note(self) -> Any:
        @web.middleware
        async def note(message: web.Request, handler: Handler) -> web.StreamResponse:
            """What those who look on say they know."""
            if message.path == "/events":
                self.came_back_with.append(message.headers.get("Last-Event-ID", ""))
            return await handler(message)

        return note


@dataclass(frozen=True)
class Real:
    """A real sidecar in front of an offline Graph, and a caller."""

    graph: emulator.Running
    front: sidecar.Sidecar
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Where its dashboard is."""
        return self.front.admin_url

    async def read(self, *paths: str) -> None:
        """Ask for all of *paths* at once."""
        await asyncio.gather(*(self._get(f"{self.front.url}/v25.0{path}") for path in paths))

    async def stats(self) -> dict[str, Any]:
        """What /stats says."""
        async with self.session.get(f"{self.url}/stats") as heard:
            told: dict[str, Any] = await heard.json()
            return told

    async def _get(self, url: str) -> None:
        async with self.session.get(url, headers={"Authorization": "Bearer ann"}, allow_redirects=False) as heard:
            await heard.read()


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Real]:
    """Both, and a caller."""
    async with emulator.running(emulator.Config(body_bytes=2000, budget=1000)) as graph:
        tables: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "upstream": {"origin": graph.url},
            "cache": {"dir": folder / "cache", "key_file": "ephemeral"},
            "rules": [{"path": "/me/adaccounts", "fresh_s": 3600}],
        }
        async with sidecar.sidecar(Settings(**tables)) as front, aiohttp.ClientSession() as session:
            yield Real(graph, front, session)
