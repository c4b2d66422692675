"""Makes the demo's shares independent of the machine: a slow or busy one plays the same traffic more slowly.

How many reads meet in flight depends on how long a reply takes, in proportion to the time from one read to the next. So
where replies take longer than the offline Graph means them to, its latency and the pauses of the callers are stretched
alike. Shares of calls and bytes stay as they are; only seconds change.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")  # Linux: proc(5)
_IDLE, _IOWAIT = 3, 4  # columns of its first line, in ticks
_USUAL = 1.25
"""How long a reply takes on an idle machine at most, in proportion to the latency of the offline Graph."""

_SLOWEST = 3.0
_BUSY = 0.3


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine can do now, as the warm-up found it."""

    others: float | None  # share of the processors' time of other programs before the demo; None if unknown
    ratio: float  # how long a reply took, in proportion to the latency of the offline Graph

    @property
    def slowness(self) -> float:
        """How much more slowly than planned the traffic is played."""
        return min(max(1.0, round(self.ratio / _USUAL, 1)), _SLOWEST)

    @property
    def is_busy(self) -> bool:
        """Whether others take so much of it that times say little."""
        return (self.others or 0.0) > _BUSY or self.slowness > 1

    def kept_up(self, median_ms: float, latency_ms: float) -> bool:
        """Returns whether replies of this median came about as fast as a Graph of this latency means them to."""
        return median_ms <= latency_ms * 2 * _USUAL


def taken_by_others(seconds: float) -> float | None:
    """Returns the share of the processors' time that is used within so many *seconds*; None if it is unknown."""
    before = _ticks()
    time.sleep(seconds)
    return busy_share(before, _ticks())


def busy_share(before: Sequence[int], after: Sequence[int]) -> float | None:
    """Returns the share of busy ticks between two readings of /proc/stat; None without any."""
    passed = [now - then for then, now in zip(before, after, strict=True)]
    return 1 - (passed[_IDLE] + passed[_IOWAIT]) / sum(passed) if sum(passed) else None


def _ticks() -> list[int]:
    """Returns the ticks of all processors by kind, up to stolen ones (guests are among the users')."""
    try:
        return [int(word) for word in _STAT.read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return []
