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

from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.http import errors
from proxy.core.model import Channel, Entry, Reply
from proxy.core.quota.ledger import RequestCost
from proxy.core.reply.response_head import framed, http_date
from proxy.shell.downstream.read import ReadHandler, log_fault
from proxy.shell.http.protocol import Connection
from proxy.shell.pipeline import cost_context
from proxy.shell.pipeline.batch_queue import PendingRead
from proxy.shell.pipeline.batcher import Batcher
from proxy.shell.pipeline.cache import Cache, Inquiry
from proxy.shell.pipeline.coalescer import CoalescedFlight, Coalescer
from proxy.shell.pipeline.rate_limiter import RateLimiter


@dataclass(slots=True, eq=False)
class WaitingCaller:
    """A connection whose caller waits for the reply to a read."""

    flights: FastFlights
    connection: Connection
    read: PreparedRead
    flight: FastFlight
    head: bytes  # of the message, for it may have to go the usual way
    bill: RequestCost
    began: float
    is_first: bool

    def leave(self) -> None:
        """The caller has hung up."""
        self.flights.leave(self)

    def break_off(self, error: errors.SidecarError) -> None:
        """Tell the caller of *error*: the sidecar ends."""
        self.flights.leave(self)
        self.flights.send_to(self, errors.reply_of(error))


@dataclass(slots=True, eq=False)
class FastFlight:
    """One read that is asked, and the connections that wait for its reply."""

    read: PreparedRead
    inquiry: Inquiry
    entry: Entry | None
    coalesced: CoalescedFlight
    pending: PendingRead
    waiting: list[WaitingCaller] = field(default_factory=list)
    resolving: asyncio.Task[Reply] | None = None


@dataclass(slots=True)
class FastFlights:
    """Asks for reads in batches, twins once, and writes the replies."""

    coalescer: Coalescer
    cache: Cache
    limiter: RateLimiter
    batcher: Batcher
    reader: ReadHandler
    is_leaving: Callable[[], bool]
    callers: set[WaitingCaller]  # all of them
    _flights: dict[CoalescedFlight, FastFlight] = field(default_factory=dict)

    def ask(self, connection: Connection, read: PreparedRead, head: bytes) -> bool:
        """Let *connection* wait for the reply to *read*, if that is asked in the ordinary way; False: it is not."""
        began, known = self.reader.clock(), self.coalescer.find(read.flight)
        flight = self._open(read) if known is None else self._flights.get(known)
        if flight is None or (known is not None and known.has_time):
            return False
        bill = self.reader.telemetry.asked(read.request.path, read.request.query, read.fingerprint)
        if known is None:
            flight.pending.bill = bill
        else:
            known.waiting += 1
        caller = WaitingCaller(self, connection, read, flight, head, bill, began, is_first=known is None)
        flight.waiting.append(caller)
        self.callers.add(caller)
        connection.wait_for(caller)
        return True

    def leave(self, caller: WaitingCaller) -> None:
        """*caller* waits no more; a flight that nobody waits for ends."""
        if caller in self.callers:
            self.callers.discard(caller)
            flight = caller.flight
            flight.waiting.remove(caller)
            self.coalescer.leave(flight.read.flight, flight.coalesced)

    def _open(self, read: PreparedRead) -> FastFlight | None:
        """A flight for *read*; None where the read is not asked, or not at once, or not in a batch."""
        request = read.request
        if request.channel is not Channel.BATCH:
            return None
        asked = self.cache.question(request, read.key)
        if asked is None or not self.limiter.goes_at_once(read.subject, request):
            return None
        inquiry, entry = asked
        try:
            pending = self.batcher.enqueue(inquiry.request)
        except errors.Overloaded:
            return None
        coalesced = self.coalescer.lead(read.flight, request)
        flight = FastFlight(read, inquiry, entry, coalesced, pending)
        self._flights[coalesced] = flight
        coalesced.reply.add_done_callback(partial(self._end, flight))
        pending.reply.add_done_callback(partial(self._on_answer, flight))
        return flight

    def _end(self, flight: FastFlight, reply: asyncio.Future[Reply]) -> None:
        """The flight is over; where nobody waits for it any more, nothing is asked for it."""
        self._flights.pop(flight.coalesced, None)
        if reply.cancelled():
            flight.pending.reply.cancel()
            if flight.resolving is not None:
                flight.resolving.cancel()

    def _on_answer(self, flight: FastFlight, pending: asyncio.Future[Reply]) -> None:
        """Graph has answered, or could not."""
        if pending.cancelled() or flight.coalesced.reply.cancelled():
            return
        answer: Reply | BaseException = pending.exception() or pending.result()
        try:
            if isinstance(answer, Reply):
                self.limiter.take(flight.read.subject, answer)
                reply = self.cache.conclude(flight.inquiry, flight.entry, answer)
                if reply is not None:
                    self._deliver(flight, reply)
                    return
            self._resolve(flight, answer)
        except Exception as fault:  # noqa: BLE001 - told, and the callers get their answers all the same
            self._deliver(flight, fault)

    def _resolve(self, flight: FastFlight, answer: Reply | BaseException) -> None:
        """Let the cache say what becomes of an *answer* that is not an ordinary one."""
        if not isinstance(answer, Reply | errors.SidecarError):
            self._deliver(flight, answer)
            return
        with cost_context.charged_to(flight.pending.bill):
            flight.resolving = asyncio.ensure_future(self.cache.resolve(flight.inquiry, answer))
        flight.resolving.add_done_callback(partial(self._on_resolved, flight))

    def _on_resolved(self, flight: FastFlight, resolved: asyncio.Task[Reply]) -> None:
        if not resolved.cancelled():
            self._deliver(flight, resolved.exception() or resolved.result())

    def _deliver(self, flight: FastFlight, answer: Reply | BaseException) -> None:
        """Give *answer* to all who wait."""
        self._flights.pop(flight.coalesced, None)
        self.coalescer.land(flight.read.flight, flight.coalesced, answer)
        waiting, flight.waiting = flight.waiting, []
        for caller in waiting:
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
