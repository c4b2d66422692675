"""Half an hour at half capacity with changes and reloads leaves memory, descriptors and threads as they were.

`SOAK_MINUTES` names another length. Callers ask for objects that change now and then; the settings file is read anew
each half minute. Every five seconds the sidecar's memory, open files and threads are noted; the slopes are those of the
second half, in which every cache and memo has been filled.
"""

from __future__ import annotations

import asyncio
import os
import time
import urllib.request
from pathlib import Path

from bench.harness import gets, graph, ids, open_connection, run, show, sidecar, table, verdict

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
OBJECTS, CALLERS, RATE = 3000, 20, 400.0
NOTE_EVERY_S, RELOAD_EVERY_S = 5.0, 30.0


async def main():
    """Ask at a fixed rate until the time is over, and note what the sidecar holds meanwhile."""
    with graph(body_bytes=2048) as origin, sidecar(origin, **{"cache.memory_mb": 16}) as ours:
        asked = gets(ours.url, ids(0, OBJECTS))
        connections = [await open_connection(ours.url) for _ in range(CALLERS)]
        ends, notes, statuses = time.monotonic() + MINUTES * 60, [], {}

        async def caller(number):
            place = number
            while (now := time.monotonic()) < ends:
                answer = await connections[number].ask(asked[place % OBJECTS])
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
                place += CALLERS
                await asyncio.sleep(max(0.0, CALLERS / RATE - (time.monotonic() - now)))

        async def watcher():
            reloaded = time.monotonic()
            while time.monotonic() < ends:
                await asyncio.sleep(NOTE_EVERY_S)
                notes.append((time.monotonic(), *_held(ours)))
                if time.monotonic() - reloaded > RELOAD_EVERY_S:
                    reloaded = time.monotonic()
                    await asyncio.to_thread(_reload, ours.admin)

        await asyncio.gather(watcher(), *(caller(number) for number in range(CALLERS)))
        for connection in connections:
            connection.close()
    _tell(notes, statuses)


def _held(proxy):
    """Mebibytes, open files and threads of the process."""
    folder = Path(f"/proc/{proxy.pid}")
    return proxy.resident_mib(), len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))


def _reload(admin):
    urllib.request.urlopen(urllib.request.Request(f"{admin}/reload", method="POST")).read()  # noqa: S310 - our own


def _slope(points):
    """The rise of *points* of time and value, by least squares, for an hour."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points) or 1.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread * 3600


def _tell(notes, statuses):
    late = notes[len(notes) // 2 :]
    made = table(f"{MINUTES:g} minutes, {sum(statuses.values()):,} replies", "at the end", "an hour brings")
    slopes = {}
    for place, name in enumerate(("memory, MiB", "open files", "threads"), 1):
        slopes[name] = _slope([(note[0], note[place]) for note in late])
        made.add_row(name, f"{notes[-1][place]:.1f}", f"{slopes[name]:+.1f}")
    show(made)
    others = {status: count for status, count in statuses.items() if status != 200}
    verdict("replies that are not 200 in a soak", "0", str(sum(others.values())), met=not others)
    memory = slopes["memory, MiB"]
    verdict("memory in a soak, an hour brings", "<= 20 MiB", f"{memory:+.1f} MiB", met=memory <= 20)
    files, threads = slopes["open files"], slopes["threads"]
    verdict("open files and threads in a soak", "flat", f"{files:+.1f}, {threads:+.1f}", met=max(files, threads) <= 10)


if __name__ == "__main__":
    run(main)
