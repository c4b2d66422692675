"""Plain reads of one client's batch that wait for the same call to Graph as one object.

The slots in which Graph confirms what is held, in the same words, are taken together. A read leaves the group, and has
a `FastFlight` of its own, as soon as another caller joins it or anything else than such a slot comes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from functools import partial

from proxy.core.batch.lanes import Lane, Route
from proxy.core.batch.response import Slot
from proxy.core.fast_path.batch_answer import AnswerKind, BatchAnswer, confirmed
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.fast_path.prepared_reply import LARGEST_BODY
from proxy.core.model import Entry, Mode, Request
from proxy.core.observe.access_log import PreparedLine
from proxy.shell.downstream.confirmed_reads import AskedReads, ConfirmedReads, confirmed_reads, shares_of
from proxy.shell.downstream.fast_flight import FastFlight, Moment
from proxy.shell.downstream.waiting_batch import SlotCaller
from proxy.shell.observe.faults import log_fault
from proxy.shell.observe.route_counts import AnswersOfBatch, RouteCounts, Share
from proxy.shell.pipeline.batch_queue import BatchCall
from proxy.shell.pipeline.batcher import QueueOfRead
from proxy.shell.pipeline.queued_group import QueuedGroup


class GroupedFlight(FastFlight):
    """A read that has left its group, but not the group's place in the queue or in the call."""

    def __init__(self, group: FlightGroup, at: int) -> None:
        """Ask for the read at index *at*, as *group* did."""
        shared = group.shared
        super().__init__(shared.flights, shared.reads[at], shared.entries[at], shared.since, shared.asked)
        self.request, self.part, self.era = shared.requests[at], shared.parts[at], shared.era
        self.lane, self.left, self.call = group.lane, group.left, group.call
        self.group = group

    def cancel(self) -> None:
        """End, because no caller waits any more."""
        super().cancel()
        self.group.on_left()


