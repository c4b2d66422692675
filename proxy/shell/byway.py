"""Reads that go to Graph by another way than through the governor: they wait for nobody, but prolong no block either.

Those are what passes through, and what rides in a batch of the application's own. A pool that Graph has stopped is left
alone by them as well; the one that may probe it tells what it heard, or that it heard nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from proxy.core.draws import Asker
from proxy.core.errors import Throttled
from proxy.core.keys import Keys
from proxy.core.messages import Credential, Reply
from proxy.core.pools import Name
from proxy.core.quota import Go, Halt, Quota

Probes = tuple[Name, ...]
"""The stopped pools for whose sake a read is asked."""

_FIRST = 0
"""The priority of what waits for nobody."""


class Heard(Protocol):
    """Who listens to what Graph says of limits."""

    def __call__(
        self, who: Credential | None, reply: Reply, path: str = "/", query: str = "", probes: Probes = ()
    ) -> None:
        """Graph's *reply* to *who*, about *path* and *query*, also for the sake of *probes*."""


@dataclass(slots=True)
class Passing:
    """A read on its way, and how it *ended*."""

    status: int = 0

    def ended(self, status: int) -> None:
        """Graph answered it with *status*."""
        self.status = status


@dataclass(frozen=True, slots=True)
class Byway:
    """Asks the quota for them."""

    quota: Quota
    keys: Keys
    now: Callable[[], float]
    heard: Heard

    def admit(self, who: Credential | None, path: str, query: str) -> Probes:
        """Let a read of *who* go now; of what it probes somebody has to hear. Raises Throttled."""
        asker = Asker(self.keys.fingerprint(who), path, query)
        verdict = self.quota.admit(asker, _FIRST, self.now(), has_waited=True)
        if isinstance(verdict, Halt):
            raise Throttled(verdict.reply)
        return verdict.probes if isinstance(verdict, Go) else ()

    @contextmanager
    def passing(self, who: Credential | None, path: str, query: str) -> Iterator[Passing]:
        """Let a read go whose answer nobody here looks at: a good status tells of what it probes. Raises Throttled."""
        probes, passing = self.admit(who, path, query), Passing()
        try:
            yield passing
        finally:
            if probes and 0 < passing.status < 400:
                self.heard(who, Reply(passing.status, (), b""), path, query, probes)
            elif probes:
                self.unheard(probes)

    def unheard(self, probes: Probes) -> None:
        """A read that was to probe these told nothing of them."""
        self.quota.unheard(probes, self.now(), again_s=self.quota.stages.probe_s)
