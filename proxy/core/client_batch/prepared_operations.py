"""Operations of clients' batches that are plain reads, known by their JSON: each is read once for all batches alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import msgspec

from proxy.core.cache.key import FlightKey
from proxy.core.client_batch.batch_form import BatchFrame, decoded
from proxy.core.client_batch.operation import Envelope, plain_read, request_target
from proxy.core.client_batch.parse import MOST_ESCAPES, MOST_PAIRS, Unresolved, read_operations
from proxy.core.client_batch.split import MOST_OPERATIONS
from proxy.core.fast_path.head_table import HeaderBlock, HeadTable, split_object
from proxy.core.fast_path.prepared_read import Preparation, PreparedRead
from proxy.core.graph.errors import UNREADABLE
from proxy.core.http.errors import BadRequest
from proxy.core.memory import json_text
from proxy.core.model import Channel, Request
from proxy.core.reply.link_origin import LinkOrigin
from proxy.core.routing.classify import Read

LONGEST_BATCH = 65_536
"""The most characters of a batch that is looked at here."""

_KIND, _OF_FORM = b"batch of ", b"form of "
"""What the names of batches in the table of heads begin with, and of those in a form; no block of fields does."""

_array = msgspec.json.Decoder(list[msgspec.Raw])


class PreparedBatch(msgspec.Struct, eq=False):
    """A batch that holds nothing but plain reads; its repr shows none of them, for they hold tokens."""

    reads: tuple[PreparedRead, ...]
    keys: tuple[bytes, ...]  # of their entries
    kinds: tuple[PreparedRead, ...]  # one of those that differ in their objects alone
    places: Mapping[FlightKey, int]  # of the reads, by what they are coalesced by: the first of twins
    has_no_twins: bool
    is_alike: bool  # whether all reads are of one token, and Graph is asked for each whatever is held
    is_kept: bool = False  # whether the batch is known for its next time, because it came before, word for word
    confirmed: Any = None  # what it is asked and answered with while Graph confirms all that is held

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the reads."""
        return "PreparedBatch()"


