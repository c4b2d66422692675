"""A client's batch of 400 reads takes little longer than one of its parts; one that is sent again moves few bytes."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from bench.harness import graph, ids, median, run, show, sidecar, table, timed, verdict
from proxy.commands.demo.client import open_connection, request

READS, PART, ROUNDS, LATENCY_MS = 400, 50, 9, 300
MOST_TIMES, MOST_SHARE = 1.5, 0.15


async def main():
    """Both claims, each against an emulator of its own."""
    await _split()
    await _repeated()


async def _split():
    """The whole and a single part take turns; every round asks for other nodes."""
    sizes = {READS: [], PART: []}
    with graph(latency_ms=LATENCY_MS) as origin, sidecar(origin) as ours:
        caller = await open_connection(ours.url)
        for number in range(ROUNDS):
            for size, found in sizes.items():
                asked = _batch(ours.url, ids(number * 1000 + (size == PART) * READS, size))
                found.append(await timed(_answered(caller, asked, size)))
        caller.close()
    whole, part = median(sizes[READS]), median(sizes[PART])
    made = table(f"batches of reads, {LATENCY_MS} ms to Graph", "ms, median", "ms, worst")
    for size, found in sizes.items():
        made.add_row(f"{size} reads", f"{median(found) * 1000:.0f}", f"{max(found) * 1000:.0f}")
    show(made)
    times = whole / part
    claim = f"a batch of {READS} reads, in times of one of {PART}"
    verdict(claim, f"<= {MOST_TIMES}", f"{times:.2f}", met=times <= MOST_TIMES)


async def _repeated():
    """The same batch twice; nothing changes in between. Bytes are those of the bodies, as in `thousand_gets`."""
    made = table(f"a batch of {PART} reads of 2 KB", "sent, first", "again", "from Graph, first", "again", "share")
    shares = {}
    for way, compress in (("gzipped", True), ("plain", False)):
        with graph(body_bytes=2048, compress=compress) as origin, sidecar(origin) as ours:
            first, again = [await _counted(origin, ours) for _ in range(2)]
        shares[way] = again["bytes_out"] / first["bytes_out"]
        figures = (first["bytes_in"], again["bytes_in"], first["bytes_out"], again["bytes_out"])
        made.add_row(way, *map(str, figures), f"{shares[way]:.1%}")
    show(made)
    measured = f"{shares['gzipped']:.1%} (without gzip {shares['plain']:.1%})"
    claim = f"bytes from Graph of a batch of {PART} unchanged reads sent again, gzipped"
    verdict(claim, "<= 15 % of the first", measured, met=shares["gzipped"] <= MOST_SHARE)


async def _counted(origin, ours):
    origin.ledger.reset()
    caller = await open_connection(ours.url)
    await _answered(caller, _batch(ours.url, ids(0, PART)), PART)
    caller.close()
    return origin.ledger.counted()


def _batch(url, nodes):
    operations = [{"method": "GET", "relative_url": f"v25.0/{node}"} for node in nodes]
    form = {"access_token": "bench", "batch": json.dumps(operations)}
    return request(url, "POST", "/", body=urlencode(form))


async def _answered(caller, asked, count):
    """Send a batch and see that every slot of it is good."""
    answer = await caller.ask(asked)
    codes = {slot["code"] for slot in json.loads(answer.text)}
    if answer.status != 200 or codes != {200} or len(json.loads(answer.text)) != count:
        raise SystemExit(f"not every slot was answered: {answer.status} {codes}")


if __name__ == "__main__":
    run(main)
