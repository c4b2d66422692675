"""The clock of the shared store: replicas give times by it, so that their own clocks are never compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StoreClock:
    """The newest reading of the store's clock, and when it was asked for and received by this process's clock."""

    told: float = 0.0
    sent: float = 0.0
    heard: float = 0.0

    def tell(self, told: float, sent: float, heard: float) -> None:
        """Take a reading: the store's clock said *told*; the question left at *sent*, the answer came at *heard*."""
        self.told, self.sent, self.heard = told, sent, heard

    def at(self, age: float, now: float) -> float:
        """Returns the earliest time by the store's clock that is *age* seconds before *now*."""
        return self.told + (now - self.heard) - age

    def age(self, at: float, now: float) -> float:
        """Returns the greatest possible age, *now*, of something that happened *at* by the store's clock."""
        return self.told + (now - self.sent) - at
