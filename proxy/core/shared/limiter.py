"""The limiter of a replica that shares: it tells the others what Graph tells it of limits, and takes what they tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from proxy.core.cache.generation import Generation
from proxy.core.memory.memo import Recent
from proxy.core.model import Headers, Reply
from proxy.core.quota.bucket import Stages
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.limiter import LimitChanges, Limiter, throttle
from proxy.core.quota.usage_headers import usage_in
from proxy.core.shared.records import Heard, Reopened

EACH_S = 0.25
"""Seconds from one record of the same limits to the next, of each replica."""

LONGEST_BODY = 8192
SUBJECTS = 1024


class SharedLimiter(Limiter):
    """As `Limiter`; *tell* takes what others should know."""

    def __init__(self, stages: Stages, *, shared: bool = False, generation: Generation | None = None) -> None:
        """Decide by *stages*; *shared*: all tokens are of one app. Tell nobody yet."""
        super().__init__(stages, shared=shared, generation=generation)
        self.tell: Callable[[Heard | Reopened], None] = lambda _what: None
        self._told = Recent[tuple[bytes, str], tuple[float, Headers, int]](SUBJECTS)

    def on_reply(
        self, subject: QuotaSubject, reply: Reply, now: float, probes: tuple[BucketName, ...] = ()
    ) -> LimitChanges:
        """As `Limiter.on_reply`."""
        changes = super().on_reply(subject, reply, now, probes)
        error = throttle(reply)
        self._share(subject, usage_in(reply.headers), now, reply if error is not None else None)
        if probes and error is None and reply.status < 500:
            self.tell(Reopened(tuple((name.kind, name.owner, name.id, name.type) for name in probes)))
        return changes

    def on_usage(self, subject: QuotaSubject, fields: Headers, now: float) -> None:
        """As `Limiter.on_usage`."""
        super().on_usage(subject, fields, now)
        self._share(subject, usage_in(fields), now, None)

    def _share(self, subject: QuotaSubject, usage: Headers, now: float, refusal: Reply | None) -> None:
        if not usage and refusal is None:
            return
        key = (subject.fingerprint, subject.path if refusal is not None or len(usage) > 1 else "")
        told_at, told, status = self._told.get(key) or (-math.inf, (), 0)
        new_status = refusal.status if refusal is not None else 0
        is_news = (usage != told) or (refusal is not None and status != new_status)
        if now - told_at < (EACH_S if is_news else 60.0 * EACH_S if refusal is None else 4 * EACH_S):
            return
        if not is_news and refusal is None:
            return
        self._told.put(key, (now, usage, new_status))
        body = refusal.body if refusal is not None and len(refusal.body) <= LONGEST_BODY else b""
        if refusal is not None and not body:
            return
        fields = usage if refusal is None else (*usage, *_retry_after(refusal.headers))
        self.tell(Heard(subject.fingerprint, subject.path, subject.query, new_status or 200, fields, body))

    def pace(self, subject: QuotaSubject, now: float) -> list[tuple[str, float]]:
        """The limits for whose sake reads of *subject* that have time wait, and seconds from one read to the next."""
        names = self.descriptors.bucket_names(subject)
        spared = self.buckets.contended(names, now, is_contested=self._is_contested(subject, now))
        found = [(name, bucket.interval_s(self.stages, now)) for name, bucket in spared]
        return list(zip(limit_names(name for name, _ in found), (each for _, each in found), strict=True))

    def apply(self, what: Heard, now: float) -> None:
        """Take what Graph told another replica at *now*."""
        subject = QuotaSubject(what.who, what.path, what.query)
        if what.body:
            super().on_reply(subject, Reply(what.status, what.headers, what.body), now)
        else:
            super().on_usage(subject, what.headers, now)

    def reopen(self, what: Reopened, now: float) -> None:
        """Another replica's probe of these limits was answered."""
        for each in what.limits:
            self.buckets.on_probe(BucketName(*each), None, now)


def limit_names(probes: Iterable[BucketName]) -> list[str]:
    """The names by which replicas claim the probes of these limits."""
    return [f"{name.kind}\0{name.owner.hex()}\0{name.id}\0{name.type}" for name in probes]


def _retry_after(fields: Headers) -> Headers:
    return tuple(field for field in fields if field[0].lower() == "retry-after")
