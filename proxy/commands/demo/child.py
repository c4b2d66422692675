"""One process of the demo: reads its task from standard input, and writes its addresses to standard output.

It ends when standard input ends, so that it never outlives the demo, however the demo ended.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

Orders = asyncio.Queue[dict[str, Any]]


def main() -> None:
    """Run the part that the first line names, until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent process
    with open(0, "rb", buffering=0, closefd=False) as lines:  # the later lines are the loop's
        first = json.loads(lines.readline() or b"{}")
    if not first:
        return
    if "cpus" in first:
        os.sched_setaffinity(0, first["cpus"])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_live(_PARTS[first["part"]], first))


async def _live(part: Callable[[dict[str, Any], Orders], Coroutine[None, None, None]], first: dict[str, Any]) -> None:
    orders = Orders()
    work, waiting = asyncio.ensure_future(part(first, orders)), asyncio.ensure_future(_wait_for_end(orders))
    await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not work.done():
        work.cancel()
    try:
        await work
    except asyncio.CancelledError:
        pass


async def _wait_for_end(orders: Orders) -> None:
    """Read further lines until standard input ends."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        orders.put_nowait(json.loads(line))


def _send(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def _graph(first: dict[str, Any], orders: Orders) -> None:
    """Run the offline Graph."""
    from proxy.emulator import Config, running

    async with running(Config(**first["config"])) as graph:
        _send(url=graph.url)
        await orders.get()


async def _sidecar(first: dict[str, Any], orders: Orders) -> None:
    """Run the sidecar as `serve` does, with a cache and a key that are removed at its end."""
    from proxy.app.sidecar import sidecar
    from proxy.settings import Settings

    given = first["settings"]
    with tempfile.TemporaryDirectory(prefix="graph-sidecar-demo-") as folder:
        cache = {"dir": folder, "key_file": "ephemeral", **given.get("cache", {})}
        free = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "drain_s": 1}
        async with sidecar(Settings(**{**free, **given, "cache": cache})) as running:
            gc.collect()
            gc.freeze()
            _send(url=running.url, admin=running.admin_url)
            await orders.get()


async def _callers(first: dict[str, Any], orders: Orders) -> None:
    """Run the callers: they list the accounts, then send the same traffic to each URL that they read."""
    from proxy.commands.demo import callers, traffic

    known = await traffic.teams(lambda asked: callers.ask_once(first["graph"], asked))
    visits = traffic.plan_visits(known, first["callers"], first["seconds"])
    asked = [ask for each in visits for visit in each for ask in visit.asks]
    changes = sum(1 for ask in asked if ask.body)
    _send(gets=len(asked) - changes, changes=changes, campaign=known[0].accounts[0][1][0])
    while True:
        order = await orders.get()
        sent = traffic.warm_up(visits, order["warm_up_s"]) if "warm_up_s" in order else visits
        team = callers.Callers(order["urls"], lambda done: _send(done=done), order.get("slowness", 1.0))
        seen = await team.send(sent)
        _send(seen=dataclasses.asdict(seen))


_PARTS: dict[str, Callable[[dict[str, Any], Orders], Coroutine[None, None, None]]] = {
    "graph": _graph,
    "sidecar": _sidecar,
    "callers": _callers,
}

if __name__ == "__main__":
    main()
