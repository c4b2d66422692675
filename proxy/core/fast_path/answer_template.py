"""Heads of replies that came in batches, written from templates.

The header fields of most slots are the same but for the ETag, usage and trace ids. So for each set of fields the
readable functions (`response.slot_reply`, `policy.settle`, `render`) make one head, with marks for the values that
differ; further replies put their own values in place of the marks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from proxy.core.batch import response
from proxy.core.cache import policy
from proxy.core.graph.errors import UNREADABLE
from proxy.core.http import headers
from proxy.core.model import Channel, Entry, EntryMeta, Headers, Mode, Reply, Request
from proxy.core.reply.link_origin import LINKS_UNCHANGED
from proxy.core.reply.render import render
from proxy.core.reply.response_head import message_fields, reason
from proxy.core.routing.classify import Read
from proxy.core.routing.rules import Rule

MOST_TEMPLATES = 512
"""The most templates that are remembered; Graph has a few sets of fields."""

ETAG_MARK = '"~the-etag-of-this-reply~"'
_OPENING_QUOTE, _CLOSING_QUOTE, _OWN_ETAG = b'"\\"', b'\\""', b"TheEtagOfThisSlot"
_USAGE, _OUTER, _NEWEST, _DATE = 0xE000, 0xE100, 0xE200, 0xE201  # private use: no field of Graph's holds them
_MOST_VALUES = 64
_IS_OTHER, _IS_USAGE, _IS_ETAG = range(3)
_LONGEST_NAME, _LONGEST_KNOWN = 64, 2048
_FROM_OUTER = headers.USAGE | headers.TRACE | headers.OF_ANY_REPLY
_IS_MARK = re.compile(f"{re.escape(ETAG_MARK)}|[\ue000-\uf8ff]")
_IS_MARK_BYTES = re.compile(re.escape(ETAG_MARK).encode() + rb"|\xee[\x80-\xbf]{2}|\xef[\x80-\xa3][\x80-\xbf]")
_VALUE = re.compile(rb"\xee[\x80-\x87][\x80-\xbf]")
_DATE_MARK = chr(_DATE).encode()
_NAME, _VALUE_OF = itemgetter(0), itemgetter(1)
_TIMING = b"window;dur=0.0, upstream;dur=0.0"


class _Field(msgspec.Struct, frozen=True, gc=False):
    name: str
    value: str


_fields = msgspec.json.Decoder(list[_Field])


class FieldSet(msgspec.Struct, eq=False, frozen=True):
    """Header fields that many slots share, with marks for the values that differ; there is one object for each set."""

    fields: Headers
    stored: bytes = b""  # the block of the entries that have them


class SlotFields(msgspec.Struct, eq=False, frozen=True):
    """The header fields of one slot: what they share with others, and the values of their own."""

    shared: FieldSet
    etag: str | None
    values: tuple[str, ...]  # of usage headers
    usage: Headers
    has_etag: bool  # whether the ETag is well-formed

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the fields."""
        return "SlotFields()"


_NO_FIELDS = SlotFields(FieldSet(()), None, (), (), has_etag=False)
"""Stands for JSON in which the first quoted value is not the ETag."""


_Pick = Callable[[Sequence[Any]], tuple[Any, ...]]


def _pick(places: Sequence[int]) -> _Pick:
    """Returns a function that returns what is at these *places*, as a tuple."""
    first = places[0] if places else 0
    return itemgetter(*places) if len(places) > 1 else itemgetter(slice(first, first + len(places)))


class _OuterNames(NamedTuple):
    """Where to find what slots take over from replies whose fields have the same names, in the same order."""

    shared: FieldSet
    values: _Pick  # of the values of all fields
    usage: _Pick  # of the fields
    untraced: _Pick  # of the values of all fields, and "" behind them
    traces: _Pick  # of the values of all fields


class OuterFields(msgspec.Struct, eq=False, frozen=True):
    """What slots take over from the reply around them, and what usage it tells of the token on top."""

    shared: FieldSet
    values: tuple[str, ...]
    usage: Headers
    untraced: tuple[str, ...]  # the values, each "" that names one call
    traces: tuple[str, ...]  # those that do


class Occasion(NamedTuple):
    """How a reply came about, as far as its head tells."""

    mode: Mode  # MISS, CHANGED or REVALIDATED
    is_top: bool  # whether its token is that of the batch
    is_shared: bool  # whether its caller joined the call of another
    is_stored: bool
    lane: str


