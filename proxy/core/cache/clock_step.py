"""Corrects recorded times after the machine's clock was set back: no time may lie in the future."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.core.model import EntryMeta


def set_back(when: float, now: float, by: float) -> float:
    """Returns the recorded time *when*, corrected after the clock was set back to *now* by *by* seconds.

    A time in the past stays as it is: it may have been recorded before the clock was set ahead.
    """
    return max(now, when - by) if when > now else when


def undated(meta: EntryMeta) -> EntryMeta:
    """Returns *meta* of an entry whose time is not known: it is not fresh, every purge order covers it.

    Its ETag may still be confirmed, which gives it a time again.
    """
    return replace(meta, asked_at=0.0)


class UncertainTimes:
    """The times that a clock showed before it was set back: it shows them again, so they do not tell before from after.

    An entry with such a time may have been asked for before a change that has an earlier time.
    """

    def __init__(self) -> None:
        """Start with a clock that was never set back."""
        self._after = 0.0
        self.until = 0.0
        """The latest of these times; 0: there are none."""

    def add(self, now: float, latest: float) -> None:
        """Note that the clock shows *now*, after it has shown times up to *latest*."""
        if latest > now:
            self._after = min(self._after, now) if self.until else now
            self.until = max(self.until, latest)

    def checked(self, meta: EntryMeta) -> EntryMeta:
        """Returns *meta*, of an entry from before the clock was set back perhaps: undated if its time is uncertain."""
        return undated(meta) if self._after < meta.asked_at <= self.until else meta
