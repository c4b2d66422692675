"""`/metrics` takes less than 10 ms after 10,000 routes were asked for.

Each of them by an edge with a name of its own, and real ones in between. Measured from outside, HTTP included, beside
`/livez`, which does nothing.
"""

from __future__ import annotations

import statistics
import string
from itertools import islice, product

from bench.harness import at_once, gets, graph, ids, median, run, sent, show, sidecar, table, timed, verdict
from proxy.commands.demo.client import open_connection, request

ROUTES, CALLERS, SCRAPES, MOST_MS = 10_000, 50, 200, 10
WHO = "bench"


async def main():
    """Ask for many routes, then scrape."""
    made = table("GET", "ms, median", "p99", "lines")
    with graph() as origin, sidecar(origin) as ours:
        await at_once(
            ours.url, [*_nowhere(ours.url), *gets(ours.url, ids(0, 500)), *gets(ours.url, ids(0, 500))], CALLERS
        )
        for path in ("/livez", "/metrics"):
            times, lines = await _scraped(ours.admin, path)
            made.add_row(path, f"{median(times):.2f}", f"{statistics.quantiles(times, n=100)[98]:.2f}", f"{lines:,}")
    show(made)
    claim = f"/metrics with {ROUTES:,} routes seen, median"
    verdict(claim, f"< {MOST_MS} ms", f"{median(times):.2f} ms", met=median(times) < MOST_MS)


def _nowhere(url):
    """Reads of edges that do not exist; Graph says so with status 200, as it is told to."""
    names = islice(map("".join, product(string.ascii_lowercase, repeat=4)), ROUTES)
    return [request(url, "GET", f"/v25.0/1/{name}?suppress_http_code=1", token=WHO) for name in names]


async def _scraped(url, path):
    """Milliseconds that each scrape took, and the lines of the last."""
    caller = await open_connection(url)
    times = [await timed(sent([caller], [request(url, "GET", path)])) * 1000 for _ in range(SCRAPES)]
    (answer,) = await sent([caller], [request(url, "GET", path)])
    caller.close()
    return times, answer.text.count(b"\n")


if __name__ == "__main__":
    run(main)
