"""Graph's answer to a batch, and what becomes of the ordinary slots in it: a 304, or a new body that may be stored.

Every other slot is left to `batch/response.resolve` and `cache/policy.settle`, which would decide the same for these,
more slowly. The decisions here are those of `cache/policy`: `confirms` about a 304, `is_etag` about what may be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from proxy.core.batch import response
from proxy.core.batch.response import Slot, slot_reply
from proxy.core.cache import cacheability, policy
from proxy.core.cache.signed_links import expiry
from proxy.core.fast_path.answer_template import (
    ETAG_MARK,
    AnswerTemplates,
    FieldSet,
    Filled,
    Occasion,
    OuterFields,
    SlotFields,
    Template,
    fill,
    listed,
    names_a_call,
)
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.fast_path.prepared_reply import LARGEST_BODY
from proxy.core.graph import paging
from proxy.core.graph.errors import is_clean
from proxy.core.model import USUAL_PROOFS, Channel, Credential, Entry, EntryMeta, Headers, Mode, Reply
from proxy.core.quota.limiter import RecentUsage

_BATCH = Channel.BATCH.value


_IS_304 = b'"code":304,'
_LONGEST_KNOWN, _MOST_KNOWN = 32_768, 8
"""The most bytes of a reply whose slots are remembered, and how many such replies are."""


class AnswerKind:
    """What replies to the slots of one batch have in common that differ in their ETags and bodies alone."""

    __slots__ = (
        "_answer",
        "_fields",
        "_graph",
        "_held",
        "_is_top",
        "_own",
        "_shared",
        "_template",
        "_untraced",
        "is_stored",
        "keeps_fields",
        "mode",
        "repeated",
        "usage",
    )

    def __init__(
        self,
        answer: BatchAnswer,
        mode: Mode,
        fields: SlotFields,
        held: FieldSet | None,
        template: Template,
        *,
        is_top: bool,
        is_stored: bool,
    ) -> None:
        """Have a head made from *template* for the caller for whom Graph was asked.

        *held* are the fields of the entry that is confirmed. Raises ValueError for a value of two lines.
        """
        self._answer = answer
        self._fields = fields
        self._held = held  # the fields of the entry that a 304 confirms
        self._is_top = is_top
        self._shared: Filled | None = None
        self._graph: Headers | None = None
        self.mode = mode  # MISS, CHANGED or REVALIDATED
        self._template = template
        self._own: Filled | None = None
        self._untraced: Filled | None = None
        self.is_stored = is_stored  # whether the reply says that its body is stored
        self.keeps_fields = False  # whether the entry's fields stay as they are
        if held is None:
            self._own = answer.filled(template, fields)
        else:
            self.keeps_fields = self.untraced.stored == held.stored
        self.usage = answer.usage_of(fields, is_top=is_top)
        self.repeated: dict[bytes, RecentUsage] = {}  # by token, what counts the replies that repeat this usage

    @property
    def own(self) -> Filled:
        """Returns the head for the caller for whom Graph was asked."""
        if self._own is None:
            self._own = self._answer.filled(self._template, self._fields)
        return self._own

    @property
    def untraced(self) -> Filled:
        """Returns the same head, but for what names one call: one object for all heads that are alike otherwise."""
        if self._untraced is None:
            self._untraced = self._answer.untraced(self._template, self._fields)
        return self._untraced

    @property
    def traces(self) -> tuple[str, ...] | None:
        """Returns the values that name the call, in their order; None where a slot has such of its own."""
        return None if names_a_call(self._fields.shared) else self._answer.traces

    def graph_fields(self, etag: str) -> Headers:
        """Returns the header fields of Graph's reply that a slot with this *etag* stands for."""
        if self._graph is None:
            self._graph = self._answer.graph_fields(self._fields, is_top=self._is_top)
        return tuple([(name, etag if value == ETAG_MARK else value) for name, value in self._graph])

    @property
    def shared(self) -> Filled | None:
        """Returns the head for callers who joined the call of another; None where it is not made from a template."""
        if self._shared is None:
            occasion = Occasion(self.mode, self._is_top, True, self.is_stored, self._answer.lane)
            self._shared = self._answer.fill(self._fields, self._held, occasion)
        return self._shared

    def unstored(self) -> AnswerKind | None:
        """Returns the same for a body that is not stored after all."""
        return self._answer.kind(self.mode, self._fields, self._held, is_top=self._is_top, is_stored=False)


_KindKey = tuple[Mode, FieldSet, tuple[str, ...], FieldSet | None, bool, bool]


