"""What a sidecar takes, for whoever has to say how much it gets: memory by its settings, processor by what it is asked.

The rows of docs/kubernetes.md. Each load asks so many objects twice, so many callers at once: first they are new, then
Graph says that they have not changed; a last round is fresh by a rule. Memory is the most that was resident.
"""

from __future__ import annotations

from pathlib import Path

from bench.harness import at_once, gets, graph, ids, run, show, sidecar, table

LOADS = (
    # memory_mb, bytes of a body, objects, callers at once
    (0, 2_048, 5_000, 20),
    (32, 2_048, 10_000, 100),
    (64, 20_480, 5_000, 100),
    (128, 20_480, 10_000, 200),
    (64, 1_000_000, 100, 100),
)


async def main():
    """One sidecar after the other, each from nothing."""
    made = table(
        "sizes", "memory_mb", "bytes", "at once", "MiB at start", "MiB at most",
        "ms of processor: new", "not changed", "fresh",
    )  # fmt: skip
    for memory_mb, size, objects, callers in LOADS:
        given = {"cache.memory_mb": memory_mb, "listener.lag_s": 0, "rules": [{"path": "/9*", "fresh_s": 3600}]}
        with graph(body_bytes=size) as origin, sidecar(origin, **given) as ours:
            start, costs = ours.resident_mib(), []
            for prefix in ("1", "1", "9", "9"):
                before, asked = ours.cpu_s(), gets(ours.url, (f"{prefix}{each[0]}" for each in _named(objects)))
                await at_once(ours.url, asked, callers)
                costs.append((ours.cpu_s() - before) * 1000 / objects)
            costs.pop(2)  # new, as the first
            made.add_row(
                f"{memory_mb}", f"{size:,}", f"{callers}", f"{start:.0f}", f"{_most(ours.pid):.0f}",
                *(f"{cost:.2f}" for cost in costs),
            )  # fmt: skip
    show(made)


def _named(objects):
    return (ids(number, 1) for number in range(objects))


def _most(pid):
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    run(main)
