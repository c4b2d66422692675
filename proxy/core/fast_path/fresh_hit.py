"""A fresh entry as the bytes that answer a read at this moment, and until when these bytes are true."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.core.fast_path.prepared_reply import PreparedReply
from proxy.core.model import EntryMeta


class FreshHit(msgspec.Struct, eq=False):
    """The reply from memory to one read, and what was found when it was last checked; its repr shows none of it."""

    key: bytes
    held: EntryMeta  # of the entry that it was made of
    reply: PreparedReply
    asked_at: float
    body: bytes | None  # None: the entry's own
    counted: Any  # counts and logs each time
    generation: int = -1  # at which the reply was checked
    head: bytes = b""  # as it is sent now
    since: float = 0.0  # epoch seconds from which *head* is true, and before which
    until: float = 0.0

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the reply."""
        return "FreshHit()"

    def frame(self, now: float, date: bytes, usage: bytes, usage_lasts_s: float) -> None:
        """Write the head for *now*, with lines of *usage* that are true for so many seconds more."""
        age_s = now - self.asked_at
        self.head = self.reply.head(age_s, usage, date)
        self.since = now
        self.until = min(now + min(self.reply.head_lasts_s(age_s), usage_lasts_s), now // 1 + 1)
