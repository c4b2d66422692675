"""Puts the fields of a body into the caller's own order, because Graph was asked for them sorted, in normal form.

Graph answers in the order in which it was asked, and adds `id` at the end where it was not asked for
(developers.facebook.com/docs/graph-api/guides/field-expansion). A body in any other order stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from proxy.core.graph.errors import UNREADABLE
from proxy.core.routing.fields_param import FieldNames

_ADDED_BY_GRAPH = "id"
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows_decoder = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def in_order(body: bytes, path: str, order: FieldNames) -> bytes:
    """Returns *body*, Graph's answer to a read of *path* in normal form, as if the fields were asked in *order*.

    Values stay byte for byte the same.
    """
    try:
        return _body_in_order(_members_decoder.decode(body), path, order)
    except (_UnexpectedOrder, *UNREADABLE):
        return body


class _UnexpectedOrder(Exception):  # noqa: N818 - it never leaves this module
    """The fields are not in the order in which Graph was asked."""


def _body_in_order(whole: Mapping[str, msgspec.Raw], path: str, order: FieldNames) -> bytes:
    if path == "/":  # several objects, by their ids
        objects = [_members_decoder.decode(each) for each in whole.values()]
        return _as_json_object(dict(zip(whole, _objects_in_order(objects, order), strict=True)))
    if "data" in order or bytes(whole.get("data", b""))[:1] != b"[":
        return _objects_in_order([whole], order)[0]
    rows = b",".join(_objects_in_order(_rows_decoder.decode(whole["data"]), order))
    return _as_json_object({**whole, "data": b"[" + rows + b"]"})


def _objects_in_order(objects: Sequence[Mapping[str, msgspec.Raw]], order: FieldNames) -> list[bytes]:
    """Returns each of *objects* in order; the order is found once for objects that have the same members."""
    places: dict[FieldNames, list[tuple[bytes, str]]] = {}
    rows = []
    for each in objects:
        names = tuple(each)
        if names not in places:
            places[names] = [(_member_start(name), name) for name in _names_in_order(names, order)]
        rows.append(b"{" + b",".join([head + bytes(each[name]) for head, name in places[names]]) + b"}")
    return rows


def _names_in_order(names: FieldNames, order: FieldNames) -> list[str]:
    """Returns *names* in *order*, with an `id` that was not asked for at the end."""
    asked = [name for name in names if name in order]
    if asked != sorted(asked) or list(names[: len(asked)]) != asked or not set(names) - set(order) <= {_ADDED_BY_GRAPH}:
        raise _UnexpectedOrder
    return [*(name for name in order if name in names), *names[len(asked) :]]


def _as_json_object(members: Mapping[str, bytes | msgspec.Raw]) -> bytes:
    return b"{" + b",".join([_member_start(name) + bytes(each) for name, each in members.items()]) + b"}"


def _member_start(name: str) -> bytes:
    return msgspec.json.encode(name) + b":"
