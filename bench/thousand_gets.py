"""1,000 distinct GETs over a Graph that is 80 ms away, 50 and 200 at a time: directly, through, and through once more.

200 callers together cause at most 60 upstream calls, and the second pass moves at most 15 % of the bytes of the first
(bodies of 2 KB). Bytes are those of the bodies on the wire, gzipped as Graph does for all who accept it; a batch's
hold the headers of its slots too. Without gzip they are told as well.
"""

from __future__ import annotations

from bench.harness import at_once, gets, graph, ids, median, run, show, sidecar, table, timed, verdict

ROUNDS, GETS, LATENCY_MS, BODY = 3, 1000, 80, 2048
WAYS = ("directly", "through, nothing held", "through, once more")


async def main():
    """Both crowds, each in several rounds with ids of their own."""
    made = table("1,000 GETs", "seconds", "upstream calls", "counted", "of them 304", "connections", "kB from Graph")
    with graph(latency_ms=LATENCY_MS, body_bytes=BODY, compress=True) as origin:
        for callers in (50, 200):
            with sidecar(origin) as ours:
                found = [await _round(origin, ours, callers, number) for number in range(ROUNDS)]
                origin.ledger.change("/__emulator__/settings", compress=False)
                plain = await _round(origin, ours, callers, ROUNDS)
                origin.ledger.change("/__emulator__/settings", compress=True)
            figures = {way: [each[way] for each in found] for way in WAYS}
            for way, rounds in figures.items():
                made.add_row(f"{way}, {callers} at a time", *_row(rounds))
            made.add_row()
    show(made)
    calls = [each["http_calls"] for way in WAYS[1:] for each in figures[way]]
    verdict(
        "upstream calls for 1,000 GETs by 200 callers", "<= 60", f"{min(calls)} to {max(calls)}", met=max(calls) <= 60
    )
    first, second = (median(each["bytes_out"] for each in figures[way]) for way in WAYS[1:])
    first_plain, second_plain = (plain[way]["bytes_out"] for way in WAYS[1:])
    verdict(
        "bytes of the second pass, gzipped",
        "<= 15 % of the first",
        f"{second / first:.1%} (without gzip {second_plain / first_plain:.1%})",
        met=second / first <= 0.15,
    )


async def _round(origin, ours, callers, number):
    found = {}
    for way, url in zip(WAYS, (origin.url, ours.url, ours.url), strict=True):
        origin.ledger.reset()
        asked = gets(url, ids(callers * 1_000_000 + number * GETS, GETS))
        seconds = await timed(at_once(url, asked, callers))
        found[way] = {**origin.ledger.counted(), "seconds": seconds}
    return found


def _row(rounds):
    """Medians; connections are those of the first round, for the sidecar keeps its own."""

    def middle(what):
        return median(what(each) for each in rounds)

    return (
        f"{middle(lambda each: each['seconds']):.2f}",
        f"{middle(lambda each: each['http_calls']):.0f}",
        f"{middle(lambda each: each['counted_calls']):.0f}",
        f"{middle(lambda each: sum(each['not_modified'].values())):.0f}",
        str(rounds[0]["connections"]),
        f"{middle(lambda each: each['bytes_out']) / 1000:,.0f}",
    )


if __name__ == "__main__":
    run(main)
