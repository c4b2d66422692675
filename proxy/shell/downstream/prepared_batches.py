"""Answers batches of applications that hold nothing but plain reads, without a task for each read.

The reads wait for the same calls to Graph as single ones. What is not an ordinary answer is filled in as in any other
batch, by `ClientBatchSlots`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from proxy.core.batch.lanes import Route
from proxy.core.batch.response import Slot
from proxy.core.client_batch.prepared_operations import PreparedBatch, PreparedOperations
from proxy.core.client_batch.prepared_slot import SlotTemplate, newest_fields
from proxy.core.fast_path.answer_template import Filled
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.fast_path.prepared_reply import FreshHit
from proxy.core.http.errors import Overloaded
from proxy.core.memory.memo import Memo
from proxy.core.model import Entry, Request
from proxy.shell.downstream.client_batch_slots import ClientBatchSlots
from proxy.shell.downstream.confirmed_reads import AskedReads, KeptArrays, are_alike, by_route, ready_reads
from proxy.shell.downstream.fast_flights import FastFlights
from proxy.shell.downstream.flight_group import FlightGroup
from proxy.shell.downstream.waiting_batch import AnsweredRead, WaitingBatch
from proxy.shell.http.turns import MOST_ITEMS, pause
from proxy.shell.observe.faults import log_fault
from proxy.shell.pipeline.batcher import QueueOfRead
from proxy.shell.store.store import Store

Entries = Mapping[int, Entry | None] | Sequence[Entry | None]
"""What memory holds of reads, by their places."""


@dataclass(slots=True)
class PreparedBatches:
    """Asks for the reads of batches."""

    operations: PreparedOperations
    flights: FastFlights
    store: Store
    is_open: Callable[[], bool]  # whether reads may be answered here now
    grow: Callable[[int], None]  # counts bytes that are kept with reads
    plain_hit: Callable[[PreparedRead, Entry, float, float], FreshHit | None]  # the fast path's
    time_of_day: Callable[[], float]
    templates: dict[tuple[Filled, bool], SlotTemplate] = field(default_factory=dict)
    arrays: KeptArrays = field(default_factory=KeptArrays)
    alike: Sequence[Slot | None] = ()  # the slots of late that were alike
    newest: Memo[..., bytes] = field(default_factory=lambda: Memo(newest_fields))

    def is_ready(self) -> bool:
        """Whether batches are answered here now."""
        return self.is_open() and self.flights.is_calm()

    def are_alike(self, slots: Sequence[Slot | None]) -> bool:
        """Whether all *slots* confirm what is held, in the same words; those of equal answers are the same objects."""
        if slots is not self.alike:
            if not are_alike(slots):
                return False
            self.alike = slots
        return True

    async def ask(self, slots: ClientBatchSlots, batch: PreparedBatch) -> list[AnsweredRead]:
        """Fill the *slots* of *batch*; return those that got no ordinary answer, if the token on top got none.

        Raises Large.
        """
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = WaitingBatch(self, slots, partial(_resolve, answered))
        try:
            self.begin(waiting, batch)
            await answered
        finally:
            waiting.end()
        return waiting.unordinary()

    def begin(self, waiting: WaitingBatch, batch: PreparedBatch) -> None:
        """Answer the reads of *batch* from memory or ask for them, at once or, if many, in turns of the event loop."""
        size = len(batch.reads)
        if size > MOST_ITEMS:
            waiting.keep(asyncio.ensure_future(self._begin_in_turns(waiting, batch)))
            return
        entries = self.store.memory.get_all(batch.keys)
        if batch.is_alike and None not in entries:
            self._ask(waiting, batch, entries, range(size))
            return
        left = self._fill_fresh(waiting, batch, entries, range(size))
        at_once = [at for at in left if self._is_asked_at_once(batch.reads[at], entries[at])]
        if len(at_once) == len(left):
            self._ask(waiting, batch, entries, at_once)
        else:
            waiting.keep(asyncio.ensure_future(self._ask_in_turns(waiting, batch, left, at_once)))

    async def _begin_in_turns(self, waiting: WaitingBatch, batch: PreparedBatch) -> None:
        """Answer the reads of *batch* from memory or ask for them, in turns of the event loop."""
        left, at_once = list[int](), list[int]()
        try:
            for start in range(0, len(batch.reads), MOST_ITEMS):
                if start:
                    await pause()
                places = range(len(batch.reads))[start : start + MOST_ITEMS]
                entries = self._held(batch, places)
                found = self._fill_fresh(waiting, batch, entries, places)
                left += found
                at_once += [at for at in found if self._is_asked_at_once(batch.reads[at], entries[at])]
            await self._ask_in_turns(waiting, batch, left, at_once)
        except Exception as fault:  # noqa: BLE001 - raised again where the batch is waited for
            waiting.fail(fault)

    def _held(self, batch: PreparedBatch, places: Sequence[int]) -> dict[int, Entry | None]:
        """Return what memory holds of the reads at these *places* of *batch*."""
        return {at: self.store.in_memory(batch.reads[at].key) for at in places}

    def _fill_fresh(
        self, waiting: WaitingBatch, batch: PreparedBatch, entries: Entries, places: Sequence[int]
    ) -> Sequence[int]:
        """Fill the slots of reads whose *entries* are plainly fresh; return those of *places* that are left."""
        now, began, left = self.time_of_day(), self.flights.reader.clock(), list[int]()
        for at in places:
            read, entry = batch.reads[at], entries[at]
            try:
                hit = None if entry is None or read.asks_always else self.plain_hit(read, entry, began, now)
                is_filled = hit is not None and entry is not None and waiting.fill_fresh(at, read, entry, hit, now)
            except Exception as fault:  # noqa: BLE001 - logged, and the layers answer
                log_fault(fault)
                is_filled = False
            if not is_filled:
                left.append(at)
        return left

    def _is_asked_at_once(self, read: PreparedRead, entry: Entry | None) -> bool:
        """Whether Graph is asked for *read*, of which *entry* is in memory, and the disk need not be looked at."""
        if read.is_low_priority or (entry is None and not self.flights.is_unknown(read.key)):
            return False
        return read.asks_always or self.flights.cache.forward_from_memory(read.request, read.key) is not None

    async def _ask_in_turns(
        self, waiting: WaitingBatch, batch: PreparedBatch, left: Sequence[int], at_once: Sequence[int]
    ) -> None:
        """Ask for the reads at the places *at_once* of *batch* in turns, once the others of those *left* have begun."""
        try:
            others = sorted({*left}.difference(at_once))
            for at in others:
                waiting.ask_the_layers(at, batch.reads[at])
            if others:
                await asyncio.sleep(0)  # they join their batch in the next turn, and so do the rest
            for start in range(0, len(at_once), MOST_ITEMS):
                if start:
                    await pause()
                places = at_once[start : start + MOST_ITEMS]
                self._ask(waiting, batch, self._held(batch, places), places)
        except Exception as fault:  # noqa: BLE001 - raised again where the batch is waited for
            waiting.fail(fault)

    def _ask(self, waiting: WaitingBatch, batch: PreparedBatch, entries: Entries, places: Sequence[int]) -> None:
        """Ask for the reads at these *places* of *batch*, for which Graph is asked; *entries* are what is held."""
        together = self._ask_together(waiting, batch, entries, places)
        if len(together) < len(places):
            for at in places:
                if at not in together:
                    waiting.ask(at, batch.reads[at])

    def _ask_together(
        self, waiting: WaitingBatch, batch: PreparedBatch, entries: Entries, at_once: Sequence[int]
    ) -> frozenset[int]:
        """Ask for reads at the places *at_once* of *batch* in groups; return the places of those that were asked.

        Reads that are under way already, and repetitions, are not asked here.
        """
        under_way, reads = self.flights.coalescer.flights, batch.reads
        if not batch.is_alike or not self.flights.is_calm():
            return frozenset()
        if len(at_once) < len(reads) or not batch.has_no_twins or not under_way.keys().isdisjoint(batch.places.keys()):
            firsts = [at for at in at_once if batch.places[reads[at].flight] == at]
            at_once = [at for at in firsts if reads[at].flight not in under_way]
        asked = frozenset[int]()
        for queue, places, routes in self._by_queue(batch, at_once):
            if len(places) > 1 and self._wait(queue, self._asked(waiting, batch, entries, places, routes)):
                asked = asked.union(places)
        return asked

    def _by_queue(
        self, batch: PreparedBatch, at_once: Sequence[int]
    ) -> Sequence[tuple[QueueOfRead, Sequence[int], set[Route]]]:
        """Return the places of reads by the queues in which they wait, with their routes."""
        for read in batch.kinds:
            read.common.queue = self.flights.batcher.queue_of(read.request, read.common.queue)
        queues = {(read.common.queue.queue, read.common.queue.lane): read.common.queue for read in batch.kinds}
        if len(queues) == 1:
            (queue,) = queues.values()
            return [(queue, at_once, {read.common.queue.route for read in batch.kinds})]
        found = {each: (queue, list[int](), set[Route]()) for each, queue in queues.items()}
        for at in at_once:
            queue = batch.reads[at].common.queue
            _, places, routes = found[queue.queue, queue.lane]
            places.append(at)
            routes.add(queue.route)
        return list(found.values())

    def _asked(
        self, waiting: WaitingBatch, batch: PreparedBatch, entries: Entries, places: Sequence[int], routes: set[Route]
    ) -> AskedReads:
        """Return the reads at these *places* of *batch* as they are asked now."""
        flights, confirmed = self.flights, None
        if len(places) == len(batch.reads):
            reads, whole, indices = batch.reads, batch, batch.places
            held: Sequence[Entry | None] = entries if isinstance(entries, list) else [entries[at] for at in places]
        else:
            reads, held, whole = tuple([batch.reads[at] for at in places]), [entries[at] for at in places], None
            indices = {read.flight: at for at, read in enumerate(reads)}
        ready = ready_reads(reads, held)
        if ready is None:
            requests, parts = self._with_validators(reads, held)
        elif whole is not None and batch.confirmed is not None and batch.confirmed.is_of(ready):
            confirmed = batch.confirmed
            requests, parts = confirmed.requests, confirmed.parts
        else:
            requests, parts = [each.request for each in ready], [each.part for each in ready]
        now, asked, era = flights.reader.clock(), flights.now(), flights.era
        return AskedReads(
            flights,
            waiting,
            reads,
            places,
            held,
            requests,
            parts,
            indices,
            routes,
            now,
            asked,
            era,
            whole,
            ready,
            confirmed,
        )

    def _with_validators(
        self, reads: Sequence[PreparedRead], entries: Sequence[Entry | None]
    ) -> tuple[Sequence[Request], Sequence[bytes]]:
        """Return what *reads* ask with the validators of *entries*, and the same as operations of a batch."""
        for read, entry in zip(reads, entries, strict=True):
            if read.asked is None or read.asked_etag is not (entry.meta.etag if entry is not None else None):
                self.flights.ask_with(read, entry)
        return [read.asked or read.request for read in reads], [read.part for read in reads]

    def _wait(self, queue: QueueOfRead, asked: AskedReads) -> bool:
        """Let the reads in *asked* wait in *queue* as one group; return whether they do."""
        group, flights = FlightGroup(asked, range(len(asked.reads)), queue), self.flights
        try:
            queue.queue.add(group)
        except Overloaded:
            return False
        flights.note_urgent(asked.reads[0], asked.since)
        shares = asked.confirmed.shares if asked.confirmed is not None else by_route(flights, asked.reads).items()
        for counts, number, *_ in shares:
            counts.asked += number
            counts.wait_for_settling()
        flights.coalescer.flights.update(dict.fromkeys(asked.indices, group))
        asked.batch.groups.append(group)
        return True


def _resolve(answered: asyncio.Future[None], error: BaseException | None) -> None:
    if answered.done():
        return
    if error is None:
        answered.set_result(None)
    else:
        answered.set_exception(error)
        answered.exception()  # looked at, so that it is not reported as forgotten
