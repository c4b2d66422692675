"""One pool of allowance: how much of it is used, how fast, until when, and whether it is stopped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from proxy.core.model import Reply
from proxy.core.quota.usage_headers import FORGOTTEN_S

HOUR_S = 3600.0
"""The window over which Graph adds up calls, where a header does not say when there is allowance again."""

_SPAN_S, _LONG_SPAN_S = 10.0, 60.0  # a trend is measured over the first if it is clear by then, else over the other
_CLEAR = 4.0  # percent: what is rounded is small beside it
_SPRINT_S, _STEPS = 2.0, 3  # over less than this, or in fewer steps up, it is a leap and not a rise
_RUSH_S, _MANY_STEPS = 0.5, 8  # so many steps are none, however soon they come
_TELLING = 2.0  # percent: less may be rounding
_USUAL_COST = 0.1  # percent of a pool that a call takes, until that is known
_LEAST_COST = 0.001


class Stage(IntEnum):
    """What a pool calls for, each with all that the ones before it call for."""

    CALM = 0
    WATCH = 1  # freshness is stretched
    SPARE = 2  # what has time waits its turn
    STOP = 3  # nothing is asked but a probe


@dataclass(frozen=True, slots=True)
class Stages:
    """When a pool enters each stage, in percent used, and how long is waited, in seconds."""

    enabled: bool = True
    watch_pct: float = 60
    spare_pct: float = 80
    stop_pct: float = 100
    probe_s: float = 30  # the longest that a pool is left alone where Graph names no time
    longest_wait_s: float = 30
    foresight_s: float = 300  # how far ahead is seen where reads that have time draw on a pool, too; 0: not at all

    def at(self, percent: float) -> Stage:
        """The stage of a pool of which *percent* is used."""
        if not self.enabled or percent < self.watch_pct:
            return Stage.CALM
        return Stage.WATCH if percent < self.spare_pct else Stage.SPARE if percent < self.stop_pct else Stage.STOP


class Refusal(NamedTuple):
    """Graph's refusal for a limit, and when that is over: as Graph named it, else as the code means; 0: nobody says."""

    reply: Reply
    regain_s: float = 0.0
    lasts_s: float = 0.0


@dataclass(slots=True)
class Stop:
    """A pool that is left alone *until* then; *error* is the reply in which Graph said so, None where it said 100 %."""

    until: float
    error: Reply | None = None
    failures: int = 0  # probes that were refused
    is_named: bool = False  # whether Graph itself named the time
    is_probed: bool = False

    def is_due(self, now: float) -> bool:
        """Whether the next read is to test the way back."""
        return now >= self.until and not self.is_probed

    def lets(self, now: float, *, returns: bool) -> bool:
        """Whether a read is asked: as the probe, or as that of a caller that *returns* after a refusal."""
        return self.is_due(now) or (returns and not (self.is_named and now < self.until))

    def rest_s(self, now: float) -> float:
        """Seconds until a caller that is refused now is asked: what is left of Graph's own time, else at once."""
        return max(0.0, self.until - now) if self.is_named else 0.0


