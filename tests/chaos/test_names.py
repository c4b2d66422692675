"""Graph's name does not resolve, resolves late, or to another address: callers are told, and served again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest

from proxy import emulator
from tests.chaos.names import NameServer, naming
from tests.journeys.conftest import MakeAsk, MakeGraph, MakeSidecar
from tests.journeys.fleets import until_async
from tests.journeys.talking import Ask, Heard

HOST = "graph.chaos.test"


@pytest.fixture
async def names(lifetimes: AsyncExitStack) -> NameServer:
    """The name server that the sidecar asks."""
    return await lifetimes.enter_async_context(naming())


async def caller_of(
    graph: emulator.Running, names: NameServer, sidecar: MakeSidecar, ask: MakeAsk, connect_timeout_s: float = 1
) -> Ask:
    """A caller of a sidecar that finds Graph by its name."""
    upstream = {"nameservers": [f"127.0.0.1:{names.port}"], "connect_timeout_s": connect_timeout_s}
    front = await sidecar(f"http://{HOST}:{urlsplit(graph.url).port}", upstream=upstream)
    return await ask(front.url)


async def read(caller: Ask, number: int) -> Heard:
    """Read an object."""
    return await caller.say(f"/v25.0/{number}?fields=id", token="ann")


@pytest.mark.parametrize("fault", ["unknown", "silent"])
async def test_a_name_that_does_not_resolve(
    graph: MakeGraph, names: NameServer, sidecar: MakeSidecar, ask: MakeAsk, fault: str
) -> None:
    """Reads and writes get 502 within `connect_timeout_s`, and nothing is sent; afterwards reads are served."""
    behind = await graph()
    caller = await caller_of(behind, names, sidecar, ask)
    names.address, names.is_silent = None if fault == "unknown" else "127.0.0.1", fault == "silent"
    for heard in (await read(caller, 1), await caller.say("/v25.0/2", method="POST", token="ann", data={"name": "x"})):
        assert heard.status == 502
        assert heard.json["error"]["message"].startswith("graph-sidecar: no connection to Graph")
    assert names.asked
    assert behind.ledger.http_calls == 0
    names.address, names.is_silent = "127.0.0.1", False
    await until_async(lambda: is_served(caller), 60)  # a silent name server is asked again after a while


async def test_a_name_that_resolves_late(
    graph: MakeGraph, names: NameServer, sidecar: MakeSidecar, ask: MakeAsk
) -> None:
    """Callers wait for it, and are served; those who come meanwhile wait for the same look-up."""
    behind = await graph()
    caller = await caller_of(behind, names, sidecar, ask, connect_timeout_s=30)
    names.late_s = 0.2
    heard = await asyncio.gather(*(read(caller, number) for number in range(1, 6)))
    assert [each.json for each in heard] == [{"id": str(number)} for number in range(1, 6)]
    assert names.asked <= 4  # A and AAAA, once more at most


async def is_served(caller: Ask) -> bool:
    """Whether a read gets its object."""
    return (await read(caller, 1)).status == 200


async def test_an_address_that_changes(
    graph: MakeGraph, names: NameServer, sidecar: MakeSidecar, ask: MakeAsk, lifetimes: AsyncExitStack
) -> None:
    """Graph moves to another address: no read and no write fails, though the old address was kept."""
    async with emulator.running(emulator.Config()) as old:
        caller = await caller_of(old, names, sidecar, ask, connect_timeout_s=30)
        assert (await read(caller, 1)).json == {"id": "1"}
    port = urlsplit(old.url).port or 0
    new = await lifetimes.enter_async_context(emulator.running(emulator.Config(), host="127.0.0.2", port=port))
    names.address = "127.0.0.2"
    assert (await read(caller, 2)).json == {"id": "2"}
    heard = await caller.say("/v25.0/3", method="POST", token="ann", data={"name": "x"})
    assert (heard.status, new.ledger.writes) == (200, {("POST", "/3"): 1})
