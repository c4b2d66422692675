"""JSONPath after Goessner, as far as references in batches use it.

`$.id`, `$.data.*.id`, `$.data..id`, `$.data.0.name`, `$['data'][0:2].id` (developers.facebook.com, "Batch Requests").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Step = Callable[[Any], Iterator[Any]]

_TOKEN = re.compile(
    r"""(?P<deep>\.\.)(?P<after>[^.\[\]]+|(?=\[))
      | \.(?P<name>[^.\[\]]+)
      | \[\s*(?P<inside>'[^']*'|"[^"]*"|[^\]]*?)\s*\]""",
    re.VERBOSE,
)

_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")


def find(path: str, value: Any) -> list[Any]:
    """Everything in *value* that *path* matches; a path that cannot be read raises ValueError."""
    found = [value]
    for step in _steps(path):
        found = [match for each in found for match in step(each)]
    return found


@lru_cache(maxsize=1024)
def _steps(path: str) -> tuple[Step, ...]:
    text = path.strip().removeprefix("$")
    if text and text[0] not in ".[":
        text = f".{text}"
    steps: list[Step] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"no JSONPath: {path}")
        steps.extend(_read(token))
        at = token.end()
    return tuple(steps)


def _read(token: re.Match[str]) -> Iterator[Step]:
    if token["deep"]:
        yield _everything_below
        if token["after"]:
            yield _child(token["after"])
    elif token["name"] is not None:
        yield _child(token["name"])
    else:
        yield _bracket(token["inside"])


def _bracket(inside: str) -> Step:
    if _QUOTED.fullmatch(inside):
        return _member(inside[1:-1])
    if ":" in inside:
        return _slice(inside)
    choices = [_child(part.strip().strip("'\"")) for part in inside.split(",")]
    return lambda value: (match for choice in choices for match in choice(value))


def _child(name: str) -> Step:
    return _wildcard if name == "*" else _member(name)


def _member(name: str) -> Step:
    """Step to a key of an object, or to a position in a list."""

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            yield value[int(name)]

    return step


def _slice(inside: str) -> Step:
    """Step to `[start:end:step]` of a list; the end is not included."""
    bounds = [int(part) if part.strip() else None for part in inside.split(":")]
    chosen = slice(*bounds[:3])

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[chosen]

    return step


def _wildcard(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _everything_below(value: Any) -> Iterator[Any]:
    yield value
    for inner in _wildcard(value):
        yield from _everything_below(inner)