class BatchAnswer:
    """Graph's reply to one batch; what its slots have in common is worked out once."""

    __slots__ = (
        "_confirming",
        "_is_top",
        "_kinds",
        "_outer",
        "at_end",
        "date",
        "has_usage",
        "id",
        "lane",
        "may_have_usage",
        "moment",
        "outer",
        "templates",
        "top",
    )

    def __init__(self, outer: Reply, top: Credential, name: str, lane: str, templates: AnswerTemplates) -> None:
        """Take the reply *outer* to the batch *name* of *lane*, sent with the token of *top*."""
        self.outer = outer
        self.top = top
        self.id = name
        self.lane = lane
        self.moment: Any = None  # kept here by `shell/downstream/fast_flights` while slots are handed out
        self.at_end: Callable[[], None] | None = None  # called when all slots are handed out
        self.date = b""  # of the replies
        self.templates = templates
        self._outer: OuterFields | None = templates.outer_fields(outer.headers)
        self.has_usage = self._outer is not None and bool(self._outer.usage)  # whether it does
        self.may_have_usage = self._outer is None or self.has_usage
        self._kinds: dict[_KindKey, AnswerKind | None] = {}
        self._confirming: dict[tuple[bytes, FieldSet, bool], AnswerKind | None] = {}

    def __repr__(self) -> str:
        """Say which batch this is, and nothing of its slots."""
        return f"BatchAnswer({self.id})"

    def slots(self, count: int) -> Sequence[Slot | None]:
        """Returns the slots where all *count* of them have the usual shape and none need be large, else ().

        A reply that confirms what is held says the same again and again; then its slots are the same objects, too.
        """
        body, known = self.outer.body, self.templates.confirming
        last = known.get(len(body))
        if last is not None and last[0] == body:
            return last[1] if len(last[1]) == count else ()
        if len(body) > count * LARGEST_BODY:  # most bodies are too large here: their text is decoded once, by `resolve`
            return ()
        slots = response.usual_slots(self.outer, count)
        if slots and len(body) <= _LONGEST_KNOWN and body.count(_IS_304) == count:
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known[len(body)] = body, slots
        return slots

    def end(self) -> None:
        """End: all slots have been handed out; the body is held no longer, which may be large.

        What refers to this answer is let go as well: Python would have to search for such cycles to free them.
        """
        self.outer = replace(self.outer, body=b"")
        if self.at_end is not None:
            self.at_end()
        self.at_end = self.moment = None
        self._kinds, self._confirming = {}, {}

    def confirming(self, read: PreparedRead, entry: Entry, slot: Slot) -> AnswerKind | None:
        """Returns the kind of the replies to a 304 that confirms *entry*; None if the slot is no ordinary one."""
        if read.held_block is not entry.headers:
            self.hold_fields(read, entry)
        held = read.held
        if held is None or len(entry.body) > LARGEST_BODY:
            return None
        credential = read.request.credential
        key = (bytes(slot.headers), held, credential is self.top or credential == self.top)
        if key in self._confirming:
            return self._confirming[key]
        kind, fields = None, self.templates.remembered_fields(key[0])
        if fields is not None and policy.confirms(fields.etag, entry.meta.etag):
            kind = self.kind(Mode.REVALIDATED, fields, held, is_top=key[2], is_stored=False)
        if fields is None or fields.etag is None:  # otherwise it depends on the ETag of the entry
            self._confirming[key] = kind
        return kind

    def hold_fields(self, read: PreparedRead, entry: Entry) -> None:
        """Keep with *read* what the fields of *entry* share with those of others."""
        read.held, read.held_block = self.templates.held_fields(entry), entry.headers

    def is_like_others(self, slot: Slot) -> bool:
        """Whether what a 304 with the fields of *slot* confirms does not depend on the entry's ETag."""
        fields = self.templates.remembered_fields(bytes(slot.headers))
        return fields is not None and fields.etag is None

    def new(self, read: PreparedRead, entry: Entry | None, slot: Slot, asked: float) -> tuple[AnswerKind, Entry] | None:
        """Returns the kind of the replies to a 200, and the entry to store, *asked* for then, still without fields.

        None if the slot is no ordinary one.
        """
        if (body := new_body(slot)) is None:
            return None
        mode = Mode.MISS if entry is None else Mode.CHANGED
        found = self.kind_of_new(mode, slot, is_top=read.request.credential == self.top)
        if found is None:
            return None
        kind, etag = found
        return kind, Entry(meta_of_new(read, etag, body, asked), b"", body)

    def kind_of_new(self, mode: Mode, slot: Slot, *, is_top: bool) -> tuple[AnswerKind, str] | None:
        """Returns the kind of the replies of this *mode* to a 200 with the fields of *slot*, and its ETag.

        None if the slot is no ordinary one.
        """
        fields = self.templates.slot_fields(bytes(slot.headers))
        if fields is None or fields.etag is None or not fields.has_etag:
            return None
        kind = self.kind(mode, fields, None, is_top=is_top, is_stored=True)
        return None if kind is None else (kind, fields.etag)

    def kind(
        self, mode: Mode, fields: SlotFields, held: FieldSet | None, *, is_top: bool, is_stored: bool
    ) -> AnswerKind | None:
        """Returns the kind of replies with these *fields*; None where their heads are not made from a template."""
        key = (mode, fields.shared, fields.values, held, is_top, is_stored)
        if key not in self._kinds:
            template, made, outer, templates = None, None, self._outer, self.templates
            if outer is not None:
                occasion = Occasion(mode, is_top, False, is_stored, self.lane)
                template = templates.template(fields.shared, outer.shared, held, occasion)
            if template is not None:
                made = AnswerKind(self, mode, fields, held, template, is_top=is_top, is_stored=is_stored)
            self._kinds[key] = made
        return self._kinds[key]

    def fill(self, fields: SlotFields, held: FieldSet | None, occasion: Occasion) -> Filled | None:
        """Returns the head of replies with these *fields*, but for what differs from one to the next."""
        if self._outer is None:
            return None
        template = self.templates.template(fields.shared, self._outer.shared, held, occasion)
        return None if template is None else self.filled(template, fields)

    def filled(self, template: Template, fields: SlotFields) -> Filled:
        """Returns *template* with the values of *fields* and of this reply."""
        return fill(template, fields.values, self._outer.values if self._outer is not None else (), self.date)

    def untraced(self, template: Template, fields: SlotFields) -> Filled:
        """Returns *template* with the values of *fields* and of this reply, but for those that name one call."""
        assert self._outer is not None  # noqa: S101 - there is no template without
        return self.templates.untraced(template, fields, self._outer)

    @property
    def traces(self) -> tuple[str, ...]:
        """Returns the values that name the call."""
        return self._outer.traces if self._outer is not None else ()

    def graph_fields(self, fields: SlotFields, *, is_top: bool) -> Headers:
        """Returns the header fields of the reply that a slot stands for, with a mark for its ETag."""
        told = {"code": 200, "headers": listed(fields), "body": ""}
        reply = slot_reply(told, self.outer, conditional=True, is_top=is_top)
        return reply.headers if reply is not None else ()

    def usage_of(self, fields: SlotFields, *, is_top: bool) -> Headers:
        """Returns the usage headers of the reply that a slot with these *fields* stands for."""
        if not is_top or self._outer is None or not self._outer.usage:
            return fields.usage
        own = {name.lower() for name, _ in fields.usage}
        return (*fields.usage, *[field for field in self._outer.usage if field[0].lower() not in own])


