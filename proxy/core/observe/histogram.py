"""A histogram: counts by upper bounds, as Prometheus reads them, and quantiles of what came lately."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence


class Histogram:
    """To observe costs a bisection and an addition."""

    __slots__ = ("_earlier", "_last", "bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count by these upper *bounds*, ascending; what exceeds the last has a place of its own."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0
        self._last = self._earlier = tuple(self.counts)

    def observe(self, value: float) -> None:
        """Count *value* in."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, other: Histogram) -> None:
        """Count in what *other*, which has the same bounds, has counted."""
        self.counts = [one + another for one, another in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum
        self._last = tuple(map(sum, zip(self._last, other._last, strict=True)))
        self._earlier = tuple(map(sum, zip(self._earlier, other._earlier, strict=True)))

    def rotate(self) -> None:
        """From now on `quantile` leaves out what came before the last rotation."""
        self._earlier, self._last = self._last, tuple(self.counts)

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Each bound as text with the count up to it, the last of all of them."""
        total = 0
        for bound, count in zip((*map(repr, map(float, self.bounds)), "+Inf"), self.counts, strict=True):
            total += count
            yield bound, total

    def quantile(self, share: float) -> float:
        """The value below which *share* of the recent ones lie, straight within a bucket; 0 where there are none."""
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
