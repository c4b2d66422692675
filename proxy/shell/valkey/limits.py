"""Limits of Graph's that replicas share: one probe in the fleet, one pace for reads that have time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.exceptions import ResponseError

from proxy.core.shared.wire import Names
from proxy.shell.valkey import scripts
from proxy.shell.valkey.client import Client
from proxy.shell.valkey.link import Away


@dataclass(eq=False, slots=True)
class SharedLimits:
    """Asks the store who may go; without it each replica decides alone, more slowly the more replicas were seen."""

    client: Client
    names: Names
    replica: bytes
    replicas: Callable[[], int]  # that were seen last
    probes: int = 0
    probes_left: int = 0  # to other replicas
    paced: int = 0

    async def may_probe(self, limits: Sequence[str], seconds: float) -> bool:
        """Whether this replica is the one that probes all of *limits*, for so many *seconds*."""
        claim = [(b"SET", self.names.probe(each), self.replica, b"NX", b"PX", _ms(seconds), b"GET") for each in limits]
        try:
            held = await self.client.visit(*claim)
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
        """The probe of *limits* has told something, or nothing: another may probe them."""
        releases = [scripts.release(self.names.probe(each), self.replica) for each in limits]
        self.client.ask(*releases).add_done_callback(lambda done: done.cancelled() or done.exception())

    async def ticket(self, limit: str, interval_s: float) -> float:
        """Seconds until a read that has time may draw on *limit*, of which the fleet has one each *interval_s*."""
        if interval_s <= 0:
            return 0.0
        try:
            (wait,) = await self.client.visit(scripts.pace(self.names.pace(limit), max(1, _ms(interval_s))))
        except Away:
            return 0.0
        self.paced += 1
        return max(0, wait) / 1000 if isinstance(wait, int) else 0.0


def _ms(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
