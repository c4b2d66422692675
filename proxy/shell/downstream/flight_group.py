"""Plain reads of one client's batch that wait for the same call to Graph as one object.

The slots in which Graph confirms what is held, in the same words, are taken together. A read leaves the group, and has
a `FastFlight` of its own, as soon as another caller joins it or anything else than such a slot comes for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxy.core.batch.lanes import Lane
from proxy.core.batch.response import Slot
from proxy.core.cache.key import FlightKey
from proxy.core.client_batch.prepared_operations import PreparedBatch
from proxy.core.fast_path.batch_answer import AnswerKind, BatchAnswer, confirmed
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.fast_path.prepared_reply import LARGEST_BODY
from proxy.core.http.errors import Overloaded
from proxy.core.model import Entry, Mode, Request
from proxy.core.observe.access_log import PreparedLine
from proxy.shell.downstream.fast_flights import FastFlight, FastFlights, Moment
from proxy.shell.downstream.waiting_batch import SlotCaller, WaitingBatch
from proxy.shell.observe.faults import log_fault
from proxy.shell.observe.route_counts import AnswersOfBatch, RouteCounts
from proxy.shell.pipeline.batch_queue import BatchCall, BatchQueue
from proxy.shell.pipeline.batcher import QueueOfRead
from proxy.shell.pipeline.queued_group import QueuedGroup


@dataclass(slots=True, eq=False)
class AskedReads:
    """Reads that are asked at one moment; the groups into which they are split share them."""

    flights: FastFlights
    batch: WaitingBatch
    reads: Sequence[PreparedRead]
    places: Sequence[int]  # of their slots in the client's batch
    entries: Sequence[Entry | None]
    requests: Sequence[Request]
    parts: Sequence[bytes]
    indices: Mapping[FlightKey, int]  # of the reads, by what they are coalesced by
    since: float
    asked: float  # the same in epoch seconds
    era: int


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
        """End: nobody waits any more."""
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

    # --- for the coalescer ---

    def own(self, key: Hashable) -> FastFlight:
        """Return the flight of the read with this *key*, which leaves the group."""
        return self._own_flight(self.shared.indices[key])  # type: ignore[index] # of all keys, these are here

    def names(self, key: Hashable) -> tuple[str, ...]:
        """Return the cache tags of the read with this *key*."""
        read = self.shared.reads[self.shared.indices[key]]  # type: ignore[index] # as above
        return self.shared.flights.coalescer.names(read.request)

    def _own_flight(self, at: int) -> FastFlight:
        """Return the flight of the read at index *at*; one that is over where nobody waits for the read."""
        flight = self._own.get(at)
        if flight is not None:
            return flight
        shared = self.shared
        read, under_way = shared.reads[at], shared.flights.coalescer.flights
        flight = self._own[at] = GroupedFlight(self, at)
        if under_way.get(read.flight) is self:
            under_way[read.flight] = flight
        if self._is_open:
            caller = SlotCaller(shared.batch, shared.places[at], flight, read, shared.since, is_first=True)
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
        """Let nobody join the reads that are in the group."""
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
        flights, reads, taken = self.shared.flights, self.shared.reads, frozenset(self._taken)
        for counts, number in _by_route(flights, [reads[at] for at in self._taken]).items():
            counts.counted += number
            counts.wait_for_settling()
        for place, at in enumerate(self._indices):
            if at not in taken:
                self._own_flight(at).send(1, is_counted=place < len(counted) and counted[place])
            if times > 1:
                payer = reads[at].common.counts.record(is_sent=True) if at in taken else self._own_flight(at)
                payer.send(times - 1, is_counted=False)

    # --- Graph's answer ---

    def take(self, slots: Sequence[Slot | None], answer: BatchAnswer) -> list[int]:
        """Take those *slots* of a batch's *answer* that are ordinary ones; return their places among *slots*."""
        moment: Moment = answer.moment or self.shared.flights.begin(answer)
        taken = self._take_confirmed(slots, moment)
        if len(taken) < len(slots):
            among = frozenset(taken)
            for place, at in enumerate(self._indices):
                if place in among:
                    continue
                flight, slot = self._own_flight(at), slots[place]
                if slot is not None and flight.take(slot, answer):
                    taken.append(place)
        self._is_open = False
        return taken

    def _take_confirmed(self, slots: Sequence[Slot | None], moment: Moment) -> list[int]:
        """Take the slots of reads in the group that confirm their entries; return the places of these slots."""
        shared = self.shared
        if not self._is_open or moment.is_leaving or moment.has_refused or shared.era != shared.flights.era:
            return []
        taken: list[int] = []
        for kind, places in self._find_confirmed(slots, moment).items():
            taken += self._hand_out(kind, places, moment)
        return taken

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
        except Exception as fault:  # noqa: BLE001 - told, and the read is answered by itself
            log_fault(fault)
            return None
        return None if kind is None or not kind.keeps_fields else found.setdefault(kind, [])

    def _hand_out(self, kind: AnswerKind, places: Sequence[int], moment: Moment) -> list[int]:
        """Renew the entries that slots of this *kind* confirm and fill the client's slots; return their places."""
        shared, indices = self.shared, self._indices
        flights, batch = shared.flights, shared.batch
        messages: dict[int, bytes] = {}  # by their places in the client's batch
        lines: list[PreparedLine] = []
        taken, reads, entries = list[int](), list[PreparedRead](), list[Entry]()
        for place in places:
            at = indices[place]
            read, entry = shared.reads[at], shared.entries[at]
            assert entry is not None  # noqa: S101 - `_find_confirmed` has seen it
            try:
                message, size = batch.write(read, entry, kind.own, moment)
                line = flights.line_of(read, kind, Mode.REVALIDATED, entry, size)
            except Exception as fault:  # noqa: BLE001 - as above
                log_fault(fault)
                continue
            messages[shared.places[at]] = message
            taken.append(place)
            reads.append(read)
            entries.append(confirmed(entry, read.proof, shared.asked))
            if line is not None:
                lines.append(line)
        if not taken:
            return taken
        try:
            flights.note_confirmed(kind, reads, entries)
        except Exception as fault:  # noqa: BLE001 - as above
            log_fault(fault)
            return []
        self._taken += [indices[place] for place in taken]
        self._land_taken(reads)
        sums = _by_route(flights, reads)
        sizes = dict.fromkeys(sums, 0)
        for read, entry in zip(reads, entries, strict=True):
            sizes[read.common.counts] += len(entry.body)
        seconds = flights.reader.clock() - shared.since
        shares = [(counts, number, sizes[counts]) for counts, number in sums.items()]
        moment.together.append(AnswersOfBatch(Mode.REVALIDATED, seconds, self._left - self.since, shares, lines))
        batch.fill_together(messages, kind, moment, reads[0].request)
        return taken

    def _land_taken(self, reads: Sequence[PreparedRead]) -> None:
        """Let nobody join *reads*, which were answered."""
        under_way = self.shared.flights.coalescer.flights
        for read in reads:
            if under_way.get(read.flight) is self:
                del under_way[read.flight]


