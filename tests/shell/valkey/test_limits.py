"""Limits that replicas share: one probe, one pace."""

from __future__ import annotations

import os

from proxy.core.shared.wire import KeyNames
from proxy.shell.valkey.limits import SharedLimits
from tests.shell.valkey.conftest import MakeClient
from tests.shell.valkey.servers import Server

MASTER = b"m" * 32


async def replica(store: Server, client: MakeClient) -> SharedLimits:
    """One more of two replicas."""
    return SharedLimits(await client(store.url), KeyNames(MASTER), os.urandom(8), lambda: 2)


async def test_one_replica_probes_and_then_another_may(store: Server, client: MakeClient) -> None:
    """A claim of several limits is all or nothing."""
    a, b = await replica(store, client), await replica(store, client)
    assert await a.may_probe(["app"], 30)
    assert not await b.may_probe(["account", "app"], 30)
    assert await a.may_probe(["account"], 30)
    a.probed(["app", "account"])
    await a.client.ask(("PING",))
    assert await b.may_probe(["account", "app"], 30)
    assert (a.probes, b.probes, b.probes_left) == (2, 1, 1)


async def test_a_claim_ends_with_the_time_that_a_probe_takes(store: Server, client: MakeClient) -> None:
    """A replica that died holds nobody up for longer."""
    a, b = await replica(store, client), await replica(store, client)
    assert await a.may_probe(["app"], 30)
    ttl = store.ask("PTTL", a.names.probe("app"))
    assert isinstance(ttl, int)
    assert 29_000 < ttl <= 30_000
    store.ask("DEL", a.names.probe("app"))
    assert await b.may_probe(["app"], 30)


async def test_all_replicas_have_one_pace(store: Server, client: MakeClient) -> None:
    """Of each interval one read has the place, whoever asks for it."""
    a, b = await replica(store, client), await replica(store, client)
    assert await a.ticket("app", 20) == 0
    waits = [await each.ticket("app", 20) for each in (a, b, a, b)]
    assert all(19 < wait <= 20 for wait in waits)
    assert await b.ticket("account", 20) == 0
    assert await a.ticket("app", 0) == 0


async def test_without_the_store_nobody_waits_for_it(store: Server, client: MakeClient) -> None:
    """Each replica then decides by what it knows: of two, it has every second place."""
    a = await replica(store, client)
    store.stop()
    assert await a.may_probe(["app"], 30)
    assert await a.ticket("app", 20) == 0
    assert 39 < await a.ticket("app", 20) <= 40
