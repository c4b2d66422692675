"""Flights that replicas share: one replica calls Graph, the others wait for the outcome.

One poll looks for all outcomes that a replica waits for. If the store does not answer at once, or any step fails, the
replica calls Graph by itself: the functions return None, and count the cause.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final

from redis.exceptions import ResponseError

from proxy.core.shared import lease as leases
from proxy.core.shared.lease import MARGIN_MS, OUTCOME_MS, FlightOutcome, Lease, Leases
from proxy.core.shared.wire import NONCE_BYTES, TOKEN_BYTES, Wire
from proxy.shell.valkey import random_bytes, scripts
from proxy.shell.valkey.client import Client, is_full
from proxy.shell.valkey.link import Away, Command, understood

CAUSES: Final = ("away", "doubt", "write", "full", "paced", "waited", "gone", "own", "wish")
"""Why a read is sent without a lease: the store is away, or its log; a write is open; ...; its caller wants it so."""


TOGETHER: Final = 64
"""The most leases that one visit requests, and the most flights that it lands."""

MOST_OWED: Final = 10_000
"""The most leases that are remembered to be released; the others expire."""


@dataclass(eq=False, slots=True)
class Led:
    """A flight that this replica leads."""

    flight: bytes
    lease: Lease
    packed: bytes
    is_over: bool = False


@dataclass(eq=False, slots=True)
class Joined:
    """A flight that another replica leads."""

    flight: bytes
    token: str  # of the callers
    lease: Lease
    packed: bytes
    polls: int = 0
    ended: asyncio.Future[FlightOutcome | Led | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


LeaseAnswer = tuple[Led | Joined | None, bytes | None]
"""Who asks Graph (this replica, another, or None: each for itself), and the value of the entry in the store, if any."""


@dataclass(eq=False, slots=True)
class LeaseRequest:
    """A visit that takes the lease of a flight, or finds who holds it."""

    flight: bytes
    token: str  # of the callers
    mine: Lease
    packed: bytes
    commands: tuple[Command, ...]
    is_look: bool  # whether the lease is taken only if there is no entry

    @property
    def led(self) -> Led:
        """Return the flight as this replica leads it, if it has the lease."""
        return Led(self.flight, self.mine, self.packed)


@dataclass(eq=False, slots=True)
class _Begun:
    """A lease request that leaves with others at the end of this turn of the event loop."""

    request: LeaseRequest
    within_s: float
    on_end: Callable[[LeaseAnswer], None]


@dataclass(eq=False, slots=True)
class Flights:
    """The flights of all replicas, as this replica leads and follows them; `run` is the task that polls."""

    client: Client
    wire: Wire
    leases: Leases
    replica: bytes
    longest_s: float  # that a flight may take
    led: int = 0
    followed: int = 0
    taken_over: int = 0
    alone: Counter[str] = field(default_factory=Counter)
    _owed: list[Led] = field(default_factory=list)  # leases that could not be given back
    _joined: set[Joined] = field(default_factory=set)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _begun: list[_Begun] = field(default_factory=list)
    _landings: list[tuple[Led, Command]] = field(default_factory=list)

    def lease_request(self, flight: bytes, token: str, entry: bytes, *, has_time: bool) -> LeaseRequest:
        """Return the request that leads or joins *flight*, and reads the value at *entry*, unless that is empty."""
        mine, packed = self._new_lease(flight, has_time=has_time)
        lease = (b"SET", self.wire.names.lease(flight), packed, b"NX", b"PX", self._lease_ms, b"GET")
        commands = (lease, (b"GET", entry)) if entry else (lease,)
        return LeaseRequest(flight, token, mine, packed, commands, is_look=False)

    def look_request(self, flight: bytes, token: str, entry: bytes, *, has_time: bool) -> LeaseRequest:
        """Return the request that reads the value at *entry*, and leads or joins *flight* only if there is none."""
        mine, packed = self._new_lease(flight, has_time=has_time)
        look = scripts.look_or_lead(entry, self.wire.names.lease(flight), mine=packed, ms=self._lease_ms)
        return LeaseRequest(flight, token, mine, packed, (look,), is_look=True)

    def _new_lease(self, flight: bytes, *, has_time: bool) -> tuple[Lease, bytes]:
        mine = Lease(self.replica, random_bytes.take(TOKEN_BYTES), has_time)
        return mine, self.leases.pack(mine, flight)

    async def lead_or_join(self, request: LeaseRequest, within_s: float) -> LeaseAnswer:
        """Return the answer to *request*, within *within_s*; all requests of one turn of the loop leave together."""
        ended: asyncio.Future[LeaseAnswer] = asyncio.get_running_loop().create_future()
        self.begin(request, within_s, partial(self._hand_over, ended))
        try:
            return await ended
        except asyncio.CancelledError:
            if ended.done() and not ended.cancelled():  # it came in the turn in which the task was cancelled
                self._hand_over(ended, ended.result())
            raise

    def _hand_over(self, ended: asyncio.Future[LeaseAnswer], answer: LeaseAnswer) -> None:
        """Give *answer* to the task that waits; where the task has ended, give back its lease."""
        led = answer[0]
        if not ended.done():
            ended.set_result(answer)
        elif isinstance(led, Led):
            self.release(led)

    def begin(self, request: LeaseRequest, within_s: float, on_end: Callable[[LeaseAnswer], None]) -> None:
        """Call *on_end* with the answer to *request*, without a task; requests of one turn leave together."""
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._send_begun)
        self._begun.append(_Begun(request, within_s, on_end))

    def _send_begun(self) -> None:
        begun, self._begun = self._begun, []
        half = self.client.budget_s / 2
        for group in (
            [each for each in begun if each.within_s >= half],
            [each for each in begun if each.within_s < half],
        ):
            for first in range(0, len(group), TOGETHER):
                self._send_together(group[first : first + TOGETHER])

    def _send_together(self, begun: list[_Begun]) -> None:
        """Make one visit for all of *begun*, as short as the shortest of theirs may be."""
        commands = [command for each in begun for command in each.request.commands]
        within_s = min(each.within_s for each in begun)
        asked = self.client.ask(*commands, within_s=within_s, callers=len(begun))
        asked.add_done_callback(partial(self._end_begun, begun))

    def _end_begun(self, begun: list[_Begun], asked: asyncio.Future[list[Any]]) -> None:
        replies = None if asked.cancelled() or asked.exception() is not None else iter(asked.result())
        for each in begun:
            own = None if replies is None else list(islice(replies, len(each.request.commands)))
            each.on_end(self._answer(each.request, own))

    def _answer(self, request: LeaseRequest, replies: list[Any] | None) -> LeaseAnswer:
        """Return what the store's *replies* to *request* say; None for no answer in time."""
        match replies:
            case [bytes() | None | ResponseError() as held] if not request.is_look:
                return self._judge_lease(request, held), None
            case [bytes() | None | ResponseError() as held, value] if not request.is_look:
                return self._judge_lease(request, held), value if isinstance(value, bytes) else None
            case [[bytes(value)]] if request.is_look:
                return None, value
            case [[None, held]] if request.is_look:
                return self._judge_lease(request, held), None
            case [ResponseError() as error] if request.is_look:
                return self._judge_lease(request, error), None
        self._release(request.led)  # the store may have given it all the same
        return self.go_alone("away"), None

    def _judge_lease(self, request: LeaseRequest, held: object) -> Led | Joined | None:
        """Return the outcome of the attempt to take the lease; *held* is the value in the store."""
        if held is None:
            self.led += 1
            return request.led
        if not isinstance(held, bytes):
            self.go_alone("full" if is_full(held) else "away")
            return None
        return self._join(request.flight, request.token, held, has_time=request.mine.has_time)

    def _join(self, flight: bytes, token: str, held: bytes, *, has_time: bool) -> Joined | None:
        lease = self.leases.unpack(held, flight)
        cause = "gone" if lease is None else "own" if lease.replica == self.replica else ""
        if lease is None or cause or (lease.has_time and not has_time):
            self.go_alone(cause or "paced")
            return None
        return Joined(flight, token, lease, held)

    def go_alone(self, cause: str) -> Any:
        """Count a read that calls Graph without the other replicas by its *cause*; return None."""
        self.alone[cause] += 1

    async def follow(self, joined: Joined) -> FlightOutcome | Led | None:
        """Return the outcome of the flight, or the lease if its holder died; None: call alone."""
        self._joined.add(joined)
        self._wake.set()
        try:
            async with asyncio.timeout(self.longest_s):
                ended = await joined.ended
        except TimeoutError:
            self.go_alone("waited")
            return None
        except BaseException:
            self._give_back(joined)
            raise
        finally:
            self._joined.discard(joined)
        if isinstance(ended, FlightOutcome):
            self.followed += 1
        return ended

    def land(self, led: Led, outcome: FlightOutcome, token: str, entry: tuple[bytes, bytes, int]) -> None:
        """Write the outcome of *led* after the reply; *entry* is a name, a value and its lifetime in ms.

        All flights that land in one turn of the event loop are written together.
        """
        if led.is_over:
            return
        led.is_over = True
        sealed = leases.seal_outcome(outcome, self.wire.box, token, led.flight, random_bytes.take(NONCE_BYTES))
        (name, value, ms), names = entry, self.wire.names
        landing = scripts.land(
            names.lease(led.flight),
            name,
            names.outcome(led.flight),
            mine=led.packed,
            entry_value=(value, ms),
            outcome_value=(sealed, OUTCOME_MS),
        )
        if not self._landings:
            asyncio.get_running_loop().call_soon(self._send_landings)
        self._landings.append((led, landing))

    def _send_landings(self) -> None:
        landed, self._landings = self._landings, []
        for first in range(0, len(landed), TOGETHER):
            part = landed[first : first + TOGETHER]
            asked = self.client.ask(*(command for _, command in part), callers=len(part))
            asked.add_done_callback(partial(self._on_landed, [led for led, _ in part]))

    def _on_landed(self, landed: list[Led], asked: asyncio.Future[list[object]]) -> None:
        """Give back the leases whose landing failed."""
        has_failed = asked.cancelled() or asked.exception() is not None
        replies = [ResponseError()] * len(landed) if has_failed else asked.result()
        for led, reply in zip(landed, replies, strict=True):
            if isinstance(reply, ResponseError):
                self._release(led)

    def release(self, led: Led) -> None:
        """Release the lease of a flight that has no callers, or no outcome for the followers."""
        if not led.is_over:
            led.is_over = True
            self._release(led)

    def _release(self, led: Led) -> None:
        releasing = self.client.ask(scripts.release(self.wire.names.lease(led.flight), led.packed))
        releasing.add_done_callback(lambda done: self._released(led, done))

    def _released(self, led: Led, done: asyncio.Future[list[object]]) -> None:
        """Remember a lease that could not be given back: others would wait for it as long as this replica lives."""
        if _has_failed(done) and len(self._owed) < MOST_OWED:
            self._owed.append(led)
            self._wake.set()

    def _give_back_owed(self) -> None:
        owed, self._owed = self._owed, []
        for led in owed:
            self._release(led)

    @property
    def waiting(self) -> int:
        """Return the number of other replicas' flights that callers here wait for."""
        return len(self._joined)

    @property
    def _lease_ms(self) -> int:
        return int(self.longest_s * 1000) + MARGIN_MS

    # --- polling ---

    async def run(self) -> None:
        """Poll the flights that callers here wait for, for ever."""
        polls = 0
        while True:
            if not self._joined and not self._owed:
                polls = 0
                self._wake.clear()
                await self._wake.wait()
            polls = 0 if any(not joined.polls for joined in self._joined) else polls + 1
            await asyncio.sleep(leases.poll_s(polls, random.random()))
            if self._owed and self.client.is_up:
                self._give_back_owed()
            await self._poll()

    async def _poll(self) -> None:
        waiting = [joined for joined in self._joined if not joined.ended.done()]
        if not waiting:
            return
        names = self.wire.names
        holders = list(dict.fromkeys(joined.lease.replica for joined in waiting))
        try:
            ends, held, alive = await self.client.ask(
                (b"MGET", *(names.outcome(joined.flight) for joined in waiting)),
                (b"MGET", *(names.lease(joined.flight) for joined in waiting)),
                (b"MGET", *(names.replica(holder) for holder in holders)),
            )
            with understood():
                living = {holder for holder, sign in zip(holders, alive, strict=True) if sign is not None}
                seen = list(zip(waiting, ends, held, strict=True))
            for joined, end, now_held in seen:
                joined.polls += 1
                with understood():
                    await self._judge(joined, end, now_held, is_alive=joined.lease.replica in living)
        except Away:
            for joined in waiting:
                self._end(joined, self.go_alone("away"))

    async def _judge(self, joined: Joined, end: bytes | None, held: bytes | None, *, is_alive: bool) -> None:
        """End *joined* if it has an outcome; take the flight over if its holder is dead."""
        if end is not None and (
            outcome := leases.unseal_outcome(end, self.wire.box, joined.token, joined.flight, joined.lease)
        ):
            self._end(joined, outcome)
        elif held == joined.packed and is_alive:
            return
        elif held is not None and held != joined.packed:
            lease = self.leases.unpack(held, joined.flight)
            if lease is None or lease.replica == self.replica:
                self._end(joined, self.go_alone("gone"))
            else:
                joined.lease, joined.packed = lease, held
        else:
            await self._take_over(joined)

    async def _take_over(self, joined: Joined) -> None:
        """Lead the flight in the place of a holder that is dead, or gave it up."""
        mine = joined.lease.taken_over(self.replica, random_bytes.take(TOKEN_BYTES))
        packed = self.leases.pack(mine, joined.flight)
        names = self.wire.names
        holder = names.replica(joined.lease.replica)
        led = Led(joined.flight, mine, packed)
        try:
            held = await self._ask_for(joined, holder, packed)
        except BaseException:
            self._release(led)  # the store may have given it all the same
            raise
        if held == packed:
            self.taken_over += 1
            self.led += 1
            self._end(joined, led)
        elif isinstance(held, bytes) and (lease := self.leases.unpack(held, joined.flight)):
            joined.lease, joined.packed = lease, held
        else:
            self._end(joined, self.go_alone("gone"))

    async def _ask_for(self, joined: Joined, holder: bytes, packed: bytes) -> object:
        """Return the lease in force: ours, unless another replica was sooner."""
        name = self.wire.names.lease(joined.flight)
        asking = scripts.take_over(name, holder, theirs=joined.packed, mine=packed, ms=self._lease_ms)
        return (await self.client.ask(asking))[0]

    def _give_back(self, joined: Joined) -> None:
        """Release the lease that came too late for its caller."""
        if joined.ended.done() and not joined.ended.cancelled() and isinstance(led := joined.ended.result(), Led):
            self.release(led)

    def _end(self, joined: Joined, ended: FlightOutcome | Led | None) -> None:
        if not joined.ended.done():
            joined.ended.set_result(ended)
        elif isinstance(ended, Led):
            self.release(ended)


def _has_failed(done: asyncio.Future[list[object]]) -> bool:
    return done.cancelled() or done.exception() is not None or isinstance(done.result()[0], ResponseError)
