"""All rate limits by name: the level that Graph reported for each, and which of them are stopped (`stop`)."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

from proxy.core.cache.generation import Generation
from proxy.core.quota.bucket import Bucket, Stage, Stages
from proxy.core.quota.stop import (
    LONGEST_NAMED_S,
    LimitRefusal,
    Stop,
    pause_after_refusals,
    pause_at_full,
    stop_after_refusal,
)
from proxy.core.quota.usage_headers import FORGOTTEN_S, USES, UsageLevel


class BucketName(NamedTuple):
    """The identity of one limit; *owner* is the token's fingerprint, empty where all tokens share one app."""

    kind: str
    owner: bytes
    id: str
    type: str

    @property
    def label(self) -> str:
        """The kind of limit as a metric label: `app`, `account/ads_insights`; unknown use cases are `other`."""
        if not self.type:
            return self.kind
        return f"{self.kind}/{self.type if self.type in USES else 'other'}"


class Buckets:
    """The limits that Graph has reported, a bounded number of them; those reported longest ago are forgotten."""

    CAPACITY = 4096

    def __init__(self, stages: Stages, generation: Generation | None = None) -> None:
        """Start empty, with the thresholds in *stages*; *generation* advances when a limit is no longer calm."""
        self.stages = stages
        self._generation = generation or Generation()
        self._buckets: OrderedDict[BucketName, Bucket] = OrderedDict()
        self._not_calm: set[BucketName] = set()  # those above calm; while this is empty, no read looks any limit up

    @property
    def are_calm(self) -> bool:
        """Whether every limit is calm."""
        return not self._not_calm

    def tight(self, names: Iterable[BucketName]) -> list[Bucket]:
        """Returns the buckets among *names* that are above calm."""
        return [self._buckets[name] for name in names if name in self._not_calm]

    def record(self, name: BucketName, level: UsageLevel, calls: int, now: float) -> bool:
        """Record the *level* that Graph reported at *now* after *calls*; returns whether the stage became calmer."""
        bucket = self._bucket(name)
        before = self.stage(bucket, now) if name in self._not_calm else Stage.CALM
        bucket.record(level.percent, min(level.regain_s, LONGEST_NAMED_S), calls, now)
        self._stop_by_percent(bucket, now)
        after = self.stage(bucket, now)
        if after is Stage.CALM:
            self._not_calm.discard(name)
        else:
            self._mark_not_calm(name)
        return after < before

    def stage(self, bucket: Bucket, now: float) -> Stage:
        """Returns the stage of *bucket*: a stop needs actual use, the other stages predicted use."""
        if bucket.stop is not None:
            return Stage.STOP
        return max(
            self.stages.at(bucket.used(now)), min(self.stages.at(self._predicted_percent(bucket, now)), Stage.SPARE)
        )

    def contended(
        self, names: Iterable[BucketName], now: float, *, is_contested: bool
    ) -> list[tuple[BucketName, Bucket]]:
        """Returns the limits among *names* for which a low-priority read may have to wait.

        These are the limits from *spare_pct* on. If *is_contested* (urgent reads came lately under the same limits),
        limits that are predicted to get there count too: a low-priority read makes way for urgent ones only.
        """
        tight = [(name, self._buckets[name]) for name in names if name in self._not_calm]
        return [(name, bucket) for name, bucket in tight if self._is_contended(bucket, now, is_contested=is_contested)]

    def _is_contended(self, bucket: Bucket, now: float, *, is_contested: bool) -> bool:
        used, foreseen = bucket.used(now), self._predicted_percent(bucket, now)
        if bucket.stop is not None or self.stages.at(used) >= Stage.SPARE:
            return True
        return is_contested and foreseen > used and self.stages.at(foreseen) >= Stage.WATCH

    def note_low_priority(self, names: Iterable[BucketName], now: float) -> None:
        """Record that a low-priority read came under the limits in *names*."""
        for name in names:
            if (bucket := self._buckets.get(name)) is not None:
                bucket.low_priority_at = now

    def _predicted_percent(self, bucket: Bucket, now: float) -> float:
        """Returns the percent predicted *foresight_s* ahead; the current one where no low-priority read came lately."""
        seconds = self.stages.foresight_s
        return bucket.used_in(seconds, now) if now - bucket.low_priority_at < seconds else bucket.used(now)

    def _stop_by_percent(self, bucket: Bucket, now: float) -> None:
        """Stop a bucket at 100 % although Graph has refused nothing; a stop after a refusal is left as it is."""
        is_used_up, stop = self.stages.at(bucket.used(now)) is Stage.STOP, bucket.stop
        if stop is None or stop.error is None:
            failures = stop.failures if stop else 0
            bucket.stop = self._stop_at_full(bucket, failures, now) if is_used_up else None
        elif is_used_up and bucket.reported_regain_s:
            stop.until, stop.is_named = now + bucket.reported_regain_s, True

    def stop(self, name: BucketName, refusal: LimitRefusal, now: float) -> bool:
        """Stop the limit that Graph refused a read for; returns whether it was not stopped by a refusal before."""
        bucket = self._bucket(name)
        self._mark_not_calm(name)
        if bucket.stop is not None and bucket.stop.error is not None:  # this read had left before the stop
            again = self._new_stop(name, bucket, refusal, bucket.stop.failures, now)
            bucket.stop.error = refusal.reply
            if again.is_named:
                bucket.stop.until, bucket.stop.is_named = again.until, True
            return False
        bucket.stop = self._new_stop(name, bucket, refusal, 0, now)
        return True

    def on_probe(self, name: BucketName, refusal: LimitRefusal | None, now: float) -> None:
        """Record the outcome of a probe: refused again (the stop goes on), or answered (*refusal* None: it ends)."""
        bucket = self._bucket(name)
        if bucket.stop is None:
            return
        if refusal is not None:
            bucket.stop = self._stop_after_probe(name, bucket, bucket.stop, refusal, now)
        elif (
            self.stages.at(bucket.used(now)) is Stage.STOP and bucket.reported_at == now
        ):  # answered, and still at 100 %
            bucket.stop = self._stop_at_full(bucket, bucket.stop.failures + 1, now)
        else:
            bucket.stop = None

    def on_probe_lost(self, name: BucketName, now: float, *, at_once: bool) -> None:
        """Record that a probe got no usable answer: the next is sent *at_once*, or after the same pause again."""
        stop = self._bucket(name).stop
        if stop is None:
            return
        stop.is_probed = False
        if not at_once and now >= stop.until:
            stop.until, stop.is_named = now + pause_after_refusals(stop.failures, self.stages.probe_s), False

    def pressure(self, names: Iterable[BucketName], now: float) -> float:
        """Returns the predicted scarcity of the scarcest of *names*: 0 up to *watch_pct*, 1 where nothing is sent."""
        most, room = 0.0, self.stages.stop_pct - self.stages.watch_pct
        for bucket in self.tight(names):
            if bucket.stop is not None and not bucket.stop.is_due(now):
                return 1.0
            most = max(most, (self._predicted_percent(bucket, now) - self.stages.watch_pct) / room)
        return min(most, 0.99)

    def stats_rows(self, now: float) -> list[dict[str, Any]]:
        """Returns the `usage` rows of `/stats`: no outdated limits, one row for an account under several tokens."""
        rows: dict[tuple[str, str, str], tuple[Stage, float, dict[str, Any]]] = {}
        for name, bucket in self._buckets.items():
            row, stage = _row(name, bucket, now), self.stage(bucket, now)
            if not row["percent"] and stage is Stage.CALM and now - bucket.reported_at >= FORGOTTEN_S:
                continue
            key, candidate = (name.kind, row["id"], name.type), (stage, bucket.used(now), row)
            row |= {"stage": stage.name.lower(), **self._foreseen(bucket, stage, now)}
            if key not in rows or rows[key][:2] < candidate[:2]:
                rows[key] = candidate
        return [row for _, _, row in rows.values()]

    def _foreseen(self, bucket: Bucket, stage: Stage, now: float) -> dict[str, float | None]:
        """Returns the percentage for whose sake *bucket* is in *stage* before it is used, and in how many seconds.

        Both are None if the stage is that of the present use.
        """
        percent = self.stages.begins_at(stage)
        if bucket.stop is not None or bucket.used(now) >= percent:
            return {"foreseen_percent": None, "foreseen_in_s": None}
        seconds = bucket.reaches_in_s(percent, now)
        return {"foreseen_percent": percent, "foreseen_in_s": None if seconds is None else round(seconds, 1)}

    def _new_stop(self, name: BucketName, bucket: Bucket, refusal: LimitRefusal, failures: int, now: float) -> Stop:
        """Returns a stop for the time that Graph named, or else for the pause after so many *failures*."""
        named_s = refusal.regain_s or self._regain_s(name, bucket, now)
        return stop_after_refusal(refusal, named_s, failures, self.stages.probe_s, now)

    def _stop_after_probe(
        self, name: BucketName, bucket: Bucket, stop: Stop, refusal: LimitRefusal, now: float
    ) -> Stop:
        """Returns the stop after a refused probe; the early retry of a caller does not make the pause longer."""
        is_early = now < stop.until
        again = self._new_stop(name, bucket, refusal, stop.failures + (not is_early), now)
        if is_early and not again.is_named:
            again.until = stop.until
        return again

    def _regain_s(self, name: BucketName, bucket: Bucket, now: float) -> float:
        """Returns the seconds until the time that Graph reported; an account's reset time counts only at 100 %."""
        counts = bucket.reported_regain_s and (name.type or self.stages.at(bucket.used(now)) is Stage.STOP)
        return max(0.0, bucket.reported_at + bucket.reported_regain_s - now) if counts else 0.0

    def _stop_at_full(self, bucket: Bucket, failures: int, now: float) -> Stop:
        return Stop(now + pause_at_full(bucket.reported_regain_s, failures, self.stages.probe_s), None, failures)

    def _mark_not_calm(self, name: BucketName) -> None:
        if not self._not_calm:
            self._generation.advance()
        self._not_calm.add(name)

    def _bucket(self, name: BucketName) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket()
            if len(self._buckets) > self.CAPACITY:
                self._not_calm.discard(self._buckets.popitem(last=False)[0])
        self._buckets.move_to_end(name)
        return bucket


def _row(name: BucketName, bucket: Bucket, now: float) -> dict[str, Any]:
    regain = bucket.regain_s(now)
    return {
        "kind": name.kind,
        "id": name.id or name.owner.hex()[:12] or "shared",
        "type": name.type,
        "percent": round(bucket.used(now), 2),
        "trend_per_min": round(bucket.trend_per_min(now), 2),
        "regain_s": None if regain is None else round(regain, 1),
        "regain_named": regain is not None and (bucket.stop is None or bucket.stop.is_named),
        "age_s": round(now - bucket.reported_at, 1) if bucket.reported_at > -math.inf else 0.0,
    }