class _Piece(NamedTuple):
    """A part of a head: a format of bytes, and where it takes its values from: those of a slot, then of the reply."""

    format: bytes
    pick: _Pick


class Template(msgspec.Struct, eq=False, frozen=True):
    """A head in pieces."""

    pieces: tuple[_Piece, ...]  # around each ETag, up to Cache-Status
    stored: _Piece  # the fields that an entry keeps
    tail: bytes  # of the head, as a format of `window;dur`, `upstream;dur` and the length of the body
    takes_newest: bool  # whether the newest usage of the token follows the pieces

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the fields."""
        return "Template()"


class Filled(msgspec.Struct, eq=False, frozen=True):
    """A template with all values but the ETag and those of the tail."""

    head: tuple[bytes, ...]  # around each ETag
    stored: bytes  # the block of an entry
    tail: bytes
    takes_newest: bool


class AnswerTemplates:
    """Finds the templates of replies, and makes those that are new."""

    def __init__(self) -> None:
        """Know none."""
        self._kinds: dict[str, int] = {}
        self._known: dict[bytes, SlotFields | None] = {}
        self._around_etag: dict[tuple[bytes, bytes], SlotFields] = {}  # by the JSON before and behind the ETag
        self._sets: dict[Headers, FieldSet] = {}
        self._blocks: dict[bytes, FieldSet | None] = {}
        self._outer: dict[tuple[str, ...], _OuterNames] = {}
        self._untraced: dict[tuple[object, ...], Filled] = {}
        self._templates: dict[tuple[object, ...], Template | None] = {}
        self.confirming: dict[int, tuple[bytes, Sequence[response.Slot | None]]] = {}
        """Replies of nothing but 304s, by their lengths, and their slots."""

    def slot_fields(self, raw: bytes) -> SlotFields | None:
        """Returns the header fields in *raw*, the JSON of a slot's `headers`; None where they are unusual.

        Slots that differ in the letters and digits of their ETags alone are parsed once, with `_OWN_ETAG` there.
        """
        before, own, behind = split_at_first_value(raw)
        if not own.isalnum():
            return self._read_fields(raw)
        around = before, behind
        known = self._around_etag.get(around)
        if known is None:
            found = None if _OWN_ETAG in raw else self._read_fields(_OWN_ETAG.join(around))
            is_etag = found is not None and found.etag == f'"{_OWN_ETAG.decode()}"'
            known = found if is_etag and found is not None else _NO_FIELDS
            if len(raw) <= _LONGEST_KNOWN:
                _make_room(self._around_etag)
                self._around_etag[around] = known
        if known is _NO_FIELDS:
            return self._read_fields(raw)
        return SlotFields(known.shared, f'"{own.decode()}"', known.values, known.usage, has_etag=True)

    def stand_around_etag(self, before: bytes, behind: bytes) -> bool:
        """Returns whether letters and digits between *before* and *behind* are the ETag of a slot, and nothing else."""
        return self._around_etag.get((before, behind), _NO_FIELDS) is not _NO_FIELDS

    def _read_fields(self, raw: bytes) -> SlotFields | None:
        """Returns the same by parsing the whole of *raw*."""
        try:
            listed = _fields.decode(raw)
        except UNREADABLE:
            return None
        shared: list[tuple[str, str]] = []
        usage: list[tuple[str, str]] = []
        etag = None
        for field in listed:
            name, value = field.name, field.value
            kind = self._kinds.get(name)
            if kind is None:
                kind = self._kind(name)
            if kind == _IS_OTHER or (kind == _IS_ETAG and etag is not None):
                shared.append((name, value))
            elif kind == _IS_ETAG:
                shared.append((name, ETAG_MARK))
                etag = value
            else:
                shared.append((name, chr(_USAGE + len(usage))))
                usage.append((name, value))
        if len(usage) > _MOST_VALUES or not all(map(headers.is_field, usage)):
            return None
        has_etag = etag is not None and policy.is_etag(etag)
        values = tuple([value for _, value in usage])
        return SlotFields(self._set(tuple(shared)), etag, values, tuple(usage), has_etag=has_etag)

    def remembered_fields(self, raw: bytes) -> SlotFields | None:
        """Returns the same as `slot_fields`; for slots whose fields hold nothing of their own, such as most 304s."""
        if raw in self._known:
            return self._known[raw]
        found = self.slot_fields(raw)
        if len(raw) <= _LONGEST_KNOWN:
            _make_room(self._known)
            self._known[raw] = found
        return found

    def _kind(self, name: str) -> int:
        lower = name.lower()
        kind = _IS_USAGE if lower in headers.USAGE else _IS_ETAG if lower == "etag" else _IS_OTHER
        if len(name) <= _LONGEST_NAME:
            _make_room(self._kinds)
            self._kinds[name] = kind
        return kind

    def outer_fields(self, outer: Headers) -> OuterFields | None:
        """Returns what slots take over from the reply with the fields *outer*; None where that is unusual."""
        names = tuple(map(_NAME, outer))
        known = self._outer.get(names) or self._read_names(names)
        if known is None:
            return None
        shared, values, usage, untraced, traces = known
        all_values = (*map(_VALUE_OF, outer), "")
        return OuterFields(shared, values(all_values), usage(outer), untraced(all_values), traces(all_values))

    def _read_names(self, names: tuple[str, ...]) -> _OuterNames | None:
        """Returns where to find the same in replies whose fields have these *names*; None where there are too many."""
        lower = [name.lower() for name in names]
        taken = [at for at, name in enumerate(lower) if name in _FROM_OUTER]
        if len(taken) > _MOST_VALUES:
            return None
        shared = tuple([(names[at], chr(_OUTER + place)) for place, at in enumerate(taken)])
        usage = [at for at in taken if lower[at] in headers.USAGE]
        traces = [at for at in taken if lower[at] in headers.TRACE]
        untraced = [len(names) if at in traces else at for at in taken]
        _make_room(self._outer)
        found = _OuterNames(self._set(shared), _pick(taken), _pick(usage), _pick(untraced), _pick(traces))
        if sum(map(len, names)) <= _LONGEST_KNOWN:
            self._outer[names] = found
        return found

    def untraced(self, template: Template, slot: SlotFields, outer: OuterFields) -> Filled:
        """Returns *template* without the date and the values that name one call: one object for equal other values."""
        key = (template, slot.values, outer.untraced)
        known = self._untraced.get(key)
        if known is None:
            _make_room(self._untraced)
            known = self._untraced[key] = fill(template, slot.values, outer.untraced, b"")
        return known

    def held_fields(self, entry: Entry) -> FieldSet | None:
        """Returns what the fields of *entry* share with those of other entries; None where they hold a mark."""
        if not entry.meta.etag:
            return None
        block = entry.headers
        if block not in self._blocks:
            _make_room(self._blocks)
            has_mark = _IS_MARK_BYTES.search(block) is not None
            self._blocks[block] = None if has_mark else FieldSet(headers.from_stored(block, ETAG_MARK), block)
        return self._blocks[block]

    def template(self, slot: FieldSet, outer: FieldSet, held: FieldSet | None, occasion: Occasion) -> Template | None:
        """Returns the template of replies with these fields; *held* are those of the entry that a 304 confirms."""
        key = (slot, outer, held, occasion)
        if key not in self._templates:
            _make_room(self._templates)
            self._templates[key] = _make_template(slot, outer, held, occasion)
        return self._templates[key]

    def _set(self, fields: Headers) -> FieldSet:
        known = self._sets.get(fields)
        if known is None:
            _make_room(self._sets)
            known = self._sets[fields] = FieldSet(fields)
        return known


def split_at_first_value(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Returns *raw*, the JSON of a slot's `headers`, before, within and behind the first quotes inside a value."""
    start = raw.find(_OPENING_QUOTE) + len(_OPENING_QUOTE)
    end = raw.find(_CLOSING_QUOTE, start)
    return raw[:start], raw[start:end], raw[end:]


