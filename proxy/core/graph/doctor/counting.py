"""Whether a call counts against Graph's limits, told by the usage before and after several of them."""

from __future__ import annotations

from proxy.core.graph.doctor.answers import Answer, Judged, Verdict
from proxy.core.quota.usage_headers import usage_levels

_LEAST_STEPS = 3
"""The smallest number of steps of a gauge that calls of a known number must come to before it tells anything."""

Gauge = tuple[str, str, str]


def counted(base: tuple[Answer, Answer, int], tried: tuple[Answer, Answer], as_many: int, as_few: int) -> Judged:
    """Whether what happened between the answers *tried* counted as *as_many* calls or as *as_few*.

    *base* are two answers with so many plain reads after the first: they tell what one call comes to. The last of the
    answers *tried* is to a plain read, too, which counts besides.
    """
    first, last, reads = base
    found = [
        verdict
        for gauge in _levels(first)
        if (verdict := _by_gauge(gauge, (first, last, reads), tried, as_many, as_few)) is not None
    ]
    if not _levels(first):
        return Judged(Verdict.UNKNOWN, "Graph told no usage")
    if not found:
        return Judged(Verdict.UNKNOWN, "usage did not move enough to tell")
    return max(found, key=lambda each: each[0])[1]


def _by_gauge(
    gauge: Gauge, base: tuple[Answer, Answer, int], tried: tuple[Answer, Answer], as_many: int, as_few: int
) -> tuple[float, Judged] | None:
    """How sharply *gauge* tells, and what; None where it tells nothing."""
    levels = [_levels(answer).get(gauge) for answer in (*base[:2], *tried)]
    if any(level is None for level in levels):
        return None
    before, after, start, end = (level for level in levels if level is not None)
    one = (after - before) / base[2]
    step = 1.0 if all(level == int(level) for level in (before, after, start, end)) else 0.01
    if one <= 0 or one * as_many < _LEAST_STEPS * step:
        return None
    calls = (end - start) / one - 1
    middle = (as_many + as_few) / 2
    if abs(calls - middle) * one < step or calls > 2 * as_many:  # too near, or others use the limit, too
        return None
    told = f"by the usage that followed they came to about {max(0.0, calls):.0f} of {as_many}"
    return one / step, Judged(Verdict.HOLDS if calls > middle else Verdict.DIFFERS, told)


def _levels(answer: Answer) -> dict[Gauge, float]:
    return {(each.kind, each.id, each.type): each.percent for each in usage_levels(answer.fields)}
