"""Judges whether calls count against Graph's limits, by the usage that Graph reports before and after them."""

from __future__ import annotations

from proxy.core.graph.doctor.answers import Answer, Judged, Verdict
from proxy.core.quota.usage_headers import usage_levels

_LEAST_STEPS = 3
"""The smallest change of a usage level, in its own steps (1 % or 0.01 %), that is large enough to judge by."""

_LevelName = tuple[str, str, str]


def counted(base: tuple[Answer, Answer, int], tried: tuple[Answer, Answer], as_many: int, as_few: int) -> Judged:
    """Returns whether the calls between the two answers *tried* counted as *as_many* calls (HOLDS) or as *as_few*.

    *base* holds two answers and the number of plain reads from the first to the second: they show what one call costs.
    The second of the answers *tried* is to a plain read, which counts as well.
    """
    first, last, reads = base
    found = [
        verdict
        for name in _levels(first)
        if (verdict := _by_level(name, (first, last, reads), tried, as_many, as_few)) is not None
    ]
    if not _levels(first):
        return Judged(Verdict.UNKNOWN, "Graph reported no usage")
    if not found:
        return Judged(Verdict.UNKNOWN, "usage did not move enough to tell")
    return max(found, key=lambda each: each[0])[1]


def _by_level(
    name: _LevelName, base: tuple[Answer, Answer, int], tried: tuple[Answer, Answer], as_many: int, as_few: int
) -> tuple[float, Judged] | None:
    """Returns how clear the verdict by the level *name* is, and the verdict; None where the level shows nothing."""
    levels = [_levels(answer).get(name) for answer in (*base[:2], *tried)]
    if any(level is None for level in levels):
        return None
    before, after, start, end = (level for level in levels if level is not None)
    one = (after - before) / base[2]
    step = 1.0 if all(level == int(level) for level in (before, after, start, end)) else 0.01
    if one <= 0 or one * as_many < _LEAST_STEPS * step:
        return None
    calls = (end - start) / one - 1
    middle = (as_many + as_few) / 2
    if abs(calls - middle) * one < step or calls > 2 * as_many:  # not clear, or other programs use the same limit
        return None
    detail = f"by the usage after them, about {max(0.0, calls):.0f} of {as_many} counted"
    return one / step, Judged(Verdict.HOLDS if calls > middle else Verdict.DIFFERS, detail)


def _levels(answer: Answer) -> dict[_LevelName, float]:
    return {(each.kind, each.id, each.type): each.percent for each in usage_levels(answer.fields)}
