"""Corrects recorded times after the machine's clock was set back: no time may lie in the future."""

from __future__ import annotations


def set_back(when: float, now: float, by: float) -> float:
    """Returns the recorded time *when*, corrected after the clock was set back to *now* by *by* seconds.

    A time in the past stays as it is: it may have been recorded before the clock was set ahead.
    """
    return max(now, when - by) if when > now else when
