"""Reads of a client's batch that are asked together, and what their slots are made of where Graph confirms all of them.

Of a batch that comes again, word for word, that is kept: then nothing of it is worked out anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from typing import NamedTuple

from proxy.core.batch.lanes import Route
from proxy.core.batch.response import Slot
from proxy.core.cache.key import FlightKey
from proxy.core.client_batch.prepared_operations import PreparedBatch
from proxy.core.client_batch.prepared_slot import SlotTemplate
from proxy.core.fast_path.batch_answer import AnswerKind, BatchAnswer
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.fast_path.prepared_reply import LARGEST_BODY
from proxy.core.model import Entry, EntryMeta, Headers, Mode, Request
from proxy.core.observe.access_log import PreparedLine
from proxy.shell.downstream.fast_flight import Moment
from proxy.shell.downstream.fast_flights import FastFlights
from proxy.shell.downstream.waiting_batch import WaitingBatch
from proxy.shell.observe.route_counts import RouteCounts, Share


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
    confirmed: ConfirmedReads | None = None  # what is known of them from the last time, if that is still so


class Told(NamedTuple):
    """What is logged of replies."""

    lines: Sequence[PreparedLine]
    usage: Headers  # that of the lines
    era: int  # of the routes' labels in the lines


@dataclass(slots=True, eq=False)
class ConfirmedReads:
    """What reads are asked with, and answered with if Graph confirms all their *entries* in the same words."""

    reads: Sequence[PreparedRead]
    keys: Sequence[bytes]
    entries: Sequence[Entry]
    requests: Sequence[Request]
    parts: Sequence[bytes]
    etags: Sequence[bytes]  # as JSON, like the texts of the bodies
    texts: Sequence[bytes]
    shares: Sequence[Share]
    told: Told | None = None
    array: bytes = b""  # of the slots of the last reply, while it is kept
    form: tuple[tuple[bytes, ...], bytes] = ((), b"")  # of that template

    def is_of(self, entries: Sequence[Entry | None]) -> bool:
        """Whether *entries*, which are held now, are those of the last answer."""
        return all(map(is_, entries, self.entries))

    def kind_of(self, slots: Sequence[Slot | None], answer: BatchAnswer, changed_at: float) -> AnswerKind | None:
        """Return the kind of the *slots* of an *answer*, which are alike, if they confirm the entries; else None.

        No entry may have been *changed_at* a time after it was asked for.
        """
        first, entry = slots[0], self.entries[0]
        if first is None or changed_at >= entry.meta.asked_at:
            return None
        kind = answer.confirming(self.reads[0], entry, first)
        is_plain = kind is not None and kind.keeps_fields and not kind.untraced.takes_newest
        return kind if is_plain and answer.is_like_others(first) else None

    def renewed(self, asked: float) -> list[Entry]:
        """Return the entries as they are after a 304 to what was *asked* then."""
        return [
            Entry(
                EntryMeta(meta.etag, meta.channel, asked, meta.may_be_fresh, meta.proofs, meta.expires),
                entry.headers,
                entry.body,
            )
            for entry, meta in [(entry, entry.meta) for entry in self.entries]
        ]

    def told_for(self, flights: FastFlights, kind: AnswerKind) -> Told:
        """Return what is told of replies of this *kind*."""
        era, told = flights.reader.telemetry.era, self.told
        if told is None or kind.usage != told.usage or era != told.era:
            told = self.told = Told(self._lines(flights, kind, era), kind.usage, era)
        return told

    def _lines(self, flights: FastFlights, kind: AnswerKind, era: int) -> list[PreparedLine]:
        """Return the log lines of replies of this *kind*."""
        lines, usage = list[PreparedLine](), kind.usage
        for read, entry in zip(self.reads, self.entries, strict=True):
            known, size = read.line, read.text[1]
            if known is not None and known[0] is entry.meta.etag and known[1] == usage and known[3] == (size, era):
                line = known[2]
            else:
                line = flights.line_of(read, kind, Mode.REVALIDATED, entry, size)
            if line is not None:
                lines.append(line)
        return lines

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


def confirmed_reads(shared: AskedReads, indices: Sequence[int], moment: Moment) -> ConfirmedReads | None:
    """Return what slots of the reads at *indices* are made of if all are confirmed; None if one of them is not plain.

    A plain one has an entry whose fields are like those of the others, and that was not changed since it was asked for.
    """
    reads, held, requests, parts = shared.reads, shared.entries, shared.requests, shared.parts
    if len(indices) < len(reads):
        reads, held = [reads[at] for at in indices], [held[at] for at in indices]
        requests, parts = [requests[at] for at in indices], [parts[at] for at in indices]
    entries, etags, texts = list[Entry](), list[bytes](), list[bytes]()
    fields, changed_at, asked, answer = None, moment.changed_at, shared.asked, moment.answer
    for read, entry, request in zip(reads, held, requests, strict=True):
        if entry is None or not request.validator or len(entry.body) > LARGEST_BODY:
            return None
        meta, text = entry.meta, read.text
        if read.held_block is not entry.headers:
            answer.hold_fields(read, entry)
        if fields is None:
            fields = read.held
        is_plain = fields is not None and read.held is fields and meta.proofs[:1] == (read.proof,)
        if not is_plain or not changed_at < meta.asked_at <= asked:
            return None
        if text[0] is not entry.body or text[3] is not meta.etag:
            text = shared.batch.prepare_text(read, entry)
        entries.append(entry)
        etags.append(text[4])
        texts.append(text[2])
    keys = shared.whole.keys if shared.whole is not None and reads is shared.reads else [read.key for read in reads]
    return ConfirmedReads(
        reads, keys, entries, requests, parts, etags, texts, shares_of(shared.flights, reads, entries)
    )


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
