"""An answer in its caller's own order of fields, where Graph was asked for them in another: in normal form, sorted.

Graph answers in the order in which it was asked, an `id` that nobody asked for last
(developers.facebook.com/docs/graph-api/guides/field-expansion); a body that is in no such order stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from proxy.core.graph.errors import UNREADABLE
from proxy.core.routing.fields_param import FieldNames

_UNASKED = "id"
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def in_order(body: bytes, path: str, order: FieldNames) -> bytes:
    """*body*, Graph's answer to a read of *path* in normal form, as if it had been asked in *order*.

    Values stay byte for byte as they are.
    """
    try:
        return _ordered(_object.decode(body), path, order)
    except (_Strange, *UNREADABLE):
        return body


class _Strange(Exception):  # noqa: N818 - it never leaves this room
    """An order that is not the one in which Graph was asked."""


def _ordered(whole: Mapping[str, msgspec.Raw], path: str, order: FieldNames) -> bytes:
    if path == "/":  # several objects, by their ids
        objects = [_object.decode(each) for each in whole.values()]
        return _write(dict(zip(whole, _each_ordered(objects, order), strict=True)))
    if "data" in order or bytes(whole.get("data", b""))[:1] != b"[":
        return _each_ordered([whole], order)[0]
    rows = b",".join(_each_ordered(_rows.decode(whole["data"]), order))
    return _write({**whole, "data": b"[" + rows + b"]"})


def _each_ordered(objects: Sequence[Mapping[str, msgspec.Raw]], order: FieldNames) -> list[bytes]:
    """*objects* one by one; most of a list have the same members, so what these come to is found once for all."""
    places: dict[FieldNames, list[tuple[bytes, str]]] = {}
    rows = []
    for each in objects:
        names = tuple(each)
        if names not in places:
            places[names] = [(_head(name), name) for name in _reordered(names, order)]
        rows.append(b"{" + b",".join([head + bytes(each[name]) for head, name in places[names]]) + b"}")
    return rows


def _reordered(names: FieldNames, order: FieldNames) -> list[str]:
    """*names* as *order* has them, what nobody asked for at the end."""
    asked = [name for name in names if name in order]
    if asked != sorted(asked) or list(names[: len(asked)]) != asked or not set(names) - set(order) <= {_UNASKED}:
        raise _Strange
    return [*(name for name in order if name in names), *names[len(asked) :]]


def _write(members: Mapping[str, bytes | msgspec.Raw]) -> bytes:
    return b"{" + b",".join([_head(name) + bytes(each) for name, each in members.items()]) + b"}"


def _head(name: str) -> bytes:
    return msgspec.json.encode(name) + b":"
