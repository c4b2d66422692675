"""A client's batch that Graph confirmed as a whole, and may confirm again: then nothing of it is worked out anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import NamedTuple

from proxy.core.batch.response import Slot
from proxy.core.client_batch.prepared_operations import PreparedBatch
from proxy.core.client_batch.prepared_slot import SlotTemplate
from proxy.core.fast_path.batch_answer import AnswerKind, BatchAnswer
from proxy.core.fast_path.prepared_reply import LARGEST_BODY
from proxy.core.model import Entry, EntryMeta, Headers, Mode, Request
from proxy.core.observe.access_log import PreparedLine
from proxy.shell.downstream.fast_flights import FastFlights
from proxy.shell.observe.route_counts import Share


class Told(NamedTuple):
    """What is counted and logged of replies."""

    shares: Sequence[Share]
    lines: Sequence[PreparedLine]
    usage: Headers  # that of the lines
    era: int  # of the routes' labels in the lines


@dataclass(slots=True, eq=False)
class SteadyBatch:
    """What a batch is asked with, and answered with if Graph confirms all *entries* in the same words."""

    batch: PreparedBatch
    entries: Sequence[Entry]  # asked for at one time
    requests: Sequence[Request]
    parts: Sequence[bytes]
    etags: Sequence[bytes]  # as JSON, like the texts of the bodies
    texts: Sequence[bytes]
    told: Told
    alike: Sequence[Slot | None] = ()  # the slots that were alike the last time
    array: bytes = b""  # of the slots of the last reply, while it is kept
    form: tuple[tuple[bytes, ...], bytes] = ((), b"")  # of that template

    def is_of(self, entries: Sequence[Entry | None]) -> bool:
        """Whether *entries*, which are held now, are those of the last answer."""
        return all(map(is_, entries, self.entries))

    def kind_of(self, slots: Sequence[Slot | None], answer: BatchAnswer, changed_at: float) -> AnswerKind | None:
        """Return the kind of all *slots* of an *answer* if they confirm the entries in the same words, else None.

        No entry may have been *changed_at* a time after it was asked for.
        """
        first, entry = slots[0], self.entries[0]
        if first is None or first.code != 304 or changed_at >= entry.meta.asked_at:
            return None
        if slots is not self.alike and not _are_alike(slots, first):
            return None
        self.alike = slots
        kind = answer.confirming(self.batch.reads[0], entry, first)
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
        era = flights.reader.telemetry.era
        if kind.usage != self.told.usage or era != self.told.era:
            lines = lines_of(flights, kind, self.batch, self.entries)
            self.told = Told(self.told.shares, lines, kind.usage, era)
        return self.told

    def array_of(self, template: SlotTemplate, kept: KeptArrays) -> bytes:
        """Return the array of the slots made from *template*; the last one is *kept* with others of late."""
        form = template.before, template.behind
        if self.array and form == self.form:
            return self.array
        array = b"[%b]" % b",".join(template.write_all(self.etags, self.texts))
        self.form = form
        kept.keep(self, array)
        return array


MOST_ARRAY_BYTES = 2 * 2**20
"""Bytes of the arrays of slots that are kept."""


class KeptArrays:
    """Keeps the arrays of slots of the batches that were answered of late, in a bounded number of bytes."""

    def __init__(self) -> None:
        """Keep none yet."""
        self._batches: deque[SteadyBatch] = deque()
        self._bytes = 0

    def keep(self, batch: SteadyBatch, array: bytes) -> None:
        """Keep *array* with *batch*, and let go those that were kept first."""
        if not batch.array:
            self._batches.append(batch)
        self._bytes += len(array) - len(batch.array)
        batch.array = array
        while self._bytes > MOST_ARRAY_BYTES:
            oldest = self._batches.popleft()
            self._bytes -= len(oldest.array)
            oldest.array = b""


def _are_alike(slots: Sequence[Slot | None], first: Slot) -> bool:
    """Whether all *slots* confirm what is held, in the words of the *first*."""
    fields = first.headers
    return not any(slot is None or slot.code != 304 or slot.headers != fields for slot in slots)


def steady_batch(
    batch: PreparedBatch,
    entries: Sequence[Entry],
    requests: Sequence[Request],
    parts: Sequence[bytes],
    told: Told,
) -> SteadyBatch | None:
    """Return what is the same the next time that Graph confirms *entries*, which it just did; None if some differ."""
    held = batch.reads[0].held
    for read, entry in zip(batch.reads, entries, strict=True):
        text, meta = read.text, entry.meta
        is_alike = read.held is held and read.held_block is entry.headers and len(entry.body) <= LARGEST_BODY
        is_prepared = text[0] is entry.body and text[3] is meta.etag and meta.proofs[:1] == (read.proof,)
        if not (is_alike and is_prepared):
            return None
    texts, etags = [read.text[2] for read in batch.reads], [read.text[4] for read in batch.reads]
    return SteadyBatch(batch, entries, requests, parts, etags, texts, told)


def lines_of(
    flights: FastFlights, kind: AnswerKind, batch: PreparedBatch, entries: Sequence[Entry]
) -> list[PreparedLine]:
    """Return the log lines of replies of this *kind* that confirm *entries*."""
    told = [
        flights.line_of(read, kind, Mode.REVALIDATED, entry, read.text[1])
        for read, entry in zip(batch.reads, entries, strict=True)
    ]
    return [line for line in told if line is not None]
