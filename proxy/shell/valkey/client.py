"""Visits to the shared store: one connection of one task, which the cancellation of no caller reaches.

Commands of one turn of the event loop are sent together, and so are commands that gather while earlier ones are being
answered. If the store does not answer in time, everything that waits fails at once. For a second after that the store
is not used, and each visit fails without waiting.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from proxy.shell.valkey.link import Away, Command, Dialer, Link

_log = logging.getLogger("graph_sidecar.shared")

REST_S = 1.0
"""About how many seconds pass from one attempt to connect to the next."""

DIAL_S = 2.0
"""Seconds that connecting may take; no caller waits for it."""

LONG_S = 0.6
"""Seconds of connecting in vain after which every other replica has noticed a gap, or was not answered either."""

LATE_S = 0.005
"""A timer that fires so much too late shows that this process was busy, not that the store is slow."""

MOST = 512
"""The most commands that leave in one piece; more wait for the next piece."""

Greet = Callable[[Link], Awaitable[None]]
"""The commands on each new connection, before it is used. Raises Away if the store cannot be used."""


@dataclass(eq=False, slots=True)
class _Visit:
    commands: tuple[Command, ...]
    replies: asyncio.Future[list[Any]]
    callers: int  # for how many it is made
    joined: float
    until: float  # when its caller goes on without it, in monotonic seconds


@dataclass(slots=True)
class Visits:
    """The counts of visits."""

    visits: int = 0
    commands: int = 0
    seconds: float = 0.0  # that pieces were on their way
    failed: int = 0  # visits that got no answer
    refused: int = 0  # commands that the store answered with an error
    opened: int = 0  # how often the store went away


@dataclass(eq=False, slots=True)
class Client:
    """A client of the shared store with one connection; `run` is its task."""

    dialer: Dialer
    budget_s: float
    greet: Greet
    changed: Callable[[str], None]  # called with "" when the store can be used, with the reason when it cannot
    counts: Visits = field(default_factory=Visits)
    trouble: str = "it was not reached yet"
    answered_at: float = -math.inf  # when the store last answered, in monotonic seconds
    connections: int = 0
    attempt_at: float = -math.inf  # when the newest attempt to connect began, and the newest that failed
    failed_attempt_at: float = -math.inf
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: list[_Visit] = field(default_factory=list)
    _sent: list[_Visit] = field(default_factory=list)  # the piece that is on its way
    _alarm: asyncio.TimerHandle | None = None
    _alarm_at: float = math.inf
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _link: Link | None = None

    @property
    def is_up(self) -> bool:
        """Return whether the store is connected."""
        return self._link is not None

    def ask(self, *commands: Command, within_s: float = math.inf, callers: int = 1) -> asyncio.Future[list[Any]]:
        """The replies to *commands*, errors of the store's as ResponseErrors among them; or the future raises Away.

        Away is raised after *within_s* at the latest. It counts as a visit for each of the *callers*.
        """
        replies: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        if self._link is None:
            replies.set_exception(Away(self.trouble))
            return replies
        now = time.monotonic()
        until = now + within_s
        self._waiting.append(_Visit(commands, replies, callers, now, until))
        self._wake.set()
        if until < self._alarm_at:
            self._set_alarm(until, now)
        return replies

    def _set_alarm(self, until: float, now: float) -> None:
        """Start the one timer of all visits: at *until* those whose time is over end."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = until
        self._alarm = asyncio.get_running_loop().call_later(max(0.0, until - now), self._expire)

    def _expire(self) -> None:
        """Fail the visits whose time is over; later answers to them are dropped."""
        now, self._alarm, self._alarm_at = time.monotonic(), None, math.inf
        going = [visit for visit in (*self._sent, *self._waiting) if not visit.replies.done()]
        for visit in going:
            if visit.until <= now:
                visit.replies.set_exception(Away("it took too long"))
                visit.replies.exception()  # looked at: its caller may have left
        if (following := min((visit.until for visit in going if visit.until > now), default=math.inf)) < math.inf:
            self._set_alarm(following, now)

    async def run(self) -> None:
        """Keep a connection, and send the visits over it; after a fault of our own, another connection."""
        try:
            while True:
                try:
                    await self._connect()
                    await self._serve()
                except Exception as fault:  # noqa: BLE001 - told; without this task nothing would be shared any more
                    _log.error("a fault at a visit to the shared store", exc_info=fault)
                    link, why = self._link, "a fault of the sidecar's own"
                    self._lose(why)
                    if link is not None:
                        await link.close()
                await self._rest()
        finally:
            link, self.changed = self._link, lambda _trouble: None
            self._lose("the sidecar stops")
            if self._alarm is not None:
                self._alarm.cancel()
            if link is not None:
                await link.close()

    async def _connect(self) -> None:
        """Connect; try for ever."""
        while True:
            self.attempt_at = time.monotonic()
            try:
                async with asyncio.timeout(DIAL_S):
                    link = await self.dialer.dial()
                    try:
                        await self.greet(link)
                    except BaseException:
                        await link.close()
                        raise
            except (Away, TimeoutError) as error:
                self.failed_attempt_at = self.attempt_at
                self._report(str(error) or "it does not answer")
                await self._rest()
            else:
                self.connections += 1
                self._link, self.answered_at = link, time.monotonic()
                self._report("")
                return

    async def _rest(self) -> None:
        """Wait before the next attempt to connect, unless a write has to know whether the store is there."""
        self._hurry.clear()
        try:
            async with asyncio.timeout(REST_S * random.uniform(0.5, 1.0)):
                await self._hurry.wait()
        except TimeoutError:
            pass

    def has_tried(self, since: float) -> bool:
        """Return whether an attempt to connect begun after *since* has failed or takes long; else start an attempt."""
        if self.failed_attempt_at >= since:
            return True
        now = time.monotonic()
        if self.attempt_at >= since and now - self.attempt_at >= LONG_S:
            return True
        if self.attempt_at < since:
            self._hurry.set()
        return False

    async def _serve(self) -> None:
        """Send one piece of commands after the other, until a piece gets no answer."""
        assert self._link is not None  # noqa: S101 - `_connect` comes first
        while True:
            await self._wake.wait()
            piece = self._sent = self._take()
            began = time.monotonic()
            try:
                async with time_limit(piece[0].joined + self.budget_s - began, self.budget_s):
                    replies = await self._link.exchange_all([visit.commands for visit in piece])
            except (Away, TimeoutError) as error:
                why = str(error) or "it does not answer in time"
                self._fail(piece, why)
                self._lose(why)
                return
            except BaseException as fault:
                self._fail(piece, "the sidecar stops" if isinstance(fault, asyncio.CancelledError) else str(fault))
                raise
            self.answered_at = time.monotonic()
            self.counts.seconds += self.answered_at - began
            self._sent = []
            if not self._hand_out(piece, replies):
                await self._link.close()
                self._lose("it takes no writes: another is the primary")
                return

    def _take(self) -> list[_Visit]:
        piece: list[_Visit] = []
        size = 0
        for visit in self._waiting:
            size += len(visit.commands)
            if piece and size > MOST:
                break
            piece.append(visit)
        del self._waiting[: len(piece)]
        if not self._waiting:
            self._wake.clear()
        return piece

    def _hand_out(self, piece: list[_Visit], replies: list[list[Any]]) -> bool:
        """Give each visit its replies; return whether this server still takes writes."""
        is_good = True
        for visit, own in zip(piece, replies, strict=True):
            self.counts.visits += visit.callers
            self.counts.commands += len(own)
            for reply in own:
                if isinstance(reply, ResponseError):
                    self.counts.refused += 1
                    is_good = is_good and not is_demoted(reply)
            if not visit.replies.done():
                visit.replies.set_result(own)
        return is_good

    def _fail(self, visits: list[_Visit], why: str) -> None:
        for visit in visits:
            self.counts.failed += visit.callers
            if not visit.replies.done():
                visit.replies.set_exception(Away(why))
                visit.replies.exception()  # looked at: its caller may have left

    def _lose(self, why: str) -> None:
        self._link = None
        waiting, self._waiting = self._waiting, []
        self._wake.clear()
        self._fail(waiting, why)
        self._report(why)

    def _report(self, trouble: str) -> None:
        was, self.trouble = self.trouble, trouble
        if bool(was) != bool(trouble):
            self.counts.opened += bool(trouble)
        if was != trouble:
            self.changed(trouble)


