"""The steps of a JSONPath: parsed by jsonpath-ng, and followed in Goessner's order."""

from __future__ import annotations

import warnings
from typing import Any

from jsonpath_ng import Child, Descendants, Fields, Index, JSONPath, Root, Slice, This
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.jsonpath import Wildcard
from jsonpath_ng.parser import JsonPathParser

from proxy.core.client_batch.jsonpath import BadPath, VisitBudget, nodes_in, values_in
from proxy.core.memory.memo import memo

_parser = JsonPathParser()


@memo()
def parsed(path: str) -> JSONPath:
    """Returns *path* as jsonpath-ng understands it. Raises BadPath."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of operators that are its own, and not Goessner's
            return _parser.parse(path)
    except (JSONPathError, ValueError, AttributeError, RecursionError) as error:
        raise BadPath(path) from error


def walk(step: JSONPath, values: list[Any], visits: VisitBudget) -> list[Any]:
    """Returns what *step* matches in each of *values*, in their order."""
    visits.spend(len(values))
    match step:
        case Root() | This():
            return values
        case Child(left=left, right=right):
            return walk(right, walk(left, values, visits), visits)
        case Descendants(left=left, right=right):
            below = [inner for value in walk(left, values, visits) for inner in nodes_in(value, visits)]
            return walk(right, below, visits)
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
            return values_in(value)
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
