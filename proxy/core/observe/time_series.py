"""An hour of samples of `/stats` in little memory: a row of numbers every few seconds."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.core.model import Mode
from proxy.core.quota.ledger import CAUSES

STEP_S = 5
"""Seconds from one row to the next; the dashboard's shortest period, five minutes, has sixty rows."""

ROWS = 3600 // STEP_S
"""The number of rows that are kept."""

SIZES = (1, 2, 5, 10, 20, 30, 40, 50)
"""The lower bounds of the batch sizes that are counted separately."""

_PLACES: tuple[tuple[str, ...], ...] = (
    ("now",),
    ("uptime_s",),
    *(("replies", mode.value) for mode in Mode),
    *(("outcomes", outcome) for outcome in (*(mode.value for mode in Mode), "REFUSED")),
    *(("error_replies", origin) for origin in ("graph", "refused", "sidecar")),
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
"""The columns of a row, in order. Counts are cumulative, as in `/stats`; charts draw their differences."""


def row(stats: Mapping[str, Any]) -> array[float]:
    """Returns the row for *stats*; NaN in columns without a value."""
    return array("d", [*(_number_at(stats, place) for place in _PLACES), *_batches_by_size(stats["slots_per_batch"])])


def _number_at(stats: Mapping[str, Any], place: tuple[str, ...]) -> float:
    value: Any = stats
    for name in place:
        value = value[name]
    return float("nan") if value is None else value


def _batches_by_size(sizes: Mapping[str, int]) -> Iterator[int]:
    for low, high in zip(SIZES, (*SIZES[1:], 2**31), strict=True):
        yield sum(count for size, count in sizes.items() if low <= int(size) < high)


class TimeSeries:
    """The newest rows, numbered from 1 in the order in which they came."""

    def __init__(self, rows: int = ROWS) -> None:
        """Keep at most so many *rows*."""
        self._rows: deque[array[float]] = deque(maxlen=rows)
        self.last = 0
        """The number of the newest row."""

    def add(self, stats: Mapping[str, Any]) -> None:
        """Add the row for *stats*; beyond the limit the oldest row is dropped."""
        self._rows.append(row(stats))
        self.last += 1

    def after(self, number: int) -> list[array[float]]:
        """Returns the kept rows after the one with this *number*, oldest first."""
        missed = min(max(self.last - number, 0), len(self._rows))
        return [self._rows[place] for place in range(len(self._rows) - missed, len(self._rows))]
