"""A dashboard's half hour, simulated: calls that Graph counts against the fewest possible, and who sees a throttle.

200 callers read by Zipf while a fifth of all objects changes each minute. By a rule of 60 s the calls are at most 5 %
above the offline optimum for the same rule, and no reply is older than the rule allows. With a budget at a quarter of
the demand, no caller of urgency 0 to 3 sees a throttle that the optimum would have avoided. What a quarter of the
optimum's own calls comes to is shown beside it: from a cold start that is fewer than there are objects to look at.
"""

from __future__ import annotations

import sys

from bench.harness import show, table, verdict
from bench.playing import LATENCY_MS, WINDOW_S, played
from bench.trace import LOW, dashboard, fewest_calls, fewest_throttles

FRESH_S, STRETCH_S, STALE_S = 60, 600, 3600
SCARCE = {
    "quota": {"group": "shared", "longest_wait_s": WINDOW_S, "foresight_s": WINDOW_S},
    "rules": [{"path": "/*", "fresh_s": FRESH_S, "stretch_s": STRETCH_S, "stale_if_error_s": STALE_S}],
}
"""What an operator says of one app with too few calls: its tokens share them, and reports can wait for a window."""


def main(minutes: float) -> None:
    """Both halves of the claim."""
    trace = dashboard(minutes)
    best = fewest_calls(trace.looks, FRESH_S)
    calm = played(trace, rules=[{"path": "/*", "fresh_s": FRESH_S}])
    allowance = LATENCY_MS / 1000 + 0.1  # a body is as old as its call, which takes that long
    above = calm.counted / len(best) - 1

    urgent = [look for look in trace.looks if look.urgency != LOW]
    made = table(
        f"{minutes:g} minutes, {len(trace.looks):,} reads",
        "calls counted",
        "oldest reply",
        "throttled, urgent",
        "others",
    )
    made.add_row("nothing held", f"{len(trace.looks):,}", "", "", "")
    made.add_row("the offline optimum", f"{len(best):,}", f"{FRESH_S} s", "", "")
    made.add_row("the sidecar", f"{calm.counted:,}", f"{calm.oldest_s:.1f} s", "0", "0")
    scarce = {}
    for whose, calls in (("the demand", len(trace.looks)), ("the optimum's calls", len(best))):
        budget = max(1, round(calls / trace.seconds * WINDOW_S / 4))
        seen, excused = played(trace, budget=budget, **SCARCE), fewest_throttles(urgent, STALE_S, budget, WINDOW_S)
        scarce[whose] = seen.throttled[False], excused
        made.add_row(
            f"a quarter of {whose}: {budget} in {WINDOW_S} s",
            f"{seen.counted:,}",
            f"{seen.oldest_s:.1f} s",
            f"{seen.throttled[False]} (optimum {excused})",
            str(seen.throttled[True]),
        )
    show(made)
    verdict("calls above the offline optimum", "<= 5 %", f"{above:+.1%}", met=above <= 0.05)
    verdict(
        "oldest reply by a rule of 60 s", "<= 60 s", f"{calm.oldest_s:.1f} s", met=calm.oldest_s <= FRESH_S + allowance
    )
    throttled, excused = scarce["the demand"]
    verdict(
        "throttles that urgent callers saw, with a quarter of the demand",
        f"<= {excused} (the optimum's)",
        str(throttled),
        met=throttled <= excused,
    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30)
