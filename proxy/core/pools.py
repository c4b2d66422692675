"""Pools of allowance: how much of each is used, how fast, until when, and which of them are stopped.

A stopped pool is left alone until its time is up; then one read, the probe, tests the way back.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from proxy.core.messages import Reply
from proxy.core.usage import FORGOTTEN_S, USES, Gauge

HOUR_S = 3600.0
"""The window over which Graph adds up calls, where a header does not say when there is allowance again."""

LONGEST_PROBE_S = 900.0
"""However often a probe fails, the next one comes after so many seconds, unless Graph says when."""

DAY_S = 86400.0
"""The longest that Graph is believed when it says when."""

_SPAN_S = 10.0  # over less than this, whole percents say nothing of a trend
_USUAL_COST = 0.1  # percent of a pool that a call takes, until that is known
_LEAST_COST = 0.001


class Stage(IntEnum):
    """What a pool calls for, each with all that the ones before it call for."""

    CALM = 0
    WATCH = 1  # freshness is stretched
    SPARE = 2  # what has time waits its turn
    STOP = 3  # nothing is asked but a probe


class Name(NamedTuple):
    """Which pool: *owner* stands for the token whose it is, or is empty where all tokens share one app."""

    kind: str
    owner: bytes
    id: str
    type: str

    @property
    def label(self) -> str:
        """The sort of pool, for counting: app, account/ads_insights; uses that are not known are all one."""
        if not self.type:
            return self.kind
        return f"{self.kind}/{self.type if self.type in USES else 'other'}"


@dataclass(frozen=True, slots=True)
class Stages:
    """When a pool enters each stage, in percent used, and how long is waited, in seconds."""

    enabled: bool = True
    watch_pct: float = 60
    spare_pct: float = 80
    stop_pct: float = 100
    probe_s: float = 30
    longest_wait_s: float = 30

    def at(self, percent: float) -> Stage:
        """The stage of a pool of which *percent* is used."""
        if not self.enabled or percent < self.watch_pct:
            return Stage.CALM
        return Stage.WATCH if percent < self.spare_pct else Stage.SPARE if percent < self.stop_pct else Stage.STOP


@dataclass(slots=True)
class Stop:
    """A pool that is left alone *until* then; *error* is the reply in which Graph said so, None where it said 100 %."""

    until: float
    error: Reply | None = None
    failures: int = 0  # probes that were refused
    is_probed: bool = False

    def is_due(self, now: float) -> bool:
        """Whether the next read is to test the way back."""
        return now >= self.until and not self.is_probed


class Pool:
    """What is known of one pool."""

    __slots__ = ("_anchor", "_calls", "_cost", "_next", "_percent", "_rise", "lasts_s", "stop", "told")

    def __init__(self) -> None:
        """Know nothing yet."""
        self.told = -math.inf
        self.lasts_s = 0.0
        self.stop: Stop | None = None
        self._percent = 0.0
        self._anchor = (0.0, -math.inf)  # percent, and when: where the trend is measured from
        self._calls = 0  # since then
        self._rise = 0.0  # percent per second
        self._cost = _USUAL_COST  # percent per call
        self._next = 0.0  # when the next read that has time may go

    def tell(self, percent: float, lasts_s: float, calls: int, now: float) -> None:
        """Graph says so *now*, after so many *calls*."""
        before, since = self._anchor
        self._calls += calls
        if not self._is_news(now):
            self._anchor, self._calls, self._rise = (percent, now), 0, 0.0
        elif now - since >= _SPAN_S:
            grown = percent - before
            self._rise = grown / (now - since)
            if grown > 0 and self._calls:
                self._cost = max(grown / self._calls, _LEAST_COST)
            self._anchor, self._calls = (percent, now), 0
        self._percent, self.lasts_s, self.told = percent, lasts_s, now

    def used(self, now: float) -> float:
        """Percent used; nothing once it is no news any more, or the time that Graph named has come."""
        return self._percent if self._is_news(now) else 0.0

    def trend_per_min(self, now: float) -> float:
        """Percent per minute, below zero while it recovers."""
        return self._rise * 60 if self._is_news(now) else 0.0

    def regain_s(self, now: float) -> float | None:
        """Seconds until there is allowance again; None where nobody knows."""
        if self.stop is not None:
            return max(0.0, self.stop.until - now)
        return self.told + self.lasts_s - now if self.lasts_s and self._is_news(now) else None

    def turn(self, stages: Stages, now: float) -> float:
        """Seconds until it is a patient read's turn, which is taken by asking.

        A token bucket: it fills with what is left of the pool, spread over the time until there is more, less while
        use rises faster than that and more while it falls; a read takes out what a call has lately cost.
        """
        left = stages.stop_pct - self.used(now)
        pace = max(left, 0.0) / (self.regain_s(now) or HOUR_S)
        fills = pace * min(1.0, pace / self._rise) if self._rise > 0 else pace - self._rise
        wait = max(0.0, self._next - now)
        if left <= 0 or wait > stages.longest_wait_s:
            return stages.longest_wait_s
        self._next = max(self._next, now) + self._cost / fills
        return wait

    def _is_news(self, now: float) -> bool:
        return now - self.told < (self.lasts_s or FORGOTTEN_S)


class Pools:
    """All pools that Graph has told of, for a bounded number of them: those told of longest ago go."""

    PLACES = 4096

    def __init__(self, stages: Stages) -> None:
        """Know of none."""
        self.stages = stages
        self._pools: OrderedDict[Name, Pool] = OrderedDict()
        self._tight: set[Name] = set()  # those past calm, so that nobody looks further while all are calm

    @property
    def are_calm(self) -> bool:
        """Whether no pool calls for anything."""
        return not self._tight

    def known(self, names: Iterable[Name]) -> list[Pool]:
        """Those of *names* that may call for something."""
        return [self._pools[name] for name in names if name in self._tight]

    def tell(self, name: Name, gauge: Gauge, calls: int, now: float) -> bool:
        """Graph says *gauge* of a pool *now*, after *calls*; whether that moves it to another stage."""
        pool = self._pool(name)
        if name not in self._tight and gauge.percent < self.stages.watch_pct:
            pool.tell(gauge.percent, min(gauge.lasts_s, DAY_S), calls, now)
            return False
        before = self.stage(pool, now)
        pool.tell(gauge.percent, min(gauge.lasts_s, DAY_S), calls, now)
        self._stop_by_percent(pool, now)
        after = self.stage(pool, now)
        if after is Stage.CALM:
            self._tight.discard(name)
        else:
            self._tight.add(name)
        return after is not before

    def stage(self, pool: Pool, now: float) -> Stage:
        """The stage that *pool* is in."""
        return Stage.STOP if pool.stop is not None else self.stages.at(pool.used(now))

    def _stop_by_percent(self, pool: Pool, now: float) -> None:
        """A pool that is used up is stopped, though Graph has refused nothing; a refusal holds whatever the percent."""
        is_used_up = self.stages.at(pool.used(now)) is Stage.STOP
        if pool.stop is None:
            pool.stop = Stop(now + self._pause(pool, 0)) if is_used_up else None
        elif pool.stop.error is None:
            pool.stop = (
                Stop(now + self._pause(pool, pool.stop.failures), None, pool.stop.failures) if is_used_up else None
            )
        elif is_used_up and pool.lasts_s:
            pool.stop.until = now + pool.lasts_s

    def stop(self, name: Name, error: Reply, regain_s: float, now: float) -> bool:
        """Graph refused a read of this pool with *error*; whether the pool was not stopped by a refusal before."""
        pool = self._pool(name)
        self._tight.add(name)
        if pool.stop is not None and pool.stop.error is not None:  # the answer to a read that had left before
            pool.stop.error = error
            pool.stop.until = now + min(regain_s, DAY_S) if regain_s else pool.stop.until
            return False
        pool.stop = Stop(now + (min(regain_s, DAY_S) or self._pause(pool, 0)), error)
        return True

    def probed(self, name: Name, error: Reply | None, regain_s: float, now: float) -> None:
        """The probe of this pool was refused again with *error*, or else answered: the pool is open."""
        pool = self._pool(name)
        if pool.stop is None:
            return
        failures = pool.stop.failures + 1
        if error is not None:
            pool.stop = Stop(now + (min(regain_s, DAY_S) or self._pause(pool, failures)), error, failures)
        elif self.stages.at(pool.used(now)) is Stage.STOP and pool.told == now:  # answered, and still at 100 %
            pool.stop = Stop(now + self._pause(pool, failures), None, failures)
        else:
            pool.stop = None

    def unprobed(self, name: Name, now: float, *, again_s: float) -> None:
        """The probe of this pool told nothing: another one goes in *again_s* seconds."""
        pool = self._pool(name)
        if pool.stop is not None:
            pool.stop.is_probed, pool.stop.until = False, now + again_s

    def pressure(self, names: Iterable[Name], now: float) -> float:
        """How scarce the scarcest of *names* is: 0 up to *watch*, rising to 1 where nothing is to be asked."""
        most, room = 0.0, self.stages.stop_pct - self.stages.watch_pct
        for pool in self.known(names):
            if pool.stop is not None and not pool.stop.is_due(now):
                return 1.0
            most = max(most, (pool.used(now) - self.stages.watch_pct) / room)
        return min(most, 0.99)

    def shown(self, now: float) -> list[dict[str, Any]]:
        """What `/stats` tells of those that are news; of one account under several tokens, the tightest."""
        rows: dict[tuple[str, str, str], tuple[Stage, float, dict[str, Any]]] = {}
        for name, pool in self._pools.items():
            row, stage = _row(name, pool, now), self.stage(pool, now)
            if not row["percent"] and stage is Stage.CALM and now - pool.told >= FORGOTTEN_S:
                continue
            place, shown = (name.kind, row["id"], name.type), (stage, pool.used(now), row)
            row["stage"] = stage.name.lower()
            if place not in rows or rows[place][:2] < shown[:2]:
                rows[place] = shown
        return [row for _, _, row in rows.values()]

    def _pause(self, pool: Pool, failures: int) -> float:
        """Seconds until a pool is probed: as Graph says, else twice as long after each probe that failed."""
        if pool.lasts_s:
            return pool.lasts_s
        longest = max(LONGEST_PROBE_S, self.stages.probe_s)
        return min(self.stages.probe_s * 2.0 ** min(failures, 16), longest)

    def _pool(self, name: Name) -> Pool:
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = Pool()
            if len(self._pools) > self.PLACES:
                self._tight.discard(self._pools.popitem(last=False)[0])
        self._pools.move_to_end(name)
        return pool


def _row(name: Name, pool: Pool, now: float) -> dict[str, Any]:
    regain = pool.regain_s(now)
    return {
        "kind": name.kind,
        "id": name.id or name.owner.hex()[:12] or "shared",
        "type": name.type,
        "percent": round(pool.used(now), 2),
        "trend_per_min": round(pool.trend_per_min(now), 2),
        "regain_s": None if regain is None else round(regain, 1),
        "age_s": round(now - pool.told, 1) if pool.told > -math.inf else 0.0,
    }
