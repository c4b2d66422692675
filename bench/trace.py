"""The dashboard's half hour: who reads what and when, what changes meanwhile, and the fewest calls that could serve it.

200 callers behind a few tokens look at the same ad accounts, most of them at the few that matter (Zipf), while a fifth
of all objects changes each minute.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MINUTES, CALLERS, TOKENS, OBJECTS = 30, 200, 4, 240
CHANGING = 0.2
"""The share of objects that change each minute."""
ZIPF = 1.1
VISIT_S = 20.0
"""Seconds between two reads of one caller, on average."""
LOW, USUAL = 6, 3
"""Urgencies (RFC 9218): half of the callers are reports, which can wait, and half are people, who cannot."""


@dataclass(frozen=True, slots=True)
class Look:
    """One read of a caller's."""

    at: float  # seconds after the start
    caller: int
    node: str
    token: str
    urgency: int


@dataclass(frozen=True, slots=True)
class Change:
    """One object changes."""

    at: float
    node: str


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that happens, each in the order of time."""

    looks: Sequence[Look]
    changes: Sequence[Change]
    seconds: float


def dashboard(minutes: float = MINUTES, seed: int = 1, callers: int = CALLERS) -> Trace:
    """The half hour, or as much of it, or with fewer callers; it follows from the seed."""
    dice, seconds = random.Random(seed), minutes * 60
    nodes = [str(1_201_000_000_000 + number) for number in range(OBJECTS)]
    weights = [1 / rank**ZIPF for rank in range(1, OBJECTS + 1)]
    looks = []
    for caller in range(callers):
        at = dice.uniform(0, VISIT_S)
        while at < seconds:
            node = dice.choices(nodes, weights)[0]
            looks.append(Look(at, caller, node, f"team{caller % TOKENS}", LOW if caller % 2 else USUAL))
            at += dice.expovariate(1 / VISIT_S)
    changes = [
        Change(minute * 60 + dice.uniform(0, 60), node)
        for minute in range(int(minutes))
        for node in dice.sample(nodes, round(OBJECTS * CHANGING))
    ]
    return Trace(sorted(looks, key=lambda look: look.at), sorted(changes, key=lambda change: change.at), seconds)


def fewest_calls(looks: Iterable[Look], life_s: float) -> list[float]:
    """When the offline optimum asks Graph, for replies that are never older than *life_s*.

    A call serves every look at its object by its token from then on for that long, so asking as late as can be (at the
    first look that nothing held can serve) is the best that even one who knows the future can do.
    """
    asked: dict[tuple[str, str], float] = {}
    calls = []
    for look in looks:
        before = asked.get((look.node, look.token))
        if before is None or look.at - before >= life_s:
            asked[look.node, look.token] = look.at
            calls.append(look.at)
    return calls


def fewest_throttles(looks: Iterable[Look], life_s: float, budget: int, window_s: float) -> int:
    """How many of these looks the offline optimum leaves unserved, for all of a *budget* per sliding window.

    Any reply not older than *life_s* serves. It asks for nothing but these, as late as can be, and never in vain: a
    call that the window has no room for is not made, and the look sees a throttle.
    """
    asked: dict[tuple[str, str], float] = {}
    made: deque[float] = deque()
    throttled = 0
    for look in looks:
        before = asked.get((look.node, look.token))
        if before is not None and look.at - before < life_s:
            continue
        while made and look.at - made[0] >= window_s:
            made.popleft()
        if len(made) < budget:
            made.append(look.at)
            asked[look.node, look.token] = look.at
        else:
            throttled += 1
    return throttled


class Versions:
    """Which version of each object was current when, to hold what callers got against."""

    def __init__(self, changes: Iterable[Change]) -> None:
        """Take the changes in their order; before the first an object's version is 0."""
        self._times: Mapping[str, list[float]] = defaultdict(list)
        for change in changes:
            self._times[change.node].append(change.at)

    def age(self, node: str, version: int, now: float) -> float:
        """Seconds since *version* of *node* was last the current one; 0 if it still is."""
        times = self._times.get(node, [])
        return max(0.0, now - times[version]) if version < len(times) else 0.0
