"""The store's clock, by which replicas tell each other how old something is: no replica's own clock is compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StoreClock:
    """What the store's clock said last, between which moments of this process's steady clock."""

    told: float = 0.0
    sent: float = 0.0
    heard: float = 0.0

    def tell(self, told: float, sent: float, heard: float) -> None:
        """The store's clock said *told* in answer to a question *sent* then and *heard* then."""
        self.told, self.sent, self.heard = told, sent, heard

    def at(self, age: float, now: float) -> float:
        """When that was, at the earliest, by the store's clock: *age* seconds before *now*."""
        return self.told + (now - self.heard) - age

    def age(self, at: float, now: float) -> float:
        """The age at most *now* of what was *at* by the store's clock."""
        return self.told + (now - self.sent) - at
