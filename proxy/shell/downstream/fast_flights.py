"""Plain reads that wait for Graph without a task for each: callers' connections wait, and are written to.

What is not an ordinary answer is handed to the layers' own functions, in a task; what they cannot settle either goes
the usual way from its beginning.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from proxy.core.batch.lanes import Lane
from proxy.core.batch.request import batch_part
from proxy.core.batch.response import Slot
from proxy.core.cache import policy
from proxy.core.fast_path.answer_template import Filled
from proxy.core.fast_path.batch_answer import BatchAnswer, SettledSlot
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.fast_path.prepared_reply import field_lines
from proxy.core.graph import paging
from proxy.core.http import errors
from proxy.core.memory.memo import Memo
from proxy.core.model import Channel, Entry, Mode, Reply, Request
from proxy.core.observe.access_log import Outcome, Varying
from proxy.core.quota.ledger import RequestCost
from proxy.core.reply.response_head import framed, http_date
from proxy.shell.downstream.read import ReadHandler, log_fault
from proxy.shell.http.protocol import Connection
from proxy.shell.observe.prepared import PreparedCount
from proxy.shell.pipeline import cost_context
from proxy.shell.pipeline.batch_queue import BatchCall, BatchQueue
from proxy.shell.pipeline.batcher import Batcher
from proxy.shell.pipeline.cache import Cache, Inquiry
from proxy.shell.pipeline.coalescer import Coalescer
from proxy.shell.pipeline.rate_limiter import RateLimiter

_PAGING = b'"paging"'


@dataclass(slots=True, eq=False)
class WaitingCaller:
    """A connection whose caller waits for the reply to a read."""

    flight: FastFlight
    connection: Connection
    read: PreparedRead
    head: bytes  # of the message, for it may have to go the usual way
    bill: RequestCost
    began: float
    is_first: bool

    def leave(self) -> None:
        """Note that the caller has hung up."""
        self.flight.flights.leave(self)

    def break_off(self, error: errors.SidecarError) -> None:
        """Answer with *error*: the sidecar ends."""
        self.flight.flights.leave(self)
        self.flight.flights.send_to(self, errors.reply_of(error))


@dataclass(slots=True, eq=False)
class FastFlight:
    """One read that is asked, and the callers that wait for its reply; it waits in the batch queue by itself."""

    flights: FastFlights
    read: PreparedRead
    entry: Entry | None  # what is held of it
    request: Request  # with the validator of what is held
    bill: RequestCost
    since: float
    asked: float  # epoch seconds
    left: float = 0.0
    lane: Lane | None = None
    call: BatchCall | None = None
    queue: BatchQueue | None = None
    callers: dict[WaitingCaller, None] = field(default_factory=dict)  # in their order
    waiting: int = 0  # callers, and tasks that have joined
    has_time: bool = False
    is_done: bool = False  # whether Graph has answered, or will not
    is_over: bool = False  # whether the callers have been answered
    reply: asyncio.Future[Reply] | None = None  # where a task has joined
    resolving: asyncio.Task[Reply] | None = None

    # --- for the coalescer ---

    @property
    def names(self) -> tuple[str, ...]:
        """Return the cache tags of what it reads."""
        return self.flights.coalescer.names(self.read.request)

    def future(self) -> asyncio.Future[Reply]:
        """Return the reply to come, for a task."""
        if self.reply is None:
            self.reply = asyncio.get_running_loop().create_future()
        return self.reply

    def cancel(self) -> None:
        """End: nobody waits any more, and nothing is asked for it."""
        self.is_over = self.is_done = True
        if self.queue is not None:
            self.queue.give_up(self)
        if self.resolving is not None:
            self.resolving.cancel()
        if self.reply is not None:
            self.reply.cancel()

    # --- for the batch queue ---

    def part(self) -> bytes:
        """Return the read as an operation in the body of a batch."""
        return self.read.part

    def take(self, slot: Slot, answer: BatchAnswer) -> bool:
        """Answer all callers by *slot* of a batch's *answer* if that is an ordinary one; else do nothing."""
        return not self.is_done and self.flights.take(self, slot, answer)

    def answer(self, reply: Reply, batch: str = "") -> None:
        """Let the layers say what becomes of *reply*, which came in *batch*."""
        if not self.is_done:
            waited = self.left - self.since + (reply.window_s or 0.0)
            lane = self.lane.name if self.lane and batch else reply.lane
            self.flights.settle(self, replace(reply, window_s=waited, batch=batch or reply.batch, lane=lane))

    def fail(self, error: BaseException) -> None:
        """Let the layers say what becomes of *error*."""
        if not self.is_done:
            self.flights.settle(self, error)


