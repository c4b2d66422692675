"""Reads that go to Graph by another way than through the governor: they wait for nobody, but prolong no block either.

Those are what passes through, and what rides in a batch of the application's own. A pool that Graph has stopped is left
alone by them as well; the one that may probe it tells what it heard, or that it heard nothing.
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
"""The stopped pools for whose sake a read is asked."""

_FIRST = 0
"""The priority of what waits for nobody."""

_REFUSED = 400
"""The status from which on an answer that nobody here looks at may be a refusal for a limit."""


class LimitObserver(Protocol):
    """Who listens to what Graph says of limits."""

    def __call__(
        self, who: Credential | None, reply: Reply, path: str = "/", query: str = "", probes: Probes = ()
    ) -> None:
        """Graph's *reply* to *who*, about *path* and *query*, also for the sake of *probes*."""


@dataclass(slots=True)
class PassingRead:
    """A read on its way, and how it *ended*."""

    status: int = 0

    def on_response(self, status: int) -> None:
        """Graph answered it with *status*."""
        self.status = status


@dataclass(frozen=True, slots=True)
class LimiterBypass:
    """Asks the quota for them."""

    quota: Limiter
    keys: Keys
    now: Callable[[], float]
    on_reply: LimitObserver

    def subject(self, who: Credential | None, path: str, query: str) -> QuotaSubject:
        """*who*, asking for this."""
        return QuotaSubject(self.keys.fingerprint(who), path, query)

    @property
    def has_refused(self) -> bool:
        """Whether anybody was told of a refusal for a limit lately."""
        return self.quota.has_refused

    def is_after_refusal(self, subject: QuotaSubject) -> bool:
        """Whether *subject* was last told of a refusal for a limit."""
        return self.quota.comes_after_refusal(subject)

    def on_delivered_reply(self, subject: QuotaSubject, reply: Reply) -> None:
        """Note whether *reply*, which *subject* gets, is a refusal for a limit."""
        self.quota.on_delivered_reply(subject, reply, self.now())

    def admit(self, subject: QuotaSubject, *, after_refusal: bool = False) -> Probes:
        """Let a read go now; of what it probes somebody has to hear. Raises Throttled.

        A caller that *after_refusal* after a refusal is let through, unless Graph named a time.
        """
        after_refusal = after_refusal or self.is_after_refusal(subject)
        verdict = self.quota.admit(subject, _FIRST, self.now(), has_waited=True, after_refusal=after_refusal)
        if isinstance(verdict, Halt):
            raise Throttled(verdict.reply)
        return verdict.probes if isinstance(verdict, Go) else ()

    @contextmanager
    def passing(self, who: Credential | None, path: str, query: str) -> Iterator[PassingRead]:
        """Let a read go whose answer nobody here looks at: a good status tells of what it probes. Raises Throttled.

        A bad one may be a refusal for a limit, so its caller may come back.
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
        """A read that was to probe these told nothing of them."""
        self.quota.on_no_reply(probes, self.now())
