"""A circuit breaker: says whether a failed disk is left alone for now, and when it is tried again."""

from __future__ import annotations

from collections.abc import Callable


class Breaker:
    """A circuit breaker: open for some seconds after a failure, then due for one try."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: float | None = None

    @property
    def closed(self) -> bool:
        """True if no failure is remembered."""
        return self._until is None

    @property
    def due(self) -> bool:
        """True if the breaker is open and it is time to try again."""
        return self._until is not None and self._clock() >= self._until

    def trip(self) -> None:
        """Open the breaker, or keep it open for the full time from now."""
        self._until = self._clock() + self._seconds

    def reset(self) -> None:
        """Close the breaker."""
        self._until = None
