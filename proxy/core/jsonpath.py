"""JSONPath as references in batches use it: parsed by jsonpath-ng, walked the way Goessner describes.

The two part ways at the star, which Goessner lets walk arrays as well as objects, and at a bare number, which names a
place in an array (`$.data.*.id`, `$.data.0.name`: developers.facebook.com/docs/graph-api/batch-requests).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from jsonpath_ng import Child, Descendants, Fields, Index, JSONPath, Root, Slice, This
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.jsonpath import Wildcard
from jsonpath_ng.parser import parse as _parse


class BadPath(Exception):  # noqa: N818 - what is bad is the path, and that is its name
    """This text is no JSONPath that we know."""


def find(path: str, document: Any) -> list[Any]:
    """Everything in *document* that *path* matches, in Goessner's order. Raises BadPath."""
    try:
        return list(_walk(_parsed(path), document))
    except (ValueError, RecursionError) as error:  # a stride of nought; a path or a document too deep to walk
        raise BadPath(path) from error


@lru_cache(maxsize=256)
def _parsed(path: str) -> JSONPath:
    try:
        return _parse(path)
    except (JSONPathError, ValueError, AttributeError, RecursionError) as error:
        raise BadPath(path) from error


def _walk(step: JSONPath, document: Any) -> Iterator[Any]:
    match step:
        case Root() | This():
            yield document
        case Child(left=left, right=right):
            for value in _walk(left, document):
                yield from _walk(right, value)
        case Descendants(left=left, right=right):
            for value in _walk(left, document):
                for inner in _all_below(value):
                    yield from _walk(right, inner)
        case _:
            yield from _children(step, document)


def _children(step: JSONPath, value: Any) -> Iterator[Any]:
    match step:
        case Fields(fields=("*",)) | Wildcard():
            yield from _members(value)
        case Fields(fields=names):
            for name in names:
                yield from _member(value, name)
        case Index(indices=indices):
            for index in indices:
                yield from _member(value, str(index))
        case Slice(start=start, end=end, step=stride):
            yield from value[start:end:stride] if isinstance(value, list) else ()
        case _:
            raise BadPath(str(step))


def _member(value: Any, name: str) -> Iterator[Any]:
    if isinstance(value, dict) and name in value:
        yield value[name]
    elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):  # none is counted from the end
        yield value[int(name)]


def _members(value: Any) -> Iterator[Any]:
    match value:
        case dict():
            yield from value.values()
        case list():
            yield from value


def _all_below(value: Any) -> Iterator[Any]:
    yield value
    for inner in _members(value):
        yield from _all_below(inner)