@dataclass(slots=True)
class FastFlights:
    """Asks for reads in batches, equal ones once, and writes the replies."""

    coalescer: Coalescer
    cache: Cache
    limiter: RateLimiter
    batcher: Batcher
    reader: ReadHandler
    now: Callable[[], float]  # epoch seconds
    is_leaving: Callable[[], bool]
    callers: set[WaitingCaller]  # all of them
    _usage: Memo[..., bytes] = field(default_factory=lambda: Memo(field_lines))
    _date: tuple[int, bytes] = (0, b"")

    def ask(self, connection: Connection, read: PreparedRead, head: bytes, entry: Entry | None) -> bool:
        """Let *connection* wait for the reply to *read*, if that is asked in the ordinary way; return whether it is.

        *entry* is what memory holds of it.
        """
        began, known = self.reader.clock(), self.coalescer.find(read.flight)
        if known is None:
            flight = self._open(read, entry, began)
            if flight is None:
                return False
            bill = flight.bill
        elif isinstance(known, FastFlight):
            flight, bill = known, self._cost(read)
        else:
            return False
        caller = WaitingCaller(flight, connection, read, head, bill, began, is_first=known is None)
        flight.waiting += 1
        flight.callers[caller] = None
        self.callers.add(caller)
        connection.wait_for(caller)
        return True

    def leave(self, caller: WaitingCaller) -> None:
        """Let *caller* wait no more; a flight that nobody waits for ends."""
        if caller in self.callers:
            self.callers.discard(caller)
            flight = caller.flight
            del flight.callers[caller]
            self.coalescer.leave(flight.read.flight, flight)

    def _open(self, read: PreparedRead, entry: Entry | None, now: float) -> FastFlight | None:
        """Return a flight for *read*; None where the read is not asked, or not at once, or not in a batch."""
        request = read.request
        if request.channel is not Channel.BATCH:
            return None
        if not read.asks_always or not self.cache.is_near(read.key, entry):
            question = self.cache.question(request, read.key)
            if question is None:
                return None
            entry = question[1]
        if not self.limiter.goes_at_once(read.subject, request):
            return None
        validator = policy.validator_for(entry.meta, request) if entry is not None else ""
        if read.asked is None or read.asked.validator != validator:
            read.asked = request.with_validator(validator)
            read.part = batch_part(read.asked)
        flight = FastFlight(self, read, entry, read.asked, self.reader.telemetry.nobody, now, self.now())
        try:
            flight.queue = self.batcher.enqueue(flight)
        except errors.Overloaded:
            return None
        flight.bill = self._cost(read)
        self.coalescer.lead(read.flight, flight)
        return flight

    def _cost(self, read: PreparedRead) -> RequestCost:
        """Return the cost record of one more request for *read*."""
        if read.cost is None:
            read.cost = self.reader.telemetry.prepare_cost(read.request, read.fingerprint)
        cost: RequestCost = read.cost.open()
        return cost

    # --- ordinary answers ---

    def take(self, flight: FastFlight, slot: Slot, answer: BatchAnswer) -> bool:
        """Answer the callers of *flight* by *slot* of *answer*; return False where the layers have to."""
        if not self._is_ordinary(flight) or not self.cache.is_undisturbed(flight.entry):
            return False
        try:
            settled = answer.settle(flight.read, flight.entry, slot, flight.asked)
            filled = None if settled is None else self._head(answer, settled, is_shared=False)
            if settled is None or filled is None:
                return False
            if len(flight.callers) > 1 and self._head(answer, settled, is_shared=True) is None:
                return False
        except Exception as fault:  # noqa: BLE001 - told, and the layers answer
            log_fault(fault)
            return False
        flight.is_done = True
        settled = self._keep(flight, settled, filled)
        self._land(flight)
        for caller in flight.callers:
            self.callers.discard(caller)
            try:
                self._tell(caller, flight, answer, settled)
            except Exception as fault:  # noqa: BLE001 - as above
                log_fault(fault)
                caller.connection.go_the_usual_way(caller.head)
        flight.callers = {}
        return True

    def _head(self, answer: BatchAnswer, settled: SettledSlot, *, is_shared: bool) -> Filled | None:
        return answer.head(settled, self._today(), is_shared=is_shared)

    def _keep(self, flight: FastFlight, settled: SettledSlot, filled: Filled) -> SettledSlot:
        """Learn and hold what was *settled*; return it with whether it is held."""
        read, entry = flight.read, settled.entry
        self.limiter.take_usage(read.subject, settled.usage)
        if (fields := entry.meta.etag.encode().join(filled.stored)) != entry.headers:
            entry = Entry(entry.meta, fields, entry.body)
        if settled.mode is Mode.REVALIDATED:
            self.cache.keep_confirmed(read.request, read.key, entry)
            return settled
        is_held = self.cache.keep_new(read.request, read.key, read.fingerprint, entry)
        return settled if is_held else settled._replace(is_stored=False)

    def _is_ordinary(self, flight: FastFlight) -> bool:
        """Whether the callers of *flight* get replies that can be made from templates, and it was asked once only."""
        if flight.reply is not None or flight.bill.sent or self.is_leaving():
            return False
        return all(caller.read.is_ordinary for caller in flight.callers)

    def _tell(
        self,
        caller: WaitingCaller,
        flight: FastFlight,
        answer: BatchAnswer,
        settled: SettledSlot,
    ) -> None:
        """Write the reply to *caller*, count and log it."""
        read, reader = caller.read, self.reader
        filled = self._head(answer, settled, is_shared=not caller.is_first)
        assert filled is not None  # noqa: S101 - `take` has seen that there are templates
        meta, body = settled.entry.meta, settled.entry.body
        given = body
        if _PAGING in body and (origin := read.link_origin).origin:
            given = paging.rewrite(body, origin.hosts, origin.origin)
        now = reader.now()
        reader.quota.on_ordinary_delivery(read.subject, now)
        newest = b""
        if filled.takes_newest and (usage := reader.quota.newest_usage_of(read.fingerprint, read.node, now)[0]):
            newest = self._usage(usage)
        window_s, upstream_s = flight.left - flight.since, answer.outer.upstream_s or 0.0
        tail = filled.tail % (window_s * 1000, upstream_s * 1000, len(given))
        caller.connection.answer(b"".join((meta.etag.encode().join(filled.head), newest, tail, given)))
        seconds = reader.clock() - caller.began
        varying = Varying(seconds, None, window_s, upstream_s, answer.id, answer.lane)
        self._count(caller, settled, len(given)).add(varying, caller.bill)

    def _count(self, caller: WaitingCaller, settled: SettledSlot, size: int) -> PreparedCount:
        """Return what counts and logs a reply to *caller*."""
        read, body = caller.read, settled.entry.body
        mode = settled.mode if caller.is_first else Mode.COALESCED
        known = read.counts.get(mode) if read.counts is not None else None
        if known is not None and known[0] is body and known[1] == settled.usage:
            count: PreparedCount = known[2]
            return count
        telemetry = self.reader.telemetry
        fields = (("ETag", settled.entry.meta.etag), *settled.usage)
        reply = Reply(200, fields, body, mode, joined=settled.mode if mode is Mode.COALESCED else None)
        is_shared = not caller.is_first
        outcome = Outcome(200, size, 0.0, 1, avoided=int(is_shared), sent=int(not is_shared))
        if read.cost is None:
            read.cost = telemetry.prepare_cost(read.request, read.fingerprint)
        count = telemetry.prepare_answer(read.request, reply, read.cost, outcome)
        if settled.mode is Mode.REVALIDATED:  # a new body is told of once
            read.counts = {**(read.counts or {}), mode: (body, settled.usage, count)}
        return count

    def _land(self, flight: FastFlight) -> None:
        """Let nobody join *flight* any more."""
        flight.is_over = True
        self.coalescer.land(flight.read.flight, flight)

    def _today(self) -> bytes:
        """Return the value of Date now."""
        second = int(time.time())
        if self._date[0] != second:
            self._date = second, http_date(second).encode()
        return self._date[1]

    # --- all other answers ---

    def settle(self, flight: FastFlight, answer: Reply | BaseException) -> None:
        """Let the layers say what becomes of Graph's *answer*, or of an error in its place."""
        flight.is_done = True
        try:
            if isinstance(answer, Reply):
                self.limiter.take(flight.read.subject, answer)
                reply = self.cache.conclude(self._inquiry(flight), flight.entry, answer)
                if reply is not None:
                    self._deliver(flight, reply)
                    return
            self._resolve(flight, answer)
        except Exception as fault:  # noqa: BLE001 - told, and the callers get their answers all the same
            self._deliver(flight, fault)

    def _inquiry(self, flight: FastFlight) -> Inquiry:
        return self.cache.inquiry(flight.request, flight.read.key, flight.entry, flight.asked)

    def _resolve(self, flight: FastFlight, answer: Reply | BaseException) -> None:
        """Let the cache say what becomes of an *answer* that is not an ordinary one."""
        if not isinstance(answer, Reply | errors.SidecarError):
            self._deliver(flight, answer)
            return
        with cost_context.charged_to(flight.bill):
            flight.resolving = asyncio.ensure_future(self.cache.resolve(self._inquiry(flight), answer))
        flight.resolving.add_done_callback(partial(self._on_resolved, flight))

    def _on_resolved(self, flight: FastFlight, resolved: asyncio.Task[Reply]) -> None:
        if not resolved.cancelled():
            self._deliver(flight, resolved.exception() or resolved.result())

    def _deliver(self, flight: FastFlight, answer: Reply | BaseException) -> None:
        """Give *answer* to all who wait."""
        self._land(flight)
        if (joined := flight.reply) is not None and not joined.done():
            if isinstance(answer, BaseException):
                joined.set_exception(answer)
                joined.exception()  # looked at, so that a failure that everybody left is not reported as forgotten
            else:
                joined.set_result(answer)
        callers, flight.callers = flight.callers, {}
        for caller in callers:
            self.callers.discard(caller)
            try:
                self._answer(caller, answer)
            except Exception as fault:  # noqa: BLE001 - as above
                log_fault(fault)
                caller.connection.go_the_usual_way(caller.head)

    def _answer(self, caller: WaitingCaller, answer: Reply | BaseException) -> None:
        if isinstance(answer, Reply):
            reply = answer if caller.is_first else answer.shared()
        elif isinstance(answer, errors.SidecarError) and not isinstance(answer, errors.Large):
            reply = errors.reply_of(answer)
        else:
            if not isinstance(answer, errors.Large) and isinstance(answer, Exception):
                log_fault(answer)
            caller.connection.go_the_usual_way(caller.head)
            return
        reader, read = self.reader, caller.read
        reader.quota.on_delivered_reply(read.subject, reply, reader.now())
        rendered = reader.render(read.read, reply, caller.bill, read.link_origin, reader.clock() - caller.began)
        self.send_to(caller, rendered)

    def send_to(self, caller: WaitingCaller, reply: Reply) -> None:
        """Write *reply*, the last one of its connection if the sidecar is about to end."""
        keeps = not self.is_leaving()
        head, body = framed(reply, http_date(int(time.time())), keeps=keeps)
        caller.connection.answer(head, body, keeps=keeps)
