"""What every test of a real client stands on: `stage`, which sets the world up twice and runs programs in it."""

from __future__ import annotations

import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy import emulator
from proxy.app import sidecar
from proxy.settings import Address, Settings
from tests.clients.staging import Stage

NOW = 1_760_000_000.0
MakeStage = Callable[..., Awaitable[Stage]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], uvloop.Loop]]:
    """The sidecar runs on the loop that `serve` runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def stage(lifetimes: AsyncExitStack, tmp_path: Path, client_python: Callable[[str], Path]) -> MakeStage:
    """Make a stage for the programs of an environment: settings of the sidecar in `settings`, Config fields by name."""
    numbers = itertools.count()

    async def make(environment: str = "clients", settings: dict[str, Any] | None = None, **config: Any) -> Stage:
        runner, home = client_python(environment), tmp_path / f"stage-{next(numbers)}"
        home.mkdir()
        alone, behind = [
            await lifetimes.enter_async_context(emulator.running(emulator.Config(**config), clock=lambda: NOW))
            for _ in range(2)
        ]
        # Directly, a link must lead back to where it came from; behind the sidecar it names Graph, as real ones do.
        alone.settings.update({"link_origin": alone.url})
        front = await lifetimes.enter_async_context(sidecar.sidecar(_settings(behind.url, home, settings or {})))
        return Stage(runner, home, alone, behind, front)

    return make


def _settings(origin: str, home: Path, tables: dict[str, Any]) -> Settings:
    ours: dict[str, dict[str, Any]] = {
        "upstream": {"origin": origin},
        "cache": {"dir": home / "cache", "key_file": home / "key"},
    }
    free = Address("127.0.0.1", 0)
    laid: dict[str, Any] = {name: {**ours.get(name, {}), **tables.get(name, {})} for name in {*ours, *tables}}
    return Settings(listen=free, admin=free, **laid)


@pytest.fixture
async def lifetimes() -> AsyncIterator[AsyncExitStack]:
    """Closes all that a test opened, last first."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens, and nobody can while the test lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def image(tmp_path: Path) -> str:
    """A file to upload."""
    path = tmp_path / "p.png"
    path.write_bytes(bytes(range(256)) * 40)
    return str(path)
