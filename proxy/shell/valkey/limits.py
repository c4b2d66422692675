"""Graph's limits, shared by the replicas: one probe in the fleet, and one pace for low-priority reads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from redis.exceptions import ResponseError

from proxy.core.shared.wire import KeyNames
from proxy.shell.valkey import scripts
from proxy.shell.valkey.client import Client
from proxy.shell.valkey.link import Away

LONGEST_S = 60.0
"""The most seconds between two low-priority reads; no read waits longer."""


PLACES = 4096
"""The most limits whose next turn is remembered."""


@dataclass(eq=False, slots=True)
class SharedLimits:
    """Turns of probes and low-priority reads, from the store; without it, slower the more replicas there were."""

    client: Client
    names: KeyNames
    replica: bytes
    replicas: Callable[[], int]  # that were seen last
    probes: int = 0
    probes_left: int = 0  # to other replicas
    paced: int = 0
    _next_at: dict[str, float] = field(default_factory=dict)

    async def may_probe(self, limits: Sequence[str], seconds: float) -> bool:
        """Return whether this replica may probe all of *limits*, for so many *seconds*."""
        claim = [(b"SET", self.names.probe(each), self.replica, b"NX", b"PX", _ms(seconds), b"GET") for each in limits]
        try:
            held = await self.client.ask(*claim)
        except Away:
            return True
        if all(each is None or each == self.replica or isinstance(each, ResponseError) for each in held):
            self.probes += 1
            return True
        self.probes_left += 1
        mine = [
            scripts.release(self.names.probe(limit), self.replica)
            for limit, each in zip(limits, held, strict=True)
            if each is None
        ]
        if mine:
            self.client.ask(*mine).add_done_callback(lambda done: done.cancelled() or done.exception())
        return False

    def probed(self, limits: Sequence[str]) -> None:
        """Record that the probe of *limits* has ended: another replica may probe them."""
        releases = [scripts.release(self.names.probe(each), self.replica) for each in limits]
        self.client.ask(*releases).add_done_callback(lambda done: done.cancelled() or done.exception())

    async def ticket(self, limit: str, interval_s: float) -> float:
        """Return the seconds until a low-priority read may use *limit*; the fleet has one turn every *interval_s*."""
        if interval_s <= 0:
            return 0.0
        try:
            (wait,) = await self.client.ask(scripts.pace(self.names.pace(limit), _ms(min(interval_s, LONGEST_S))))
        except Away:
            return self._own_ticket(limit, interval_s)
        self.paced += 1
        return min(max(0, wait) / 1000, LONGEST_S) if isinstance(wait, int) else 0.0

    def _own_ticket(self, limit: str, interval_s: float) -> float:
        """Return the same without the store: this replica's share of the turns, by the number of replicas seen last."""
        now = asyncio.get_running_loop().time()
        if (next_at := self._next_at.get(limit, 0.0)) > now:
            return next_at - now
        if len(self._next_at) >= PLACES:
            self._next_at.clear()
        self._next_at[limit] = now + min(interval_s, LONGEST_S) * self.replicas()
        return 0.0


def _ms(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
