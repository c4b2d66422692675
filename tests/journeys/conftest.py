"""What every journey stands on: a Graph, a sidecar in front of it, and callers that speak to either.

`await graph(latency_ms=80)`                   an emulator (its fields: proxy/emulator/config.py)
`await sidecar(graph, batch={"slots": 5})`     the whole application in front of it (proxy/settings)
`await ask(running.url)`                       one caller; `say` makes a request, `path` needs no host
`gate(graph)`                                  holds the graph's replies back until `open`
`await scene()`                                all three: `say` asks through the sidecar, `graph.ledger` tells what came
`await scripted(serve)`                        a Graph on bare sockets (tests/wires.py), and a sidecar in front of it
`await fleet(graph, 3, cache=…)`               replicas that share a real store (tests/journeys/fleets.py)
`await twins()`                                one world twice, alone and behind a sidecar; `alike` compares
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy import emulator
from proxy.app import components
from proxy.app import sidecar as app_sidecar
from proxy.settings import Settings
from tests.journeys.fleets import MakeFleet, Replica
from tests.journeys.talking import Ask, Gate, Scene, Twins, merged
from tests.shell.valkey.servers import Server, serving
from tests.wires import Listener, Serve, listening

MakeGraph = Callable[..., Awaitable[emulator.Running]]
MakeSidecar = Callable[..., Awaitable[app_sidecar.Sidecar]]
SidecarSettings = Callable[..., Settings]
MakeScripted = Callable[..., Awaitable[tuple[Listener, app_sidecar.Sidecar]]]
MakeAsk = Callable[[str], Awaitable[Ask]]
MakeGate = Callable[[emulator.Running], Gate]
MakeScene = Callable[..., Awaitable[Scene]]
MakeTwins = Callable[..., Awaitable[Twins]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], uvloop.Loop]]:
    """Journeys run on the loop that `serve` runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def lifetimes() -> AsyncIterator[AsyncExitStack]:
    """Closes all that a journey opened, last first."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def graph(lifetimes: AsyncExitStack) -> MakeGraph:
    """Start an emulator with these fields of its Config."""

    async def make(**config: Any) -> emulator.Running:
        return await lifetimes.enter_async_context(emulator.running(emulator.Config(**config)))

    return make


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, lifetimes: AsyncExitStack) -> MakeGate:
    """Hold back what a Graph replies, until it is let go or the test ends."""

    def make(graph: emulator.Running) -> Gate:
        made = Gate(graph.emulator._send)
        monkeypatch.setattr(graph.emulator, "_send", made.send)
        lifetimes.callback(made.open)
        return made

    return make


@pytest.fixture
def sidecar_settings(tmp_path: Path) -> SidecarSettings:
    """Settings for a sidecar on free ports with a cache of its own; tables given are laid over these."""

    def make(origin: str, **tables: Any) -> Settings:
        ours = {
            "listen": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "upstream": {"origin": origin},
            "cache": {"dir": tmp_path / "cache", "key_file": "ephemeral"},
            "listener": {"lag_s": 0},  # the loop is also Graph's and the callers', so its lag is not the sidecar's
            "batch": {"queue_s": 60},  # on a busy machine nobody is refused for what else it does
        }
        return Settings(**merged(ours, tables))

    return make


class Clock:
    """The sidecar's time of day: the machine's, and what it is told to be ahead."""

    def __init__(self) -> None:
        """Be on time."""
        self.ahead = 0.0

    def __call__(self) -> float:
        """Epoch seconds."""
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    """The time of day of every sidecar here; a journey may move it."""
    return Clock()


@pytest.fixture
def sidecar(lifetimes: AsyncExitStack, sidecar_settings: SidecarSettings, clock: Clock) -> MakeSidecar:
    """Start the whole application in front of a Graph, with these settings laid over the tests' own."""
    clocks = components.Clocks(now=clock)

    async def make(graph: emulator.Running | str, **tables: Any) -> app_sidecar.Sidecar:
        origin = graph if isinstance(graph, str) else graph.url
        return await lifetimes.enter_async_context(app_sidecar.sidecar(sidecar_settings(origin, **tables), clocks))

    return make


@pytest.fixture
def scripted(lifetimes: AsyncExitStack, sidecar: MakeSidecar) -> MakeScripted:
    """Start a Graph that does *serve* with each connection, and the whole application in front of it."""

    async def make(serve: Serve, **tables: Any) -> tuple[Listener, app_sidecar.Sidecar]:
        at = await lifetimes.enter_async_context(listening(serve))
        return at, await sidecar(at.url, **tables)

    return make


@pytest.fixture
def ask(lifetimes: AsyncExitStack) -> MakeAsk:
    """Make a caller of a server; it opens a connection for each request in flight and follows no redirect."""

    async def make(url: str) -> Ask:
        return await lifetimes.enter_async_context(Ask(url))

    return make


@pytest.fixture
def scene(graph: MakeGraph, sidecar: MakeSidecar, ask: MakeAsk) -> MakeScene:
    """A Graph, a sidecar and a caller: Config fields by name, settings of the sidecar in `settings`."""

    async def make(settings: dict[str, Any] | None = None, **config: Any) -> Scene:
        behind = await graph(**config)
        front = await sidecar(behind, **(settings or {}))
        return Scene(behind, front, await ask(front.url))

    return make


@pytest.fixture
def twins(graph: MakeGraph, sidecar: MakeSidecar, ask: MakeAsk) -> MakeTwins:
    """One world twice, alone and behind a sidecar: Config fields by name, settings of the sidecar in `settings`."""

    async def make(settings: dict[str, Any] | None = None, **config: Any) -> Twins:
        alone, behind = await graph(**config), await graph(**config)
        front = await sidecar(behind, **(settings or {}))
        return Twins(alone, behind, front, await ask(alone.url), await ask(front.url))

    return make


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    """A real server for replicas to share."""
    pytest.importorskip("redis")
    (tmp_path / "store").mkdir()
    with serving(tmp_path / "store") as server:
        yield server


@pytest.fixture
def fleet(sidecar: MakeSidecar, ask: MakeAsk, store: Server, tmp_path: Path) -> MakeFleet:
    """Start so many replicas in front of one Graph, each with a disk of its own and the key of all."""
    started = 0

    async def make(graph: emulator.Running | str, replicas: int = 2, **tables: Any) -> list[Replica]:
        nonlocal started
        made = []
        for _ in range(replicas):
            started += 1
            cache = {"dir": tmp_path / f"cache{started}", "key_file": tmp_path / "key", **tables.get("cache", {})}
            shared = {"url": store.url, "timeout_ms": 500, **tables.get("shared", {})}
            running = await sidecar(graph, **{**tables, "cache": cache, "shared": shared})
            made.append(Replica(running, await ask(running.url)))
        return made

    return make
