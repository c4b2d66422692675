"""Finds rules that can never apply, because an earlier rule matches every read that they match."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from proxy.core.routing.rules import RuleMatch, plain_glob

_TOKEN = re.compile(r"\*+|\[!?\]?[^\]]*\]|.", re.DOTALL)
"""A part of a glob: a run of stars, a set of characters, or one character."""


def shadowed(rules: Sequence[RuleMatch]) -> Iterator[tuple[int, int]]:
    """Yields the place of each rule that an earlier rule hides, and the place of that rule."""
    for place, rule in enumerate(rules):
        earlier = next((at for at, other in enumerate(rules[:place]) if _hides(other, rule)), None)
        if earlier is not None:
            yield place, earlier


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
    reached = _past_stars(parts, {0})  # places in *parts* that the parts of *other* so far can lead to
    for alternative in others:
        reached = {
            place if parts[place] == "*" else place + 1
            for place in reached
            if place < len(parts) and _takes(parts[place], alternative)
        }
        reached = _past_stars(parts, reached)
    return len(parts) in reached


def _tokens(glob: str) -> list[str]:
    return ["*" if found.startswith("*") else found for found in _TOKEN.findall(plain_glob(glob))]


def _takes(part: str, other: str) -> bool:
    """Returns whether *part* matches all that *other* stands for, or a piece of it if *part* is a star."""
    return part in ("*", other) or (part == "?" and other != "*")


def _past_stars(parts: Sequence[str], places: set[int]) -> set[int]:
    """Returns *places* and those behind the stars there, since a star also matches nothing."""
    found = set(places)
    for place, part in enumerate(parts):
        if place in found and part == "*":
            found.add(place + 1)
    return found
