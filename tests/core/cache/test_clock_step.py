"""Times that a clock has shown before it was set back."""

from __future__ import annotations

import pytest

from proxy.core.cache.clock_step import UncertainTimes
from proxy.core.model import EntryMeta


@pytest.mark.parametrize(
    "asked_at, is_certain",
    [(0.0, True), (30.0, True), (30.1, False), (60.0, False), (99.0, False), (100.0, False), (100.1, True)],
)
def test_times_that_were_shown_twice_are_uncertain(asked_at: float, *, is_certain: bool) -> None:
    """From the earliest time that the clock was set back to, until the latest that it has shown before."""
    times = UncertainTimes()
    times.add(60.0, 100.0)
    times.add(30.0, 40.0)
    times.add(20.0, 19.0)  # this clock was right
    meta = EntryMeta('"e"', "batch", asked_at, may_be_fresh=True, proofs=())
    assert (times.checked(meta) == meta) == is_certain or asked_at == 0.0


def test_a_clock_that_was_never_set_back_has_no_uncertain_times() -> None:
    """Nothing has to be checked then."""
    times = UncertainTimes()
    assert not times.until
    times.add(20.0, 20.0)
    assert not times.until
