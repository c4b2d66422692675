"""Replicas that share a store: calls for one trace through 1, 2, 4 and 8 of them, and what sharing costs a read.

Needs a redis-server on PATH; without one it says so, and measures nothing.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager

from bench.harness import (
    _await_port,
    _free_port,
    at_once,
    gets,
    graph,
    ids,
    median,
    run,
    sent,
    show,
    sidecar,
    table,
    verdict,
)
from proxy.commands.demo.client import open_connection

REPLICAS = (1, 2, 4, 8)
READS, NODES, CROWD, CROWDS = 3000, 150, 400, 40
HITS, ROUNDS, COLD = 20_000, 5, 2000


@contextmanager
def store():
    """A redis-server of its own: its address and its process."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        words = ["redis-server", "--port", str(port), "--save", "", "--dir", folder, "--logfile", f"{folder}/log"]
        process = subprocess.Popen(words)
        try:
            _await_port(port, process)
            yield f"redis://127.0.0.1:{port}", process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait()


@contextmanager
def fleet(origin, number, **settings):
    """So many replicas with one key, and the store's process."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url, process = stack.enter_context(store())
        shared = {"cache.key_file": f"{folder}/key", "shared.url": url, "shared.timeout_ms": 1000, "listener.lag_s": 0}
        given = {**shared, **settings}
        yield [stack.enter_context(sidecar(origin, **given)) for _ in range(number)], process


async def main():
    """Every claim about replicas that is a figure."""
    if not shutil.which("redis-server"):
        print("  there is no redis-server here, so its figures are left out (Debian: apt-get install redis-server)")
        return
    await calls_counted()
    await hits()
    await visits()
    await frozen()


async def settled(replicas):
    """Wait until each has read the log and knows of the others: what is asked before is asked by each alone."""
    async with asyncio.timeout(30):
        for each in replicas:
            while not is_settled(each.stats()["shared"], len(replicas)):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.05)


def is_settled(told, replicas):
    """Whether a replica that says so of itself has heard of so many."""
    return told["believed"] and told["replicas"] == replicas


async def calls_counted():
    """The same reads through any number of replicas are as many calls.

    A replica that gets no processor time for half a second has heard nothing of the others for so long, and asks for
    what it held: such gaps are counted beside the calls, for they tell of this machine.
    """
    made, found, gaps = table("calls that Graph counted", *(f"{number} replicas" for number in REPLICAS)), {}, {}
    for number in REPLICAS:
        with (
            graph(latency_ms=60, body_bytes=1024) as origin,
            fleet(origin, number, **{"cache.fresh_s": 20}) as (all_, _),
        ):
            await settled(all_)
            found[number] = await trace(origin, all_), await crowd(origin, all_)
            gaps[number] = sum(each.stats()["shared"]["log"]["gaps"] for each in all_)
    for at, name in enumerate(("a dashboard's trace", f"{CROWDS} crowds of identical reads")):
        made.add_row(name, *(str(found[number][at]) for number in REPLICAS))
        worst = max(found[number][at] / found[1][at] - 1 for number in REPLICAS)
        verdict(f"calls of 2, 4, 8 replicas above one, {name}", "<= 5 %", f"{worst:+.1%}", met=worst <= 0.05)
    made.add_row("gaps of half a second in what a replica hears", *(str(gaps[number]) for number in REPLICAS))
    show(made)


async def trace(origin, replicas):
    """Calls for reads by Zipf, each by whichever replica."""
    dice = random.Random(1)
    origin.ledger.reset()
    weights = [1 / (rank + 1) for rank in range(NODES)]
    nodes = list(ids(0, NODES))
    chosen = dice.choices(nodes, weights, k=READS)
    parts = {each.url: [] for each in replicas}
    for node in chosen:
        parts[dice.choice(replicas).url].append(node)
    await asyncio.gather(*(at_once(url, gets(url, part), 16) for url, part in parts.items() if part))
    return sum(origin.ledger.counted()["slots"])


async def crowd(origin, replicas):
    """Calls for identical reads that come to all replicas at once, many times."""
    total = 0
    for number in range(CROWDS):
        origin.ledger.reset()
        node = list(ids(10_000 + number, 1))
        each = CROWD // len(replicas)
        await asyncio.gather(*(at_once(one.url, gets(one.url, node * each), min(each, 100)) for one in replicas))
        total += sum(origin.ledger.counted()["slots"])
    return total


async def hits():
    """A fresh hit in memory costs as much processor time with a shared store as without."""
    costs = {"alone": [], "shared": []}
    fresh = {"cache.fresh_s": 3600}
    with (
        graph(body_bytes=2048) as origin,
        sidecar(origin, **fresh) as alone,
        fleet(origin, 1, **fresh) as ((shared,), _),
    ):
        await settled([shared])
        ways = {"alone": alone, "shared": shared}
        for one in ways.values():
            await at_once(one.url, gets(one.url, ids(0, 100)), 10)
        for _ in range(ROUNDS):
            for name, one in ways.items():
                began = one.cpu_s()
                await at_once(one.url, gets(one.url, list(ids(0, 100)) * (HITS // 100)), 50)
                costs[name].append((one.cpu_s() - began) / HITS)
    alone_us, shared_us = (median(costs[name]) * 1e6 for name in ("alone", "shared"))
    ratio = alone_us / shared_us
    verdict("fresh hits per processor second, shared against alone", ">= 0.95", f"{ratio:.2f}", met=ratio >= 0.95)
    print(f"  ({alone_us:.0f} us alone, {shared_us:.0f} us shared)")


async def visits():
    """A cold read visits the store at most twice, and what that costs; then what sharing costs a revalidated read.

    Plain reads take the quick way, for which no task waits for a read; the layers, which answer all others, are
    measured beside.
    """
    costs = {}
    with graph(body_bytes=2048) as origin, sidecar(origin) as alone, fleet(origin, 1) as ((shared,), _):
        await settled([shared])
        for one in (alone, shared):
            await at_once(one.url, by_layers(one.url, ids(0, 500)), 50)
            await at_once(one.url, gets(one.url, ids(500, 500)), 50)
        ways = {"alone": (alone, gets), "shared": (shared, gets), "layers alone": (alone, by_layers)}
        ways["layers shared"] = shared, by_layers
        told, start = Counter(), 1000
        for at in range(ROUNDS):
            for name in turned(ways, at):
                one, asked_of = ways[name]
                before = counted(shared)
                costs.setdefault(name, []).append(await cost_us(one, asked_of(one.url, ids(start, COLD))))
                if name == "shared":
                    told.update({each: now - before[each] for each, now in counted(shared).items()})
                start += COLD
        again = {}
        held = {one: gets(one.url, list(ids(500, 500)) * (COLD // 500)) for one in (alone, shared)}
        for _ in range(ROUNDS):
            for name, one in (("alone", alone), ("shared", shared)):
                again.setdefault(name, []).append(await cost_us(one, held[one]))
    reads = ROUNDS * COLD
    landed, made = told["led"] / reads, told["visits"] / reads
    us = {name: median(each) for name, each in costs.items()}
    visit_us = max((us["shared"] - us["alone"]) / made, (us["layers shared"] - us["layers alone"]) / made)
    verdict("visits of a cold read before its answer", "<= 2", f"{made - landed:.2f}", met=made - landed <= 2.05)
    verdict("processor time of a visit, 50 at once", "<= 60 us", f"{visit_us:.0f} us", met=visit_us <= 60)
    print(f"  ({made:.2f} visits, the one behind the answer too; sealing and leases are in it)")
    print(f"  (a cold read: {us['alone']:.0f} us alone, {us['shared']:.0f} us shared; ", end="")
    print(f"by the layers {us['layers alone']:.0f} us alone, {us['layers shared']:.0f} us shared)")
    alone_us, shared_us = median(again["alone"]), median(again["shared"])
    print(f"  (a revalidated read: {alone_us:.0f} us alone, {shared_us:.0f} us shared)")


def turned(ways, at):
    """The names of *ways*, beginning with another one each time."""
    names = list(ways)
    return names[at % len(names) :] + names[: at % len(names)]


def counted(one):
    """What a replica has counted of its visits."""
    told = one.stats()["shared"]
    return {"visits": told["visits"], "led": told["flights"]["led"]}


async def cost_us(one, asked):
    """Microseconds of processor time for each read of *asked*, 50 at once."""
    began = one.cpu_s()
    await at_once(one.url, asked, 50)
    return (one.cpu_s() - began) / len(asked) * 1e6


def by_layers(url, nodes):
    """Cold reads that go through all layers: a field that is seldom sent keeps them from the quick way."""
    return [each.replace(b"\r\n", b"\r\nTE: trailers\r\n", 1) for each in gets(url, nodes)]


async def frozen():
    """Hits go on while the store is frozen, where they go by the clock."""
    settings = {"cache.fresh_s": 3600, "shared.alone": "fresh", "shared.timeout_ms": 50}
    with graph(body_bytes=2048) as origin, fleet(origin, 1, **settings) as ((one,), process):
        await settled([one])
        asked = gets(one.url, ids(0, 50))
        connections = [await open_connection(one.url) for _ in range(4)]
        await sent(connections, asked)
        calm = await latencies(connections, asked, 3.0)
        process.send_signal(signal.SIGSTOP)
        await latencies(connections, asked, 0.3)
        stopped = await latencies(connections, asked, 3.0)
        for each in connections:
            each.close()
    more_ms = (percentile(stopped, 0.99) - percentile(calm, 0.99)) * 1000
    verdict("p99 of hits with the store frozen, above without", "<= 1 ms", f"{more_ms:+.2f} ms", met=more_ms <= 1)


async def latencies(connections, asked, seconds):
    """How long each reply took, one after the other on each connection, for so many seconds."""
    took, until = [], time.perf_counter() + seconds

    async def caller(connection):
        number = 0
        while time.perf_counter() < until:
            began = time.perf_counter()
            await connection.ask(asked[number % len(asked)])
            took.append(time.perf_counter() - began)
            number += 1
            await asyncio.sleep(0.002)

    await asyncio.gather(*(caller(each) for each in connections))
    return took


def percentile(values, share):
    """That of sorted values."""
    return sorted(values)[int(len(values) * share)]


if __name__ == "__main__":
    run(main)
