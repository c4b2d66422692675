"""A histogram: counts by upper bounds, as in Prometheus, and quantiles of recent values."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

_RENARD_10 = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
"""Preferred numbers (ISO 3): ten in each decade, in steps of about a quarter."""


def time_bounds(*shown: float) -> tuple[float, ...]:
    """Returns the bounds in seconds by which times are counted, from 0.1 ms to 60 s, and those of *shown*.

    They are so close that the middle between two of them is within an eighth of any value there.
    """
    fine = {float(f"{number}e{decade}") for decade in range(-4, 2) for number in _RENARD_10}
    return tuple(sorted({bound for bound in fine if bound < 60} | {60.0, *map(float, shown)}))


class Histogram:
    """Counts values by bucket; `observe` costs one bisection and one addition."""

    __slots__ = ("_earlier", "_last", "bounds", "counts", "shown", "sum")

    def __init__(self, bounds: Sequence[float], shown: Sequence[float] | None = None) -> None:
        """Count by these ascending upper *bounds*; values above the last one have a bucket of their own.

        *shown* are those of the bounds that `cumulative` tells of; None: all.
        """
        self.bounds = tuple(bounds)
        self.shown = self.bounds if shown is None else tuple(shown)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0
        self._last = self._earlier = tuple(self.counts)

    @classmethod
    def of(cls, bounds: Sequence[float], times: Mapping[int, int]) -> Histogram:
        """Returns the counts by these *bounds* of values that came so many *times* each."""
        made = cls(bounds)
        for value, number in times.items():
            made.observe(value, number)
        return made

    def observe(self, value: float, times: int = 1) -> None:
        """Count *value*, so many *times*."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def add(self, other: Histogram) -> None:
        """Add the counts of *other*, which has the same bounds."""
        self.counts = [one + another for one, another in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum
        self._last = tuple(map(sum, zip(self._last, other._last, strict=True)))
        self._earlier = tuple(map(sum, zip(self._earlier, other._earlier, strict=True)))

    def add_counts(self, counts: Sequence[int], total: float) -> None:
        """Add values that were counted elsewhere by the same bounds, just now; *total* is their sum."""
        mine = self.counts
        for at, count in enumerate(counts):
            if count:
                mine[at] += count
        self.sum += total

    def rotate(self) -> None:
        """Start a new period; `quantile` covers the current and the last one."""
        self._earlier, self._last = self._last, tuple(self.counts)

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Yields each bound that is shown as text with the cumulative count up to it; the last is `+Inf`."""
        shown, total = set(self.shown), 0
        for bound, count in zip(self.bounds, self.counts[:-1], strict=True):
            total += count
            if bound in shown:
                yield repr(float(bound)), total
        yield "+Inf", total + self.counts[-1]

    def quantile(self, share: float) -> float:
        """Returns the value that *share* of the recent values do not exceed, as the middle of its bucket; 0 if none.

        The middle is the harmonic mean of the bucket's bounds: no value of the bucket lies further from it, in
        proportion, than the bounds do.
        """
        recent = [now - then for now, then in zip(self.counts, self._earlier, strict=True)]
        wanted, below = share * sum(recent), 0
        if not wanted:
            return 0.0
        for at, count in enumerate(recent[:-1]):
            if count and below + count >= wanted:
                low, high = self.bounds[at - 1] if at else 0.0, self.bounds[at]
                return 2 * low * high / (low + high) if low else high / 2
            below += count
        return self.bounds[-1]
