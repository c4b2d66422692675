"""Rate limiting of calls to Graph: low priority waits, stopped limits refuse, and each reply updates the limits."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from proxy.core.cache.key import Keys
from proxy.core.http.errors import Throttled
from proxy.core.model import Credential, Reply, Request
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.ledger import RequestCost
from proxy.core.quota.limiter import (
    RELEASED_PER_REPLY,
    Go,
    Halt,
    LimitChanges,
    Limiter,
    QuotaVerdict,
    Wait,
)
from proxy.shell import Layer

_log = logging.getLogger("graph_sidecar.quota")


class RateLimiterObserver(Protocol):
    """Counts what the rate limiter does."""

    def paced(self, seconds: float, pool: str) -> None:
        """Count a low-priority read that waited so many *seconds* for a limit of the type *pool*."""

    def stopped(self, pool: str) -> None:
        """Count a limit of the type *pool* that a refusal of Graph stopped."""


_CHECK_AGAIN_S = 1.0
"""Seconds after which the head of a queue asks again at the latest: levels decay without any event."""


@dataclass(eq=False, slots=True)
class _PacedRead:
    """A low-priority read that waits; waking it makes it ask the limiter again, promoting it sends it."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    is_promoted: bool = False
    has_queued: bool = False

    def promote(self) -> None:
        """Send the read now."""
        self.is_promoted = True
        self.woken.set()


class RateLimiter:
    """A pipeline layer between the cache and the batcher."""

    def __init__(
        self,
        onward: Layer,
        *,
        quota: Limiter,
        keys: Keys,
        observer: RateLimiterObserver,
        now: Callable[[], float],
    ) -> None:
        """Ask *onward* when *quota* admits the read; *now* gives steady seconds."""
        self._onward = onward
        self._quota = quota
        self._keys = keys
        self._observer = observer
        self._now = now
        self._paced: dict[Hashable, set[_PacedRead]] = {}  # by the key of their flight
        self._queues: dict[BucketName, OrderedDict[_PacedRead, None]] = {}  # by the bucket that they wait for

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        """Answer *request*. Raises Throttled, and what the next layer raises."""
        subject, now = (
            QuotaSubject(self._keys.fingerprint(request.credential), request.path, request.query),
            self._now(),
        )
        verdict = self._quota.admit(subject, request.priority, now, after_refusal=request.after_refusal)
        if not isinstance(verdict, Wait):
            return await self._go(request, cost, subject, verdict)
        verdict, pool = await self._wait_for_turn(request, subject, verdict, now)
        try:
            return _with_detail(await self._go(request, cost, subject, verdict), "paced")
        finally:
            self._wake(pool, RELEASED_PER_REPLY)

    def take(self, subject: QuotaSubject, reply: Reply) -> None:
        """Learn limits from Graph's *reply* to a read that was sent at once."""
        self.apply(self._quota.on_reply(subject, reply, self._now()))

    def promote(self, request: Request) -> None:
        """Send the waiting read of the same flight as *request*: a caller of higher priority has joined it."""
        for read in self._paced.get(self._keys.flight(request), ()):
            read.promote()

    def on_reply(
        self,
        who: Credential | None,
        reply: Reply,
        path: str = "/",
        query: str = "",
        probes: tuple[BucketName, ...] = (),
    ) -> None:
        """Learn limits from Graph's *reply* to *who* for a call that did not pass through this layer."""
        self.apply(
            self._quota.on_reply(QuotaSubject(self._keys.fingerprint(who), path, query), reply, self._now(), probes)
        )

    async def _go(self, request: Request, cost: RequestCost | None, subject: QuotaSubject, verdict: Go | Halt) -> Reply:
        if isinstance(verdict, Halt):
            raise Throttled(verdict.reply)
        return await self._ask(request, cost, subject, verdict)

    async def _ask(self, request: Request, cost: RequestCost | None, subject: QuotaSubject, go: Go) -> Reply:
        try:
            reply = await self._onward(request, cost)
        except BaseException as error:
            # A failure says nothing about limits, so the next probe waits; after a caller's cancellation it need not.
            self._quota.on_no_reply(go.probes, self._now(), at_once=isinstance(error, asyncio.CancelledError))
            raise
        self.apply(self._quota.on_reply(subject, reply, self._now(), go.probes))
        return _with_detail(reply, "probe") if go.probes else reply

    async def _wait_for_turn(
        self, request: Request, subject: QuotaSubject, wait: Wait, began: float
    ) -> tuple[Go | Halt, BucketName]:
        """Wait until the read is admitted or refused; return the verdict, and the bucket it waited for last."""
        read, end = _PacedRead(), began + self._quota.stages.longest_wait_s
        verdict: QuotaVerdict = wait
        with self._promotable(request, read):
            while isinstance(verdict, Wait):
                wait, is_over = verdict, await self._wait_in_queue(read, verdict, end)
                has_waited = is_over or read.is_promoted
                verdict = self._quota.admit(
                    subject, request.priority, self._now(), has_waited=has_waited, after_refusal=request.after_refusal
                )
        self._observer.paced(self._now() - began, wait.bucket.label)
        return verdict, wait.bucket

    @contextlib.contextmanager
    def _promotable(self, request: Request, read: _PacedRead) -> Iterator[None]:
        key = self._keys.flight(request)
        self._paced.setdefault(key, set()).add(read)
        try:
            yield
        finally:
            self._paced[key].discard(read)
            if not self._paced[key]:
                del self._paced[key]

    async def _wait_in_queue(self, read: _PacedRead, wait: Wait, end: float) -> bool:
        """Wait in the bucket's queue; only the head wakes by time. Return whether the deadline *end* has passed."""
        queue = self._queues.setdefault(wait.bucket, OrderedDict())
        queue[read] = None
        if read.has_queued:
            queue.move_to_end(read, last=False)
        read.has_queued, left = True, end - self._now()
        seconds = min(wait.seconds, _CHECK_AGAIN_S, left) if next(iter(queue)) is read else left
        read.woken.clear()
        try:
            async with asyncio.timeout(seconds):
                await read.woken.wait()
        except TimeoutError:
            return seconds >= left
        except asyncio.CancelledError:
            self._wake(wait.bucket, RELEASED_PER_REPLY)
            raise
        finally:
            del queue[read]
            if not queue:
                self._queues.pop(wait.bucket, None)
        return False

    def _wake(self, pool: BucketName, count: int) -> None:
        """Wake the first *count* reads in the queue of *pool*, to ask the limiter again."""
        for read in itertools.islice(self._queues.get(pool, ()), count):
            read.woken.set()

    def apply(self, news: LimitChanges) -> None:
        """Wake reads that wait, to go on or be refused, after these *news* of the limits."""
        for name in news.stopped:
            self._observer.stopped(name.label)
            _log.warning(
                "a limit of Graph's is reached: %s; it is left alone until there is allowance", _bucket_text(name)
            )
        if news.stopped:  # the last first: each that must wait again moves to the front
            for read in [read for queue in self._queues.values() for read in reversed(queue)]:
                read.woken.set()
        elif news.eased:
            for pool in self._queues:
                self._wake(pool, 1)


def _with_detail(reply: Reply, decided: str) -> Reply:
    """Return *reply* with the rate limiter's decision as its detail, unless it has a detail already."""
    return replace(reply, detail=reply.detail or decided)


def _bucket_text(name: BucketName) -> str:
    return f"{name.label} {name.id or name.owner.hex()[:12]}".rstrip()
