"""All pools of allowance, by name: what Graph tells of each, and which of them are stopped.

A stopped pool is left alone until its time is up; then one read, the probe, tests the way back. Where Graph named no
time, a caller that was refused and comes back is a probe as well.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

from proxy.core.quota.bucket import Bucket, Refusal, Stage, Stages, Stop
from proxy.core.quota.usage_headers import FORGOTTEN_S, USES, UsageLevel

FIRST_PAUSE_S = 1.0
"""After a refusal a pool is left alone for so many seconds at first, unless Graph says how long."""

LONGEST_PROBE_S = 900.0
"""A pool that is used up, and refused nothing, is asked for news after so many seconds at the latest."""

DAY_S = 86400.0
"""The longest that Graph is believed when it says when."""


class BucketName(NamedTuple):
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


class Buckets:
    """All pools that Graph has told of, for a bounded number of them: those told of longest ago go."""

    PLACES = 4096

    def __init__(self, stages: Stages) -> None:
        """Know of none."""
        self.stages = stages
        self._pools: OrderedDict[BucketName, Bucket] = OrderedDict()
        self._tight: set[BucketName] = set()  # those past calm, so that nobody looks further while all are calm

    @property
    def are_calm(self) -> bool:
        """Whether no pool calls for anything."""
        return not self._tight

    def known(self, names: Iterable[BucketName]) -> list[Bucket]:
        """Those of *names* that may call for something."""
        return [self._pools[name] for name in names if name in self._tight]

    def record(self, name: BucketName, gauge: UsageLevel, calls: int, now: float) -> bool:
        """Graph says *gauge* of a pool *now*, after *calls*; whether that brings it to a calmer stage."""
        pool = self._pool(name)
        before = self.stage(pool, now) if name in self._tight else Stage.CALM
        pool.record(gauge.percent, min(gauge.lasts_s, DAY_S), calls, now)
        self._stop_by_percent(pool, now)
        after = self.stage(pool, now)
        if after is Stage.CALM:
            self._tight.discard(name)
        else:
            self._tight.add(name)
        return after < before

    def stage(self, pool: Bucket, now: float) -> Stage:
        """The stage that *pool* is in: stopped by what is used, spared or watched by what is foreseen."""
        if pool.stop is not None:
            return Stage.STOP
        return max(self.stages.at(pool.used(now)), min(self.stages.at(self._foreseen(pool, now)), Stage.SPARE))

    def contended(self, names: Iterable[BucketName], now: float, *, contested: bool) -> list[tuple[BucketName, Bucket]]:
        """Those of *names* for whose sake a read that has time may have to wait.

        From *spare_pct* on; and on the way there if it is *contested*, for the sake of reads that have no time: it need
        not make way for more of its like.
        """
        known = [(name, self._pools[name]) for name in names if name in self._tight]
        return [(name, pool) for name, pool in known if self._is_spared(pool, now, contested=contested)]

    def _is_spared(self, pool: Bucket, now: float, *, contested: bool) -> bool:
        used, foreseen = pool.used(now), self._foreseen(pool, now)
        if pool.stop is not None or self.stages.at(used) >= Stage.SPARE:
            return True
        return contested and foreseen > used and self.stages.at(foreseen) >= Stage.WATCH

    def note_low_priority(self, names: Iterable[BucketName], now: float) -> None:
        """A read that has time draws on *names*."""
        for name in names:
            if (pool := self._pools.get(name)) is not None:
                pool.low_priority_at = now

    def _foreseen(self, pool: Bucket, now: float) -> float:
        """Percent that will be used before long; looked for only where there is somebody who can make way."""
        seconds = self.stages.foresight_s
        return pool.used_in(seconds, now) if now - pool.low_priority_at < seconds else pool.used(now)

    def _stop_by_percent(self, pool: Bucket, now: float) -> None:
        """A pool that is used up is stopped, though Graph has refused nothing; a refusal holds whatever the percent."""
        is_used_up, stop = self.stages.at(pool.used(now)) is Stage.STOP, pool.stop
        if stop is None or stop.error is None:
            failures = stop.failures if stop else 0
            pool.stop = Stop(now + self._pause_at_full(pool, failures), None, failures) if is_used_up else None
        elif is_used_up and pool.lasts_s:
            stop.until, stop.is_named = now + pool.lasts_s, True

    def stop(self, name: BucketName, refusal: Refusal, now: float) -> bool:
        """Graph refused a read of this pool; whether the pool was not stopped by a refusal before."""
        pool = self._pool(name)
        self._tight.add(name)
        if pool.stop is not None and pool.stop.error is not None:  # the answer to a read that had left before
            again = self._stopped(name, pool, refusal, pool.stop.failures, now)
            pool.stop.error = refusal.reply
            if again.is_named:
                pool.stop.until, pool.stop.is_named = again.until, True
            return False
        pool.stop = self._stopped(name, pool, refusal, 0, now)
        return True

    def on_probe(self, name: BucketName, refusal: Refusal | None, now: float) -> None:
        """A probe of this pool was refused again, or else answered: the pool is open."""
        pool = self._pool(name)
        if pool.stop is None:
            return
        if refusal is not None:
            pool.stop = self._stopped_again(name, pool, pool.stop, refusal, now)
        elif self.stages.at(pool.used(now)) is Stage.STOP and pool.reported_at == now:  # answered, and still at 100 %
            failures = pool.stop.failures + 1
            pool.stop = Stop(now + self._pause_at_full(pool, failures), None, failures)
        else:
            pool.stop = None

    def on_probe_lost(self, name: BucketName, now: float, *, at_once: bool) -> None:
        """The probe of this pool told nothing: another goes *at_once*, or after the pause that there was before it."""
        stop = self._pool(name).stop
        if stop is None:
            return
        stop.is_probed = False
        if not at_once and now >= stop.until:
            stop.until, stop.is_named = now + self._pause(stop.failures), False

    def pressure(self, names: Iterable[BucketName], now: float) -> float:
        """How scarce the scarcest of *names* soon is: 0 up to *watch*, rising to 1 where nothing is to be asked."""
        most, room = 0.0, self.stages.stop_pct - self.stages.watch_pct
        for pool in self.known(names):
            if pool.stop is not None and not pool.stop.is_due(now):
                return 1.0
            most = max(most, (self._foreseen(pool, now) - self.stages.watch_pct) / room)
        return min(most, 0.99)

    def shown(self, now: float) -> list[dict[str, Any]]:
        """What `/stats` tells of those that are news; of one account under several tokens, the tightest."""
        rows: dict[tuple[str, str, str], tuple[Stage, float, dict[str, Any]]] = {}
        for name, pool in self._pools.items():
            row, stage = _row(name, pool, now), self.stage(pool, now)
            if not row["percent"] and stage is Stage.CALM and now - pool.reported_at >= FORGOTTEN_S:
                continue
            place, shown = (name.kind, row["id"], name.type), (stage, pool.used(now), row)
            row["stage"] = stage.name.lower()
            if place not in rows or rows[place][:2] < shown[:2]:
                rows[place] = shown
        return [row for _, _, row in rows.values()]

    def _stopped(self, name: BucketName, pool: Bucket, refusal: Refusal, failures: int, now: float) -> Stop:
        """A stop for as long as Graph named, in the refusal or before it; else for the pause after so many failures."""
        if named_s := refusal.regain_s or self._regain_s(name, pool, now):
            return Stop(now + min(named_s, DAY_S), refusal.reply, failures, is_named=True)
        return Stop(now + (refusal.lasts_s or self._pause(failures)), refusal.reply, failures)

    def _stopped_again(self, name: BucketName, pool: Bucket, stop: Stop, refusal: Refusal, now: float) -> Stop:
        """The same after a probe was refused: a caller that came back before its time makes the pause no longer."""
        is_early = now < stop.until
        again = self._stopped(name, pool, refusal, stop.failures + (not is_early), now)
        if is_early and not again.is_named:
            again.until = stop.until
        return again

    def _regain_s(self, name: BucketName, pool: Bucket, now: float) -> float:
        """Seconds until the time that Graph named of this pool; an account's own reset counts once it is used up."""
        counts = pool.lasts_s and (name.type or self.stages.at(pool.used(now)) is Stage.STOP)
        return max(0.0, pool.reported_at + pool.lasts_s - now) if counts else 0.0

    def _pause(self, failures: int) -> float:
        """Seconds until a pool that refused is probed, where Graph named no time: from a second on, doubled each time.

        So a caller whose own backoff doubles finds the pool open for others as soon as it finds it open itself.
        """
        return min(FIRST_PAUSE_S * 2.0 ** min(failures, 16), self.stages.probe_s)

    def _pause_at_full(self, pool: Bucket, failures: int) -> float:
        """The same of a pool that refused nothing, but is used up: nobody is turned away meanwhile."""
        if pool.lasts_s:
            return pool.lasts_s
        longest = max(LONGEST_PROBE_S, self.stages.probe_s)
        return min(self.stages.probe_s * 2.0 ** min(failures, 16), longest)

    def _pool(self, name: BucketName) -> Bucket:
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = Bucket()
            if len(self._pools) > self.PLACES:
                self._tight.discard(self._pools.popitem(last=False)[0])
        self._pools.move_to_end(name)
        return pool


def _row(name: BucketName, pool: Bucket, now: float) -> dict[str, Any]:
    regain = pool.regain_s(now)
    return {
        "kind": name.kind,
        "id": name.id or name.owner.hex()[:12] or "shared",
        "type": name.type,
        "percent": round(pool.used(now), 2),
        "trend_per_min": round(pool.trend_per_min(now), 2),
        "regain_s": None if regain is None else round(regain, 1),
        "age_s": round(now - pool.reported_at, 1) if pool.reported_at > -math.inf else 0.0,
    }
