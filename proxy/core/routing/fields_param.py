"""Parses the `fields` parameter: names at the top level, and their normal order."""

from __future__ import annotations

import re

import msgspec

from proxy.core.memory.memo import memo
from proxy.core.routing.query import REFERENCE_MARK, REFERENCE_OPEN, decode

_NAME_END = re.compile(r"[.{(]")
MEMBER = re.compile(r"""[^,"'\[\]]+""")


def fields_in(query: str) -> str:
    """Returns the `fields` list in *query* (in normal form), "" for none."""
    _, found, value = f"&{query}".rpartition("&fields=")
    return decode(value.partition("&")[0]) if found else ""


def normal_fields(text: str) -> str:
    """Returns the `fields` list with its top level sorted; a list that cannot be parsed safely stays as it is.

    So does a list that names a field twice: Graph refuses it (code 2500) and says at which place.
    """
    names = sorted(field_names(text))
    if not names or names_twice(names):
        return text
    return msgspec.json.encode(names).decode() if text.startswith("[") else ",".join(names)


def names_twice(names: list[str]) -> bool:
    """Returns whether a field stands twice in *names*, whatever its arguments."""
    each = [_NAME_END.split(name, maxsplit=1)[0] for name in split_top_level(",".join(names)) or names]
    return len(set(each)) < len(each)


def field_names(text: str) -> list[str]:
    """Returns the top level of a `fields` list, which may be a JSON array; [] if it cannot be parsed safely."""
    if not text.startswith("["):
        return split_top_level(text)
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return []


def split_top_level(text: str) -> list[str]:
    """Returns the pieces between commas outside braces, parentheses and quotes.

    Returns [] when these do not pair up, or when a piece is empty or has white space around it: how Graph reads such a
    list after sorting is not known.
    """
    pieces, start, closers = [], 0, []
    for found in REFERENCE_MARK.finditer(text):
        mark = found.group()
        if mark in REFERENCE_OPEN:
            closers.append(REFERENCE_OPEN[mark])
        elif mark in {"'", '"'} or (mark in {"}", ")", "]"} and (not closers or closers.pop() != mark)):
            return []
        elif mark == "," and not closers:
            pieces.append(text[start : found.start()])
            start = found.end()
    pieces.append(text[start:])
    return pieces if not closers and all(piece and piece == piece.strip() for piece in pieces) else []


PLAIN_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:,[A-Za-z_][A-Za-z0-9_]*)+")

FieldNames = tuple[str, ...]


@memo()
def asked_order(fields: str) -> FieldNames:
    """Returns the names of a `fields` list in the caller's order; () if they are sorted already, or not plain names."""
    names = tuple(fields.split(",")) if PLAIN_FIELD.fullmatch(fields) else ()
    return names if list(names) != sorted(set(names)) and len(set(names)) == len(names) else ()
