"""Admits reads that do not pass through the rate limiter's layer: they never queue, but respect stopped limits.

These are reads in passed-through messages and in the application's own batches. While Graph has stopped a limit they
are refused like any read; a read that is admitted as a probe of the limit reports its reply, or that none came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from proxy.core.cache.key import Keys
from proxy.core.http.errors import Throttled
from proxy.core.model import Credential, Reply
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.limiter import Go, Halt, Limiter

Probes = tuple[BucketName, ...]
"""The stopped buckets that a read probes."""

_FIRST = 0
"""The priority of reads that never wait."""

_REFUSED = 400
"""The lowest status of a response, whose body is not read, that may be a refusal for a limit."""


class LimitObserver(Protocol):
    """Called with each reply of Graph, to learn about limits from it."""

    def __call__(
        self, who: Credential | None, reply: Reply, path: str = "/", query: str = "", probes: Probes = ()
    ) -> None:
        """Learn from Graph's *reply* to *who* about *path* and *query*, which also answers *probes*."""


@dataclass(slots=True)
class PassingRead:
    """A passed-through read, and the status of its response (0 until there is one)."""

    status: int = 0

    def on_response(self, status: int) -> None:
        """Note the *status* of Graph's response."""
        self.status = status


@dataclass(frozen=True, slots=True)
class LimiterBypass:
    """Asks the limiter on behalf of reads outside the rate limiter's layer."""

    quota: Limiter
    keys: Keys
    now: Callable[[], float]
    on_reply: LimitObserver

    def subject(self, who: Credential | None, path: str, query: str) -> QuotaSubject:
        """Return the quota subject of a read by *who*."""
        return QuotaSubject(self.keys.fingerprint(who), path, query)

    @property
    def has_refused(self) -> bool:
        """Whether any caller got a refusal for a limit lately."""
        return self.quota.has_refused

    def is_after_refusal(self, subject: QuotaSubject) -> bool:
        """Whether the last reply to *subject* was a refusal for a limit."""
        return self.quota.comes_after_refusal(subject)

    def on_delivered_reply(self, subject: QuotaSubject, reply: Reply) -> None:
        """Note whether *reply*, which *subject* gets, is a refusal for a limit."""
        self.quota.on_delivered_reply(subject, reply, self.now())

    def admit(self, subject: QuotaSubject, *, after_refusal: bool = False) -> Probes:
        """Admit a read and return the buckets that it probes, whose outcome must be reported. Raises Throttled.

        A caller that comes *after_refusal* is let through, unless Graph has named a time.
        """
        after_refusal = after_refusal or self.is_after_refusal(subject)
        verdict = self.quota.admit(subject, _FIRST, self.now(), has_waited=True, after_refusal=after_refusal)
        if isinstance(verdict, Halt):
            raise Throttled(verdict.reply)
        return verdict.probes if isinstance(verdict, Go) else ()

    @contextmanager
    def passing(self, who: Credential | None, path: str, query: str) -> Iterator[PassingRead]:
        """Admit a passed-through read; a good status reports success of its probes. Raises Throttled.

        An error status may be a refusal for a limit, so it marks the caller as refused.
        """
        subject, passing = self.subject(who, path, query), PassingRead()
        try:
            probes = self.admit(subject)
        except Throttled:
            self.quota.on_delivered(subject, self.now(), is_refused=True)
            raise
        try:
            yield passing
        finally:
            if passing.status:
                self.quota.on_delivered(subject, self.now(), is_refused=passing.status >= _REFUSED)
            if probes and 0 < passing.status < _REFUSED:
                self.on_reply(who, Reply(passing.status, (), b""), path, query, probes)
            elif probes:
                self.on_no_reply(probes)

    def on_no_reply(self, probes: Probes) -> None:
        """Note that the read that probed these buckets got no reply that says anything about them."""
        self.quota.on_no_reply(probes, self.now())
