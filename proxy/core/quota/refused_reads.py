"""Remembers which reads were refused for a limit, so that their retries are sent to Graph.

A client's backoff is made for Graph's own refusals: if the sidecar answered the retry too, the client could give up
before Graph had been asked again. So while a limit is reached, only reads that were not refused before are held back.
"""

from __future__ import annotations

from hashlib import blake2b

from proxy.core.memory.memo import MEMO_BYTES, Recent
from proxy.core.quota.descriptors import QuotaSubject


class RefusedReads:
    """The reads whose last answer was a refusal; a bounded number, those refused longest ago are forgotten."""

    CAPACITY = 8192
    LASTS_S = 900.0
    """Seconds after which a refused read is forgotten: no retry is expected any more."""

    def __init__(self) -> None:
        """Start empty."""
        self.refused = Recent[bytes, float](self.CAPACITY, 3 * MEMO_BYTES)
        """When each of them was refused; of 0 bytes while there is none."""

    def __contains__(self, subject: QuotaSubject) -> bool:
        """Whether the last answer to this read was a refusal."""
        return self.refused.bytes > 0 and _read_key(subject) in self.refused

    def record_refusal(self, subject: QuotaSubject, now: float) -> None:
        """Record that this read was refused at *now*."""
        self.refused.put(_read_key(subject), now)

    def record_answer(self, subject: QuotaSubject, now: float) -> None:
        """Record that this read was answered at *now*; forgets two outdated refusals each time."""
        if not self.refused.bytes:
            return
        self.refused.pop(_read_key(subject))
        for _ in range(2):
            key, then = next(self.refused.items(), (b"", now))
            if then > now - self.LASTS_S:
                return
            self.refused.pop(key)


def _read_key(subject: QuotaSubject) -> bytes:
    """Returns a key of 32 bytes at most for a read, however long the read is."""
    text = f"{subject.path}\0{subject.query}".encode("utf-8", "surrogatepass")
    return subject.fingerprint + blake2b(text, digest_size=16).digest()
