"""What one run saves for the next beside the entries: purge orders, and the invalidations if it ends in order."""

from __future__ import annotations

from collections.abc import Callable

from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.cache.purge import Purges


class Notes:
    """The purge orders, and after a line break the changes; a run that was killed leaves no changes.

    What such a run learned from writes and webhooks is not known. So every entry that it left is asked for once
    before it is called fresh. A replica of a fleet learns of changes from the log of the fleet instead (*has_log*).
    """

    def __init__(
        self, purges: Purges, invalidations: InvalidationIndex, now: Callable[[], float], *, has_log: bool
    ) -> None:
        """Make the notes of *purges* and *invalidations*."""
        self._purges = purges
        self._invalidations = invalidations
        self._now = now
        self._knows_changes = has_log

    def restore(self, text: bytes | None) -> None:
        """Take over the notes of an earlier run: None if there are none. Of its changes only the first time."""
        orders, _, changes = (text or b"").partition(b"\n")
        self._purges.load(None if text is None else orders, self._now())
        if not self._knows_changes:
            self._knows_changes = True
            self._invalidations.load(changes, self._now())

    def at_end(self) -> bytes:
        """Returns the notes of a run that ends well: nothing is served any more."""
        return self._purges.save() + b"\n" + self._invalidations.save()
