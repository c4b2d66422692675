"""Cuts one caller's fields out of the body of a merged read."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from proxy.core.graph.errors import UNREADABLE
from proxy.core.http import headers
from proxy.core.merge.selection import AROUND_A_LIST, ETAG, FieldSet, JsonText
from proxy.core.model import Mode, Reply

_UNASKED = "id"


# --- apart ---


def project_reply(reply: Reply, asked: FieldSet, own: FieldSet) -> Reply | None:
    """Of Graph's *reply* to *asked* what it would have said to *own*; None where that cannot be told.

    Graph has given no ETag for it, so it has none.
    """
    if own == asked:
        return reply
    body = project(reply.body, asked, own) if reply.status == 200 else None
    return None if body is None else replace(reply, body=body, headers=headers.without(reply.headers, ETAG))


def as_merged(reply: Reply) -> Reply:
    """The part of one whose read another's paid for, if it was paid for at all."""
    is_asked = reply.ttl is None or reply.detail == "stale-if-error"
    return replace(reply, mode=Mode.COALESCED, joined=reply.mode, detail="merged") if is_asked else reply


def project(body: bytes, asked: FieldSet, own: FieldSet) -> bytes | None:
    """The JSON of *body*, which answers *asked*, less what *own* did not ask for; None if it is not understood.

    Values stay byte for byte as they are.
    """
    try:
        whole = _object.decode(body)
        if "data" not in asked and "data" in whole and memoryview(whole["data"])[0] == ord("["):
            return _write(_list(whole, asked, own))
        return _write(_fields(whole, asked, own))
    except (_Strange, *UNREADABLE):
        return None


class _Strange(Exception):  # noqa: N818 - it never leaves this room
    """A body in which there is what nobody asked for: nobody here knows whose it is."""


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def _fields(found: Mapping[str, JsonText], asked: FieldSet, own: FieldSet) -> dict[str, JsonText]:
    """The fields of one object, in the order in which Graph gave them; `id` last if only others asked for it."""
    if not found.keys() <= asked | {_UNASKED}:
        raise _Strange
    kept = {name: value for name, value in found.items() if name in own or name not in asked}
    return {**kept, _UNASKED: found[_UNASKED]} if _UNASKED in found else kept


def _list(whole: Mapping[str, JsonText], asked: FieldSet, own: FieldSet) -> dict[str, JsonText]:
    """An edge: its objects one by one, and links to further pages of the same fields."""
    if not whole.keys() <= AROUND_A_LIST:
        raise _Strange
    rows = [_write(_fields(row, asked, own)) for row in _rows.decode(whole["data"])]
    made = {**whole, "data": b"[" + b",".join(rows) + b"]"}
    if "paging" in whole:
        paging = _object.decode(whole["paging"])
        links: dict[str, JsonText] = {
            name: _linked(paging[name], asked, own) for name in ("previous", "next") if name in paging
        }
        made["paging"] = _write({**paging, **links})
    return made


_COMMA = re.compile(rb",|%2[Cc]|\\u0025(?:2[Cc])|\\u002[Cc]")
_ASKED = re.compile(rb"(?<=[?&6])fields=((?:\w|" + _COMMA.pattern + rb")*)")


def _linked(link: JsonText, asked: FieldSet, own: FieldSet) -> bytes:
    r"""A link that asks for *own*, its commas spelled as Graph spelled them: `,`, `%2C`, or `\u00252C`."""
    return _ASKED.sub(lambda found: b"fields=" + _listed(found[1], asked, own), bytes(link))


def _listed(text: bytes, asked: FieldSet, own: FieldSet) -> bytes:
    names = [name.decode() for name in _COMMA.split(text)]
    if set(names) != asked:
        raise _Strange
    comma = _COMMA.search(text)
    return (comma.group() if comma else b"").join(name.encode() for name in names if name in own)


def _write(fields: Mapping[str, JsonText]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), bytes(value)) for name, value in fields.items()) + b"}"
