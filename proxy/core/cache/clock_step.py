"""What the times that were taken come to when the machine's clock is set back: a time from the future counts as now."""

from __future__ import annotations


def set_back(when: float, now: float, by: float) -> float:
    """The time *when* after the clock was set back to *now* by *by* seconds: none is later than it was meant to be.

    A time in the past stays: it may have been taken before the clock went ahead.
    """
    return max(now, when - by) if when > now else when
