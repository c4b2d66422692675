"""An hour of what `/stats` told, in little memory: a row of plain numbers for every few seconds."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.core.model import Mode
from proxy.core.quota.ledger import CAUSES

STEP_S = 5
"""Seconds from one row to the next; the shortest window of the page, five minutes, has sixty."""

ROWS = 3600 // STEP_S
"""Rows that are kept."""

SIZES = (1, 2, 5, 10, 20, 30, 40, 50)
"""Batches are told apart by these numbers of slots: each stands for all sizes up to the next."""

_PLACES: tuple[tuple[str, ...], ...] = (
    ("now",),
    ("uptime_s",),
    *(("replies", mode.value) for mode in Mode),
    *(("calls", name) for name in ("asked", "counted", "batches", "slots", "alone", "passed")),
    *(("calls_avoided", cause) for cause in CAUSES),
    ("bytes_avoided",),
    ("round_trips_avoided",),
    *(("window_ms", name) for name in ("p50", "p90", "p99")),
    *(("upstream_ms", name) for name in ("p50", "p90", "p99")),
    ("loop_lag_ms", "p99"),
    ("queued",),
    ("in_flight",),
)

COLUMNS = (*(".".join(place) for place in _PLACES), *(f"slots_per_batch.{size}" for size in SIZES))
"""What a row holds, in order. Counts are cumulative, as in `/stats`: whoever draws takes the difference."""


def row(stats: Mapping[str, Any]) -> array[float]:
    """What *stats* tells of each column; NaN where it tells nothing."""
    return array("d", [*(_number(stats, place) for place in _PLACES), *_batches(stats["slots_per_batch"])])


def _number(stats: Mapping[str, Any], place: tuple[str, ...]) -> float:
    told: Any = stats
    for name in place:
        told = told[name]
    return float("nan") if told is None else told


def _batches(sizes: Mapping[str, int]) -> Iterator[int]:
    for low, high in zip(SIZES, (*SIZES[1:], 2**31), strict=True):
        yield sum(count for size, count in sizes.items() if low <= int(size) < high)


class TimeSeries:
    """The newest rows, numbered from 1 in the order they came."""

    def __init__(self, rows: int = ROWS) -> None:
        """Keep so many."""
        self._rows: deque[array[float]] = deque(maxlen=rows)
        self.last = 0
        """The number of the newest row."""

    def add(self, stats: Mapping[str, Any]) -> None:
        """Take down what *stats* tells; the oldest row makes room."""
        self._rows.append(row(stats))
        self.last += 1

    def after(self, number: int) -> list[array[float]]:
        """The rows that came after the one with this *number*, as far as they are kept, oldest first."""
        missed = min(max(self.last - number, 0), len(self._rows))
        return [self._rows[place] for place in range(len(self._rows) - missed, len(self._rows))]
