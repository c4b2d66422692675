"""Counts by bounds, and the quantiles that can be read off them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.observe.histogram import Histogram, time_bounds

BOUNDS = (1, 2, 5, 10)


def of(*values: float) -> Histogram:
    """One that has observed *values*."""
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    return histogram


def test_buckets_are_told_as_prometheus_reads_them() -> None:
    """Each bound with all that is not above it; the last bound is infinity."""
    histogram = of(0.5, 1, 1.5, 7, 100)
    assert list(histogram.cumulative()) == [("1.0", 2), ("2.0", 3), ("5.0", 3), ("10.0", 4), ("+Inf", 5)]
    assert histogram.sum == 110


@pytest.mark.parametrize("share, value", [(0.25, 0.5), (0.5, 4 / 3), (0.75, 4 / 3), (1.0, 20 / 7)])
def test_a_quantile_is_the_middle_of_its_bucket(share: float, value: float) -> None:
    """In proportion: both bounds lie as far from it."""
    assert of(0.5, 1.2, 1.8, 4).quantile(share) == pytest.approx(value)


def test_of_nothing_every_quantile_is_zero() -> None:
    """An empty state has a number, too."""
    assert of().quantile(0.5) == 0


def test_quantiles_forget_what_is_older_than_two_rotations() -> None:
    """They are about the last minute or two; the counts are about everything."""
    histogram = of(8, 8, 8)
    histogram.rotate()
    assert histogram.quantile(0.5) > 5
    histogram.observe(0.5)
    histogram.rotate()
    assert histogram.quantile(0.5) <= 1
    assert sum(histogram.counts) == 4


@given(st.lists(st.floats(0, 20), min_size=1))
def test_a_quantile_lies_within_the_bounds(values: list[float]) -> None:
    """And the higher share has the higher value."""
    histogram = of(*values)
    assert 0 <= histogram.quantile(0.5) <= histogram.quantile(0.99) <= BOUNDS[-1]


def test_times_are_counted_finely_and_told_coarsely() -> None:
    """A percentile is near the true one, and Prometheus keeps the buckets that it had."""
    histogram = Histogram(time_bounds(0.005, 0.01, 30), (0.005, 0.01, 30))
    for value in (0.0003, 0.0003, 0.0071, 0.02):
        histogram.observe(value)
    assert list(histogram.cumulative()) == [("0.005", 2), ("0.01", 3), ("30.0", 4), ("+Inf", 4)]
    assert histogram.quantile(0.5) == pytest.approx(0.0003, rel=0.13)
    assert histogram.quantile(0.75) == pytest.approx(0.0071, rel=0.13)


@given(st.lists(st.floats(0.0001, 60, exclude_min=True), min_size=1), st.sampled_from((0.5, 0.9, 0.99)))
def test_a_quantile_of_times_is_within_an_eighth_of_the_true_one(values: list[float], share: float) -> None:
    """Whatever the times are, and also where many are the same."""
    histogram = Histogram(time_bounds(0.005, 30))
    for value in values:
        histogram.observe(value)
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    assert abs(histogram.quantile(share) - true) <= true / 8


def test_counts_of_elsewhere_are_added() -> None:
    """As if each value had been observed here."""
    histogram, other = of(0.5, 7), of(0.5, 100)
    histogram.add_counts(other.counts, other.sum)
    assert (histogram.counts, histogram.sum) == (of(0.5, 7, 0.5, 100).counts, 108)
