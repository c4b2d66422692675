"""Many callers at the same moment."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from aiohttp import web

from proxy.shell.http.accepting import Site
from tests.journeys.conftest import MakeGraph, MakeSidecar

CALLERS = 500


def _allowed() -> int:
    try:
        return int(Path("/proc/sys/net/core/somaxconn").read_text())
    except OSError:
        return 0


@pytest.mark.skipif(_allowed() < CALLERS, reason="this system lets fewer connections wait")
async def test_a_burst_of_callers_connects_at_once(graph: MakeGraph, sidecar: MakeSidecar) -> None:
    """500 callers that connect while the sidecar is busy all get through: none has to try again a second later."""
    running = await sidecar(await graph())
    with contextlib.ExitStack() as open_ones:
        for _ in range(CALLERS):  # the loop does not turn, so all of them wait to be accepted
            caller = open_ones.enter_context(socket.socket())
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect((running.listen.host, running.listen.port))
            assert caller.getpeername()[1] == running.listen.port
        await asyncio.sleep(0)


@pytest.mark.skipif(_allowed() < CALLERS, reason="this system lets fewer connections wait")
async def test_a_crowd_is_let_in_within_a_few_turns() -> None:
    """Turns are long where there is much to do: who has connected does not wait a turn for each one before."""
    server = web.Server(_unasked)
    runner = web.ServerRunner(server)
    await runner.setup()
    await Site(runner, "127.0.0.1", 0, backlog=CALLERS).start()
    with contextlib.ExitStack() as open_ones:
        for _ in range(CALLERS):
            open_ones.enter_context(socket.create_connection(runner.addresses[0][:2]))
        turns = 0
        while len(server.connections) < CALLERS:
            turns += 1
            await asyncio.sleep(0)
    await runner.cleanup()
    assert turns < CALLERS / 10


async def _unasked(_message: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("nobody asks")