def new_body(slot: Slot) -> bytes | None:
    """Returns the body of *slot*, a 200, as a caller gets it; None if it is no ordinary one."""
    if slot.code != 200 or slot.body is None:
        return None
    body = slot.body.encode()
    if b"_" in body and b"_fb_" in body:  # as in most bodies not
        body = paging.as_asked_alone(body)
    return body if len(body) <= LARGEST_BODY and is_clean(body) else None


def meta_of_new(read: PreparedRead, etag: str, body: bytes, asked: float) -> EntryMeta:
    """Returns the metadata of an entry with the new *body* of *read*, which was *asked* for then."""
    is_final, expires = True, 0.0
    if read.common.is_poll:
        is_final = cacheability.is_final(read.request, body)
    elif (
        b"status" in body or (b"_" in body and b"complet" in body) or (body.find(b"{", 1) >= 0 and b"phase" in body)
    ):  # else no job is shown
        is_final = cacheability.is_settled(body)
    if b"=" in body or b"%" in body or (b"\\" in body and b"\\u003" in body):  # else no parameter of a link has a value
        expires = expiry(body)
    return EntryMeta(etag, _BATCH, asked, is_final, (read.proof,) if read.proof else USUAL_PROOFS, expires)


def confirmed(entry: Entry, proof: bytes, asked: float) -> Entry:
    """Returns *entry* after a 304 to a read with this *proof* that was *asked* then."""
    meta = entry.meta
    proofs = meta.proofs if meta.proofs[:1] == (proof,) else policy.with_proof(meta.proofs, proof)
    newer = EntryMeta(meta.etag, meta.channel, asked, meta.may_be_fresh, proofs, meta.expires)
    return Entry(newer, entry.headers, entry.body)