class FlightGroup(QueuedGroup):
    """Those of the reads that were asked at one moment that stand at some *indices*."""

    def __init__(self, shared: AskedReads, indices: Sequence[int], place: QueueOfRead) -> None:
        """Wait in the queue of *place*."""
        self.shared = shared
        self.request = shared.requests[indices[0]]
        self.slots = len(indices)
        self.since = shared.since
        self.lane: Lane | None = place.lane
        self._place = place
        self._indices = indices
        self._left = 0.0
        self._call: BatchCall | None = None
        self._own: dict[int, FastFlight] = {}  # reads that have left the group, by their indices
        self._is_open = True  # whether the others are waited for
        self._taken: list[int] = []  # the indices of those of the others whose slots were taken
        self._sums: dict[RouteCounts, int] = {}  # how many of these there are of each route

    # --- for the coalescer ---

    def own(self, key: Hashable) -> FastFlight:
        """Return the flight of the read with this *key*, which leaves the group."""
        return self._own_flight(self.shared.indices[key])  # type: ignore[index] # of all keys, these are here

    def names(self, key: Hashable) -> tuple[str, ...]:
        """Return the cache tags of the read with this *key*."""
        read = self.shared.reads[self.shared.indices[key]]  # type: ignore[index] # as above
        return self.shared.flights.coalescer.names(read.request)

    def _own_flight(self, at: int) -> FastFlight:
        """Return the flight of the read at index *at*; one that is over if no caller waits for the read."""
        flight = self._own.get(at)
        if flight is not None:
            return flight
        shared = self.shared
        read, under_way = shared.reads[at], shared.flights.coalescer.flights
        flight = self._own[at] = GroupedFlight(self, at)
        if under_way.get(read.flight) is self:
            under_way[read.flight] = flight
        if self._is_open:
            caller = SlotCaller(flight, read, shared.since, True, batch=shared.batch, at=shared.places[at])
            flight.callers[caller] = None
            flight.waiting = 1
            shared.batch.callers.append(caller)
        else:
            flight.is_done = flight.is_over = True
        return flight

    # --- for the client's batch ---

    def leave(self) -> None:
        """Ask for nothing any more that no other caller waits for."""
        if self._is_open:
            self._is_open = False
            self._land()
            self.on_left()

    def on_left(self) -> None:
        """Leave the queue with the reads that are not waited for any more, or the call if no read is."""
        if self._call is None:
            self._keep_wanted()
            self._place.queue.shrink(self)
        if self._call is not None or not self.slots:
            self._place.queue.give_up(self)

    def _keep_wanted(self) -> None:
        self._indices = [at for at in self._indices if self._is_wanted(at)]
        self.slots = len(self._indices)

    def _land(self) -> None:
        """Let no later caller join the reads that are in the group."""
        reads, under_way = self.shared.reads, self.shared.flights.coalescer.flights
        for at in self._indices:
            key = reads[at].flight
            if under_way.get(key) is self:
                del under_way[key]

    # --- for the batch queue ---

    @property
    def left(self) -> float:
        """When the reads left for Graph."""
        return self._left

    @left.setter
    def left(self, left: float) -> None:
        self._left = left
        for flight in self._own.values():
            flight.left = left

    @property
    def call(self) -> BatchCall | None:
        """The call that the reads are in."""
        return self._call

    @call.setter
    def call(self, call: BatchCall | None) -> None:
        self._call = call
        for flight in self._own.values():
            flight.call = call

    @property
    def is_done(self) -> bool:
        """Whether every read was answered, has failed, or is no longer waited for."""
        return not any(map(self._is_wanted, self._indices))

    def split(self, slots: int) -> FlightGroup:
        """Return the first *slots* of the reads as a group; they no longer belong to this one."""
        shared, under_way = self.shared, self.shared.flights.coalescer.flights
        first = FlightGroup(shared, self._indices[:slots], self._place)
        first._is_open = self._is_open
        for at in first._indices:
            flight = self._own.pop(at, None)
            if isinstance(flight, GroupedFlight):
                first._own[at], flight.group = flight, first
            elif under_way.get(key := shared.reads[at].flight) is self:
                under_way[key] = first
        self._indices = self._indices[slots:]
        self.slots, self.request = len(self._indices), shared.requests[self._indices[0]]
        shared.batch.groups.append(first)
        return first

    def depart(self) -> tuple[Sequence[Request], Sequence[bytes]]:
        """Return the reads that are still wanted, and these as operations of the batch that leaves now."""
        shared = self.shared
        if self._own or not self._is_open:
            self._keep_wanted()
        if self.slots == len(shared.reads):
            return shared.requests, shared.parts
        return [shared.requests[at] for at in self._indices], [shared.parts[at] for at in self._indices]

    def _is_wanted(self, at: int) -> bool:
        flight = self._own.get(at)
        return self._is_open if flight is None else not flight.is_done

    def routes(self) -> Collection[Route]:
        """Return the routes of the reads that departed."""
        shared = self.shared
        if self.slots == len(shared.reads):
            return shared.routes
        return {shared.reads[at].common.queue.route for at in self._indices}

    def read(self, place: int) -> FastFlight:
        """Return the flight of the read at this *place* among those that departed."""
        return self._own_flight(self._indices[place])

    def fail(self, error: BaseException) -> None:
        """Report *error* to all that wait for one of the reads."""
        for at in self._indices:
            if self._is_wanted(at) and at not in self._taken:
                self._own_flight(at).fail(error)
        self._is_open = False

    # --- for the ledger ---

    def charge(self, counted: Sequence[bool], times: int) -> None:
        """Record that the reads that departed were sent so many *times*.

        *counted* says for each whether Graph has certainly counted the last time; () if none of them.
        """
        for counts, number in self._sums.items():
            counts.counted += number
            counts.wait_for_settling()
        if len(self._taken) == self.slots and times == 1:
            return
        reads, taken = self.shared.reads, frozenset(self._taken)
        for place, at in enumerate(self._indices):
            if at not in taken:
                self._own_flight(at).send(1, is_counted=place < len(counted) and counted[place])
            if times > 1:
                payer = reads[at].common.counts.record(is_sent=True) if at in taken else self._own_flight(at)
                payer.send(times - 1, is_counted=False)

    # --- Graph's answer ---

    def take(self, slots: Sequence[Slot | None], answer: BatchAnswer) -> Collection[int]:
        """Take those *slots* of a batch's *answer* that are ordinary ones; return their places among *slots*."""
        moment: Moment = answer.moment or self.shared.flights.begin(answer)
        taken = self._take_confirmed(slots, moment)
        if len(taken) < len(slots):
            taken = {*taken, *self._take_each(slots, answer, frozenset(taken))}
        self._is_open = False
        return taken

    def _take_each(self, slots: Sequence[Slot | None], answer: BatchAnswer, taken: Collection[int]) -> Iterator[int]:
        """Let each read whose slot is not *taken* leave the group; yield the places of those that take their slots."""
        for place, at in enumerate(self._indices):
            if place not in taken:
                flight, slot = self._own_flight(at), slots[place]
                if slot is not None and flight.take(slot, answer):
                    yield place

    def _take_confirmed(self, slots: Sequence[Slot | None], moment: Moment) -> Collection[int]:
        """Take the slots of reads in the group that confirm their entries; return the places of these slots."""
        shared = self.shared
        if not self._is_open or moment.is_leaving or moment.has_refused or shared.era != shared.flights.era:
            return ()
        if not self._own and shared.batch.batches.are_alike(slots):
            try:
                reads = shared.confirmed if self.slots == len(shared.reads) else None
                reads = reads or confirmed_reads(shared, self._indices, moment.answer)
                if reads is not None and self._take_alike(reads, slots, moment):
                    return range(len(slots))
            except Exception as fault:  # noqa: BLE001 - logged, and each slot is looked at
                log_fault(fault)
        taken: list[int] = []
        for kind, places in self._find_confirmed(slots, moment).items():
            taken += self._hand_out(kind, places, moment)
        return taken

    def _take_alike(self, reads: ConfirmedReads, slots: Sequence[Slot | None], moment: Moment) -> bool:
        """Take all *slots* if they confirm all *reads* of the group in the same words; return whether they do."""
        shared, flights, batch = self.shared, self.shared.flights, self.shared.batch
        kind = reads.kind_of(slots, moment, shared.asked)
        if kind is None:
            return False
        log, template, whole = reads.log_lines_for(flights, kind), batch.template_of(kind), shared.whole
        fill: Callable[[], None]
        if whole is not None and len(slots) == len(whole.reads):
            array = reads.array_of(template, batch.batches.arrays if whole.is_kept else None)
            fill = partial(batch.fill_whole, array, kind, moment, shared.requests)
        else:
            places, messages = [shared.places[at] for at in self._indices], template.write_all(reads.etags, reads.texts)
            fill = partial(batch.fill_together, places, messages, kind, moment, reads.requests)
        flights.note_usage(kind, reads.reads, moment)
        reads.renew(batch.batches.store, self._token, shared.asked)
        if whole is not None and whole.is_kept and len(slots) == len(whole.reads):
            whole.confirmed = reads
        return self._is_filled(fill, range(len(slots)), reads.shares, log.lines, moment)

    def _find_confirmed(self, slots: Sequence[Slot | None], moment: Moment) -> dict[AnswerKind, list[int]]:
        """Return the places of the slots that confirm entries and leave their fields as they are, by their kinds."""
        shared, answer, changed_at = self.shared, moment.answer, moment.changed_at
        found: dict[AnswerKind, list[int]] = {}
        headers, held, places = None, None, None  # those of the last slot
        for place, at in enumerate(self._indices):
            slot, entry = slots[place], shared.entries[at]
            if slot is None or slot.code != 304 or entry is None or at in self._own:
                continue
            if changed_at >= entry.meta.asked_at or not shared.requests[at].validator:
                continue
            read = shared.reads[at]
            is_alike = read.held is held and read.held_block is entry.headers and len(entry.body) <= LARGEST_BODY
            if places is None or not is_alike or slot.headers != headers:
                places = self._places_of_kind(answer, read, entry, slot, found)
                headers, held = (slot.headers, read.held) if answer.is_like_others(slot) else (None, None)
            if places is not None:
                places.append(place)
        return found

    @staticmethod
    def _places_of_kind(
        answer: BatchAnswer, read: PreparedRead, entry: Entry, slot: Slot, found: dict[AnswerKind, list[int]]
    ) -> list[int] | None:
        """Return the places in *found* of slots of the same kind as *slot*; None if that is no ordinary one."""
        try:
            kind = answer.confirming(read, entry, slot)
        except Exception as fault:  # noqa: BLE001 - logged, and the read is answered by itself
            log_fault(fault)
            return None
        return None if kind is None or not kind.keeps_fields else found.setdefault(kind, [])

    def _hand_out(self, kind: AnswerKind, places: Sequence[int], moment: Moment) -> Sequence[int]:
        """Renew the entries that slots of this *kind* confirm and fill the client's slots; return their places."""
        shared, indices, flights, batch = self.shared, self._indices, self.shared.flights, self.shared.batch
        messages, lines = list[bytes](), list[PreparedLine | None]()
        taken, reads, entries = list[int](), list[PreparedRead](), list[Entry]()
        for place in places:
            read, entry = shared.reads[indices[place]], shared.entries[indices[place]]
            assert entry is not None  # noqa: S101 - `_find_confirmed` has seen it
            try:
                message, size = batch.write(read, entry, kind.own, moment)
                lines.append(flights.line_of(read, kind, Mode.REVALIDATED, entry, size))
            except Exception as fault:  # noqa: BLE001 - as above
                log_fault(fault)
                continue
            messages.append(message)
            taken.append(place)
            reads.append(read)
            entries.append(confirmed(entry, read.proof, shared.asked))
        if not taken:
            return taken
        try:
            flights.note_usage(kind, reads, moment)
            for read, entry in zip(reads, entries, strict=True):
                flights.renew(read.key, self._token, entry)
        except Exception as fault:  # noqa: BLE001 - as above
            log_fault(fault)
            return ()
        logged = [line for line in lines if line is not None]
        slots = [shared.places[indices[place]] for place in taken]
        fill = partial(batch.fill_together, slots, messages, kind, moment, [read.request for read in reads])
        return taken if self._is_filled(fill, taken, shares_of(flights, reads, entries), logged, moment) else ()

    def _is_filled(
        self,
        fill: Callable[[], None],
        places: Sequence[int],
        shares: Sequence[Share],
        lines: Sequence[PreparedLine],
        moment: Moment,
    ) -> bool:
        """Let *fill* fill the client's slots for those at *places*; return whether they are, and tell of them."""
        shared, indices = self.shared, self._indices
        taken = indices if len(places) == len(indices) else [indices[place] for place in places]
        under_way, reads = shared.flights.coalescer.flights, shared.reads
        for at in taken:
            key = reads[at].flight
            found = under_way.pop(key, None)
            if found is not self and found is not None:
                under_way[key] = found
        self._taken += taken
        seconds, window_s = shared.flights.reader.clock() - shared.since, self._left - self.since
        try:
            fill()
        except Exception as fault:  # noqa: BLE001 - logged, and the reads are answered each by itself
            log_fault(fault)
            del self._taken[-len(taken) :]
            return False
        for counts, number, _ in shares:
            self._sums[counts] = self._sums.get(counts, 0) + number
        moment.together.append(AnswersOfBatch(Mode.REVALIDATED, seconds, window_s, shares, lines))
        return True

    @property
    def _token(self) -> str:
        credential = self.request.credential
        return credential.token if credential is not None else ""
