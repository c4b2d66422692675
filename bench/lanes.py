"""Quick reads do not wait for slow ones: with one slow read in a hundred, their p99 is at most 1.2 times as long.

Sixty callers read nodes that Graph answers in 80 ms. Then one read in a hundred is of an edge that takes 2 s: of
`insights`, and of an edge that the sidecar has not been told of. The slow reads begin with the first reads that the
sidecar gets, and all reads count. The same without lanes shows what is avoided.
"""

from __future__ import annotations

import asyncio
import random
import time

from bench.harness import graph, ids, open_connection, run, show, sidecar, table, verdict
from proxy.commands.demo.client import request

CALLERS, SECONDS, LATENCY_MS, SLOW_MS, SHARE = 60, 10, 80, 2000, 0.01
WAYS = {"insights": "act_9/insights", "an edge that is not listed": "act_9/adsets"}
MOST, WHO = 1.2, "bench"


async def main():
    """Each way with a sidecar of its own, on one emulator."""
    made = table(f"reads of {LATENCY_MS} ms, {CALLERS} callers", "p50", "p90", "p99", "reads/s", "slots per batch")
    with graph(latency_ms=LATENCY_MS) as origin:
        for path in WAYS.values():
            fault = {"kind": "delay", "ms": SLOW_MS - LATENCY_MS, "path": f"*{path.partition('/')[2]}"}
            origin.ledger.change("/__emulator__/faults", **fault)
        calm = await _row(made, "without slow ones", origin, "")
        for name, path in WAYS.items():
            found = await _row(made, f"1 % on {name}", origin, path)
            claim = f"p99 of quick reads with 1 % of {SLOW_MS / 1000:g} s reads on {name} / without"
            verdict(claim, f"<= {MOST}", f"{found / calm:.2f}", met=found / calm <= MOST)
        await _row(made, "1 % on insights, batch.lanes = false", origin, WAYS["insights"], **{"batch.lanes": False})
    show(made)


async def _row(made, name, origin, slow, **settings):
    """Add a row; the p99 of the quick reads in seconds."""
    with sidecar(origin, **{"listener.lag_s": 0}, **settings) as ours:
        took = sorted(await _load(ours.url, slow))
        calls = ours.stats()["calls"]
    p50, p90, p99 = (took[int(len(took) * share)] for share in (0.5, 0.9, 0.99))
    made.add_row(
        name,
        *(f"{each * 1000:.0f} ms" for each in (p50, p90, p99)),
        f"{len(took) / SECONDS:,.0f}",
        f"{calls['slots'] / calls['batches']:.1f}",
    )
    return p99


async def _load(url, slow):
    """Seconds that each quick read took."""
    dice, nodes, took = random.Random(1), iter(ids(0, 10**6)), []
    ends = time.perf_counter() + SECONDS

    async def caller():
        connection = await open_connection(url)
        while (began := time.perf_counter()) < ends:
            is_slow = slow and dice.random() < SHARE
            what = f"/v25.0/{slow}?limit={next(nodes) % 90 + 1}" if is_slow else f"/v25.0/{next(nodes)}"
            answer = await connection.ask(request(url, "GET", what, token=WHO))
            if answer.status != 200:
                raise SystemExit(f"a reply was {answer.status} {answer.text[:200]}")
            if not is_slow:
                took.append(time.perf_counter() - began)
        connection.close()

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return took


if __name__ == "__main__":
    run(main)
