"""Graph's answer to a batch, and what becomes of the ordinary slots in it: a 304, or a new body that may be stored.

Every other slot is left to `response.resolve` and `policy.settle`, which say the same of these, only more slowly.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.core.batch.response import BatchFailure, Slot
from proxy.core.cache import cacheability, policy
from proxy.core.cache.signed_links import expiry
from proxy.core.fast_path.answer_template import (
    AnswerTemplates,
    FieldSet,
    Filled,
    Occasion,
    OuterFields,
    SlotFields,
    fill,
)
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.fast_path.prepared_reply import LARGEST_BODY
from proxy.core.graph.errors import is_plainly_clean
from proxy.core.model import Channel, Credential, Entry, EntryMeta, Headers, Mode, Reply

_IN_A_BATCH = b"_fb_"
"""What parameters that Graph adds to links in a batch begin with: such a body is changed before it is stored."""


class SettledSlot(NamedTuple):
    """What an ordinary slot means: the entry to keep, and what is told to those who wait for the read."""

    mode: Mode  # MISS, CHANGED or REVALIDATED
    entry: Entry
    fields: SlotFields
    held: FieldSet | None  # the fields of the entry that a 304 confirms
    is_top: bool
    usage: Headers  # of the reply
    is_stored: bool  # whether the reply says that its body is stored


_FilledKey = tuple[FieldSet, tuple[str, ...], FieldSet | None, Mode, bool, bool, bool]


class BatchAnswer:
    """Graph's reply to one batch; what its slots have in common is worked out once."""

    __slots__ = ("_fields", "_filled", "_outer", "_templates", "id", "lane", "outer", "top")

    def __init__(self, outer: Reply, top: Credential, name: str, lane: str, templates: AnswerTemplates) -> None:
        """Take the reply *outer* to the batch *name* of *lane*, sent with the token of *top*."""
        self.outer = outer
        self.top = top
        self.id = name
        self.lane = lane
        self._templates = templates
        self._outer: OuterFields | None = templates.outer_fields(outer.headers)
        self._fields: dict[bytes, SlotFields | None] = {}
        self._filled: dict[_FilledKey, Filled] = {}

    def __repr__(self) -> str:
        """Say which batch this is, and nothing of its slots."""
        return f"BatchAnswer({self.id})"

    def settle(self, read: PreparedRead, entry: Entry | None, slot: Slot, asked: float) -> SettledSlot | None:
        """Returns what *slot* means for *read*, *asked* then for what *entry* holds; None if it is no ordinary slot."""
        if self._outer is None:
            return None
        is_304 = slot.code == 304
        fields = self._fields_of(slot, remembers=is_304)
        if fields is None:
            return None
        is_top = read.request.credential == self.top
        if is_304:
            return None if entry is None else self._confirmed(read, entry, fields, asked, is_top=is_top)
        return self._new(read, entry, slot, fields, asked, is_top=is_top) if slot.code == 200 else None

    def head(self, settled: SettledSlot, date: bytes, *, is_shared: bool) -> Filled | None:
        """Returns the head of the reply to one who waits for the read; None where it is not made from a template."""
        fields = settled.fields
        key = (fields.shared, fields.values, settled.held, settled.mode, settled.is_top, is_shared, settled.is_stored)
        found = self._filled.get(key)
        if found is None and self._outer is not None:
            occasion = Occasion(settled.mode, settled.is_top, is_shared, settled.is_stored, self.lane)
            template = self._templates.template(fields.shared, self._outer.shared, settled.held, occasion)
            if template is not None:
                found = self._filled[key] = fill(template, fields, self._outer, date)
        return found

    def _confirmed(
        self, read: PreparedRead, entry: Entry, fields: SlotFields, asked: float, *, is_top: bool
    ) -> SettledSlot | None:
        """Returns what a 304 means: the entry is confirmed, with the fields that the 304 has changed."""
        meta = entry.meta
        if (fields.etag is not None and fields.etag != meta.etag) or len(entry.body) > LARGEST_BODY:
            return None
        held = self._templates.held_fields(entry)
        if held is None:
            return None
        proofs = meta.proofs if meta.proofs[:1] == (read.proof,) else policy.with_proof(meta.proofs, read.proof)
        confirmed = EntryMeta(meta.etag, meta.channel, asked, meta.may_be_fresh, proofs, meta.expires)
        kept = Entry(confirmed, entry.headers, entry.body)
        return SettledSlot(Mode.REVALIDATED, kept, fields, held, is_top, self._usage_of(fields, is_top=is_top), False)

    def _new(
        self, read: PreparedRead, entry: Entry | None, slot: Slot, fields: SlotFields, asked: float, *, is_top: bool
    ) -> SettledSlot | None:
        """Returns what a 200 means: its body is stored."""
        etag = fields.etag
        if slot.body is None or etag is None or not policy.is_etag(etag):
            return None
        body = slot.body.encode()
        if len(body) > LARGEST_BODY or _IN_A_BATCH in body or not is_plainly_clean(body):
            return None
        may_be_fresh, expires = cacheability.is_final(read.request, body), expiry(body)
        meta = EntryMeta(etag, Channel.BATCH.value, asked, may_be_fresh, (read.proof,), expires)
        mode = Mode.MISS if entry is None else Mode.CHANGED
        usage = self._usage_of(fields, is_top=is_top)
        return SettledSlot(mode, Entry(meta, b"", body), fields, None, is_top, usage, True)

    def _fields_of(self, slot: Slot, *, remembers: bool) -> SlotFields | None:
        raw = bytes(slot.headers)
        if not remembers:  # each has an ETag of its own
            return self._templates.slot_fields(raw)
        if raw not in self._fields:
            self._fields[raw] = self._templates.slot_fields(raw)
        return self._fields[raw]

    def _usage_of(self, fields: SlotFields, *, is_top: bool) -> Headers:
        """Returns the usage headers of the reply that a slot with these *fields* stands for."""
        if not is_top or self._outer is None or not self._outer.usage:
            return fields.usage
        own = {name.lower() for name, _ in fields.usage}
        return (*fields.usage, *[field for field in self._outer.usage if field[0].lower() not in own])


def batch_answer(
    outer: Reply | BatchFailure, top: Credential, name: str, lane: str, templates: AnswerTemplates
) -> BatchAnswer | None:
    """Returns the answer *outer* to a batch if its slots may be ordinary ones."""
    if isinstance(outer, BatchFailure) or outer.status != 200:
        return None
    return BatchAnswer(outer, top, name, lane, templates)
