"""Waits for what an engine does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable

BOUND_S = 90
"""Seconds that anything is waited for."""


def until(is_so: Callable[[], bool], what: str) -> None:
    """Return once *is_so*; fails by *what* after a long time."""
    end = time.monotonic() + BOUND_S
    while not is_so():
        assert time.monotonic() < end, f"waited {BOUND_S} s for {what}"
        time.sleep(0.2)