def _by_route(flights: FastFlights, reads: Iterable[PreparedRead]) -> dict[RouteCounts, int]:
    """Return the numbers of *reads* by what counts them."""
    found: dict[RouteCounts, int] = {}
    common, counts, number = None, None, 0
    for read in reads:
        if read.common is not common:
            if counts is not None:
                found[counts] = found.get(counts, 0) + number
            common, counts, number = read.common, flights.counts_of(read), 0
        number += 1
    if counts is not None:
        found[counts] = found.get(counts, 0) + number
    return found


def ask_together(
    waiting: WaitingBatch,
    batch: PreparedBatch,
    entries: Mapping[int, Entry | None] | Sequence[Entry | None],
    at_once: Sequence[int],
) -> frozenset[int]:
    """Ask for the reads at the places *at_once* of *batch* in groups; return the places of those that were asked.

    *entries* are what memory holds of the reads, by their places. Reads that are under way already, and repetitions,
    are not asked here.
    """
    flights = waiting.batches.flights
    under_way, reads = flights.coalescer.flights, batch.reads
    if not batch.is_alike or not flights.is_calm():
        return frozenset()
    if len(at_once) < len(reads) or not batch.has_no_twins or not under_way.keys().isdisjoint(batch.places):
        firsts = [at for at in at_once if batch.places[reads[at].flight] == at]
        at_once = [at for at in firsts if reads[at].flight not in under_way]
    asked: list[int] = []
    for queue, places in _by_queue(flights, batch, at_once):
        if len(places) > 1:
            reads_of_queue = [(at, reads[at], entries[at]) for at in places]
            asked += places if _ask_in_queue(waiting, queue, reads_of_queue) else ()
    return frozenset(asked)


def _by_queue(
    flights: FastFlights, batch: PreparedBatch, at_once: Sequence[int]
) -> Iterable[tuple[QueueOfRead, Sequence[int]]]:
    """Return the places of reads by the queues in which they wait."""
    found: dict[tuple[BatchQueue, Lane | None], tuple[QueueOfRead, list[int]]] = {}
    common, places = None, list[int]()
    for at in at_once:
        read = batch.reads[at]
        if read.common is not common:
            common = read.common
            place = common.queue = flights.batcher.queue_of(read.request, common.queue)
            _, places = found.setdefault((place.queue, place.lane), (place, []))
        places.append(at)
    return found.values()


def _ask_in_queue(
    waiting: WaitingBatch, place: QueueOfRead, asked: Sequence[tuple[int, PreparedRead, Entry | None]]
) -> bool:
    """Ask for reads as one group in the queue of *place*; return whether the queue took it.

    *asked* has the place of each read in the client's batch, the read, and what is held of it.
    """
    flights = waiting.batches.flights
    places, reads, entries = zip(*asked, strict=True)
    for read, entry in zip(reads, entries, strict=True):
        if read.asked is None or read.asked_etag is not (entry.meta.etag if entry is not None else None):
            flights.ask_with(read, entry)
    shared = AskedReads(
        flights=flights,
        batch=waiting,
        reads=reads,
        places=places,
        entries=entries,
        requests=[read.asked or read.request for read in reads],
        parts=[read.part for read in reads],
        indices={read.flight: at for at, read in enumerate(reads)},
        since=flights.reader.clock(),
        asked=flights.now(),
        era=flights.era,
    )
    group = FlightGroup(shared, range(len(reads)), place)
    try:
        place.queue.add(group)
    except Overloaded:
        return False
    flights.note_urgent(reads[0], shared.since)
    for counts, number in _by_route(flights, reads).items():
        counts.asked += number
        counts.wait_for_settling()
    flights.coalescer.flights.update(dict.fromkeys(shared.indices, group))
    waiting.groups.append(group)
    return True
