"""A lone GET on an idle sidecar costs at most 1.5 ms more than the same GET sent directly, at the median.

The emulator answers at once, so what is measured is the sidecar's own work, the second hop, and what a batch of one
costs the emulator more than a plain GET. One request is in the air at a time, with a pause before each; the ways take
turns request by request.
"""

from __future__ import annotations

import asyncio

from bench.harness import gets, graph, ids, median, nginx, open_connection, run, show, sidecar, table, timed, verdict

ROUNDS, IN_A_ROUND, PAUSE_S = 5, 150, 0.003
FRESH = "/1203*"


async def main():
    """Take turns, round by round."""
    with graph() as origin, sidecar(origin, rules=[{"path": FRESH, "fresh_s": 3600}]) as ours, nginx(origin) as theirs:
        ways = {
            "directly": (origin.url, lambda number: ids(number * 1000, IN_A_ROUND)),
            "through, nothing held": (ours.url, lambda number: ids(number * 1000, IN_A_ROUND)),
            "through, held and revalidated": (ours.url, lambda number: ids(number * 1000, IN_A_ROUND)),
            "through, reused by a rule": (ours.url, lambda _: [1203_000_000_001] * IN_A_ROUND),
        }
        if theirs:
            ways["through nginx, passing on"] = (theirs[0].url, lambda number: ids(number * 1000, IN_A_ROUND))
        connections = {name: await open_connection(url) for name, (url, _) in ways.items()}
        rounds = {name: [] for name in ways}
        for number in range(-1, ROUNDS):
            asked = {name: gets(url, what(number + 1)) for name, (url, what) in ways.items()}
            seconds = {name: [] for name in ways}
            for turn in zip(
                *(zip([name] * IN_A_ROUND, each, strict=True) for name, each in asked.items()), strict=True
            ):
                for name, one in turn:
                    await asyncio.sleep(PAUSE_S)
                    seconds[name].append(await timed(connections[name].ask(one)))
            if number >= 0:  # the round before the first warms up
                for name, taken in seconds.items():
                    rounds[name].append(median(taken) * 1000)
    _tell(rounds)


def _tell(rounds):
    direct = rounds["directly"]
    made = table("a lone GET", "median ms", "more than directly")
    more = {}
    for name, each in rounds.items():
        more[name] = median(ours - theirs for ours, theirs in zip(each, direct, strict=True))
        made.add_row(name, f"{median(each):.2f}", "" if name == "directly" else f"{more[name]:+.2f}")
    show(made)
    for name in ("through, nothing held", "through, held and revalidated"):
        verdict(f"a lone GET, {name}", "<= 1.5 ms more", f"{more[name]:+.2f} ms", met=more[name] <= 1.5)


if __name__ == "__main__":
    run(main)
