"""Decides when the processor is overloaded, how many requests may wait for it then, and which may be refused unparsed.

A queue alone is no overload. A burst is let in whole, however large, for it ends; and callers that wait for their
answers before they ask again may all wait. Overload is a queue that stands, as in CoDel (RFC 8289), while the requests
that are not answered yet become more and more, or that is so long that the next request would wait longer than a caller
should. Requests that wait and those under way count together: which of them a request is among changes in waves.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from math import inf

from proxy.core.http.pacing import LEAST, Pace

_INTERVALS = 12
"""The intervals into which the limit is divided; in each of them the queue is judged by its shortest moment."""

_STANDING = 4
"""The intervals in a row for which a queue stands before it may count as overload."""

_RAISES, _RAISED_WITHIN = 3, 6
"""In how many of the last intervals the requests that are not answered have to be more than ever since it stands."""

_GROWING_SHARE, _TARGET_SHARE = 0.2, 0.02
"""The shares of the limit that a request waits where a growing queue is overload, and while others are refused."""

_WEIGHT = 0.25
"""How much the last interval counts in the rate."""


@dataclass(slots=True)
class Beat:
    """What happened between two measurements."""

    seconds: float = 0.0
    came: int = 0  # requests, those that were refused included
    taken: int = 0  # requests that waited no longer
    refused: int = 0
    waiting: int = 0  # the fewest requests that waited at one moment
    inside: int = 0  # requests that are not answered yet, at the end


class Admission:
    """Computes how many requests may wait from how many were answered lately: a newcomer waits for all before it."""

    def __init__(self, limit_s: float) -> None:
        """Let requests wait *limit_s* at most."""
        self.most = inf
        self.is_overloaded = False
        self.pace = Pace()
        self._limit_s = limit_s
        self._now = Beat()
        self._rate = 0.0  # requests that are answered in a second
        self._inside = 0  # requests that were not answered yet at the end of the last interval
        self._most_inside = 0  # since the queue stands
        self._raises: deque[bool] = deque(maxlen=_RAISED_WITHIN)
        self._standing = self._calm = 0  # intervals in a row

    def measured(self, beat: Beat) -> None:
        """Take *beat* in; an interval has one beat at least, so that a lone stall is never more than one interval."""
        now = self._now
        now.waiting = min(now.waiting, beat.waiting) if now.seconds else beat.waiting
        now.seconds += beat.seconds
        now.came += beat.came
        now.taken += beat.taken
        now.refused += beat.refused
        now.inside = beat.inside
        if now.seconds * _INTERVALS >= self._limit_s:
            self._judge(now)
            self._now = Beat()
        self.most = max(LEAST, self.pace.rate * self._limit_s * _TARGET_SHARE) if self.is_overloaded else inf

    def _judge(self, now: Beat) -> None:
        self._note_growth(now)
        rate = max(0, now.came - now.refused - now.inside + self._inside) / now.seconds
        self._inside = now.inside
        self._rate = self._rate + (rate - self._rate) * _WEIGHT if self._standing > 1 else rate
        if self.is_overloaded:
            self._calm = 0 if now.refused else self._calm + 1
            self.is_overloaded = self._calm < _INTERVALS
        elif self._is_too_long(now):
            self._calm, self.is_overloaded = 0, True
            self.pace.begin(self._rate)

    def _note_growth(self, now: Beat) -> None:
        self._standing = self._standing + 1 if now.waiting else 0
        self._raises.append(self._standing > 1 and now.inside > self._most_inside)
        self._most_inside = max(self._most_inside, now.inside) if self._standing > 1 else now.inside

    def _is_too_long(self, now: Beat) -> bool:
        limit = self._rate * self._limit_s
        if self._standing < _STANDING:
            return False
        if sum(self._raises) >= _RAISES and now.waiting > limit * _GROWING_SHARE:
            return True
        return now.came >= now.taken and now.waiting > limit


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