class BatchMessage(msgspec.Struct, frozen=True, eq=False):
    """A whole message that holds a batch of plain reads; its repr shows none of it, for it holds tokens."""

    batch: PreparedBatch
    envelope: Envelope  # without the operations
    link_origin: LinkOrigin

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the reads."""
        return "BatchMessage()"


def prepared_batch(reads: Sequence[PreparedRead]) -> PreparedBatch:
    """Returns the batch of *reads*."""
    flights = [read.flight for read in reads]
    places = dict(zip(flights, range(len(reads)), strict=True))
    has_no_twins = len(places) == len(reads)
    if not has_no_twins:
        places = {flight: at for at, flight in reversed([*enumerate(flights)])}
    kinds = tuple({id(read.common): read for read in reads}.values())
    first = kinds[0].request
    is_alike = first.credential is not None and all(_is_like(read, first) for read in kinds)
    return PreparedBatch(tuple(reads), tuple([read.key for read in reads]), kinds, places, has_no_twins, is_alike)


def _is_like(read: PreparedRead, other: Request) -> bool:
    """Whether Graph is asked for *read* whatever is held, and with the credential of *other*."""
    request = read.request
    is_asked = read.asks_always and read.is_ordinary and not read.is_low_priority and request.channel is Channel.BATCH
    return is_asked and (request.credential, request.host, request.language) == (
        other.credential,
        other.host,
        other.language,
    )


class PreparedOperations:
    """Finds the reads that operations are."""

    def __init__(self, table: HeadTable, preparation: Preparation) -> None:
        """Keep reads in *table*, with those that come alone."""
        self._table = table
        self._preparation = preparation

    def read(self, batch: object, envelope: Envelope, origin: LinkOrigin) -> PreparedBatch | None:
        """Returns the reads in *batch*; None unless all its operations are plain reads that no other one names.

        Links in the replies lead to *origin*.
        """
        if not isinstance(batch, str):
            return None
        try:
            name = _name(envelope, origin)
        except UnicodeEncodeError:
            return None
        known: PreparedBatch | None = self._table.batches.get((name, batch))
        if known is not None:
            return known
        reads = self._read(batch, envelope, origin, name)
        if reads is None:
            return None
        found = prepared_batch(reads)
        if self._table.note_batch((name, batch)):
            self.keep((name, batch), len(name) + len(batch), found, found)
        return found

    def keep(self, name: Hashable, size: int, batch: PreparedBatch, found: object) -> None:
        """Keep what was *found* for the *batch* that comes again under a *name* of this *size*."""
        batch.is_kept = True
        self._table.add_batch(name, found, len(batch.reads), size)

    def frame(self, envelope: Envelope, origin: LinkOrigin) -> BatchFrame | None:
        """Returns what messages have in common whose batches are the *envelope*; links in replies lead to *origin*."""
        try:
            return BatchFrame(envelope, origin, _name(envelope, origin))
        except UnicodeEncodeError:
            return None

    def read_form(self, operations: Sequence[bytes], frame: BatchFrame) -> PreparedBatch | None:
        """Returns the reads that *operations* of a form with this *frame* are; None unless all are plain reads."""
        name = _OF_FORM + frame.name
        known = self._table.find(name) or self._table.add(name, {})
        reads: list[Any] = list(map(known.reads.get, operations))
        if None in reads:
            for at, operation in enumerate(operations):
                read = reads[at] or self._find_encoded(operation, name, frame)
                if read is None:
                    return None
                reads[at] = read
        return prepared_batch(reads)

    def _find_encoded(self, operation: bytes, name: bytes, frame: BatchFrame) -> PreparedRead | None:
        """Returns the read that an *operation* of a form is, which is not known of late."""
        is_known, read = self._table.find_older(name, operation)
        if is_known:
            return read
        text = decoded(operation)
        if text is None:
            return None
        known = self._table.find(frame.name) or self._table.add(frame.name, {})
        read = known.reads.get(text) or self._find(text, known, frame.name, frame.envelope, frame.link_origin)
        if read is not None:
            self._table.add_read(name, operation, read)
        return read

    def _read(self, batch: str, envelope: Envelope, origin: LinkOrigin, name: bytes) -> list[PreparedRead] | None:
        """Returns the same for a batch that is not known word for word."""
        if len(batch) > LONGEST_BATCH:
            return None
        if batch.count("&") + batch.count("\\u") > MOST_PAIRS or batch.count("%") > MOST_ESCAPES - LONGEST_BATCH // 6:
            return None
        try:
            items = _array.decode(batch.encode())
        except (*UNREADABLE, UnicodeEncodeError):
            return None
        if not 0 < len(items) <= MOST_OPERATIONS:
            return None
        known = self._table.find(name) or self._table.add(name, {})
        reads: list[PreparedRead] = []
        for item in items:
            text = bytes(item)
            read = known.reads[text] if text in known.reads else self._find(text, known, name, envelope, origin)
            if read is None:
                return None
            reads.append(read)
        return reads

    def _find(
        self, text: bytes, known: HeaderBlock, name: bytes, envelope: Envelope, origin: LinkOrigin
    ) -> PreparedRead | None:
        """Returns the read that the operation in *text* is, which is not known of late."""
        is_known, read = self._table.find_older(name, text)
        if not is_known:
            read = self._prepare(text, known, envelope, origin)
            self._table.add_read(name, text, read)
        return read

    def _prepare(self, text: bytes, known: HeaderBlock, envelope: Envelope, origin: LinkOrigin) -> PreparedRead | None:
        """Returns the read that the operation in *text* is, made from one of another object if there is one."""
        try:
            operations = read_operations([json_text.decode(text)])
            if operations is None or operations[0].parents:
                return None
            (operation,) = operations
            found = plain_read(
                operation, operation.relative_url, envelope, self._preparation.hosts, self._preparation.rules
            )
        except (*UNREADABLE, UnicodeEncodeError, Unresolved, BadRequest):
            return None
        if not isinstance(found, Read) or found.callback:
            return None
        line = f"GET {request_target(operation.relative_url, envelope)} HTTP/1.1".encode("utf-8", "surrogateescape")
        split, read = None if operation.headers else split_object(line), None
        if split is not None and (other := known.kinds.get(split[0])) is not None:
            read = self._preparation.prepare_like(other, split[1])
        if read is None:
            read = self._preparation.prepare_read(found, origin)
        if split is not None and read is not None:
            self._table.add_kind(known, split[0], read)
        return read


def _name(envelope: Envelope, origin: LinkOrigin) -> bytes:
    """Returns what decides besides an operation's JSON which read it is. Raises UnicodeEncodeError."""
    who = envelope.credential
    given = (envelope.host, envelope.version, envelope.language, envelope.control, envelope.priority, envelope.shaping)
    return _KIND + msgspec.msgpack.encode((who.token, who.proof, who.time, *given, origin.origin))
