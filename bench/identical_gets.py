"""100 identical GETs in flight, with nothing held and with something held that has to be asked about, are one slot."""

from __future__ import annotations

from collections import Counter

from bench.harness import at_once, gets, graph, ids, run, show, sidecar, table, timed, verdict

CALLERS, LATENCY_MS, ROUNDS = 100, 80, 5
STATES = ("cold", "stale")


async def main():
    """Every round asks for another node, twice."""
    found = {state: [] for state in STATES}
    with graph(latency_ms=LATENCY_MS, body_bytes=2048) as origin, sidecar(origin) as ours:
        for number in range(ROUNDS):
            for state in STATES:
                origin.ledger.reset()
                seconds = await timed(at_once(ours.url, gets(ours.url, list(ids(number, 1)) * CALLERS), CALLERS))
                found[state].append({**origin.ledger.counted(), "seconds": seconds})
    made = table(f"{CALLERS} identical GETs", "upstream calls", "slots", "of them 304", "ms for all")
    for state, rounds in found.items():
        slots = [sum(each["slots"]) for each in rounds]
        calls = [each["http_calls"] for each in rounds]
        known = [sum(each["not_modified"].values()) for each in rounds]
        made.add_row(
            state, _one(calls), _one(slots), _one(known), f"{max(each['seconds'] for each in rounds) * 1000:.0f}"
        )
        met = set(slots) == set(calls) == {1}
        verdict(f"slots for {CALLERS} identical GETs in flight, {state}", "1", _one(slots), met=met)
    show(made)


def _one(values):
    """The value of all rounds, or each with how often it came."""
    counts = Counter(values)
    return str(values[0]) if len(counts) == 1 else ", ".join(f"{count} x {value}" for value, count in counts.items())


if __name__ == "__main__":
    run(main)
