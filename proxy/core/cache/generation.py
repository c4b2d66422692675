"""One number that tells whether anything has happened that may make a prepared reply untrue."""

from __future__ import annotations


class Generation:
    """A number that goes up with every change after which a fresh entry may have to be answered in another way.

    Such changes are invalidations, purges, events of webhooks, limits that are no longer calm, new usage headers,
    clocks that are set back, and the beginning of the drain. A reply that was checked at a generation need not be
    checked again before the next one.
    """

    __slots__ = ("number",)

    def __init__(self) -> None:
        """Begin with the first."""
        self.number = 0

    def advance(self) -> None:
        """Begin the next generation."""
        self.number += 1
