"""Finds rules that can never apply, because an earlier rule matches every read that they match."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from proxy.core.routing.rules import RuleMatch, plain_glob

_TOKEN = re.compile(r"\*+|\[!?\]?[^\]]*\]|.", re.DOTALL)
"""A part of a glob: a run of stars, a set of characters, or one character."""


def shadowed(rules: Sequence[RuleMatch]) -> Iterator[tuple[int, int]]:
    """Yields the index of each rule that an earlier rule hides, and the index of that rule."""
    for index, rule in enumerate(rules):
        earlier = next((at for at, other in enumerate(rules[:index]) if _hides(other, rule)), None)
        if earlier is not None:
            yield index, earlier


def _hides(earlier: RuleMatch, later: RuleMatch) -> bool:
    """Returns whether *earlier* matches all reads that *later* matches."""
    return (
        earlier.version in {"", later.version}
        and (not earlier.fields or (bool(later.fields) and later.fields <= earlier.fields))
        and covers(earlier.path, later.path)
    )


def covers(glob: str, other: str) -> bool:
    """Returns whether the path *glob* is known to match every path that *other* matches; some cases are missed."""
    parts, others = _tokens(glob), _tokens(other)
    reached = _past_stars(parts, {0})  # indices in *parts* that the parts of *other* so far can lead to
    for alternative in others:
        reached = {
            index if parts[index] == "*" else index + 1
            for index in reached
            if index < len(parts) and _takes(parts[index], alternative)
        }
        reached = _past_stars(parts, reached)
    return len(parts) in reached


def _tokens(glob: str) -> list[str]:
    return ["*" if found.startswith("*") else found for found in _TOKEN.findall(plain_glob(glob))]


def _takes(part: str, other: str) -> bool:
    """Returns whether *part* matches all that *other* stands for, or a piece of it if *part* is a star."""
    return part in ("*", other) or (part == "?" and other != "*")


def _past_stars(parts: Sequence[str], indices: set[int]) -> set[int]:
    """Returns *indices* and those behind the stars there, since a star also matches nothing."""
    found = set(indices)
    for index, part in enumerate(parts):
        if index in found and part == "*":
            found.add(index + 1)
    return found
