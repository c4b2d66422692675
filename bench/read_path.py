"""The read path: what reads of each kind cost the proxy's processor beside nginx, and what the sidecar takes of memory.

Default settings: each reply is a line of JSON, in a file. Counted are requests per second of the proxy's own processor
time, threads included, so that neither wrk, the load, nor the emulator limits anybody. The ways take turns, and
each figure is the median of the rounds of one run. Direct calls cost no proxy time: they stand beside the lone GET.
"""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlencode

from bench.harness import (
    Load,
    at_once,
    gets,
    graph,
    has_wrk,
    ids,
    median,
    nginx,
    open_connection,
    run,
    sent,
    show,
    sidecar,
    table,
    timed,
    verdict,
)
from proxy.commands.demo.client import request

ROUNDS, SECONDS, CALLERS, URLS, MANY_URLS = 5, 2, 50, 100, 20_000
OPERATIONS, BATCHES = 50, 40
LONE, PAUSE_S = 300, 0.003
READS, PIECE, MEMORY_MB = 100_000, 10_000, 16
FRESH = "/1203*"
CALM = {"listener.lag_s": 0}
"""Other programs on the machine must not make the sidecar refuse what is measured."""


async def main():
    """Each part prints its table; the goals stand together at the end of `make bench`."""
    with graph(body_bytes=2048) as origin:
        if has_wrk():
            await _processor(origin)
        await _lone(origin)
        await _memory(origin)


async def _processor(origin):
    with (
        sidecar(origin, lines=True, **CALM, rules=[{"path": FRESH, "fresh_s": 3600}]) as ours,
        nginx(origin) as theirs,
    ):
        fresh, many = range(1203_000_000_000, 1203_000_000_000 + URLS), ids(10**6, MANY_URLS)
        ways = {
            "fresh hit": Load(ours, fresh),
            "revalidated, 100 URLs": Load(ours, ids(0, URLS)),
            "revalidated, 20,000 URLs": Load(ours, many),
            "first-seen URL, answered and stored": Load(ours, ids(10**7, 10**9)),
        }
        if theirs:
            ways["nginx, cache hit"] = Load(theirs[1], fresh)
            ways["nginx, passing on"] = Load(theirs[0], ids(0, URLS))
        rates, per_operation = {name: [] for name in ways}, []
        await at_once(ours.url, gets(ours.url, many), CALLERS)
        for number in range(-1, ROUNDS):
            for name, load in ways.items():
                found = load.rate(callers=CALLERS, seconds=SECONDS)
                if number >= 0:  # the round before the first warms up
                    rates[name].append(found)
            cost = await _client_batches(ours)
            if number >= 0:
                per_operation.append(cost * rates["revalidated, 100 URLs"][-1])
    _tell(rates, per_operation)


async def _client_batches(ours):
    """Processor seconds for each operation of batches of held reads, once they are held."""
    first = ids(0, 1)[0]
    operations = [{"method": "GET", "relative_url": f"v25.0/{first + number}"} for number in range(OPERATIONS)]
    asked = request(ours.url, "POST", "/", body=urlencode({"access_token": "bench", "batch": json.dumps(operations)}))
    connection = await open_connection(ours.url)
    before = ours.cpu_s()
    await sent([connection], [asked] * BATCHES)
    connection.close()
    return (ours.cpu_s() - before) / (BATCHES * OPERATIONS)


def _tell(rates, per_operation):
    made = table("requests per processor second", "median", "beside nginx", "goal")
    for name, goal in {
        "fresh hit": 1.0,
        "revalidated, 100 URLs": 1.0,
        "revalidated, 20,000 URLs": 1.0,
        "first-seen URL, answered and stored": 0.4,
        "nginx, cache hit": None,
        "nginx, passing on": None,
    }.items():
        if name not in rates:
            continue
        peer = rates.get("nginx, cache hit" if name == "fresh hit" else "nginx, passing on")
        ratio = median(rates[name]) / median(peer) if goal and peer else None
        made.add_row(name, f"{median(rates[name]):,.0f}", f"{ratio:.2f}" if ratio else "", f">= {goal}" if goal else "")
        if ratio:
            verdict(f"{name} / nginx, per processor second", f">= {goal}", f"{ratio:.2f}", met=ratio >= goal)
    show(made)
    share = median(per_operation)
    claim = f"an operation of a client batch of {OPERATIONS} held reads / a single revalidated read"
    verdict(claim, "<= 0.35", f"{share:.2f}", met=share <= 0.35)


async def _lone(origin):
    """One GET at a time, nothing held, each way in turn."""
    with sidecar(origin, lines=True, **CALM) as ours, nginx(origin) as theirs:
        ways = {"directly": origin.url, "through the sidecar": ours.url}
        if theirs:
            ways["through nginx"] = theirs[0].url
        connections = {name: await open_connection(url) for name, url in ways.items()}
        took = {name: [] for name in ways}
        for number in range(-50, LONE):
            for at, (name, url) in enumerate(ways.items()):
                (asked,) = gets(url, ids(3 * 10**7 + 3 * number + at, 1))
                await asyncio.sleep(PAUSE_S)
                seconds = await timed(connections[name].ask(asked))
                if number >= 0:
                    took[name].append(seconds * 1000)
        for connection in connections.values():
            connection.close()
    made = table("a lone idle GET, nothing held", "median ms")
    for name, each in took.items():
        made.add_row(name, f"{median(each):.2f}")
    show(made)
    if theirs:
        more = median(took["through the sidecar"]) - median(took["through nginx"])
        verdict("a lone idle GET, more than through nginx", "<= +0.4 ms", f"{more:+.2f} ms", met=more <= 0.4)


async def _memory(origin):
    """Resident at start, and after many reads with a small memory tier."""
    with sidecar(origin, lines=True, **CALM, **{"cache.memory_mb": MEMORY_MB}) as ours:
        await asyncio.sleep(1)
        start = ours.resident_mib()
        for number in range(READS // PIECE):
            piece = list(ids(4 * 10**7 + number * PIECE * 6 // 10, PIECE * 6 // 10))
            await at_once(ours.url, gets(ours.url, piece + piece[: PIECE - len(piece)]), CALLERS)
        after = ours.resident_mib()
    verdict("resident at start", "<= 55 MiB", f"{start:.0f} MiB", met=start <= 55)
    claim = f"resident after {READS:,} reads, memory_mb = {MEMORY_MB}"
    verdict(claim, "<= 76 MiB", f"{after:.0f} MiB", met=after <= 76)


if __name__ == "__main__":
    run(main)