@asynccontextmanager
async def time_limit(seconds: float, more_s: float) -> AsyncIterator[None]:
    """End the body of the context after *seconds*. Raises TimeoutError.

    If the event loop itself was late the reply may be here already, so *more_s* seconds are added.
    """
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    async with asyncio.timeout(None) as limit:

        def judge() -> None:
            late_s = time.monotonic() - until
            limit.reschedule(loop.time() + (more_s if late_s > LATE_S else 0.0))

        timer = loop.call_later(seconds, judge)
        try:
            yield
        finally:
            timer.cancel()


def is_demoted(reply: object) -> bool:
    """Return whether *reply* is the error of a server that is no longer the primary, or that wants a new login."""
    return isinstance(reply, ResponseError) and _begins(reply, "READONLY", "NOAUTH", "LOADING", "MASTERDOWN")


def is_full(reply: object) -> bool:
    """Return whether *reply* is the error of a server without room for writes: no memory, disk, or replicas."""
    return isinstance(reply, ResponseError) and _begins(reply, "OOM", "MISCONF", "NOREPLICAS")


def _begins(error: ResponseError, *words: str) -> bool:
    """Return whether *error* begins with one of *words*; redis-py drops the word where it has a class for the error."""
    kind, text = type(error).__name__.upper(), str(error)
    return any(text.startswith(word) or _KINDS.get(word) == kind for word in words)


_KINDS = {
    "READONLY": "READONLYERROR",
    "NOAUTH": "AUTHENTICATIONERROR",
    "LOADING": "BUSYLOADINGERROR",
    "MASTERDOWN": "MASTERDOWNERROR",
    "OOM": "OUTOFMEMORYERROR",
}
