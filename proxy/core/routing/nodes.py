"""Finds the objects (nodes) that a call names, in its path, `ids` or `id`, and so as how many calls Graph counts it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec

from proxy.core.memory.memo import memo
from proxy.core.routing.fields_param import MEMBER
from proxy.core.routing.query import php_name, split_pairs


def calls_of(query: str) -> int:
    """Returns as how many calls Graph counts a read with this *query*: one for each of its `ids`."""
    return _count_ids(query) if "ids" in query else 1


@memo()
def _count_ids(query: str) -> int:
    pairs = split_pairs(query)
    of_array = [value for name, value in pairs if name != "ids" and php_name(name) == "ids"]
    return max(1, len(listed(of_array or dict(pairs).get("ids", ""))))


def nodes(path: str, query: str) -> tuple[str, ...]:
    """Returns the objects of a call: the first segment of its path, else its `ids` or `id`; () if it names none."""
    first = path[1:].partition("/")[0]
    return (first,) if first else named_nodes(dict(split_pairs(query)))


def named_nodes(given: Mapping[str, object]) -> tuple[str, ...]:
    """Returns the objects in the parameters *given*: `ids=1,2`, `ids=["1","2"]`, `ids[]=1&ids[]=2` or `id=1`."""
    several = [each for name, value in given.items() if php_name(name) == "ids" for each in listed(value)]
    return (*several, *listed(given.get("id", "")))


def listed(value: object) -> tuple[str, ...]:
    """Returns the members of a list: a Python list, a JSON array (whose URLs may hold commas), or comma-separated."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            value = msgspec.json.decode(value)
    if isinstance(value, list):
        return tuple(str(each) for each in value)
    return tuple(member for piece in MEMBER.findall(str(value)) if (member := piece.strip()))
