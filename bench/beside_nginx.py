"""What a request costs the proxy's processor, beside nginx: passed on to Graph, and answered from what is held.

Counted are requests per second of the proxy's own processor time, so that neither the load generator nor the emulator
limits anybody. nginx passes every GET on as it is; the sidecar takes it apart, keys it, seals what comes back, and puts
50 of them into one call.
"""

from __future__ import annotations

from bench.harness import at_once, gets, graph, ids, median, nginx, run, show, sidecar, table

ROUNDS, GETS, CALLERS = 3, 4000, 50
FRESH = "/1203*"


async def main():
    """The ways take turns, round by round."""
    with (
        graph(body_bytes=2048) as origin,
        sidecar(origin, rules=[{"path": FRESH, "fresh_s": 3600}]) as ours,
        nginx(origin) as theirs,
    ):
        held = [1203_000_000_000 + number % 100 for number in range(GETS)]
        ways = {
            "the sidecar, nothing held": (ours, lambda number: ids(number * GETS, GETS)),
            "the sidecar, held and revalidated": (ours, lambda number: ids(number * GETS, GETS)),
            "the sidecar, reused by a rule": (ours, lambda _: held),
        }
        if theirs:
            passing, holding = theirs
            ways["nginx, passing on"] = (passing, lambda number: ids(number * GETS, GETS))
            ways["nginx, cache hit"] = (holding, lambda _: held)
        rounds = {name: [] for name in ways}
        for number in range(-1, ROUNDS):
            for name, (proxy, what) in ways.items():
                asked = gets(proxy.url, what(number + 1))
                before = proxy.cpu_s()
                await at_once(proxy.url, asked, CALLERS)
                if number >= 0:  # the round before the first warms up
                    rounds[name].append(GETS / (proxy.cpu_s() - before))
    made = table("requests per processor second", "median", "beside nginx")
    for name, each in rounds.items():
        peer = "nginx, cache hit" if "reused" in name else "nginx, passing on"
        ratio = median(each) / median(rounds[peer]) if peer in rounds and name.startswith("the") else None
        made.add_row(name, f"{median(each):,.0f}", f"{ratio:.2f}" if ratio else "")
    show(made)


if __name__ == "__main__":
    run(main)
