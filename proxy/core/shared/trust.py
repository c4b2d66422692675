"""How long a replica may serve held entries as fresh without asking the shared store: a lease in time.

Every read of the log that is answered renews the lease, counted from the moment at which the read was sent. A replica
that stops hearing of the others' writes so stops trusting its entries by itself (Gray and Cheriton, "Leases", 1989).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

TRUST_S: Final = 0.1
"""Seconds for which a read of the log is trusted, from when it was sent."""

LATE_S: Final = 3.0
"""Seconds after which a replica whose signs of life the store refuses trusts nothing: the store may be cut off."""


@dataclass(slots=True)
class Trust:
    """The lease. Hits compare `until` with the clock, and `since` with when the entry was asked for."""

    until: float = -math.inf  # monotonic seconds; minus infinity while other replicas' writes are in flight
    since: float = 0.0  # epoch seconds; an older entry needs a position in this log
    log_read_at: float = -math.inf  # when the newest answered read of the log was sent
    sign_at: float = -math.inf  # when the newest sign of life that the store took was sent
    _has_open_writes: bool = False

    def on_log_read(self, sent: float) -> None:
        """Renew the lease: a read of the log that was *sent* then is answered and applied."""
        self.log_read_at = sent
        self._renew()

    def on_sign_of_life(self, sent: float) -> None:
        """Take that the store accepted a sign of life that was *sent* then."""
        self.sign_at = sent
        self._renew()

    def on_open_writes(self, number: int) -> None:
        """Take the *number* of open writes of other replicas: while there are any, each hit is checked in full."""
        self._has_open_writes = number > 0
        self._renew()

    def revoke(self, now: float) -> None:
        """End the lease until the log is read again."""
        self.log_read_at = min(self.log_read_at, now - TRUST_S)
        self._renew()

    def has_read_log(self, now: float) -> bool:
        """Returns whether all records of other replicas are known, up to a moment ago."""
        return now - self.log_read_at < TRUST_S

    def has_sign_of_life(self, now: float) -> bool:
        """Returns whether the store accepted a sign of life lately; a store cut off from its replicas does not."""
        return now - self.sign_at < LATE_S

    def is_valid(self, now: float) -> bool:
        """Returns whether both the log and the store itself are trusted."""
        return self.has_read_log(now) and self.has_sign_of_life(now)

    def _renew(self) -> None:
        until = min(self.log_read_at + TRUST_S, self.sign_at + LATE_S)
        self.until = -math.inf if self._has_open_writes else until