def fill(template: Template, slot: Sequence[str], outer: Sequence[str], date: bytes) -> Filled:
    """Returns *template* with the values of *slot*, *outer* and *date*. Raises ValueError for a value of two lines."""
    texts = (*slot, *outer)
    text = "".join(texts)
    if "\r" in text or "\n" in text:
        raise ValueError("a line of the head holds the end of a line")
    values = tuple(map(str.encode, texts, repeat("utf-8"), repeat("surrogateescape")))
    head = tuple([form % pick(values) for form, pick in template.pieces])
    form_of_stored, pick_stored = template.stored
    stored = form_of_stored % pick_stored(values)
    return Filled(head, stored, template.tail.replace(_DATE_MARK, date), template.takes_newest)


def names_a_call(fields: FieldSet) -> bool:
    """Returns whether any of *fields* names one call."""
    return any(name.lower() in headers.TRACE for name, _ in fields.fields)


def listed(slot: SlotFields) -> list[dict[str, str]]:
    """Returns the header fields of *slot* as Graph lists them, with `ETAG_MARK` for its ETag."""
    own = {chr(mark): text for mark, text in enumerate(slot.values, _USAGE)}
    return [{"name": name, "value": own.get(value, value)} for name, value in slot.shared.fields]


def _make_room(known: dict[Any, Any]) -> None:
    if len(known) >= MOST_TEMPLATES:
        known.clear()


