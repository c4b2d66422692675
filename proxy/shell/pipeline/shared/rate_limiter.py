"""The rate limiter of a replica that shares: one probe in the fleet, and one pace for low-priority reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypedDict, Unpack

from proxy.core.cache.key import Keys
from proxy.core.http.errors import Throttled
from proxy.core.model import Reply, Request
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.ledger import RequestCost
from proxy.core.quota.limiter import GO, Go, Halt
from proxy.core.shared.limiter import SharedLimiter, limit_names
from proxy.shell import Layer
from proxy.shell.pipeline.rate_limiter import RateLimiter, RateLimiterObserver, _PacedRead


class FleetLimits(Protocol):
    """The other replicas."""

    async def may_probe(self, limits: list[str], seconds: float) -> bool:
        """Return whether this replica may probe all of *limits*, for so many *seconds*."""

    def probed(self, limits: list[str]) -> None:
        """Record that the probe of *limits* has ended: another replica may probe them."""

    async def ticket(self, limit: str, interval_s: float) -> float:
        """Return the seconds until a low-priority read may use *limit*: the fleet sends one each *interval_s*."""


class RateLimiterOptions(TypedDict):
    """The keyword arguments of `RateLimiter`, but for its limiter."""

    keys: Keys
    observer: RateLimiterObserver
    now: Callable[[], float]


class SharedRateLimiter(RateLimiter):
    """A pipeline layer: `RateLimiter` for one of several replicas."""

    def __init__(
        self,
        onward: Layer,
        *,
        quota: SharedLimiter,
        fleet: FleetLimits,
        probe_s: float,
        **options: Unpack[RateLimiterOptions],
    ) -> None:
        """As `RateLimiter`; *fleet* says which replica probes, for *probe_s* at most, and which sends the next read."""
        super().__init__(onward, quota=quota, **options)
        self._shared_quota = quota
        self._fleet = fleet
        self._probe_s = probe_s

    async def _go(self, request: Request, cost: RequestCost | None, subject: QuotaSubject, verdict: Go | Halt) -> Reply:
        if isinstance(verdict, Halt):
            raise Throttled(verdict.reply)
        if verdict.probes and not request.after_refusal:
            return await self._probe(request, cost, subject, verdict)
        if request.is_low_priority:
            await self._take_turn(request, subject)
        return await super()._go(request, cost, subject, verdict)

    async def _probe(self, request: Request, cost: RequestCost | None, subject: QuotaSubject, verdict: Go) -> Reply:
        """Send the probe, unless another replica does; then act as if no probe were due."""
        limits = limit_names(verdict.probes)
        if await self._fleet.may_probe(limits, self._probe_s):
            try:
                return await super()._go(request, cost, subject, verdict)
            finally:
                self._fleet.probed(limits)
        now = self._now()
        self._quota.on_no_reply(verdict.probes, now)
        again = self._quota.admit(subject, request.priority, now, has_waited=True)
        return await super()._go(request, cost, subject, again if isinstance(again, Halt) else GO)

    async def _take_turn(self, request: Request, subject: QuotaSubject) -> None:
        """Wait until this read is the next in the fleet, for `longest_wait_s` at most."""
        waiting, end = _PacedRead(), self._now() + self._quota.stages.longest_wait_s
        with self._promotable(request, waiting):
            for limit, interval_s in self._shared_quota.pace(subject, self._now()):
                while not waiting.is_promoted and (wait_s := await self._fleet.ticket(limit, interval_s)) > 0:
                    left = end - self._now()
                    if left <= 0:
                        return
                    try:
                        async with asyncio.timeout(min(wait_s, left)):
                            await waiting.woken.wait()
                    except TimeoutError:
                        pass
