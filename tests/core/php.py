"""A small model of how PHP reads a query (main/php_variables.c), written apart from the code that it judges."""

from __future__ import annotations

import re

Table = dict[object, object]

_HEX = re.compile(rb"%([0-9a-fA-F]{2})")


def parsed(query: str, *, modern: bool = True) -> Table:
    """`$_GET` for *query*; *modern* PHP mangles all of a name whose bracket is never closed, older only the bracket."""
    table: Table = {}
    for piece in query.encode("utf-8", "surrogateescape").split(b"&"):
        name, _, value = piece.partition(b"=")
        _register(table, _decoded(name), _decoded(value), modern=modern)
    return table


def ordered(value: object) -> object:
    """*value* with the order of an array's elements made to count in a comparison."""
    return [(key, ordered(inner)) for key, inner in value.items()] if isinstance(value, dict) else value


def _decoded(text: bytes) -> bytes:
    return _HEX.sub(lambda found: bytes.fromhex(found[1].decode()), text.replace(b"+", b" "))


def _register(table: Table, name: bytes, value: bytes, *, modern: bool) -> None:
    name = name.split(b"\0")[0].lstrip(b" ")
    at = name.find(b"[")
    root = _mangled(name if at < 0 else name[:at])
    if not root:
        return
    keys: list[bytes | None] = []
    while 0 <= at < len(name) and name[at : at + 1] == b"[":
        inside = at + 1
        first = inside + 1 if name[inside : inside + 1].isspace() else inside
        end = name.find(b"]", first)
        if end < 0:
            if not keys:
                rest = name[inside:]
                root += b"_" + (_mangled(rest) if modern else rest)
            break
        keys.append(None if end == first else name[inside:end])
        at = end + 1
    _assign(table, root, keys, value)


def _mangled(name: bytes) -> bytes:
    return re.sub(rb"[ .\[]", b"_", name)


def _assign(table: Table, root: bytes, keys: list[bytes | None], value: bytes) -> None:
    holder, key = table, _index(root)
    for wanted in keys:
        inner = holder.get(key)
        if not isinstance(inner, dict):
            inner = holder[key] = {}
        holder = inner
        key = _next(holder) if wanted is None else _index(wanted)
    holder[key] = value


def _index(name: bytes) -> object:
    return int(name) if re.fullmatch(rb"0|-?[1-9][0-9]{0,17}", name) else name


def _next(holder: Table) -> int:
    return max((key for key in holder if isinstance(key, int)), default=-1) + 1
