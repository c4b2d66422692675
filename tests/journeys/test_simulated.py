"""Minutes of a dashboard, simulated: the small version of what `python -m bench dashboard_trace` measures."""

from __future__ import annotations

from bench.dashboard_trace import FRESH_S, SCARCE, STALE_S
from bench.playing import WINDOW_S, played
from bench.trace import LOW, dashboard, fewest_calls, fewest_throttles

TRACE = dashboard(minutes=4, callers=40)


def test_calls_are_near_the_fewest_possible_and_no_reply_is_older_than_its_rule_allows() -> None:
    """At most 5 % above the offline optimum for the same rule."""
    seen = played(TRACE, rules=[{"path": "/*", "fresh_s": FRESH_S}])
    assert seen.counted <= 1.05 * len(fewest_calls(TRACE.looks, FRESH_S))
    assert seen.oldest_s <= FRESH_S + 1  # a body is as old as its call, which takes a while
    assert not seen.throttled


def test_with_a_quarter_of_the_calls_no_urgent_caller_sees_a_throttle_in_vain() -> None:
    """None that the optimum would have avoided, which serves the urgent alone."""
    budget = round(len(TRACE.looks) / TRACE.seconds * WINDOW_S / 4)
    urgent = [look for look in TRACE.looks if look.urgency != LOW]
    seen = played(TRACE, budget=budget, **SCARCE)
    assert seen.throttled[False] <= fewest_throttles(urgent, STALE_S, budget, WINDOW_S)
