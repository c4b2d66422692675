"""Slots of a client's batch as JSON, made of the heads that `core/fast_path` makes for replies to single reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from proxy.core.client_batch.slots import fields_around_batch, shown_fields
from proxy.core.fast_path.answer_template import Filled
from proxy.core.fast_path.prepared_reply import PreparedReply
from proxy.core.graph import lax_json
from proxy.core.http import headers
from proxy.core.memory.memo import memo
from proxy.core.model import Headers, Reply

_ETAG = '"~the-etag-of-this-slot~"'
_HEADERS = b'{"code":200,"headers":['
_BODY = b'],"body":'
_WITHOUT_HEADERS = b'{"code":200,"body":'


class SlotTemplate(NamedTuple):
    """What the slots of one batch that have the same head but for their ETags have in common."""

    before: tuple[bytes, ...]  # a slot around each ETag, up to the newest usage
    behind: bytes  # from there to the body
    takes_newest: bool  # whether the newest usage of its token stands between
    around: Headers  # the fields that the reply around the slots has too
    around_of_other_version: Headers  # the same where a read is of another version than the batch

    def write(self, etag: bytes, newest: bytes, text: bytes) -> bytes:
        """Returns the slot with this *etag*, the *newest* usage, and the *text* of its body, all of them JSON."""
        return b"".join((etag.join(self.before), newest, self.behind, text, b"}"))

    def write_all(self, etags: Sequence[bytes], texts: Sequence[bytes]) -> list[bytes]:
        """Returns slots with these *etags* and *texts*, without newest usage."""
        join, end = b"".join, b"}"
        if len(self.before) == 2:
            before, behind = self.before[0], self.before[1] + self.behind
            return [join((before, etag, behind, text, end)) for etag, text in zip(etags, texts, strict=True)]
        return [self.write(etag, b"", text) for etag, text in zip(etags, texts, strict=True)]

    def write_array(self, etags: Sequence[bytes], texts: Sequence[bytes]) -> bytes:
        """Returns the JSON array of slots with these *etags* and *texts*, without newest usage."""
        if len(self.before) != 2:
            return b"[%b]" % b",".join(self.write_all(etags, texts))
        before, behind = self.before[0], self.before[1] + self.behind
        pieces = [b"}," + before, b"", behind, b""] * len(texts)
        pieces[0], pieces[1::4], pieces[3::4] = b"[" + before, etags, texts
        return b"".join((*pieces, b"}]"))


def with_traces(fields: Headers, traces: Sequence[str]) -> Headers:
    """Returns *fields* in which those that name one call have the values *traces*."""
    left = iter(traces)
    return tuple([(name, next(left) if name.lower() in headers.TRACE else value) for name, value in fields])


def slot_template(filled: Filled, *, include_headers: bool) -> SlotTemplate:
    """Returns the template of slots of replies with the head *filled*.

    Slots do not show the fields that name one call. So the template is remembered without the values of these.
    """
    values: list[bytes] = []

    def without_value(found: re.Match[bytes]) -> bytes:
        values.append(found[2])
        return found[1]

    head = tuple([_OF_ONE_CALL.sub(without_value, piece) for piece in filled.head])
    status = filled.tail.partition(b"\r\n")[0]
    template = _template(head, status, include_headers, filled.takes_newest)
    if not values:
        return template
    texts = [value.decode("utf-8", "surrogateescape") for value in values]
    return template._replace(
        around=with_traces(template.around, texts),
        around_of_other_version=with_traces(template.around_of_other_version, texts),
    )


_OF_ONE_CALL = re.compile(
    rb"^((?:" + b"|".join(re.escape(name.encode()) for name in sorted(headers.TRACE)) + rb"): )([^\r\n]*)",
    re.IGNORECASE | re.MULTILINE,
)


@memo()
def _template(head: tuple[bytes, ...], status: bytes, include_headers: bool, takes_newest: bool) -> SlotTemplate:  # noqa: FBT001 - a memo takes its arguments by position
    """Returns the template of slots of replies with this *head* around each ETag, and this line with the *status*."""
    own = headers.from_stored(_ETAG.encode().join(head).partition(b"\r\n")[2].removesuffix(b"\r\n"))
    added = headers.from_stored(status.replace(b"%%", b"%"))
    reply = Reply(200, (*own, *added), b"")
    around = [fields_around_batch(reply, same_version=is_same) for is_same in (True, False)]
    if not include_headers:
        return SlotTemplate((_WITHOUT_HEADERS,), b"", False, *around)
    first, last = lax_json.encode(shown_fields(own))[1:-1], lax_json.encode(shown_fields(added))[1:-1]
    before = (_HEADERS + first + (b"," if first and last else b"")).split(lax_json.encode(_ETAG)[1:-1])
    return SlotTemplate(tuple(before), last + _BODY, takes_newest, *around)


class FreshSlot(NamedTuple):
    """The slot that an entry gives while it is plainly fresh, but for what changes."""

    before: bytes  # up to the newest usage
    age: bytes  # from there to the seconds of age
    ttl: bytes  # from there to the seconds of freshness left
    behind: bytes  # from there to the end
    around: Headers  # the fields that the reply around the slots has too
    around_of_other_version: Headers  # the same where the read is of another version than the batch

    def write(self, newest: bytes, age_s: float, left_s: float) -> bytes:
        """Returns the slot with the *newest* usage as JSON, of this age, and fresh for so many seconds."""
        if not self.age:  # without header fields
            return self.before
        return b"%b%b%b%d%b%d%b" % (self.before, newest, self.age, age_s, self.ttl, left_s // 1, self.behind)


def fresh_slot(reply: PreparedReply, body: bytes, *, include_headers: bool) -> FreshSlot | None:
    """Returns the slot of *reply*, which is from memory and has this *body*; None where it is no plain one."""
    if reply.status != 200:
        return None
    own = headers.from_stored(reply.start.partition(b"\r\n")[2].removesuffix(b"\r\n"))
    plain = Reply(200, own, b"")
    around = [fields_around_batch(plain, same_version=is_same) for is_same in (True, False)]
    if not include_headers:
        return FreshSlot(_WITHOUT_HEADERS + body_text(body) + b"}", b"", b"", b"", *around)
    age = headers.from_stored(reply.age)[0][0]
    status = headers.from_stored(reply.ttl.removeprefix(b"\r\n"))[0]
    shown = lax_json.encode(shown_fields(own))[1:-1]
    return FreshSlot(
        _HEADERS + shown + (b"," if shown else b""),
        lax_json.encode({"name": age, "value": ""})[:-2],
        b'"},' + lax_json.encode({"name": status[0], "value": status[1]})[:-2],
        b'"}' + _BODY + body_text(body) + b"}",
        *around,
    )


def newest_fields(usage: Headers) -> bytes:
    """Returns the *usage* headers as they stand in a slot before its last field."""
    return b"".join([lax_json.encode(field) + b"," for field in shown_fields(usage)])


def json_text(text: str) -> bytes:
    """Returns *text* within a JSON text."""
    return lax_json.encode(text)[1:-1]


def body_text(body: bytes) -> bytes:
    """Returns *body* as a slot has it: as a text."""
    return lax_json.encode(body.decode("utf-8", "replace"))
