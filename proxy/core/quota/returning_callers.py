"""Who was refused for a limit, and so is let through to Graph when it comes back in its own time.

A caller's own backoff is made for Graph's refusals: were its next try answered here, its tries would run out before
Graph had been asked again. So only reads that were not refused themselves are spared while a limit is reached.
"""

from __future__ import annotations

from hashlib import blake2b

from proxy.core.memory.memo import MEMO_BYTES, Recent
from proxy.core.quota.descriptors import QuotaSubject


class Returning:
    """The reads whose last answer was a refusal, a bounded number of them: those refused longest ago go."""

    PLACES = 8192
    LASTS_S = 900.0
    """Seconds after which nobody who was refused is expected back."""

    def __init__(self) -> None:
        """Know of none."""
        self._refused = Recent[bytes, float](self.PLACES, 3 * MEMO_BYTES)

    def __bool__(self) -> bool:
        """Whether any read is known."""
        return bool(self._refused)

    def __contains__(self, asker: QuotaSubject) -> bool:
        """Whether the last answer to this read was a refusal."""
        return bool(self._refused) and _key(asker) in self._refused

    def refused(self, asker: QuotaSubject, now: float) -> None:
        """This read was refused *now*."""
        self._refused.put(_key(asker), now)

    def answered(self, asker: QuotaSubject, now: float) -> None:
        """This read was answered *now*; those that were refused too long ago are forgotten, a few each time."""
        if not self._refused:
            return
        self._refused.pop(_key(asker))
        for _ in range(2):
            key, then = next(self._refused.items(), (b"", now))
            if then > now - self.LASTS_S:
                return
            self._refused.pop(key)


def _key(asker: QuotaSubject) -> bytes:
    """A few bytes for a read, however long it is."""
    text = f"{asker.path}\0{asker.query}".encode("utf-8", "surrogatepass")
    return asker.fingerprint + blake2b(text, digest_size=16).digest()
