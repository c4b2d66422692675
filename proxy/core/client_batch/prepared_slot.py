"""Slots of a client's batch as JSON, made of the heads that `core/fast_path` makes for replies to single reads."""

from __future__ import annotations

from typing import NamedTuple

from proxy.core.client_batch.slots import fields_around_batch, shown_fields
from proxy.core.fast_path.answer_template import Filled
from proxy.core.graph import lax_json
from proxy.core.http import headers
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


def slot_template(filled: Filled, *, include_headers: bool) -> SlotTemplate:
    """Returns the template of slots of replies with the head *filled*."""
    own = headers.from_stored(_ETAG.encode().join(filled.head).partition(b"\r\n")[2].removesuffix(b"\r\n"))
    status = headers.from_stored(filled.tail.partition(b"\r\n")[0].replace(b"%%", b"%"))
    reply = Reply(200, (*own, *status), b"")
    around = [fields_around_batch(reply, same_version=is_same) for is_same in (True, False)]
    if not include_headers:
        return SlotTemplate((_WITHOUT_HEADERS,), b"", False, *around)
    first, last = lax_json.encode(shown_fields(own))[1:-1], lax_json.encode(shown_fields(status))[1:-1]
    before = (_HEADERS + first + (b"," if first and last else b"")).split(lax_json.encode(_ETAG)[1:-1])
    return SlotTemplate(tuple(before), last + _BODY, filled.takes_newest, *around)


def newest_fields(usage: Headers) -> bytes:
    """Returns the *usage* headers as they stand in a slot before its last field."""
    return b"".join([lax_json.encode(field) + b"," for field in shown_fields(usage)])


def json_text(text: str) -> bytes:
    """Returns *text* within a JSON text."""
    return lax_json.encode(text)[1:-1]


def body_text(body: bytes) -> bytes:
    """Returns *body* as a slot has it: as a text."""
    return lax_json.encode(body.decode("utf-8", "replace"))
