"""Evaluates JSONPath as references in batches use it: parsed by jsonpath-ng, with the semantics of Goessner's article.

The two differ in the star, which matches elements of arrays as well as of objects in Goessner's, and in a bare number,
which is an index there (`$.data.*.id`, `$.data.0.name`: developers.facebook.com/docs/graph-api/batch-requests).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

LONGEST_PATH = 256
"""The most characters of a path; Meta's own samples have about twenty."""

MOST_STEPS = 32
"""The most steps (names, indices, stars) of a path; Meta's own samples have four."""

MOST_VISITS = 100_000
"""The most values of documents that are visited for one text."""


class BadPath(Exception):  # noqa: N818 - the path is bad, and the name says so
    """The text is no JSONPath that is understood here, or evaluating it would take too many steps."""


class VisitBudget:
    """How many values may still be visited."""

    def __init__(self, most: int = MOST_VISITS) -> None:
        """Allow *most* values."""
        self.left = most

    def spend(self, values: int) -> None:
        """Count visited *values*. Raises BadPath when there were too many."""
        self.left -= values
        if self.left < 0:
            raise BadPath(f"a path to more than {MOST_VISITS} values")


def find(path: str, document: Any, visits: VisitBudget | None = None) -> list[Any]:
    """Returns the values in *document* that *path* matches, in Goessner's order, within *visits*. Raises BadPath."""
    check_length(path)
    from proxy.core.client_batch import jsonpath_steps  # jsonpath-ng takes memory that only references need

    try:
        return jsonpath_steps.walk(jsonpath_steps.parsed(path), [document], visits or VisitBudget())
    except (ValueError, RecursionError) as error:  # a slice with step 0
        raise BadPath(path) from error


def check_length(path: str) -> None:
    """Raise BadPath for a *path* that is too long to be parsed."""
    if len(path) > LONGEST_PATH or path.count(".") + path.count("[") > MOST_STEPS:
        raise BadPath(f"{path[:64]}… (of more than {LONGEST_PATH} characters or {MOST_STEPS} steps)")


def nodes_in(value: Any, visits: VisitBudget) -> Iterator[Any]:
    """Yields *value* and all values below it, in the order of the JSON text."""
    pending = [value]
    while pending:
        value = pending.pop()
        visits.spend(1)
        yield value
        pending += reversed(values_in(value))


def values_in(value: Any) -> list[Any]:
    """Returns the values of an object or the elements of an array."""
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []
