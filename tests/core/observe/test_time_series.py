from __future__ import annotations

import math
from typing import Any

import pytest

from proxy.core.observe.time_series import COLUMNS, ROWS, SIZES, TimeSeries, row
from tests.told import STATS


def told(stats: dict[str, Any], column: str) -> float:
    """What a row of *stats* holds in *column*."""
    return row(stats)[COLUMNS.index(column)]


def test_a_row_holds_what_the_columns_are_named_for() -> None:
    """A column's name is the place of its number in `/stats`."""
    assert told(STATS, "now") == STATS["now"]
    assert told(STATS, "replies.REVALIDATED") == STATS["replies"]["REVALIDATED"]
    assert told(STATS, "calls_avoided.merged") == STATS["calls_avoided"]["merged"]
    assert told(STATS, "upstream_ms.p90") == STATS["upstream_ms"]["p90"]
    assert len(row(STATS)) == len(COLUMNS) == len(set(COLUMNS))


def test_batches_are_told_by_the_numbers_of_their_slots() -> None:
    """Each batch stands under the greatest size that it reaches."""
    sizes = {"1": 3, "2": 1, "4": 2, "19": 5, "49": 7, "50": 11}
    stats = {**STATS, "slots_per_batch": sizes}
    assert {size: told(stats, f"slots_per_batch.{size}") for size in SIZES} == {
        1: 3, 2: 3, 5: 0, 10: 5, 20: 0, 30: 0, 40: 7, 50: 11,
    }  # fmt: skip


def test_what_is_not_known_is_no_number() -> None:
    """A percentile of nothing is not zero."""
    assert math.isnan(told({**STATS, "window_ms": {"p50": None, "p90": None, "p99": None}}, "window_ms.p90"))


@pytest.mark.parametrize("known, missed", [(0, [1, 2, 3]), (2, [3]), (3, []), (9, [])])
def test_who_was_told_some_is_told_the_rest(known: int, missed: list[float]) -> None:
    """The rows after a number are those that came since, oldest first."""
    history = TimeSeries()
    for now in (1.0, 2.0, 3.0):
        history.add({**STATS, "now": now})
    assert [each[0] for each in history.after(known)] == missed


def test_the_oldest_make_room() -> None:
    """What has been pushed out is told to nobody; numbers go on."""
    history = TimeSeries(rows=2)
    for now in (1.0, 2.0, 3.0):
        history.add({**STATS, "now": now})
    assert history.last == 3
    assert [each[0] for each in history.after(0)] == [2, 3]


def test_an_hour_is_small() -> None:
    """All rows together take less than 2 MB."""
    assert ROWS * (row(STATS).itemsize * len(COLUMNS) + 100) < 2e6