def _make_template(slot: FieldSet, outer: FieldSet, held: FieldSet | None, occasion: Occasion) -> Template | None:
    """Returns the template that the readable functions make of fields with marks; None where one is no mark."""
    if not _has_own_marks_alone(slot, outer, held):
        return None
    settled = _settled(slot, outer, held, occasion)
    if settled is None or settled.keep is None or settled.reply.mode is not occasion.mode:
        return None
    reply = replace(settled.reply, stored=occasion.is_stored, lane=occasion.lane, window_s=0.0, upstream_s=0.0)
    if occasion.is_shared:
        reply = reply.shared()
    newest = (("X-Newest", chr(_NEWEST)),)
    rendered = render(Read(_request(held), ""), reply, LINKS_UNCHANGED, newest)
    own, added = rendered.headers[:-2], rendered.headers[-2:]
    takes_newest = own[-1:] == newest
    tail = _lines((*added, *message_fields(replace(rendered, body=b""), chr(_DATE)))) + b"\r\n"
    start = f"HTTP/1.1 {rendered.status} {reason(rendered.status)}"
    head = headers.head_bytes(start, own[:-1] if takes_newest else own)[:-2]
    usage = sum(_USAGE <= ord(value[:1] or " ") < _OUTER for _, value in slot.fields)
    formatted = tail.replace(b"%", b"%%").replace(_TIMING, b"window;dur=%.1f, upstream;dur=%.1f", 1)
    formatted = formatted.replace(b"Content-Length: 0\r\n", b"Content-Length: %d\r\n", 1)
    pieces = tuple([_piece(part, usage) for part in head.split(ETAG_MARK.encode())])  # around each ETag
    return Template(pieces, _piece(settled.keep.headers, usage), formatted, takes_newest)


def _has_own_marks_alone(slot: FieldSet, outer: FieldSet, held: FieldSet | None) -> bool:
    """Returns whether every mark stands where this module put it."""
    lower = [(headers.lower_name(name), value) for name, value in slot.fields]
    marked = [name for name, value in lower if name not in headers.USAGE and _IS_MARK.search(value)]
    if marked and (marked != ["etag"] or dict(lower)["etag"] != ETAG_MARK):
        return False
    names = [name for fields in (slot, outer, held) if fields is not None for name, _ in fields.fields]
    return not any(map(_IS_MARK.search, names))


def _settled(slot: FieldSet, outer: FieldSet, held: FieldSet | None, occasion: Occasion) -> policy.Settled | None:
    """Returns what becomes of a slot with these fields, as every other slot is settled."""
    is_304 = occasion.mode is Mode.REVALIDATED
    listed = [{"name": name, "value": value} for name, value in slot.fields]
    operation = {"code": 304 if is_304 else 200, "headers": listed, "body": None if is_304 else "{}"}
    around = Reply(200, outer.fields, b"")
    answer = response.slot_reply(operation, around, conditional=is_304, is_top=occasion.is_top)
    if answer is None:
        return None
    entry = None
    if occasion.mode is not Mode.MISS:
        meta = EntryMeta(ETAG_MARK, Channel.BATCH.value, 0.0, may_be_fresh=True, proofs=())
        entry = Entry(meta, _lines(held.fields if held else ())[:-2], b"{}")
    return policy.settle(_request(held), entry, answer, policy.Terms(Rule()), 0.0)


def _request(held: FieldSet | None) -> Request:
    return Request("", "", "/", "", validator="" if held is None else ETAG_MARK)


def _lines(fields: Headers) -> bytes:
    return headers.head_bytes("", fields)[2:-2]


def _piece(part: bytes, usage: int) -> _Piece:
    """Returns *part* of a head whose slot has so many values of *usage*."""
    marks = [ord(mark.decode()) for mark in _VALUE.findall(part)]
    places = [mark - _USAGE if mark < _OUTER else usage + mark - _OUTER for mark in marks]
    return _Piece(_VALUE.sub(b"%b", part.replace(b"%", b"%%")), _pick(places))
