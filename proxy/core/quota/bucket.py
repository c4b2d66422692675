"""One rate limit of Graph's: its level in percent, the level's trend, and when there is allowance again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from proxy.core.quota.stop import Stop
from proxy.core.quota.usage_headers import FORGOTTEN_S

HOUR_S = 3600.0
"""The window over which Graph adds up calls, where a header does not say when there is allowance again."""

_SPAN_S, _LONG_SPAN_S = 10.0, 60.0  # a clear trend is measured over the short span, any other over the long one
_CLEAR = 4.0  # percent: a change of this size is clear, for the rounding to whole percents is small beside it
_SHORTEST_RISE_S, _FEWEST_STEPS = 2.0, 3  # a shorter rise, or one in fewer steps, is a single jump and no trend
_SHORTEST_SPAN_S, _MANY_STEPS = 0.5, 8  # eight rises in a row are a trend, even within half a second
_SIGNIFICANT = 2.0  # percent: a smaller change may be rounding
_USUAL_COST = 0.1  # percent of a limit that one call uses, until the real cost has been measured
_LEAST_COST = 0.001


class Stage(IntEnum):
    """How scarce a limit is, and what the sidecar does about it; each stage includes the measures of those before."""

    CALM = 0  # nothing
    WATCH = 1  # entries stay fresh for longer
    SPARE = 2  # low-priority reads wait
    STOP = 3  # only a probe is sent


@dataclass(frozen=True, slots=True)
class Stages:
    """The percentages at which a limit enters each stage, and the waiting times in seconds (settings `quota.*`)."""

    enabled: bool = True
    watch_pct: float = 60
    spare_pct: float = 80
    stop_pct: float = 100
    probe_s: float = 30  # the longest pause before a probe where Graph names no time
    longest_wait_s: float = 30
    foresight_s: float = 300  # how far ahead use is predicted while low-priority reads share the limit; 0: not at all

    def at(self, percent: float) -> Stage:
        """Returns the stage of a limit of which *percent* is used."""
        if not self.enabled or percent < self.watch_pct:
            return Stage.CALM
        return Stage.WATCH if percent < self.spare_pct else Stage.SPARE if percent < self.stop_pct else Stage.STOP

    def begins_at(self, stage: Stage) -> float:
        """Returns the percentage at which *stage* begins."""
        return (0.0, self.watch_pct, self.spare_pct, self.stop_pct)[stage]


class Bucket:
    """The level of one limit: percent used, its trend, the cost of a call, and the stop if there is one."""

    __slots__ = (
        "_anchor",
        "_calls",
        "_cost",
        "_percent",
        "_proven",
        "_proven_until",
        "_rise",
        "_steps",
        "last_admitted_at",
        "low_priority_at",
        "reported_at",
        "reported_regain_s",
        "stop",
    )  # fmt: skip

    def __init__(self) -> None:
        """Start with nothing reported."""
        self.reported_at = -math.inf
        self.low_priority_at = -math.inf  # when a low-priority read last came under this limit
        self.last_admitted_at = -math.inf  # when a read that may have waited was last sent
        self.reported_regain_s = 0.0
        self.stop: Stop | None = None
        self._percent = 0.0
        self._anchor = (0.0, -math.inf)  # percent and time from which the trend is measured
        self._calls = self._steps = 0  # calls since then, and reports that were higher than the one before
        self._rise = 0.0  # percent per second
        self._proven = self._proven_until = (
            0.0  # the part of the rise that rounding cannot explain, and until when it counts
        )
        self._cost = _USUAL_COST  # percent per call

    def record(self, percent: float, regain_s: float, calls: int, now: float) -> None:
        """Record that Graph reported *percent* at *now*, after so many *calls* since the last report."""
        before, since = self._anchor
        grown, self._calls = percent - before, self._calls + calls
        if grown >= _SIGNIFICANT and self._is_current(now):
            self._cost = max(grown / self._calls, _LEAST_COST)
        self._steps += percent > self._percent
        if not self._is_current(now):
            self._rise, self._proven = 0.0, 0.0
            self._measure_from(percent, now)
        elif now - since >= (_SPAN_S if self._is_clear(grown) else _LONG_SPAN_S):
            seconds = now - since
            self._rise, self._proven, self._proven_until = (
                grown / seconds,
                self._proven_growth(percent) / seconds,
                now + seconds,
            )
            self._measure_from(percent, now)
        self._percent, self.reported_regain_s, self.reported_at = percent, regain_s, now

    def _is_clear(self, grown: float) -> bool:
        return grown <= -_CLEAR or (grown >= _CLEAR and self._steps >= _FEWEST_STEPS)

    def _measure_from(self, percent: float, now: float) -> None:
        self._anchor, self._calls, self._steps = (percent, now), 0, 0

    def used(self, now: float) -> float:
        """Returns the percent used; 0 once the report is too old, or the time that Graph named has come."""
        return self._percent if self._is_current(now) else 0.0

    def used_in(self, seconds: float, now: float) -> float:
        """Returns the percent that will be used in so many *seconds* if the proven rise goes on.

        A fast rise is noticed within seconds and forgotten soon after it ends; a single jump does not count as a rise.
        """
        if not self._is_current(now):
            return 0.0
        return self._percent + self._proven_rise(now) * seconds

    def reaches_in_s(self, percent: float, now: float) -> float | None:
        """Returns the seconds until *percent* is used if the proven rise goes on; None if it is not rising."""
        rise = self._proven_rise(now) if self._is_current(now) else 0.0
        return max(0.0, percent - self._percent) / rise if rise > 0 else None

    def _proven_rise(self, now: float) -> float:
        """Returns the percent per second of the current measurement, or of the last one while that still counts."""
        since = self._anchor[1]
        seconds = self.reported_at - since
        is_rise = seconds >= _SHORTEST_RISE_S or self._steps >= _MANY_STEPS
        lately = self._proven_growth(self._percent) / max(seconds, _SHORTEST_SPAN_S) if is_rise else 0.0
        return max(lately, self._proven if now < self._proven_until else 0.0)

    def _proven_growth(self, percent: float) -> float:
        """Returns the part of the growth to *percent* that is neither a single jump nor rounding."""
        return max(0.0, percent - self._anchor[0] - 1.0) if self._steps >= _FEWEST_STEPS else 0.0

    def trend_per_min(self, now: float) -> float:
        """Returns the change in percent per minute; negative while use falls."""
        return self._rise * 60 if self._is_current(now) else 0.0

    def regain_s(self, now: float) -> float | None:
        """Returns the seconds until there is allowance again; None where Graph has not said."""
        if self.stop is not None:
            return max(0.0, self.stop.until - now)
        return (
            self.reported_at + self.reported_regain_s - now
            if self.reported_regain_s and self._is_current(now)
            else None
        )

    def wait_s(self, stages: Stages, now: float) -> float:
        """Returns the seconds until the next low-priority read may be sent; 0: now.

        This is a token bucket of size one: it fills at the rate that may be spent, and a read takes the measured cost
        of a call.
        """
        interval_s = self.interval_s(stages, now)
        if interval_s == math.inf:
            return stages.longest_wait_s
        return min(max(0.0, self.last_admitted_at + interval_s - now), stages.longest_wait_s)

    def interval_s(self, stages: Stages, now: float) -> float:
        """Returns the seconds from one low-priority read to the next; infinity where none may be sent."""
        fills = max(self._rate_until_spare(stages, now), self._rate_until_regain(stages, now))
        return self._cost / fills if fills > 0 else math.inf

    def _rate_until_spare(self, stages: Stages, now: float) -> float:
        """Returns the percent per second that may be spent so that *spare_pct* is not reached within *foresight_s*."""
        seconds = stages.foresight_s
        return (stages.spare_pct - self.used_in(seconds, now)) / seconds if seconds else 0.0

    def _rate_until_regain(self, stages: Stages, now: float) -> float:
        """Returns the percent per second by which the rest lasts until there is allowance again.

        It is less while use rises faster than that.
        """
        pace = (stages.stop_pct - self.used(now)) / (self.regain_s(now) or HOUR_S)
        rise = max(self._rise, self._proven_rise(now))
        return pace * min(1.0, pace / rise) if rise > 0 else pace - rise

    def _is_current(self, now: float) -> bool:
        return now - self.reported_at < (self.reported_regain_s or FORGOTTEN_S)
