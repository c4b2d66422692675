"""Reads of a client's batch that are asked together, and what their slots are made of where Graph confirms all of them.

Of a batch that comes again, word for word, that is kept: then nothing of it is worked out anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, is_
from typing import NamedTuple

from proxy.core.batch.lanes import Route
from proxy.core.batch.response import Slot
from proxy.core.cache.key import FlightKey
from proxy.core.client_batch.prepared_operations import PreparedBatch
from proxy.core.client_batch.prepared_slot import SlotTemplate
from proxy.core.fast_path.batch_answer import AnswerKind, BatchAnswer
from proxy.core.fast_path.prepared_read import PreparedRead, ReadyRead
from proxy.core.fast_path.prepared_reply import LARGEST_BODY
from proxy.core.model import Entry, EntryMeta, Headers, Mode, Request
from proxy.core.observe.access_log import PreparedLine
from proxy.shell.downstream.fast_flight import Moment
from proxy.shell.downstream.fast_flights import FastFlights
from proxy.shell.downstream.waiting_batch import WaitingBatch
from proxy.shell.observe.route_counts import RouteCounts, Share
from proxy.shell.store.store import Store


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
    routes: Collection[Route]
    since: float
    asked: float  # the same in epoch seconds
    era: int
    whole: PreparedBatch | None = None  # where these are all reads of the batch
    ready: Sequence[ReadyRead] | None = None  # how they are asked and answered, if Graph confirmed what is held of all
    confirmed: ConfirmedReads | None = None  # what they were answered with the last time, if that is kept


class LogLines(NamedTuple):
    """The log lines of replies that are alike."""

    lines: Sequence[PreparedLine]
    usage: Headers  # that of the lines
    era: int  # of the routes' labels in the lines


@dataclass(slots=True, eq=False)
class ConfirmedReads:
    """What reads are answered with if Graph confirms all that is held of them in the same words."""

    reads: Sequence[PreparedRead]
    keys: Sequence[bytes]
    ready: Sequence[ReadyRead]
    requests: Sequence[Request]
    parts: Sequence[bytes]
    etags: Sequence[bytes]
    texts: Sequence[bytes]
    shares: Sequence[Share]
    log_lines: LogLines | None = None
    array: bytes = b""  # of the slots of the last reply, while it is kept
    form: tuple[tuple[bytes, ...], bytes] = ((), b"")  # of that template

    def is_of(self, ready: Sequence[ReadyRead]) -> bool:
        """Whether the reads are *ready* in the same way as the last time."""
        return all(map(is_, ready, self.ready))

    def kind_of(self, slots: Sequence[Slot | None], moment: Moment, asked: float) -> AnswerKind | None:
        """Return the kind of the *slots* of an answer, which are alike, to what was *asked* then; None if not ordinary.

        Nothing may have changed since an entry was asked for, nor may one have been asked for later.
        """
        times, answer, first = [each.entry.meta.asked_at for each in self.ready], moment.answer, slots[0]
        if first is None or not moment.changed_at < min(times) <= max(times) <= asked:
            return None
        kind = answer.confirming(self.reads[0], self.ready[0].entry, first)
        is_plain = kind is not None and kind.keeps_fields and not kind.untraced.takes_newest
        return kind if is_plain and answer.is_like_others(first) else None

    def renew(self, store: Store, token: str, asked: float) -> None:
        """Let *store* hold the entries as they are after a 304 to what was *asked* then with this *token*."""
        old = [ready.entry for ready in self.ready]
        new = [
            Entry(
                EntryMeta(meta.etag, meta.channel, asked, meta.may_be_fresh, meta.proofs, meta.expires),
                entry.headers,
                entry.body,
            )
            for entry, meta in [(entry, entry.meta) for entry in old]
        ]
        store.renew_all(self.keys, token, old, new)
        for ready, entry in zip(self.ready, new, strict=True):
            ready.entry = entry

    def log_lines_for(self, flights: FastFlights, kind: AnswerKind) -> LogLines:
        """Return the log lines of replies of this *kind*."""
        era, usage, kept = flights.reader.telemetry.era, kind.usage, self.log_lines
        if kept is None or usage != kept.usage or era != kept.era:
            lines = [ready.line for ready in self.ready if ready.era == era and ready.usage == usage]
            if len(lines) < len(self.ready):
                lines = [self._line(flights, kind, *each) for each in zip(self.reads, self.ready, strict=True)]
            kept = self.log_lines = LogLines([line for line in lines if line is not None], usage, era)
        return kept

    @staticmethod
    def _line(flights: FastFlights, kind: AnswerKind, read: PreparedRead, ready: ReadyRead) -> PreparedLine | None:
        """Return the log line of a reply of this *kind* to *read*, kept for the next one."""
        line = flights.line_of(read, kind, Mode.REVALIDATED, ready.entry, ready.size)
        ready.line, ready.usage, ready.era = line, kind.usage, read.line[3][1] if read.line is not None else -1
        return line

    def array_of(self, template: SlotTemplate, kept: KeptArrays | None) -> bytes:
        """Return the array of the slots made from *template*; it is *kept* with others of late, if there is where."""
        form = template.before, template.behind
        if self.array and form == self.form:
            return self.array
        array = template.write_array(self.etags, self.texts)
        if kept is not None:
            self.form = form
            kept.keep(self, array)
        return array


MOST_ARRAY_BYTES = 2 * 2**20
"""Bytes of the arrays of slots that are kept."""


class KeptArrays:
    """Keeps the arrays of slots of the batches that were answered of late, in a bounded number of bytes."""

    def __init__(self) -> None:
        """Keep none yet."""
        self._kept: deque[ConfirmedReads] = deque()
        self._bytes = 0

    def keep(self, reads: ConfirmedReads, array: bytes) -> None:
        """Keep *array* with *reads*, and let go those that were kept first."""
        if not reads.array:
            self._kept.append(reads)
        self._bytes += len(array) - len(reads.array)
        reads.array = array
        while self._bytes > MOST_ARRAY_BYTES:
            oldest = self._kept.popleft()
            self._bytes -= len(oldest.array)
            oldest.array = b""


def are_alike(slots: Sequence[Slot | None]) -> bool:
    """Whether all *slots* confirm what is held, in the same words."""
    first = slots[0]
    if first is None or first.code != 304:
        return False
    fields = first.headers
    return not any(slot is None or slot.code != 304 or slot.headers != fields for slot in slots)


_ENTRY = attrgetter("entry")


def ready_reads(reads: Sequence[PreparedRead], entries: Sequence[Entry | None]) -> list[ReadyRead] | None:
    """Return how *reads* are asked and answered; None unless Graph has confirmed all *entries*, which are held now."""
    ready = [read.ready for read in reads]
    if None in ready or not all(map(is_, map(_ENTRY, ready), entries)):
        return None
    return ready  # type: ignore[return-value] # none of them is None


def confirmed_reads(shared: AskedReads, indices: Sequence[int], answer: BatchAnswer) -> ConfirmedReads | None:
    """Return what slots of the reads at *indices* are made of if *answer* confirms all; None if one is not plain.

    The entries of plain ones have fields like each other.
    """
    reads, ready = shared.reads, shared.ready
    if ready is None:
        ready = [each for each in [_make_ready(shared, at, answer) for at in indices] if each is not None]
    elif len(indices) < len(reads):
        ready = [ready[at] for at in indices]
    if len(ready) < len(indices):
        return None
    held = ready[0].held
    if [each.held for each in ready].count(held) < len(ready):
        return None
    if len(indices) < len(reads):
        reads = [reads[at] for at in indices]
    keys = shared.whole.keys if shared.whole is not None and reads is shared.reads else [read.key for read in reads]
    return ConfirmedReads(
        reads,
        keys,
        ready,
        [each.request for each in ready],
        [each.part for each in ready],
        [each.etag for each in ready],
        [each.text for each in ready],
        shares_of(shared.flights, reads, [each.entry for each in ready]),
    )


def _make_ready(shared: AskedReads, at: int, answer: BatchAnswer) -> ReadyRead | None:
    """Return how the read at index *at* is answered if *answer* confirms its entry; None if that is not a plain one."""
    read, entry, request = shared.reads[at], shared.entries[at], shared.requests[at]
    if entry is None or not request.validator or len(entry.body) > LARGEST_BODY:
        return None
    if read.held_block is not entry.headers:
        answer.hold_fields(read, entry)
    meta, text = entry.meta, read.text
    if read.held is None or meta.proofs[:1] != (read.proof,):
        return None
    if text[0] is not entry.body or text[3] is not meta.etag:
        text = shared.batch.prepare_text(read, entry)
    read.ready = ReadyRead(entry, request, shared.parts[at], text[4], text[2], text[1], read.held)
    return read.ready


def shares_of(flights: FastFlights, reads: Sequence[PreparedRead], entries: Sequence[Entry]) -> list[Share]:
    """Return how many of *reads* are of each route, and the bytes of the bodies of their *entries*."""
    numbers = by_route(flights, reads)
    if len(numbers) == 1:
        return [(counts, number, sum([len(entry.body) for entry in entries])) for counts, number in numbers.items()]
    sizes: dict[RouteCounts, int] = {}
    for read, entry in zip(reads, entries, strict=True):
        counts = read.common.counts
        sizes[counts] = sizes.get(counts, 0) + len(entry.body)
    return [(counts, number, sizes[counts]) for counts, number in numbers.items()]


def by_route(flights: FastFlights, reads: Iterable[PreparedRead]) -> dict[RouteCounts, int]:
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