class Bucket:
    """What is known of one pool."""

    __slots__ = (
        "_anchor",
        "_calls",
        "_cost",
        "_percent",
        "_rise",
        "_steps",
        "_sure",
        "_sure_until",
        "last_admitted_at",
        "lasts_s",
        "low_priority_at",
        "reported_at",
        "stop",
    )  # fmt: skip

    def __init__(self) -> None:
        """Know nothing yet."""
        self.reported_at = -math.inf
        self.low_priority_at = (
            self.last_admitted_at
        ) = -math.inf  # when a read that has time drew on it, and one that may have had to wait
        self.lasts_s = 0.0
        self.stop: Stop | None = None
        self._percent = 0.0
        self._anchor = (0.0, -math.inf)  # percent, and when: where the trend is measured from
        self._calls = self._steps = 0  # since then, and how often it was more than before
        self._rise = 0.0  # percent per second
        self._sure = self._sure_until = 0.0  # the same, as far as whole percents prove it; for as long as it took
        self._cost = _USUAL_COST  # percent per call

    def record(self, percent: float, lasts_s: float, calls: int, now: float) -> None:
        """Graph says so *now*, after so many *calls*."""
        before, since = self._anchor
        grown, self._calls = percent - before, self._calls + calls
        if grown >= _TELLING and self._is_news(now):
            self._cost = max(grown / self._calls, _LEAST_COST)
        self._steps += percent > self._percent
        if not self._is_news(now):
            self._rise, self._sure = 0.0, 0.0
            self._measure_from(percent, now)
        elif now - since >= (_SPAN_S if self._is_clear(grown) else _LONG_SPAN_S):
            seconds = now - since
            self._rise, self._sure, self._sure_until = grown / seconds, self._surely(percent) / seconds, now + seconds
            self._measure_from(percent, now)
        self._percent, self.lasts_s, self.reported_at = percent, lasts_s, now

    def _is_clear(self, grown: float) -> bool:
        return grown <= -_CLEAR or (grown >= _CLEAR and self._steps >= _STEPS)

    def _measure_from(self, percent: float, now: float) -> None:
        self._anchor, self._calls, self._steps = (percent, now), 0, 0

    def used(self, now: float) -> float:
        """Percent used; nothing once it is no news any more, or the time that Graph named has come."""
        return self._percent if self._is_news(now) else 0.0

    def used_in(self, seconds: float, now: float) -> float:
        """Percent used in so many *seconds* from now, if it goes on to rise as it surely does.

        A sprint is seen within seconds, and soon forgotten when it is over; a leap is not taken for one.
        """
        if not self._is_news(now):
            return 0.0
        return self._percent + self._sure_rise(now) * seconds

    def _sure_rise(self, now: float) -> float:
        """Percent per second: of what is measured now, once it says something, or of what was measured before."""
        since = self._anchor[1]
        seconds = self.reported_at - since
        is_rise = seconds >= _SPRINT_S or self._steps >= _MANY_STEPS
        lately = self._surely(self._percent) / max(seconds, _RUSH_S) if is_rise else 0.0
        return max(lately, self._sure if now < self._sure_until else 0.0)

    def _surely(self, percent: float) -> float:
        """What of the growth to *percent* is neither a leap nor the rounding of whole percents."""
        return max(0.0, percent - self._anchor[0] - 1.0) if self._steps >= _STEPS else 0.0

    def trend_per_min(self, now: float) -> float:
        """Percent per minute, below zero while it recovers."""
        return self._rise * 60 if self._is_news(now) else 0.0

    def regain_s(self, now: float) -> float | None:
        """Seconds until there is allowance again; None where nobody knows."""
        if self.stop is not None:
            return max(0.0, self.stop.until - now)
        return self.reported_at + self.lasts_s - now if self.lasts_s and self._is_news(now) else None

    def wait_s(self, stages: Stages, now: float) -> float:
        """Seconds until another patient read may go; nought: one may go now.

        A token bucket that holds one: it fills with what may be spent, and a read takes out what a call lately cost.
        """
        fills = max(self._until_spare(stages, now), self._until_regain(stages, now))
        if fills <= 0:
            return stages.longest_wait_s
        return min(max(0.0, self.last_admitted_at + self._cost / fills - now), stages.longest_wait_s)

    def _until_spare(self, stages: Stages, now: float) -> float:
        """Percent per second by which *spare_pct* is reached no sooner than foreseen."""
        seconds = stages.foresight_s
        return (stages.spare_pct - self.used_in(seconds, now)) / seconds if seconds else 0.0

    def _until_regain(self, stages: Stages, now: float) -> float:
        """Percent per second by which the rest lasts until there is more; less while use rises faster than that."""
        pace = (stages.stop_pct - self.used(now)) / (self.regain_s(now) or HOUR_S)
        rise = max(self._rise, self._sure_rise(now))
        return pace * min(1.0, pace / rise) if rise > 0 else pace - rise

    def _is_news(self, now: float) -> bool:
        return now - self.reported_at < (self.lasts_s or FORGOTTEN_S)
