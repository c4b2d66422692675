"""The read path: what reads of each kind cost the proxy's processor beside nginx, and what the sidecar takes of memory.

Default settings: each reply is a line of JSON, in a file. Counted are requests per second of the proxy's own processor
time, threads included, so that neither the load generator nor the emulator limits anybody. The ways take turns, and
each figure is the median of the rounds of one run. Direct calls cost no proxy time: they stand beside the lone GET.
"""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlencode

from bench.harness import (
    at_once,
    gets,
    graph,
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

ROUNDS, GETS, CALLERS, URLS, MANY_URLS = 3, 4000, 50, 100, 20_000
OPERATIONS, BATCHES = 50, 40
LONE, PAUSE_S = 300, 0.003
READS, PIECE, MEMORY_MB = 100_000, 10_000, 16
FRESH = "/1203*"
CALM = {"listener.lag_s": 0}
"""Other programs on the machine must not make the sidecar refuse what is measured."""


async def main():
    """Each part prints its table; the goals stand together at the end of `make bench`."""
    with graph(body_bytes=2048) as origin:
        await _processor(origin)
        await _lone(origin)
        await _memory(origin)


async def _processor(origin):
    with (
        sidecar(origin, lines=True, **CALM, rules=[{"path": FRESH, "fresh_s": 3600}]) as ours,
        nginx(origin) as theirs,
    ):
        few, fresh = [ids(0, 1)[0] + number % URLS for number in range(GETS)], 1203_000_000_000
        ways = {
            "fresh hit": (ours, lambda _: [fresh + number % URLS for number in range(GETS)]),
            "revalidated, 100 URLs": (ours, lambda _: few),
            "first-seen URL, answered and stored": (ours, lambda number: ids(10**7 + number * GETS, GETS)),
        }
        if theirs:
            ways["nginx, cache hit"] = (theirs[1], lambda _: [fresh + number % URLS for number in range(GETS)])
            ways["nginx, passing on"] = (theirs[0], lambda number: ids(2 * 10**7 + number * GETS, GETS))
        rates = {name: [] for name in ways}
        per_operation = []
        for number in range(-1, ROUNDS):
            for name, (proxy, what) in ways.items():
                asked = gets(proxy.url, what(number + 1))
                before = proxy.cpu_s()
                await at_once(proxy.url, asked, CALLERS)
                if number >= 0:  # the round before the first warms up
                    rates[name].append(len(asked) / (proxy.cpu_s() - before))
            cost = await _client_batches(ours)
            if number >= 0:
                per_operation.append(cost * rates["revalidated, 100 URLs"][-1])
        asked = gets(ours.url, ids(10**6, MANY_URLS))
        await at_once(ours.url, asked, CALLERS)
        before = ours.cpu_s()
        await at_once(ours.url, asked, CALLERS)
        rates["revalidated, 20,000 URLs"] = [MANY_URLS / (ours.cpu_s() - before)]
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
