"""wait, quit and cache: a sidecar that runs, from the command line of its machine."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from proxy import cli, emulator
from proxy.commands import control
from proxy.settings import Address
from tests.journeys.processes import Serving, serving

Run = Callable[..., Awaitable[tuple[int, str]]]
TOKEN = "correct-horse-battery"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - as a container listens


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command beside the loop: its status, and what it said."""

    async def command(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        status = await asyncio.to_thread(cli.main, arguments)
        return status, "".join(capfd.readouterr())

    return command


@asynccontextmanager
async def running(folder: Path, *sets: str) -> AsyncIterator[tuple[Serving, list[str]]]:
    """A sidecar with something held, and the flags that find it."""
    async with (
        emulator.running(emulator.Config()) as graph,
        serving(graph.url, folder, *sets) as sidecar,
        aiohttp.ClientSession() as session,
    ):
        for number in (111, 222):
            async with session.get(f"{sidecar.url}/v25.0/{number}?access_token=ann") as reply:
                assert reply.status == 200
        admin = sidecar.admin_url.removeprefix("http://")
        yield sidecar, ["--admin", admin, "--cache-dir", str(folder / "cache"), "--set", "cache.key_file=ephemeral"]


async def test_a_life(run: Run, tmp_path: Path) -> None:
    """Waited for, counted, checked, ended: then all is written, and the folder tells the same without it."""
    async with running(tmp_path) as (sidecar, flags):
        assert await run("wait", "--timeout", "30", *flags) == (0, "")
        status, said = await run("cache", "stats", *flags)
        assert (status, re.search(r"memory_entries +2\n", said) is not None) == (0, True)
        assert (await run("cache", "verify", *flags))[0] == 0
        assert await run("quit", *flags) == (0, "")
        assert await sidecar.ended() == 0
        assert (await run("quit", *flags))[0] == 1
        status, said = await run("wait", "--timeout", "0", *flags)
        assert (status, "does not answer after 0 s" in said) == (1, True)
        for what in ("stats", "verify"):
            status, said = await run("cache", what, *flags)
            assert (status, said.startswith("2 entries, ")) == (0, True)
        assert "removed 2 entries" in (await run("cache", "purge", *flags))[1]
        assert (await run("cache", "stats", *flags))[1].startswith("0 entries")


async def test_the_token_is_shown(run: Run, tmp_path: Path) -> None:
    """Where the settings name a token, the commands show it; without it they are told what is needed."""
    (tmp_path / "token").write_text(TOKEN)
    own = ["--set", f"admin_token_file={tmp_path / 'token'}"]
    async with running(tmp_path, f"admin_token_file={tmp_path / 'token'}") as (sidecar, flags):
        assert (await run("wait", "--timeout", "30", *flags))[0] == 0
        status, said = await run("quit", *flags)
        assert (status, "answers 401 to POST /quit" in said) == (1, True)
        assert (await run("quit", *flags, *own))[0] == 0
        assert await sidecar.ended() == 0
        assert TOKEN not in sidecar.said + said


async def test_a_folder_in_use_is_left_alone(run: Run, tmp_path: Path) -> None:
    """Who names another admin address does not get at the folder of a sidecar that runs."""
    async with running(tmp_path) as (_sidecar, flags):
        status, said = await run("cache", "purge", "--admin", "127.0.0.1:0", *flags[2:])
        assert (status, "is in use by another process: if that is a sidecar, name its --admin" in said) == (1, True)


async def test_what_is_not_whole_is_said(run: Run, tmp_path: Path) -> None:
    """A row of another kind and a database that is none fail the check; no folder is made by looking."""
    flags = ["--admin", "127.0.0.1:0", "--cache-dir", str(tmp_path / "cache"), "--set", "cache.key_file=ephemeral"]
    assert (await run("cache", "verify", *flags))[0] == 0
    assert not (tmp_path / "cache").exists()
    async with running(tmp_path) as (_sidecar, found):
        await run("quit", *found)
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as database:
        database.execute("UPDATE Cache SET filename = '/etc/passwd' WHERE rowid = 1")
    database.close()
    status, said = await run("cache", "verify", *flags)
    assert (status, "1 rows are not of this store's kind" in said) == (1, True)
    (tmp_path / "cache" / "cache.db").write_bytes(b"no database" * 1000)
    assert (await run("cache", "verify", *flags))[0] == 1


async def test_a_changed_key_is_told(run: Run, tmp_path: Path) -> None:
    """The key opens every entry; another one opens none: `verify` says how many, and a sidecar says so at its start."""
    flags = ["--admin", "127.0.0.1:0", "--cache-dir", str(tmp_path / "cache")]
    own, other = (["--set", f"cache.key_file={tmp_path / name}"] for name in ("key", "other"))
    async with running(tmp_path) as (_sidecar, found):
        await run("quit", *found)
    status, said = await run("cache", "verify", *flags, *own)
    assert (status, said.splitlines()[1]) == (0, "all of it is whole, and 2 entries are of this cache.key_file")
    assert "was not checked: cache.key_file " in (await run("cache", "verify", *flags, *other))[1]
    assert not (tmp_path / "other").exists()
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as database:
        database.execute("UPDATE Cache SET value = CAST(value || x'00' AS BLOB) WHERE rowid = 1")
    database.close()
    status, said = await run("cache", "verify", *flags, *own)
    assert (status, "1 of 2 entries are of another cache.key_file, or damaged" in said) == (1, True)
    (tmp_path / "other").write_bytes(bytes(32))
    (tmp_path / "other").chmod(0o600)
    status, said = await run("cache", "verify", *flags, *other)
    assert (status, "2 of 2 entries are of another cache.key_file, or damaged" in said) == (1, True)
    async with running(tmp_path, f"cache.key_file={tmp_path / 'other'}") as (sidecar, found):
        await sidecar.says(r"the 2 entries in .* are not of this cache.key_file: none can be opened")
        status, said = await run("cache", "verify", *found)
        assert (status, "the entries on disk are not of its cache.key_file" in said) == (1, True)
        shown = (await run("top", "--once", *found))[1]
        assert "The entries on disk need another cache.key_file" in shown
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as database:
        database.execute("UPDATE Cache SET tag = NULL")  # as older versions wrote rows
    database.close()
    status, said = await run("cache", "verify", *flags, *own)
    assert (status, "are of an older version, and do not show their key" in said) == (0, True)


def test_time_runs_out() -> None:
    """It is looked at once at least, and again until it is so or the time is over."""
    now, looks = [0.0], iter([False, False, True])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    assert control.until(lambda: next(looks), 1, lambda: now[0], sleep)
    assert now[0] == pytest.approx(2 * control.EVERY_S)
    assert not control.until(lambda: False, 1, lambda: now[0], sleep)
    assert control.until(lambda: True, 0, lambda: now[0], sleep)


@pytest.mark.parametrize(
    "listens, here", [(EVERYWHERE, "127.0.0.1"), ("::", "::1"), ("10.0.0.1", "10.0.0.1"), ("localhost", "localhost")]
)
def test_what_listens_everywhere_is_found_here(listens: str, here: str) -> None:
    """An address for listening is not always one to call."""
    assert control.from_here(Address(listens, 9180)) == Address(here, 9180)
