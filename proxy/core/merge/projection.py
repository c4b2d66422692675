"""Cuts one caller's fields out of the body of a merged read."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from proxy.core.graph.errors import UNREADABLE
from proxy.core.http import headers
from proxy.core.merge.selection import AROUND_A_LIST, FieldNames, JsonText
from proxy.core.model import Mode, Reply

_ADDED_BY_GRAPH = "id"


def project_reply(reply: Reply, asked: FieldNames, own: FieldNames) -> Reply | None:
    """Returns the reply that Graph would have given to *own*, cut out of its *reply* to *asked*; None if it cannot be.

    A cut reply has no ETag, because Graph gave none for it.
    """
    if own == asked:
        return reply
    body = project(reply.body, asked, own) if reply.status == 200 else None
    if body is None:
        return None
    return replace(reply, body=body, headers=headers.without(reply.headers, headers.NOT_IN_PARTS))


def as_merged(reply: Reply) -> Reply:
    """Marks *reply* as merged (another caller's call fetched it), unless it comes from the cache."""
    is_asked = reply.ttl is None or reply.detail == "stale-if-error"
    return replace(reply, mode=Mode.COALESCED, joined=reply.mode, detail="merged") if is_asked else reply


def project(body: bytes, asked: FieldNames, own: FieldNames) -> bytes | None:
    """Returns the JSON of *body*, which answers *asked*, with the fields in *own* alone; None if it is not understood.

    Values stay byte for byte the same.
    """
    try:
        whole = _members_decoder.decode(body)
        if "data" not in asked and "data" in whole and memoryview(whole["data"])[0] == ord("["):
            return _as_json_object(_project_list(whole, asked, own))
        return _as_json_object(_project_object(whole, asked, own))
    except (_UnexpectedField, *UNREADABLE):
        return None


class _UnexpectedField(Exception):  # noqa: N818 - it never leaves this module
    """The body has a field that no caller requested."""


_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows_decoder = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def _project_object(members: Mapping[str, JsonText], asked: FieldNames, own: FieldNames) -> dict[str, JsonText]:
    """Returns the fields of one object in Graph's order; `id` last if this caller did not ask for it."""
    if not members.keys() <= asked | {_ADDED_BY_GRAPH}:
        raise _UnexpectedField
    kept = {name: value for name, value in members.items() if name in own or name not in asked}
    return {**kept, _ADDED_BY_GRAPH: members[_ADDED_BY_GRAPH]} if _ADDED_BY_GRAPH in members else kept


def _project_list(whole: Mapping[str, JsonText], asked: FieldNames, own: FieldNames) -> dict[str, JsonText]:
    """Returns a list with each object projected, and with paging links that ask for the same fields."""
    if not whole.keys() <= AROUND_A_LIST:
        raise _UnexpectedField
    rows = [_as_json_object(_project_object(row, asked, own)) for row in _rows_decoder.decode(whole["data"])]
    made = {**whole, "data": b"[" + b",".join(rows) + b"]"}
    if "paging" in whole:
        paging = _members_decoder.decode(whole["paging"])
        links: dict[str, JsonText] = {
            name: _project_link(paging[name], asked, own) for name in ("previous", "next") if name in paging
        }
        made["paging"] = _as_json_object({**paging, **links})
    return made


_COMMA = re.compile(rb",|%2[Cc]|\\u0025(?:2[Cc])|\\u002[Cc]")
_FIELDS_PARAMETER = re.compile(rb"(?<=[?&6])fields=((?:\w|" + _COMMA.pattern + rb")*)")


def _project_link(link: JsonText, asked: FieldNames, own: FieldNames) -> bytes:
    r"""Returns a paging link that asks for *own*; commas stay as Graph spelled them: `,`, `%2C`, or `\u00252C`."""
    return _FIELDS_PARAMETER.sub(
        lambda members: b"fields=" + _project_fields_parameter(members[1], asked, own), bytes(link)
    )


def _project_fields_parameter(text: bytes, asked: FieldNames, own: FieldNames) -> bytes:
    names = [name.decode() for name in _COMMA.split(text)]
    if set(names) != asked:
        raise _UnexpectedField
    comma = _COMMA.search(text)
    return (comma.group() if comma else b"").join(name.encode() for name in names if name in own)


def _as_json_object(fields: Mapping[str, JsonText]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), bytes(value)) for name, value in fields.items()) + b"}"
