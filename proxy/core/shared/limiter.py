"""The limiter of a replica that shares: what Graph tells one replica about limits, all replicas know."""

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
from proxy.core.quota.retry_after import LONGEST_REFUSAL
from proxy.core.quota.usage_headers import usage_in
from proxy.core.shared.records import LimitReport, Reopened

SENT_EVERY_S = 0.25
"""The shortest time between two records of one replica about the same limits."""

MOST_SUBJECTS = 1024


class SharedLimiter(Limiter):
    """`Limiter` for one of several replicas; `send` sends a record to the others."""

    def __init__(self, stages: Stages, *, shared: bool = False, generation: Generation | None = None) -> None:
        """As `Limiter`; no record is sent before `send` is set."""
        super().__init__(stages, shared=shared, generation=generation)
        self.send: Callable[[LimitReport | Reopened], None] = lambda _record: None
        self._sent = Recent[tuple[bytes, str], tuple[float, Headers, int]](MOST_SUBJECTS)

    def on_reply(
        self, subject: QuotaSubject, reply: Reply, now: float, probes: tuple[BucketName, ...] = ()
    ) -> LimitChanges:
        """As `Limiter.on_reply`."""
        changes = super().on_reply(subject, reply, now, probes)
        error = throttle(reply)
        self._share(subject, usage_in(reply.headers), now, reply if error is not None else None)
        if probes and error is None and reply.status < 500:
            self.send(Reopened(tuple((name.kind, name.owner, name.id, name.type) for name in probes)))
        return changes

    def on_usage_of_reply(self, subject: QuotaSubject, usage: Headers, now: float) -> LimitChanges:
        """As `Limiter.on_usage_of_reply`."""
        changes = super().on_usage_of_reply(subject, usage, now)
        self._share(subject, usage, now, None)
        return changes

    def on_usage(self, subject: QuotaSubject, fields: Headers, now: float) -> None:
        """As `Limiter.on_usage`."""
        super().on_usage(subject, fields, now)
        self._share(subject, usage_in(fields), now, None)

    def _share(self, subject: QuotaSubject, usage: Headers, now: float, refusal: Reply | None) -> None:
        if not usage and refusal is None:
            return
        key = (subject.fingerprint, subject.path if refusal is not None or len(usage) > 1 else "")
        sent_at, sent_usage, status = self._sent.get(key) or (-math.inf, (), 0)
        new_status = refusal.status if refusal is not None else 0
        is_news = (usage != sent_usage) or (refusal is not None and status != new_status)
        if now - sent_at < (SENT_EVERY_S if is_news else 60.0 * SENT_EVERY_S if refusal is None else 4 * SENT_EVERY_S):
            return
        if not is_news and refusal is None:
            return
        self._sent.put(key, (now, usage, new_status))
        body = refusal.body if refusal is not None and len(refusal.body) <= LONGEST_REFUSAL else b""
        if refusal is not None and not body:
            return
        fields = usage if refusal is None else (*usage, *_retry_after(refusal.headers))
        self.send(LimitReport(subject.fingerprint, subject.path, subject.query, new_status or 200, fields, body))

    def pace(self, subject: QuotaSubject, now: float) -> list[tuple[str, float]]:
        """Returns the limits for which low-priority reads of *subject* wait, with the seconds from one to the next."""
        names = self.descriptors.bucket_names(subject)
        contended = self.buckets.contended(names, now, is_contested=self._is_contested(subject, now))
        found = [(name, bucket.interval_s(self.stages, now)) for name, bucket in contended]
        return list(zip(limit_names(name for name, _ in found), (each for _, each in found), strict=True))

    def apply(self, report: LimitReport, now: float) -> None:
        """Learn what Graph told another replica at *now*."""
        subject = QuotaSubject(report.who, report.path, report.query)
        if report.body:
            super().on_reply(subject, Reply(report.status, report.headers, report.body), now)
        else:
            super().on_usage(subject, report.headers, now)

    def reopen(self, reopened: Reopened, now: float) -> None:
        """End the stops of these limits: Graph answered another replica's probe."""
        for each in reopened.limits:
            self.buckets.on_probe(BucketName(*each), None, now)


def limit_names(probes: Iterable[BucketName]) -> list[str]:
    """Returns the names under which replicas claim the probes of these limits."""
    return [f"{name.kind}\0{name.owner.hex()}\0{name.id}\0{name.type}" for name in probes]


def _retry_after(fields: Headers) -> Headers:
    return tuple(field for field in fields if field[0].lower() == "retry-after")
