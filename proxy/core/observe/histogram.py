"""A histogram: counts by upper bounds, as in Prometheus, and quantiles of recent values."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence


class Histogram:
    """Counts values by bucket; `observe` costs one bisection and one addition."""

    __slots__ = ("_earlier", "_last", "bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count by these ascending upper *bounds*; values above the last one have a bucket of their own."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0
        self._last = self._earlier = tuple(self.counts)

    @classmethod
    def of(cls, bounds: Sequence[float], counts: list[int], total: float) -> Histogram:
        """Returns a histogram of values that were counted elsewhere by the same *bounds*; *total* is their sum."""
        made = cls(bounds)
        made.counts, made.sum = counts, total
        return made

    def observe(self, value: float) -> None:
        """Count *value*."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, other: Histogram) -> None:
        """Add the counts of *other*, which has the same bounds."""
        self.counts = [one + another for one, another in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum
        self._last = tuple(map(sum, zip(self._last, other._last, strict=True)))
        self._earlier = tuple(map(sum, zip(self._earlier, other._earlier, strict=True)))

    def rotate(self) -> None:
        """Start a new period; `quantile` covers the current and the last one."""
        self._earlier, self._last = self._last, tuple(self.counts)

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Yields each upper bound as text with the cumulative count up to it; the last is `+Inf`."""
        total = 0
        for bound, count in zip((*map(repr, map(float, self.bounds)), "+Inf"), self.counts, strict=True):
            total += count
            yield bound, total

    def quantile(self, share: float) -> float:
        """Returns the value below which *share* of the recent values lie, interpolated in its bucket; 0 if none."""
        recent = [now - then for now, then in zip(self.counts, self._earlier, strict=True)]
        wanted, below = share * sum(recent), 0
        if not wanted:
            return 0.0
        for at, count in enumerate(recent[:-1]):
            if count and below + count >= wanted:
                floor = self.bounds[at - 1] if at else 0.0
                return floor + (self.bounds[at] - floor) * (wanted - below) / count
            below += count
        return self.bounds[-1]
