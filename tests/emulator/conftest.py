"""A running emulator and a client for each test."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from proxy.emulator import Config, Running, running

TOKEN = "EAAB|one"


@dataclass
class Answer:
    """A reply that has been read."""

    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)

    @property
    def error(self) -> Any:
        """The error envelope."""
        return self.json["error"]


@dataclass
class Asker:
    """A client of one emulator."""

    graph: Running
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **given: Any) -> Answer:
        """Send a request as it stands."""
        async with self.session.request(method, self.graph.url + path, allow_redirects=False, **given) as reply:
            return Answer(reply.status, reply.headers, (await reply.read()).decode())

    async def get(self, path: str, token: str | None = TOKEN, **given: Any) -> Answer:
        """GET with a token."""
        params = {"access_token": token} if token else {}
        return await self.ask("GET", path, params=params | given.pop("params", {}), **given)

    async def post(self, path: str, token: str = TOKEN, **form: Any) -> Answer:
        """POST a form with a token."""
        return await self.ask("POST", path, data={"access_token": token, **form})

    async def batch(self, *items: Any, path: str = "/v25.0/", token: str = TOKEN, **form: Any) -> Any:
        """POST a batch and return its slots, or the object that stands in for them."""
        return (await self.post(path, token, batch=json.dumps(items), **form)).json


Opening = Callable[..., Awaitable[Asker]]


@pytest.fixture
async def opening() -> AsyncIterator[Opening]:
    """Start emulators with the settings that a test wants."""
    async with AsyncExitStack() as stack:

        async def started(clock: Callable[[], float] = time.time, **settings: Any) -> Asker:
            graph = await stack.enter_async_context(running(Config(**settings), clock=clock))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Asker(graph, session)

        yield started


@pytest.fixture
async def asker(opening: Opening) -> Asker:
    """An emulator with its default settings."""
    return await opening()


def body(slot: Any) -> Any:
    """Return the JSON in a slot's body."""
    return json.loads(slot["body"])


def named(slot: Any) -> dict[str, str]:
    """Return a slot's headers by name."""
    return {header["name"]: header["value"] for header in slot["headers"]}
