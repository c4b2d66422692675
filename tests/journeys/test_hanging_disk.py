"""A disk that does not answer: reads are answered as without a cache, that is told, and the process ends at SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from pathlib import Path

import pytest

from proxy.app import sidecar as app_sidecar
from proxy.shell.store.sqlite import Sqlite
from tests.journeys.conftest import MakeAsk, MakeGraph, MakeTwins, SidecarSettings
from tests.journeys.processes import serving
from tests.journeys.talking import troubles

READ = "/v25.0/111?fields=name"
HANGING = """
import sys, threading
from proxy.cli import main
from proxy import app
from proxy.shell.store.sqlite import Sqlite
real = Sqlite.{name}
def hang(self, what, *more):
    if {always} or what != [b""]:
        threading.Event().wait()
    return real(self, what, *more)
Sqlite.{name} = hang
sys.exit(main(sys.argv[1:]))
"""
"""The command line on a disk that never answers one sort of call."""


async def test_callers_get_what_graph_says(twins: MakeTwins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cold, held on a disk that hangs, and seldom asked before: direct and through are equal, and a trouble is told."""
    here = await twins({"cache": {"memory_mb": 0}})
    await here.alike(READ, token="ann")
    async with asyncio.timeout(60):
        while not (await here.through.say(f"{here.front.admin_url}/stats")).json["store"]["writes"]:
            pass
    answers = threading.Event()
    real = Sqlite.read
    monkeypatch.setattr(Sqlite, "read", lambda rows, keys: answers.wait() and real(rows, keys))
    try:
        async with asyncio.timeout(60):
            for path in (READ, READ, "/v25.0/222", "/v25.0/222"):
                await here.alike(path, token="ann")
        stats = (await here.through.say(f"{here.front.admin_url}/stats")).json
        found = [each["what"] for each in troubles(stats)]
        assert found == ["The cache on disk is not used for now, entries are in memory only"]
        assert (await here.through.say(f"{here.front.admin_url}/readyz")).status == 200
    finally:
        answers.set()


@pytest.mark.parametrize("name, always", [("read", False), ("read", True), ("write", True)])
async def test_a_thread_that_never_comes_back_keeps_no_process(
    graph: MakeGraph, sidecar_settings: SidecarSettings, ask: MakeAsk, tmp_path: Path, name: str, *, always: bool
) -> None:
    """`serve` starts, answers and ends at SIGTERM with a thread stuck in SQLite for good."""
    behind = await graph()
    settings = sidecar_settings(behind.url, cache={"dir": tmp_path / "cache", "key_file": tmp_path / "key"})
    async with app_sidecar.sidecar(settings) as before:
        assert (await (await ask(before.url)).say(READ, token="ann")).status == 200
    ours = ("-c", HANGING.format(name=name, always=always))
    async with asyncio.timeout(60), serving(behind.url, tmp_path, "cache.memory_mb=0", ours=ours) as sidecar:
        caller = await ask(sidecar.url)
        for path in (READ, READ, "/v25.0/222"):
            assert (await caller.say(path, token="ann")).status == 200
        await sidecar.says("the cache on disk is not used for now, entries are in memory only")
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is on a file system that is no disk")
async def test_a_folder_that_takes_nothing_is_a_warning(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """A cache folder that cannot be written keeps nobody from serving: memory holds entries, and that is told."""
    behind = await graph()
    async with serving(behind.url, tmp_path, "cache.dir=/proc/self/cache") as sidecar:
        caller = await ask(sidecar.url)
        modes = [(await caller.say(READ, token="ann")).cache for _time in range(2)]
        assert modes == ["fwd=uri-miss; stored", "fwd=stale; fwd-status=304"]
        assert "the cache on disk is not used for now, entries are in memory only" in sidecar.said
        stats = (await caller.say(f"{sidecar.admin_url}/stats")).json
        assert [each["about"] for each in troubles(stats)] == ["store"]
