"""Evaluates JSONPath as references in batches use it: parsed by jsonpath-ng, with the semantics of Goessner's article.

The two differ in the star, which matches elements of arrays as well as of objects in Goessner's, and in a bare number,
which is an index there (`$.data.*.id`, `$.data.0.name`: developers.facebook.com/docs/graph-api/batch-requests).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from jsonpath_ng import Child, Descendants, Fields, Index, JSONPath, Root, Slice, This
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.jsonpath import Wildcard
from jsonpath_ng.parser import JsonPathParser

from proxy.core.memory.memo import memo

LONGEST = 256
"""The most characters of a path; Meta's own samples have about twenty."""

MOST_STEPS = 32
"""The most steps (names, indices, stars) of a path; Meta's own samples have four."""

MOST_VISITS = 100_000
"""The most values of documents that are visited for one text."""

_parser = JsonPathParser()


class BadPath(Exception):  # noqa: N818 - the path is bad, and the name says so
    """The text is no JSONPath that is understood here, or evaluating it would take too many steps."""


class Visits:
    """How many values may still be visited."""

    def __init__(self, most: int = MOST_VISITS) -> None:
        """Allow *most* values."""
        self.left = most

    def spend(self, values: int) -> None:
        """Count visited *values*. Raises BadPath when there were too many."""
        self.left -= values
        if self.left < 0:
            raise BadPath(f"a path to more than {MOST_VISITS} values")


def find(path: str, document: Any, visits: Visits | None = None) -> list[Any]:
    """Returns the values in *document* that *path* matches, in Goessner's order, within *visits*. Raises BadPath."""
    check_length(path)
    try:
        return _walk(_parsed(path), [document], visits or Visits())
    except (ValueError, RecursionError) as error:  # a slice with step 0
        raise BadPath(path) from error


def check_length(path: str) -> None:
    """Raise BadPath for a *path* that is too long to be parsed."""
    if len(path) > LONGEST or path.count(".") + path.count("[") > MOST_STEPS:
        raise BadPath(f"{path[:64]}… (of more than {LONGEST} characters or {MOST_STEPS} steps)")


def nodes_in(value: Any, visits: Visits) -> Iterator[Any]:
    """Yields *value* and all values below it, in the order of the JSON text."""
    pending = [value]
    while pending:
        value = pending.pop()
        visits.spend(1)
        yield value
        pending += reversed(_values_in(value))


@memo()
def _parsed(path: str) -> JSONPath:
    try:
        with warnings.catch_warnings(action="ignore"):  # of operators that are its own, and not Goessner's
            return _parser.parse(path)
    except (JSONPathError, ValueError, AttributeError, RecursionError) as error:
        raise BadPath(path) from error


def _walk(step: JSONPath, values: list[Any], visits: Visits) -> list[Any]:
    """Returns what *step* matches in each of *values*, in their order."""
    visits.spend(len(values))
    match step:
        case Root() | This():
            return values
        case Child(left=left, right=right):
            return _walk(right, _walk(left, values, visits), visits)
        case Descendants(left=left, right=right):
            below = [inner for value in _walk(left, values, visits) for inner in nodes_in(value, visits)]
            return _walk(right, below, visits)
        case _:
            found: list[Any] = []
            for value in values:
                children = _children(step, value)
                visits.spend(len(children))
                found += children
            return found


def _children(step: JSONPath, value: Any) -> list[Any]:
    match step:
        case Fields(fields=("*",)) | Wildcard():
            return _values_in(value)
        case Fields(fields=names):
            return [found for name in names for found in _member(value, name)]
        case Index(indices=indices):
            return [found for index in indices for found in _member(value, str(index))]
        case Slice(start=start, end=end, step=stride):
            return value[start:end:stride] if isinstance(value, list) else []
        case _:
            raise BadPath(str(step))


def _member(value: Any, name: str) -> list[Any]:
    if isinstance(value, dict) and name in value:
        return [value[name]]
    if isinstance(value, list) and name.isdecimal() and int(name) < len(value):  # no negative indices
        return [value[int(name)]]
    return []


def _values_in(value: Any) -> list[Any]:
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []
