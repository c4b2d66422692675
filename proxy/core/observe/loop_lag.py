"""How long a read would take in the sidecar itself: judged by a few turns of the event loop, one after another."""

from __future__ import annotations

from math import inf

TURNS = 8
"""Turns of the event loop that a read needs from its first byte to its answer's, those at Graph left out."""


class Lag:
    """The time of some turns, without the longest: a lone stall (of a disk, of another program) is not overload."""

    def __init__(self) -> None:
        """Know of no turn yet."""
        self._last = 0.0  # what the turns took that were measured last
        self._began: float | None = None
        self._turned = self._longest = 0.0

    def begin(self, at: float) -> None:
        """The first turn begins."""
        self._began = self._turned = at
        self._longest = 0.0

    def turn(self, at: float) -> None:
        """A turn has ended, and the next begins."""
        self._longest = max(self._longest, at - self._turned)
        self._turned = at

    def end(self) -> None:
        """The last turn has ended."""
        if self._began is not None:
            self._last = self._turned - self._began - self._longest
        self._began = None

    def seconds(self, now: float) -> float:
        """What a read would take: as long as the last turns did, or longer if those under way have taken longer."""
        if self._began is None:
            return self._last
        return max(self._last, now - self._began - max(self._longest, now - self._turned))


_GROWS, _AT_LEAST, _EVERYBODY = 1.3, 16.0, 10_000.0


class Allowance:
    """How many may be let in from one measurement to the next: fewer after one that took too long, then more again.

    What came in one turn is not felt before the next ones, so the limit alone would let in too many and then nobody.
    """

    def __init__(self) -> None:
        """Let everybody in."""
        self._most = inf
        self._let_in = 0

    def take(self) -> bool:
        """Let one more in; False where no more may be."""
        if self._let_in >= self._most:
            return False
        self._let_in += 1
        return True

    def measured(self, seconds: float, limit: float) -> None:
        """What was let in since the last measurement made reads take *seconds*, which should be *limit* at most."""
        if seconds > limit:
            self._most = max(_AT_LEAST, min(self._most, self._let_in) * limit / seconds)
        elif self._most < _EVERYBODY:
            self._most *= _GROWS
        else:
            self._most = inf
        self._let_in = 0


_NOT_PLAIN = (b"\r\n\r\n", b"\n\n", b"content-length:", b"transfer-encoding:", b"upgrade:", b"connection:", b"expect:")


def is_plain(data: bytes) -> bool:
    """Whether *data* is one whole GET of HTTP/1.1 without a body or a word on its connection."""
    if not (data.startswith(b"GET /") and data.endswith(b"\r\n\r\n") and b" HTTP/1.1\r\n" in data):
        return False
    head = data[:-4].lower()
    return not any(word in head for word in _NOT_PLAIN)
