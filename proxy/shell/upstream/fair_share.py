"""Hands out the connections to Graph in fair shares, so that slow calls of one token cannot take them all."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Container, Hashable
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from proxy.core.batch import window
from proxy.core.batch.fair_share import FairQueue, Kind, Shares
from proxy.core.http.errors import Overloaded
from proxy.core.model import Credential, Reply, Request
from proxy.shell.http.forms import EncodedForm
from proxy.shell.upstream.client import UpstreamClient
from proxy.shell.upstream.http1 import OnSent

_LOOKS = 8
"""How often in the longest time that a read may wait those who wait are looked at."""


def owner_of(credential: Credential | None) -> Hashable:
    """Return the owner of the share that a call uses: its token; calls without one have a share together."""
    return credential.token if credential else ""


class Member(Protocol):
    """A queue of calls that waits for connections."""

    def start_next(self) -> bool:
        """Take a connection for a waiting owner whose share allows it; return whether one was taken.

        That the kind of call may have one is known already.
        """

    def wants_more(self) -> bool:
        """Note that a connection was handed over; return whether to wait for another one at once."""

    def fail_late(self, now: float) -> None:
        """Fail the calls that have waited too long."""


@dataclass(slots=True, eq=False)
class Place:
    """The right to one connection, held until `release`."""

    places: Places
    kind: Kind
    owners: Collection[Hashable] = field(repr=False)  # tokens
    is_held: bool = True

    def release(self) -> None:
        """Give the connection back; further calls do nothing."""
        if self.is_held:
            self.is_held = False
            places = self.places
            places.shares.give_back(self.kind, self.owners)
            if any(places.rings.values()):
                places.offer()


class Places:
    """All connections of one sidecar to Graph, streams excepted."""

    def __init__(self, count: int, limits: window.Limits, clock: Callable[[], float]) -> None:
        """Hand out *count*; a read waits as long as *limits* say."""
        self.shares = Shares(count)
        self.limits = limits
        self.clock = clock
        self.rings: OrderedDict[Kind, OrderedDict[Member, None]] = OrderedDict((kind, OrderedDict()) for kind in Kind)
        self._queues = {kind: _CallQueue(self, kind) for kind in Kind}
        self._next_check: asyncio.Handle | None = None

    def take(self, kind: Kind, owners: Collection[Hashable]) -> Place:
        """Take a connection for *owners*, each of whom may have one."""
        self.shares.take(kind, owners)
        return Place(self, kind, owners)

    def want(self, kind: Kind, member: Member) -> None:
        """Hand a connection to *member* as soon as its turn comes."""
        is_first = not any(self.rings.values())
        if (
            is_first
            and (self.shares.is_calm or self.shares.may_take(kind))
            and member.start_next()
            and not member.wants_more()
        ):
            return
        self.rings[kind].setdefault(member)
        self.offer()
        if self._next_check is None and self.rings[kind]:
            self._check_waits_later()

    def line(self, kind: Kind) -> Container[Member]:
        """Return those of *kind* that wait for their turn."""
        return self.rings[kind]

    def forget(self, kind: Kind, member: Member) -> None:
        """Remove *member* from those that wait."""
        self.rings[kind].pop(member, None)

    @contextlib.asynccontextmanager
    async def one(
        self, kind: Kind, credential: Credential | None, *, ignores_queue_limit: bool = True
    ) -> AsyncIterator[Place]:
        """Hold a connection for one call of *credential*, after a wait that the queue's limits bound by default.

        With *ignores_queue_limit* the call waits as long as it takes.

        Raises Overloaded.
        """
        place = await self._queues[kind].join(owner_of(credential), ignores_queue_limit=ignores_queue_limit)
        try:
            yield place
        finally:
            place.release()

    def offer(self) -> None:
        """Hand out free connections round robin, first among kinds of call, then among members of a kind."""
        while self.shares.free:
            kind = next((kind for kind, ring in self.rings.items() if ring and self._grant(kind)), None)
            if kind is None:
                return
            self.rings.move_to_end(kind)

    def _grant(self, kind: Kind) -> bool:
        if not self.shares.may_take(kind):
            return False
        ring = self.rings[kind]
        member = next((member for member in ring if member.start_next()), None)
        if member is None:
            return False
        del ring[member]
        if member.wants_more():
            ring[member] = None
        return True

    def _check_waits_later(self) -> None:
        seconds = self.limits.queue_s / _LOOKS
        self._next_check = asyncio.get_running_loop().call_later(seconds, self._check_waits)

    def _check_waits(self) -> None:
        self._next_check, now = None, self.clock()
        members = [member for ring in self.rings.values() for member in ring]
        for member in members:
            member.fail_late(now)
        if members:
            self._check_waits_later()


class Calls:
    """Single calls to Graph, each of which waits for a connection as long as it takes."""

    def __init__(self, upstream: UpstreamClient, places: Places) -> None:
        """Ask *upstream*, each call in one of *places*."""
        self._upstream = upstream
        self._places = places

    async def single(self, request: Request, on_sent: OnSent) -> Reply:
        """Graph's answer to one read. Raises a SidecarError."""
        async with self._places.one(Kind.SINGLE, request.credential):
            return await self._upstream.single(request, on_sent)

    async def post(
        self, host: str, path: str, language: str, form: EncodedForm, on_sent: OnSent, *, who: Credential
    ) -> Reply:
        """Graph's answer to a batch of *who*, an application, which may hold writes. Raises a SidecarError."""
        async with self._places.one(Kind.CARRIED, who):
            return await self._upstream.post(host, path, language, form, on_sent)


class _CallQueue:
    """Calls of one kind, each of which waits for a connection of its own."""

    def __init__(self, places: Places, kind: Kind) -> None:
        self._places = places
        self._kind = kind
        self._queue: FairQueue[asyncio.Future[Place]] = FairQueue()

    async def join(self, owner: Hashable, *, ignores_queue_limit: bool) -> Place:
        places = self._places
        if not ignores_queue_limit:
            waited = self._queue.waited(owner, places.shares.may_take, places.clock())
            if refusal := window.queue_refusal(len(self._queue), waited, places.limits):
                raise Overloaded(refusal)
        place: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._queue.add(place, owner, inf if ignores_queue_limit else places.clock())
        places.want(self._kind, self)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                place.result().release()
            raise
        finally:
            self._queue.discard(place)
            if not self._queue:
                places.forget(self._kind, self)

    def start_next(self) -> bool:
        places, owners = self._places, []

        def may(owner: Hashable) -> bool:
            if not places.shares.may_take(owner):
                return False
            owners.append(owner)
            return True

        for place in self._queue.take(1, may, places.clock()):
            place.set_result(places.take(self._kind, tuple(owners)))
            return True
        return False

    def wants_more(self) -> bool:
        return bool(self._queue)

    def fail_late(self, now: float) -> None:
        for place in self._queue.late(now - self._places.limits.queue_s):
            if not place.done():
                place.set_exception(Overloaded(window.queue_timeout_message(self._places.limits)))
