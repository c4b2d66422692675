"""Counts the structs that are made: import this before whatever defines structs."""

from __future__ import annotations

import msgspec

made = 0
"""How many there were."""


class _Counted(msgspec.Struct):
    def __post_init__(self):
        global made  # noqa: PLW0603 - the cheapest that a profiler can be beside
        made += 1


msgspec.Struct = _Counted
