"""`graph-sidecar reload`: new settings from the command line of the sidecar's machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from proxy import cli
from tests.journeys.processes import Serving, serving

Run = Callable[..., Awaitable[tuple[int, str]]]
TOKEN = "correct-horse-battery"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command beside the loop: its status, and what it said."""

    async def command(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        status = await asyncio.to_thread(cli.main, arguments)
        return status, "".join(capfd.readouterr())

    return command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of settings."""
    found = tmp_path / "its.toml"
    found.write_text("[batch]\nwindow_ms = 5\n")
    return found


@pytest.fixture
async def sidecar(tmp_path: Path, file: Path) -> AsyncIterator[Serving]:
    """A sidecar that was started with that file; Graph is not asked."""
    environ = {"GRAPH_SIDECAR_CONFIG": str(file)}
    async with serving("http://127.0.0.1:9", tmp_path, environ=environ) as found:
        yield found


def _change(file: Path, text: str) -> None:
    file.write_text(text)


def _flags(sidecar: Serving) -> list[str]:
    return ["--admin", sidecar.admin_url.removeprefix("http://"), "--set", "cache.key_file=ephemeral"]


async def test_it_tells_what_was_taken(run: Run, sidecar: Serving, file: Path) -> None:
    """What is new holds, what waits for a restart is named, and no news is said to be none."""
    assert await run("reload", *_flags(sidecar)) == (0, "reloaded: nothing is new\n")
    _change(file, "[batch]\nwindow_ms = 6\n[upstream]\nconnections = 3\n")
    waits = "reloaded: batch.window_ms; waiting for a restart: upstream.connections\n"
    assert await run("reload", *_flags(sidecar)) == (0, waits)


async def test_every_problem_is_told(run: Run, sidecar: Serving, file: Path) -> None:
    """What the sidecar refuses stands there line by line, with status 1; bad settings of the command itself are 2."""
    _change(file, "[batch]\nwindow_ms = -1\nslots = 51\n")
    status, said = await run("reload", *_flags(sidecar))
    assert status == 1
    assert "answers 422 to POST /reload: the new settings were refused, the old ones stay in force" in said
    assert "batch.window_ms = -1" in said
    assert "batch.slots = 51" in said
    assert (await run("reload", "--config", str(file), *_flags(sidecar)))[0] == 2


async def test_nobody_is_there(run: Run) -> None:
    """A sidecar that does not run is told as such."""
    status, said = await run("reload", "--admin", "127.0.0.1:9", "--set", "cache.key_file=ephemeral")
    assert (status, "127.0.0.1:9 does not answer" in said) == (1, True)


async def test_the_token_is_shown(run: Run, tmp_path: Path) -> None:
    """Where the admin listener wants a token, the settings' own is shown."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    async with serving("http://127.0.0.1:9", tmp_path, f"admin_token_file={token}") as sidecar:
        assert (await run("reload", *_flags(sidecar)))[0] == 1
        assert (await run("reload", *_flags(sidecar), "--set", f"admin_token_file={token}"))[0] == 0
