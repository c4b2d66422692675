"""Holds reads until they have company or must leave, sends them together, hands each its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from msgspec.structs import replace

from proxy.core import batching
from proxy.core.errors import Cut, SidecarError
from proxy.core.ledger import Bill, calls_of, was_counted
from proxy.core.messages import Channel, Credential, Reply, Request
from proxy.core.places import Kind
from proxy.shell import bills
from proxy.shell.company import Companies, Waiting, fail_all
from proxy.shell.places import Place, Places
from proxy.shell.turns import in_turns
from proxy.shell.upstream import Left


class Upstream(Protocol):
    """What the batcher needs of the way to Graph."""

    async def batch(self, requests: Sequence[Request], top: Credential, left: Left) -> Reply | batching.Call:
        """Graph's answer to a batch. Raises Unreachable."""

    async def single(self, request: Request, left: Left) -> Reply:
        """Graph's answer to one read. Raises a SidecarError."""


class Sending(Protocol):
    """A call while it is on its way, as the witness sees it."""

    @property
    def id(self) -> str:
        """The name that log and traces give it."""

    def __enter__(self) -> Self:
        """It is made ready."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """It was answered, or will not be."""

    def left(self) -> None:
        """It has left."""

    def answered(self, counted: Sequence[bool]) -> None:
        """Graph has answered; of which of its loads it has *counted* the calls for certain."""


class Witness(Protocol):
    """Who is told what the batcher did."""

    def batch(self, loads: Sequence[tuple[Bill | None, int]]) -> Sending:
        """A batch is made ready, a load for each of its slots."""

    def single(self, bill: Bill | None, calls: int) -> Sending:
        """A read is made ready to leave in a call of its own."""

    def asked_again(self, slots: int, cause: str) -> None:
        """*slots* reads of a batch have to be asked again."""


class Batcher:
    """A layer, the last before Graph."""

    def __init__(
        self, upstream: Upstream, limits: batching.Limits, witness: Witness, clock: Callable[[], float], places: Places
    ) -> None:
        """Ask *upstream* within *limits*, each call in one of *places*; *clock* gives monotonic seconds."""
        self._upstream = upstream
        self._limits = limits
        self._witness = witness
        self._clock = clock
        self._places = places
        self._tops = batching.Tops()
        self._companies = Companies(lambda: limits, self._fly, clock, places)

    async def __call__(self, request: Request) -> Reply:
        """Answer *request*. Raises a SidecarError."""
        if request.channel is Channel.DIRECT:
            return await self._alone(request, bills.current(), is_patient=False)
        return await self._companies.join(batching.group_of(request, self._limits), request)

    async def close(self) -> None:
        """End what is queued or in the air: after a drain nobody waits for it; whoever does all the same is told."""
        await self._companies.close()

    @property
    def queued(self) -> int:
        """Reads that wait for their batch."""
        return self._companies.queued

    async def _fly(self, waiting: Sequence[Waiting], place: Place | None, attempt: int = 0) -> None:
        """Ask Graph for *waiting* until each has a reply or an error: nobody is left hanging."""
        try:
            await self._ask(waiting, place, attempt)
        except SidecarError as error:
            fail_all(waiting, error)
        except BaseException:
            fail_all(waiting, Cut("the batch ended unanswered"))
            raise

    async def _ask(self, waiting: Sequence[Waiting], place: Place | None, attempt: int) -> None:
        requests = [one.request for one in waiting]
        top = self._tops.choose(requests, self._clock())
        if top is None:
            if place is not None:
                place.release()
            await self._all_alone(waiting)
            return
        with self._witness.batch([(one.bill, calls_of(one.request.query)) for one in waiting]) as sending:
            answer = await self._call(requests, top, place, sending.left)
            fates = batching.sort_out(requests, top, answer, attempt)
            sending.answered(fates.counted)
        if fates.refused_top:
            self._tops.refuse(top, fates.refused_top, self._clock())
        async for at, reply in in_turns(fates.replies.items(), _size):
            waiting[at].answer(reply, sending.id)
        if fates.cause:
            self._witness.asked_again(len(requests) - len(fates.replies), fates.cause)
        if fates.again or fates.alone:
            again = [[waiting[at] for at in part if not waiting[at].reply.done()] for part in fates.again]
            parts = [self._fly(part, None, attempt + 1) for part in again if part]
            await asyncio.gather(*parts, self._all_alone([waiting[at] for at in fates.alone]))

    async def _call(
        self, requests: Sequence[Request], top: Credential, place: Place | None, left: Left
    ) -> Reply | batching.Call:
        """Graph's answer, asked on *place* or on the next that is free. What is asked again waits for the next."""
        if place is None:
            async with self._places.one(Kind.BATCH, top):
                return await self._upstream.batch(requests, top, left)
        try:
            return await self._upstream.batch(requests, top, left)
        finally:
            place.release()

    async def _all_alone(self, waiting: Sequence[Waiting]) -> None:
        await asyncio.gather(*(self._rescue(one) for one in waiting))

    async def _rescue(self, one: Waiting) -> None:
        """The direct call for a read that no batch would answer; its validator was given for another form of asking."""
        if one.reply.done():
            return
        try:
            one.answer(await self._alone(replace(one.request, channel=Channel.DIRECT, validator=""), one.bill))
        except SidecarError as error:
            one.fail(error)

    async def _alone(self, request: Request, bill: Bill | None, *, is_patient: bool = True) -> Reply:
        with self._witness.single(bill, calls_of(request.query)) as sending:
            async with self._places.one(Kind.SINGLE, request.credential, is_patient=is_patient):
                reply = await self._upstream.single(request, sending.left)
            sending.answered([was_counted(reply)])
        return reply


def _size(answered: tuple[int, Reply]) -> int:
    """The bytes of a reply, all of which its caller's own task goes through."""
    return len(answered[1].body)
