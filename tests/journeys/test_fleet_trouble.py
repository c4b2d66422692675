"""Replicas whose store is away, slow, full, emptied or another: never an error, never a body of before a write."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from tests.conftest import LONG
from tests.journeys.conftest import MakeAsk, MakeGraph
from tests.journeys.fleets import (
    FRESH,
    TOKEN,
    MakeFleet,
    Replica,
    Storm,
    first_ad,
    is_fresh,
    is_untroubled,
    say,
    share,
    until_async,
)
from tests.journeys.talking import troubles
from tests.shell.valkey.servers import Server, until

READ = "/v25.0/me?fields=id,name"


def freeze(store: Server) -> None:
    """Stop it for a while: connections stay open."""
    store.signal(signal.SIGSTOP)


async def test_replicas_start_without_a_store_and_find_it_later(
    graph: MakeGraph, fleet: MakeFleet, store: Server
) -> None:
    """Each goes on alone meanwhile, says so in one line, and is ready."""
    store.stop()
    behind = await graph()
    a, b = await fleet(behind, **FRESH)
    assert not await is_fresh(a, READ)
    assert not await is_fresh(a, READ)  # `revalidate`: other replicas' writes cannot be heard
    told = await a.stats()
    assert [each["about"] for each in troubles(told)] == ["shared"]
    ready = await a.ask.say(f"{a.running.admin_url}/readyz?verbose")
    assert (ready.status, b"shared store is away" in ready.body) == (200, True)
    store.start()
    await until(lambda: a.told["believed"] and b.told["believed"])
    await share(a, b)
    await until_async(partial(is_untroubled, a))


async def test_alone_a_replica_may_go_by_the_clock(graph: MakeGraph, fleet: MakeFleet, store: Server) -> None:
    """What is fresh stays so, without waiting, once it is known that the store is away."""
    (a,) = await fleet(await graph(), 1, **FRESH, shared={"alone": "fresh", "timeout_ms": 50})
    await say(a, READ)
    store.signal(signal.SIGKILL)
    await until(lambda: not a.told["up"])
    assert await is_fresh(a, READ)


async def test_a_frozen_store_fails_nothing_and_makes_nobody_wait_twice(
    graph: MakeGraph, fleet: MakeFleet, store: Server
) -> None:
    """Reads go on with Graph alone; when it thaws, they share again."""
    a, b = await fleet(await graph(), **FRESH, shared={"timeout_ms": 50})
    await say(a, READ)
    freeze(store)
    await until(lambda: not a.told["believed"])
    for _ in range(3):
        assert not await is_fresh(a, READ)
    assert a.told["failed"] <= 5
    store.signal(signal.SIGCONT)
    await until(lambda: a.told["believed"] and b.told["believed"])
    await share(a, b)


async def test_hits_wait_for_the_log_together_and_cost_no_call(
    graph: MakeGraph, fleet: MakeFleet, store: Server, ask: MakeAsk
) -> None:
    """The store is slow for a moment: what memory holds is served when the log is read again, after one visit."""
    behind = await graph()
    (a,) = await fleet(behind, 1, **FRESH, shared={"timeout_ms": 10_000})
    callers = [Replica(a.running, await ask(a.running.url)) for _ in range(20)]
    for each in callers:
        await say(each, READ)
    calls = behind.ledger.counted_calls
    freeze(store)
    await until(lambda: not a.told["believed"])
    visits = a.told["visits"]
    asking = [asyncio.create_task(say(each, READ)) for each in callers]
    try:
        await until(lambda: a.running.telemetry.gauges.open() == len(asking))
    finally:
        store.signal(signal.SIGCONT)
    heard = await asyncio.gather(*asking)
    assert {each.cache.split(";")[0] for each in heard} == {"hit"}
    assert behind.ledger.counted_calls == calls
    assert a.told["visits"] - visits < len(asking) / 2


async def test_hits_that_wait_go_on_without_a_store_that_stays_away(
    graph: MakeGraph, fleet: MakeFleet, store: Server, ask: MakeAsk
) -> None:
    """Each is revalidated; a caller that hangs up meanwhile takes no one else with it."""
    behind = await graph()
    (a,) = await fleet(behind, 1, **FRESH, shared={"timeout_ms": 300})
    callers = [Replica(a.running, await ask(a.running.url)) for _ in range(5)]
    for each in callers:
        await say(each, READ)
    freeze(store)
    await until(lambda: not a.told["believed"])
    asking = [asyncio.create_task(each.say(READ)) for each in callers]
    await asyncio.sleep(0)
    asking[0].cancel()
    heard = await asyncio.gather(*asking[1:])
    assert [each.status for each in heard] == [200] * 4
    assert not any(each.cache.startswith("hit") for each in heard)


async def test_a_write_waits_for_a_log_that_others_still_hear(
    graph: MakeGraph, fleet: MakeFleet, store: Server
) -> None:
    """A store that answers readers of the log and nothing else is not away: others would serve what was before."""
    behind = await graph()
    a, b = await fleet(behind, **FRESH)
    await share(a, b)
    ad = await first_ad(b)
    path = f"/v25.0/{ad}?fields=id,name"
    await say(b, path)
    assert store.ask("ACL", "SETUSER", "default", "-time", "-xadd") == b"OK"  # new connections ask for the time
    for line in cast("bytes", store.ask("CLIENT", "LIST")).decode().splitlines():
        if "cmd=xread" not in line:
            store.ask("CLIENT", "KILL", "ID", line.partition(" ")[0].removeprefix("id="))
    await until(lambda: not a.told["up"])
    writing = asyncio.ensure_future(a.say(f"/v25.0/{ad}", method="POST", data={"name": "new"}))
    await asyncio.wait([writing], timeout=1)
    assert not writing.done() or (await say(b, path)).json["name"] == "new"
    store.ask("ACL", "SETUSER", "default", "+@all")
    assert (await writing).status == 200
    assert (await say(b, path)).json["name"] == "new"


async def test_a_full_store_is_told_and_fails_nothing(graph: MakeGraph, fleet: MakeFleet, store: Server) -> None:
    """A store that takes no writes takes no signs of life either: nothing is believed, and all is revalidated."""
    a, b = await fleet(await graph(), **FRESH)
    await say(a, READ)
    store.ask("CONFIG", "SET", "maxmemory", "1")
    await say(b, "/v25.0/me?fields=name")
    await until(lambda: bool(b.told["full"]))
    await until(lambda: a.told["sign_of_life_s"] > 3)
    assert not await is_fresh(a, READ)
    store.ask("CONFIG", "SET", "maxmemory", "0")
    await until(lambda: bool(a.told["believed"]))
    await say(a, READ)
    assert await is_fresh(a, READ)


async def test_a_replica_with_another_secret_shares_nothing_and_says_so(
    graph: MakeGraph, fleet: MakeFleet, tmp_path: Path
) -> None:
    """All replicas need one key file: what differs is the first thing to look at."""
    behind = await graph()
    (a,) = await fleet(behind, 1, **FRESH)
    (b,) = await fleet(behind, 1, cache={"fresh_s": 600, "key_file": tmp_path / "another key"})
    await say(a, READ)
    assert not await is_fresh(b, READ)
    (trouble,) = troubles(await b.stats())
    assert (trouble["level"], trouble["about"], "secret" in trouble["what"]) == ("bad", "shared", True)
    ready = await b.ask.say(f"{b.running.admin_url}/readyz?verbose")
    assert b"Another secret" in ready.body
    await until_async(partial(is_untroubled, a))


async def test_a_demoted_store_is_believed_no_more(graph: MakeGraph, fleet: MakeFleet, store: Server) -> None:
    """After a failover what is held is revalidated once."""
    a, b = await fleet(await graph(), **FRESH)
    for each in (a, b):
        await say(each, READ)
    store.ask("REPLICAOF", "127.0.0.1", "1")
    await until(lambda: not a.told["believed"] and not b.told["believed"])
    store.ask("REPLICAOF", "NO", "ONE")
    await until(lambda: a.told["believed"] and b.told["believed"])
    assert not await is_fresh(a, READ)
    assert await is_fresh(a, READ)


async def test_no_token_id_or_path_can_be_read_in_the_store(graph: MakeGraph, fleet: MakeFleet, store: Server) -> None:
    """Not in key names, values, or in what MONITOR shows."""
    import socket

    with socket.create_connection(("127.0.0.1", store.port)) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        a, b = await fleet(await graph(), **FRESH)
        ad = await first_ad(a)
        await say(b, f"/v25.0/{ad}?fields=id,name")
        await say(a, f"/v25.0/{ad}", method="POST", data={"name": "a secret name"})
        await a.ask.say(f"{a.running.admin_url}/purge", method="POST", data=json.dumps({"path": "/act_1/*"}))
        await say(b, f"/v25.0/{ad}?fields=id,name")
        await asyncio.sleep(0.2)
        monitor.settimeout(0.2)
        seen = b""
        try:
            while data := monitor.recv(1 << 20):
                seen += data
        except TimeoutError:
            pass
    keys: Any = store.ask("KEYS", "*")
    dumped = b"".join(repr(store.ask("DUMP", key)).encode() for key in keys)
    assert len(keys) > 4
    assert b"XADD" in seen
    for secret in (TOKEN.encode(), ad.encode(), b"act_1", b"secret name", b"fields", b"/me"):
        assert secret not in seen + dumped + b" ".join(keys)


async def test_what_graph_limits_one_is_left_alone_by_all(graph: MakeGraph, fleet: MakeFleet) -> None:
    """A stop holds in the fleet, and one replica probes it."""
    behind = await graph()
    a, b = await fleet(behind, cache={"fresh_s": 0})
    await say(b, READ)
    behind.faults.add({"kind": "throttled", "status": 429, "retry_after_s": 90, "seconds": 90.0})
    assert (await a.say(READ)).status == 429
    await until_async(lambda: is_refused_here(b))
    calls = behind.ledger.http_calls
    for _ in range(5):
        heard = await b.say("/v25.0/act_1?fields=id")
        assert (heard.status, heard.cache, int(heard.headers["Retry-After"]) > 80) == (429, "detail=throttled", True)
    assert behind.ledger.http_calls == calls


async def is_refused_here(replica: Replica) -> bool:
    """Whether the replica answers with what Graph said of a limit, without asking."""
    heard = await replica.say("/v25.0/act_2?fields=name")
    return heard.cache.endswith("detail=throttled")


def nothing(_store: Server) -> None:
    """Let the store be."""


def thaw_later(store: Server) -> None:
    """Freeze it, and let it go on in a second."""
    freeze(store)
    asyncio.get_running_loop().call_later(1.0, store.signal, signal.SIGCONT)


def kill(store: Server) -> None:
    """Kill it, and start an empty one."""
    store.signal(signal.SIGKILL)
    asyncio.get_running_loop().call_later(0.3, lambda: asyncio.ensure_future(asyncio.to_thread(store.start)))


def empty(store: Server) -> None:
    """Forget all that it holds."""
    store.ask("FLUSHALL")


def fail_over(store: Server) -> None:
    """Demote it, and promote it again: another primary, as far as anybody can tell."""
    store.ask("REPLICAOF", "127.0.0.1", "1")
    asyncio.get_running_loop().call_later(0.2, store.ask, "REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("trouble", [nothing, thaw_later, kill, empty, fail_over])
async def test_in_a_storm_no_read_is_older_than_a_write_that_was_answered(
    graph: MakeGraph, fleet: MakeFleet, store: Server, trouble: Callable[[Server], None]
) -> None:
    """Writes through one replica, reads through the others, and the store in trouble in the middle."""
    a, b, c = await fleet(await graph(latency_ms=3), 3, **FRESH, shared={"timeout_ms": 50})
    listed = (await say(a, "/v25.0/act_1/ads?limit=6&fields=id,name")).json["data"]
    storm = Storm(a, [b, c], [each["id"] for each in listed], 10_000 if LONG else 900)
    await storm.blow(lambda: trouble(store))
    assert storm.older == []
    assert storm.fresh > 10
