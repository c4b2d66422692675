"""Replicas as processes of their own: one that is killed while it leads, and calls counted for one against several."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.journeys.conftest import MakeGate, MakeGraph
from tests.journeys.fleets import TOKEN, until_async
from tests.journeys.processes import Serving, serving
from tests.journeys.talking import Ask
from tests.shell.valkey.servers import Server

READ = "/v25.0/me?fields=id,name"


async def replicas(stack: AsyncExitStack, graph: str, store: Server, folder: Path, number: int) -> list[Serving]:
    """So many of them, with one key."""
    key = f"cache.key_file={folder / 'key'}"
    starts = [
        serving(graph, folder / f"replica{each}", key, f"shared.url={store.url}", "shared.timeout_ms=1000")
        for each in range(number)
    ]
    for each in range(number):
        (folder / f"replica{each}").mkdir()
    return list(await asyncio.gather(*(stack.enter_async_context(start) for start in starts)))


async def test_the_flight_of_a_killed_replica_is_flown_by_another(
    graph: MakeGraph, gate: MakeGate, store: Server, lifetimes: AsyncExitStack, tmp_path: Path
) -> None:
    """Its followers have their answer within three seconds and the time that Graph takes."""
    behind = await graph()
    held = gate(behind)
    first, *others = await replicas(lifetimes, behind.url, store, tmp_path, 3)
    callers = [await lifetimes.enter_async_context(Ask(each.url)) for each in (first, *others)]
    leading = asyncio.create_task(callers[0].say(READ, token=TOKEN))
    await held.has(1)
    following = [asyncio.create_task(each.say(READ, token=TOKEN)) for each in callers[1:]]
    for each, caller in zip(others, callers[1:], strict=True):
        await until_async(partial(waits, caller, each))
    first.signal(signal.SIGKILL)
    await held.has(2)
    held.open()
    heard = await asyncio.gather(*following)
    assert [each.status for each in heard] == [200, 200]
    assert behind.ledger.http_calls == 2
    told = [await stats(caller, each) for each, caller in zip(others, callers[1:], strict=True)]
    assert sum(each["flights"]["taken_over"] for each in told) == 1
    with pytest.raises(aiohttp.ClientError):
        await leading


async def stats(caller: Ask, replica: Serving) -> Any:
    """What it tells of what it shares."""
    return (await caller.say(f"{replica.admin_url}/stats")).json["shared"]


async def waits(caller: Ask, replica: Serving) -> bool:
    """Whether it waits for another's flight."""
    return bool((await stats(caller, replica))["waiting"])
