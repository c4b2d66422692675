"""What the tests of the shared store stand on: a real server, and a client of it whose task runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

pytest.importorskip("redis")

from proxy.core.shared.location import read_location
from proxy.shell.valkey.client import Client, Greet
from proxy.shell.valkey.link import Dialer, Link
from tests.shell.valkey.servers import Server, serving, until

MakeClient = Callable[..., Awaitable[Client]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    """A server of its own for each test."""
    with serving(tmp_path) as server:
        yield server


async def welcome(_link: Link) -> None:
    """Any store will do."""


@pytest.fixture
async def running() -> AsyncIterator[AsyncExitStack]:
    """Ends the tasks that a test began."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def client(running: AsyncExitStack) -> MakeClient:
    """Make a client of a URL, and wait until it is up."""

    async def make(url: str, budget_s: float = 0.5, greet: Greet = welcome, *, up: bool = True) -> Client:
        made = Client(Dialer(read_location(url), lambda: ("", "")), budget_s, greet, lambda _trouble: None)
        begin(running, made.run())
        if up:
            await until(lambda: made.is_up)
        return made

    return make


def begin(running: AsyncExitStack, work: Awaitable[None]) -> None:
    """Let *work* go on until the test ends."""
    task = asyncio.ensure_future(work)

    async def end() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    running.push_async_callback(end)
