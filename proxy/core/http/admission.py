"""Decides when the processor is overloaded, how many requests may wait for it then, and which may be refused unparsed.

A queue alone is no overload. A burst is let in whole, however large, for it ends; and callers that wait for their
answers before they ask again may all wait. Overload is a queue that stands, as in CoDel (RFC 8289), and that grows
without a break, or is so long that the next request would wait longer than a caller should.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf

_INTERVALS = 10
"""The intervals into which the limit is divided; in each of them the queue is judged by its shortest moment."""

_STANDING = 4
"""The intervals in a row for which a queue stands or grows before it counts as overload."""

_GROWING_SHARE, _TARGET_SHARE = 0.4, 0.1
"""The shares of the limit that a request waits where a growing queue is overload, and while others are refused."""

_WEIGHT, _GROWTH = 0.25, 1.25
"""How much the last interval counts in the rate, and how much the rate grows where the limit has left a queue empty."""

_LEAST = 16.0
"""The number of requests that may always wait."""


@dataclass(slots=True)
class Beat:
    """What happened between two measurements."""

    seconds: float = 0.0
    came: int = 0  # requests, those that were refused included
    taken: int = 0  # requests that waited no longer
    refused: int = 0
    waiting: int = 0  # the fewest requests that waited at one moment


class Admission:
    """Says how many requests may wait, from how many were taken up lately: a newcomer waits for all before it."""

    def __init__(self, limit_s: float) -> None:
        """Let requests wait *limit_s* at most."""
        self.most = inf
        self.is_overloaded = False
        self._limit_s = limit_s
        self._now = Beat()
        self._rate = 0.0  # requests that are taken up in a second
        self._shortest = 0  # requests that waited at the shortest moment of the last interval
        self._standing = self._growing = self._calm = 0  # intervals in a row

    def measured(self, beat: Beat) -> None:
        """Take *beat* in; an interval has one beat at least, so that a lone stall is never more than one interval."""
        now = self._now
        now.waiting = min(now.waiting, beat.waiting) if now.seconds else beat.waiting
        now.seconds += beat.seconds
        now.came += beat.came
        now.taken += beat.taken
        now.refused += beat.refused
        if now.seconds * _INTERVALS >= self._limit_s:
            self._judge(now)
            self._now = Beat()

    def _judge(self, now: Beat) -> None:
        self._standing = self._standing + 1 if now.waiting else 0
        self._growing = self._growing + 1 if now.waiting > self._shortest else 0
        self._shortest = now.waiting
        self._rate = self._rate_after(now.taken / now.seconds)
        if self.is_overloaded:
            self._calm = 0 if now.refused else self._calm + 1
            self.is_overloaded = self._calm < _INTERVALS
        else:
            self._calm = 0
            self.is_overloaded = self._is_too_long(now)
        self.most = max(_LEAST, self._rate * self._limit_s * _TARGET_SHARE) if self.is_overloaded else inf

    def _rate_after(self, rate: float) -> float:
        if self._standing > 1:
            return self._rate + (rate - self._rate) * _WEIGHT
        return max(rate, self._rate * _GROWTH) if self.is_overloaded else rate

    def _is_too_long(self, now: Beat) -> bool:
        limit = self._rate * self._limit_s
        if self._growing >= _STANDING and now.waiting > limit * _GROWING_SHARE:
            return True
        return self._standing >= _STANDING and now.came >= now.taken and now.waiting > limit


_PLAIN = re.compile(
    rb"GET /[^\r\n]* HTTP/1\.1\r\n"
    rb"(?:(?!(?i:content-length|transfer-encoding|upgrade|expect)[: \t])"
    rb"(?!(?i:(?:proxy-)?connection)(?!(?i::[ \t]*(?:keep-alive|close)[ \t]*\r))[: \t])"
    rb"[^\r\n]+\r\n)*\r\n"
)
_LAST = re.compile(rb"\r\n(?i:(?:proxy-)?connection:[ \t]*close)")


def is_plain(data: bytes) -> bool:
    """Returns whether *data* is one whole GET of HTTP/1.1 without a body, that asks nothing else of its connection."""
    return _PLAIN.fullmatch(data) is not None


def is_last(data: bytes) -> bool:
    """Returns whether the plain GET *data* is the last of its connection."""
    return _LAST.search(data) is not None
