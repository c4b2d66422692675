"""`FastFlights` of a replica that shares: each flight takes its lease in the shared store before it waits for a batch.

What the store's answer leaves plain is done here: a flight that this replica leads, or asks for alone, waits for a
batch, and an entry that another replica has fetched is held, so that the callers are answered from memory. The layers
see to everything else: they follow the flights of other replicas, and take over those of dead ones.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from msgspec.structs import replace

from proxy.core.fast_path.batch_answer import AnswerKind
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.http import errors
from proxy.core.model import Channel, Entry, Mode, Reply
from proxy.shell.downstream.fast_flight import FastFlight, Moment
from proxy.shell.downstream.fast_flights import FastFlights
from proxy.shell.http.protocol import Connection
from proxy.shell.observe.faults import log_fault
from proxy.shell.pipeline.cache import ForwardedRead
from proxy.shell.pipeline.shared.cache import SharedCache
from proxy.shell.pipeline.shared.forwarded_read import SharedForwardedRead
from proxy.shell.valkey.entries import Found
from proxy.shell.valkey.leases import Joined, LeaseAnswer, Led
from proxy.shell.valkey.shared import ENDS_AT, Shared


class SharedFastFlight(FastFlight):
    """One read that is asked for the callers of all replicas, if this replica has the lease."""

    led: Led | None = None
    asking: SharedForwardedRead | None = None
    """What is asked; from when this replica knows that it asks Graph."""

    def cancel(self) -> None:
        """End: no caller waits any more, and nothing is asked for the flight."""
        super().cancel()
        cast("SharedFastFlights", self.flights).release(self)


@dataclass(kw_only=True)
class SharedFastFlights(FastFlights):
    """Asks for reads in batches, equal ones once in all replicas, and writes the replies."""

    shared: Shared
    shared_cache: SharedCache
    take: Callable[[Connection, bytes], bool] = lambda _connection, _head: False  # the fast path's

    def join(self, read: PreparedRead, entry: Entry | None, began: float) -> FastFlight | None:
        """As `FastFlights.join`; None where writes of other replicas may be unknown, or the store is away."""
        if self.shared.trust.until <= began or not self.shared.fleet.client.is_up:
            return None
        return super().join(read, entry, began)

    def begin_flight(self, read: PreparedRead, entry: Entry | None, now: float) -> FastFlight | None:
        """Return a new flight for *read*, which waits for the shared store."""
        flight = SharedFastFlight(self, read, entry, now, self.now())
        self.shared_cache.begin_lead_or_join(read, entry, partial(self._on_lease_answer, flight))
        return flight

    # --- the store's answer ---

    def _on_lease_answer(self, flight: SharedFastFlight, answer: LeaseAnswer) -> None:
        """Go on with *flight* as the store's *answer* says."""
        role, value = answer
        if isinstance(role, Led):
            flight.led = role
        if flight.is_over:  # all callers have left
            self.release(flight)
            return
        try:
            self._go_on(flight, role, value)
        except Exception as fault:  # noqa: BLE001 - told, and the callers get their answers all the same
            log_fault(fault)
            self.deliver(flight, fault)

    def _go_on(self, flight: SharedFastFlight, role: Led | Joined | None, value: bytes | None) -> None:
        read, entry, cache = flight.read, flight.entry, self.shared_cache
        loaded = None if value is None else cache.read_value(read.request, read.key, value)
        if value is not None and (entry is None or cache.is_better(read.request, read.key, entry.meta, loaded)):
            self._answer_from_store(flight, loaded)
            return
        flight.since, flight.asked = self.reader.clock(), self.now()
        flight.asking = cache.asked_now(read, entry, flight.asked, flight.led, loaded)
        if isinstance(role, Joined) or not self.is_quiet() or not self.enqueue(flight):
            flight.asking = replace(flight.asking, cost=flight.record())
            self._leave_to_layers(flight, cache.fly(flight.asking, role, loaded))

    def _answer_from_store(self, flight: SharedFastFlight, loaded: Found | None) -> None:
        """Hold the entry that another replica has fetched, and let the callers ask again."""
        read, cache = flight.read, self.shared_cache
        self.release(flight)
        found = cache.hold(read.request, read.key, loaded)
        if flight.reply is not None or not (self.is_quiet() and cache.is_in_memory(read.key)):
            self._leave_to_layers(flight, cache.answer_found(read.request, read.key, flight.record(), found))
            return
        flight.is_done = flight.is_over = True
        self.coalescer.land(read.flight, flight)
        callers, flight.callers = flight.callers, {}
        mark = ENDS_AT.set(flight.since + self.shared.budget_s)
        try:
            for caller in callers:
                self.callers.discard(caller)
                caller.ask_again(self.take)
        finally:
            ENDS_AT.reset(mark)

    def _leave_to_layers(self, flight: SharedFastFlight, asking: Coroutine[Any, Any, Reply]) -> None:
        flight.is_done, flight.takes_slots = True, False
        self.leave_to(flight, asking)

    # --- Graph's answer ---

    def forwarded(self, flight: FastFlight) -> ForwardedRead:
        """As `FastFlights.forwarded`."""
        asking = cast("SharedFastFlight", flight).asking
        return super().forwarded(flight) if asking is None else asking

    def hand_out(self, flight: FastFlight, kind: AnswerKind, entry: Entry, moment: Moment) -> None:
        """As `FastFlights.hand_out`; then let the other replicas have what Graph said."""
        super().hand_out(flight, kind, entry, moment)
        try:
            self._share(cast("SharedFastFlight", flight), kind, entry)
        except Exception as fault:  # noqa: BLE001 - told; the callers have their answers
            log_fault(fault)
            self.release(flight)

    def _share(self, flight: SharedFastFlight, kind: AnswerKind, entry: Entry) -> None:
        asking, etag = flight.asking, entry.meta.etag
        assert asking is not None  # noqa: S101 - it was asked
        is_confirmed = kind.mode is Mode.REVALIDATED
        kept = entry if kind.keeps_fields else Entry(entry.meta, kind.own.stored, entry.body)
        self.shared_cache.share(asking, kept, is_new=not is_confirmed)
        if asking.flight is not None:
            status, body = (304, b"") if is_confirmed else (200, entry.body)
            asking.flight.answer = Reply(status, kind.graph_fields(etag), body, channel=Channel.BATCH)
            asking.flight.mode = kind.mode
            self.shared_cache.land(asking, asking.flight)

    def deliver(self, flight: FastFlight, answer: Reply | BaseException) -> None:
        """As `FastFlights.deliver`; then let the other replicas have what Graph said."""
        super().deliver(flight, answer)
        asking = cast("SharedFastFlight", flight).asking
        if asking is not None and asking.flight is not None and isinstance(answer, Reply | errors.SidecarError):
            self.shared_cache.land(asking, asking.flight)
        self.release(flight)

    def release(self, flight: FastFlight) -> None:
        """Give the lease of *flight* back, if this replica still has it."""
        led = cast("SharedFastFlight", flight).led
        if led is not None:
            self.shared.flights.release(led)
