"""Estimates how long a read takes in the sidecar itself, from the time of a few turns of the event loop."""

from __future__ import annotations

from math import inf

TURNS = 8
"""The turns of the event loop that a read needs from its first byte to its answer, without those spent at Graph."""


class Lag:
    """The time of `TURNS` turns, without the longest: a single stall (of a disk, another program) is no overload."""

    def __init__(self) -> None:
        """Start without a measurement."""
        self._last = 0.0  # seconds that the last measurement took
        self._began: float | None = None
        self._last_turn_at = self._longest = 0.0

    def begin(self, at: float) -> None:
        """Record that the first turn of a measurement begins."""
        self._began = self._last_turn_at = at
        self._longest = 0.0

    def turn(self, at: float) -> None:
        """Record that a turn has ended and the next begins."""
        self._longest = max(self._longest, at - self._last_turn_at)
        self._last_turn_at = at

    def end(self) -> None:
        """Record that the last turn of a measurement has ended."""
        if self._began is not None:
            self._last = self._last_turn_at - self._began - self._longest
        self._began = None

    def seconds(self, now: float) -> float:
        """Returns the estimate in seconds: the last measurement, or the current one if that is longer already."""
        if self._began is None:
            return self._last
        return max(self._last, now - self._began - max(self._longest, now - self._last_turn_at))


_GROWTH, _LEAST, _UNLIMITED_FROM = 1.3, 16.0, 10_000.0


class Allowance:
    """How many requests are admitted between two measurements: fewer after a slow one, then gradually more.

    A request's cost shows only in later measurements, so a plain threshold would admit too many and then none.
    """

    def __init__(self) -> None:
        """Start without a limit."""
        self._limit = inf
        self._admitted = 0

    def take(self) -> bool:
        """Admit one more request; returns False where the limit is reached."""
        if self._admitted >= self._limit:
            return False
        self._admitted += 1
        return True

    def measured(self, seconds: float, limit: float) -> None:
        """Adjust to a measurement: reads took *seconds*, which should be *limit* at most."""
        if seconds > limit:
            self._limit = max(_LEAST, min(self._limit, self._admitted) * limit / seconds)
        elif self._limit < _UNLIMITED_FROM:
            self._limit *= _GROWTH
        else:
            self._limit = inf
        self._admitted = 0


_NOT_PLAIN = (b"\r\n\r\n", b"\n\n", b"content-length:", b"transfer-encoding:", b"upgrade:", b"connection:", b"expect:")


def is_plain(data: bytes) -> bool:
    """Whether *data* is one whole GET of HTTP/1.1 without a body or a word on its connection."""
    if not (data.startswith(b"GET /") and data.endswith(b"\r\n\r\n") and b" HTTP/1.1\r\n" in data):
        return False
    head = data[:-4].lower()
    return not any(word in head for word in _NOT_PLAIN)
