"""What every test in a browser stands on: the system's Chromium, pages in it, and what they look at.

`await look(url)`       a page of the dashboard under *url*, with nothing on its conscience when the test ends
`board`                 an admin listener whose numbers the test writes
`sidecar`               a real one in front of an offline Graph, and a caller

All of it lives on one event loop, since a browser takes a second to start.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.browser.staging import Board, Real, started
from tests.conftest import ROOT

PATIENCE_MS = 30_000
Look = Callable[..., Awaitable[Page]]

# What Chromium itself says of a reply that is no success, or does not come.
EXPECTED = "Failed to load resource: "


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium."""
    program = ROOT / ".venvs" / "browser" / "bin" / "chromium"
    if not program.exists():
        pytest.skip("no chromium here; `make environments` looks for it")
    # Chromium will not be its own jailer for root.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def look(browser: Browser) -> AsyncIterator[Look]:
    """Open the dashboard under a URL, in a window of its own with these options."""
    said: list[str] = []
    asked: list[str] = []
    homes: list[str] = []
    async with AsyncExitStack() as windows:

        async def make(url: str, **options: Any) -> Page:
            window = await browser.new_context(**options)
            windows.push_async_callback(window.close)
            page = await window.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            homes.append(url)
            await page.goto(url)
            return page

        yield make
    assert [text for text in said if not text.startswith(EXPECTED)] == []
    assert [url for url in asked if not url.startswith(tuple(homes))] == []


@pytest_asyncio.fixture(loop_scope="session")
async def board() -> AsyncIterator[Board]:
    """An admin listener whose numbers the test writes."""
    board = Board()
    await board.start()
    yield board
    await board.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def sidecar(tmp_path: Path) -> AsyncIterator[Real]:
    """A real sidecar that has been asked nothing."""
    async with started(tmp_path) as real:
        yield real
