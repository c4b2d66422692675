"""Eight widgets that ask for eight field sets of the same nodes: merging cuts the calls that Graph counts 4 times."""

from __future__ import annotations

import asyncio

from bench.harness import at_once, graph, ids, run, sent, show, sidecar, table, timed, verdict
from proxy.commands.demo.client import open_connection, request

WIDGETS = (
    "name,status",
    "effective_status,id,name",
    "daily_budget,lifetime_budget,name",
    "bid_amount,buying_type,objective",
    "created_time,start_time,updated_time",
    "account_id,id",
    "budget_remaining,daily_budget,status",
    "configured_status,name,objective",
)
NODES, ROUNDS, LATENCY_MS, FRESH_S, LEAST_TIMES = 50, 10, 40, 2, 4
WAYS = {"each for itself": False, "merged": True}


async def main():
    """The widgets of a board at once, with nothing fresh; then one after the other, with answers fresh for a time."""
    for trace, fresh_s, play in (("at once", 0, _at_once), ("one after the other", FRESH_S, _in_turn)):
        made = table(f"{len(WIDGETS)} field sets of {NODES} nodes, {trace}, {ROUNDS} times", "calls", "MB", "s")
        calls = {way: await _measured(play, way, fresh_s, made) for way in WAYS}
        show(made)
        times = calls["each for itself"] / calls["merged"]
        claim = f"calls without merging, in times of those with it, {trace}"
        verdict(claim, f">= {LEAST_TIMES}", f"{times:.1f}", met=times >= LEAST_TIMES)


async def _measured(play, way, fresh_s, made):
    with graph(latency_ms=LATENCY_MS) as origin, sidecar(origin, **_settings(way, fresh_s)) as ours:
        seconds = await timed(play(ours.url))
        counted = origin.ledger.counted()
    made.add_row(way, str(counted["counted_calls"]), f"{counted['bytes_out'] / 1e6:.2f}", f"{seconds:.1f}")
    return counted["counted_calls"]


def _settings(way, fresh_s):
    return {"merge.enabled": WAYS[way], "cache.fresh_s": fresh_s}


async def _at_once(url):
    """Each board opens its widgets at once; eight boards are open at a time."""
    for _round in range(ROUNDS):
        asked = [_get(url, node, fields) for node in ids(0, NODES) for fields in WIDGETS]
        await at_once(url, asked, callers=8 * len(WIDGETS))


async def _in_turn(url):
    """A board loads one widget after the other, and all again when they are no longer fresh."""
    connections = [await open_connection(url) for _ in range(NODES)]
    for _round in range(ROUNDS):
        for fields in WIDGETS:
            await sent(connections, [_get(url, node, fields) for node in ids(0, NODES)])
        await asyncio.sleep(FRESH_S)
    for connection in connections:
        connection.close()


def _get(url, node, fields):
    return request(url, "GET", f"/v25.0/{node}?fields={fields}", token="bench")  # noqa: S106 - no secret


if __name__ == "__main__":
    run(main)
