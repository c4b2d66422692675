"""The clock of the shared store: replicas give times by it, so that their own clocks are never compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StoreClock:
    """The newest reading of the store's clock, and when it was asked for and received by this process's clock."""

    time: float = 0.0
    sent: float = 0.0
    received: float = 0.0

    def set(self, time: float, sent: float, received: float) -> None:
        """Take a reading: the store's clock said *time*; the command left at *sent*, the reply came at *received*."""
        self.time, self.sent, self.received = time, sent, received

    def at(self, age: float, now: float) -> float:
        """Returns the earliest time by the store's clock that is *age* seconds before *now*."""
        return self.time + (now - self.received) - age

    def age(self, at: float, now: float) -> float:
        """Returns the greatest possible age, *now*, of something that happened *at* by the store's clock."""
        return self.time + (now - self.sent) - at
