"""Spares the quota: what has time waits its turn, a stopped pool is left alone, and every answer is listened to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.core.batching import Call
from proxy.core.errors import Throttled
from proxy.core.keys import Keys
from proxy.core.messages import Credential, Reply, Request
from proxy.core.pools import Name
from proxy.core.quota import Asker, Go, Halt, News, Quota, Wait
from proxy.shell import Layer
from proxy.shell.batcher import Upstream
from proxy.shell.upstream import Left

_log = logging.getLogger("graph_sidecar.quota")


class Witness(Protocol):
    """Who is told what the governor did."""

    def paced(self, seconds: float, pool: str) -> None:
        """A read that has time waited so many seconds for the sake of a *pool* of this sort."""

    def stopped(self, pool: str) -> None:
        """Graph's refusal stopped a *pool* of this sort."""


@dataclass(eq=False, slots=True)
class _Patient:
    """A read that waits its turn; when *urged* it goes at once."""

    woken: asyncio.Event
    urged: bool = False


class Governor:
    """A layer, between what is held and what is asked."""

    def __init__(
        self,
        onward: Layer,
        *,
        quota: Quota,
        keys: Keys,
        witness: Witness,
        now: Callable[[], float],
    ) -> None:
        """Ask *onward* as *quota* decides; *now* gives epoch seconds."""
        self._onward = onward
        self._quota = quota
        self._keys = keys
        self._witness = witness
        self._now = now
        self._patient: dict[Hashable, set[_Patient]] = {}

    async def __call__(self, request: Request) -> Reply:
        """Answer *request*. Raises Throttled, and what the next layer raises."""
        asker, now = Asker(self._keys.fingerprint(request.credential), request.path, request.query), self._now()
        verdict = self._quota.admit(asker, request.priority, now)
        if isinstance(verdict, Wait):
            verdict = await self._turn(request, asker, verdict, now + self._quota.stages.longest_wait_s)
        if isinstance(verdict, Halt):
            raise Throttled(verdict.reply)
        return await self._ask(request, asker, verdict)

    def urge(self, request: Request) -> None:
        """Somebody who has no time waits for the twin of *request* now: let it go."""
        for patient in self._patient.get(self._keys.flight(request), ()):
            patient.urged = True
            patient.woken.set()

    def heard(self, who: Credential, reply: Reply, path: str = "/", query: str = "") -> None:
        """Take what Graph's *reply* to *who* says of limits, which came by another way than through here."""
        self._tell(self._quota.heard(Asker(self._keys.fingerprint(who), path, query), reply, self._now()))

    async def _ask(self, request: Request, asker: Asker, go: Go) -> Reply:
        try:
            reply = await self._onward(request)
        except BaseException as error:
            # What failed for its own reasons tells nothing, so the next probe waits; a caller that left does not count.
            again_s = 0.0 if isinstance(error, asyncio.CancelledError) else self._quota.stages.probe_s
            self._quota.unheard(go.probes, self._now(), again_s=again_s)
            raise
        self._tell(self._quota.heard(asker, reply, self._now(), go.probes))
        return reply

    async def _turn(self, request: Request, asker: Asker, wait: Wait, end: float) -> Go | Halt:
        """Wait until it is this read's turn, at the latest until *end*; what is decided by then."""
        while True:
            is_over = await self._wait(request, min(wait.seconds, end - self._now()), wait.pool)
            has_waited = is_over or self._now() >= end
            verdict = self._quota.admit(asker, request.priority, self._now(), has_waited=has_waited)
            if not isinstance(verdict, Wait):
                return verdict
            wait = verdict

    async def _wait(self, request: Request, seconds: float, pool: str) -> bool:
        """Wait so long, or until urged; False if woken earlier, because a pool came to another stage."""
        key, patient, began = self._keys.flight(request), _Patient(asyncio.Event()), self._now()
        self._patient.setdefault(key, set()).add(patient)
        try:
            async with asyncio.timeout(seconds):
                await patient.woken.wait()
        except TimeoutError:
            return True
        finally:
            self._patient[key].discard(patient)
            if not self._patient[key]:
                del self._patient[key]
            self._witness.paced(self._now() - began, pool)
        return patient.urged

    def _tell(self, news: News) -> None:
        for name in news.stopped:
            self._witness.stopped(name.label)
            _log.warning("a limit of Graph's is reached: %s; it is left alone until there is allowance", _told(name))
        if news.moved:
            for patients in self._patient.values():
                for patient in patients:
                    patient.woken.set()


class Listening:
    """The way to Graph for the batcher; what a batch's own reply says of limits is of the token on top."""

    def __init__(self, upstream: Upstream, heard: Callable[[Credential, Reply], None]) -> None:
        """Ask *upstream*, and let *heard* take the replies to batches."""
        self._upstream = upstream
        self._heard = heard
        self.single = upstream.single

    async def batch(self, requests: Sequence[Request], top: Credential, left: Left) -> Reply | Call:
        """Graph's answer to a batch. Raises Unreachable."""
        answer = await self._upstream.batch(requests, top, left)
        if isinstance(answer, Reply):
            self._heard(top, answer)
        return answer


def _told(name: Name) -> str:
    return f"{name.label} {name.id or name.owner.hex()[:12]}".rstrip()
