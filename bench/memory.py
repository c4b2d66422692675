"""After 100,000 requests the sidecar's memory is at most 60 MiB plus the limit of its memory tier.

Six in ten requests ask for something new, the others for something that was asked before, 100 at a time; bodies have
2 KB. Measured is the resident memory of the whole process, Python and libraries included, with a small tier and with
the default one.
"""

from __future__ import annotations

import random

from bench.harness import at_once, gets, graph, ids, run, show, sidecar, table, timed, verdict

REQUESTS, CALLERS, PIECE = 100_000, 100, 10_000


async def main():
    """One sidecar after the other, each from nothing."""
    made = table("100,000 requests", "MiB at start", "half way", "after", "entries in memory", "on disk", "requests/s")
    with graph(body_bytes=2048) as origin:
        for limit in (16, 64):
            with sidecar(origin, **{"cache.memory_mb": limit}) as ours:
                row = [ours.resident_mib()]
                seconds = await timed(_load(ours, row))
                store = ours.stats()["store"]
            made.add_row(
                f"memory_mb = {limit}",
                *(f"{each:.0f}" for each in (row[0], row[len(row) // 2], row[-1])),
                f"{store.get('memory_entries', 0):,}",
                f"{store.get('disk_entries', 0):,}",
                f"{REQUESTS / seconds:,.0f}",
            )
            allowed = 60 + limit
            verdict(
                f"memory after 100,000 requests, memory_mb = {limit}",
                f"<= {allowed} MiB",
                f"{max(row):.0f} MiB, of which {row[0]:.0f} at start",
                met=max(row) <= allowed,
            )
    show(made)


async def _load(ours, row):
    dice, known = random.Random(1), 0
    for _ in range(REQUESTS // PIECE):
        asked = []
        for _ in range(PIECE):
            if not known or dice.random() < 0.6:
                known += 1
                asked.append(known)
            else:
                asked.append(dice.randint(1, known))
        await at_once(ours.url, gets(ours.url, (ids(each, 1)[0] for each in asked)), CALLERS)
        row.append(ours.resident_mib())


if __name__ == "__main__":
    run(main)
