"""How many requests are taken up in overload, played on an event loop whose turns take as long as what they do."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.http.admission import Admission, Beat
from proxy.core.http.pacing import LEAST, TURN_S, Pace

TURN_COST_S, TAKE_COST_S, ANSWER_COST_S, REFUSE_COST_S = 0.0002, 0.00003, 0.00012, 0.00002
"""Seconds of the processor."""

CAPACITY = 1 / (TAKE_COST_S + ANSWER_COST_S)
BEAT_S, PER_TURN = 0.05, 16

FEW = settings(max_examples=6)


@dataclass
class Loop:
    """An event loop: each turn takes all that has come, from callers and from Graph, whose answers take *latency_s*."""

    latency_s: float
    comes: Callable[[Loop, float, float], float]
    admission: Admission = field(default_factory=lambda: Admission(0.6))
    now: float = 0.0
    queue: deque[float] = field(default_factory=deque)  # when each request came
    at_graph: list[tuple[float, float]] = field(default_factory=list)  # when each answer is there, and when it came
    waits: list[tuple[float, float]] = field(default_factory=list)  # at what time, and for how long, of the answered
    refused: int = 0
    beat: Beat = field(default_factory=Beat)
    _due: float = 0.0
    _turned_at: float = 0.0
    _beaten_at: float = 0.0
    _was_empty: bool = True

    def play(self, until: float) -> None:
        """Let time pass."""
        while self.now < until:
            self.turn()

    def turn(self) -> None:
        """One turn of the event loop."""
        began, cost = self.now, TURN_COST_S
        cost += self._come(began) + self._answer(began) + self._take(began)
        self._was_empty = self._was_empty or not self.queue
        self._turned_at = began
        self.now = began + max(cost, TURN_S if self.admission.is_overloaded else 0.0)
        if self.now - self._beaten_at >= BEAT_S:
            self._end_beat()

    def _come(self, began: float) -> float:
        self._due += self.comes(self, self._turned_at, began)
        cost = 0.0
        while self._due >= 1:
            self._due -= 1
            self.beat.came += 1
            if len(self.queue) >= self.admission.most:
                cost += self._refuse()
            else:
                self.queue.append(began)
        return cost

    def _refuse(self) -> float:
        self.refused += 1
        self.beat.refused += 1
        return REFUSE_COST_S

    def _answer(self, began: float) -> float:
        answered = []
        while self.at_graph and self.at_graph[0][0] <= began:
            answered.append(heapq.heappop(self.at_graph)[1])
        cost = len(answered) * ANSWER_COST_S
        self.waits += [(began, began + cost - came) for came in answered]
        return cost

    def _take(self, began: float) -> float:
        waiting = len(self.queue)
        count = min(PER_TURN, waiting)
        if self.admission.is_overloaded:
            count = self.admission.pace.due(began - self._turned_at, waiting, len(self.at_graph))
        for _ in range(count):
            heapq.heappush(self.at_graph, (began + self.latency_s, self.queue.popleft()))
        self.beat.taken += count
        return count * TAKE_COST_S

    def _end_beat(self) -> None:
        beat, self.beat = self.beat, Beat()
        beat.seconds, beat.inside = self.now - self._beaten_at, len(self.queue) + len(self.at_graph)
        beat.waiting = 0 if self._was_empty else len(self.queue)
        self._beaten_at, self._was_empty = self.now, not self.queue
        self.admission.measured(beat)
        while len(self.queue) > self.admission.most:
            self.queue.pop()
            self._refuse()


def at_rate(rate: float) -> Callable[[Loop, float, float], float]:
    """So many a second come, whatever becomes of them."""
    return lambda _loop, start, end: rate * (end - start)


def p99(waits: list[float]) -> float:
    """The wait that one of a hundred exceeds."""
    return sorted(waits)[int(len(waits) * 0.99)]


@pytest.mark.parametrize("latency_s, more_s, share", [(0.02, 0.05, 0.85), (0.08, 0.05, 0.85), (0.3, 0.25, 0.75)])
@pytest.mark.parametrize("times", [1.3, 2.0, 3.0])
def test_who_is_let_in_is_answered_soon(latency_s: float, more_s: float, share: float, times: float) -> None:
    """At any overload 99 of 100 wait little longer than Graph takes, for turns are short; the processor is not idle."""
    loop, lasts = Loop(latency_s, at_rate(times * CAPACITY)), 20.0
    loop.play(lasts)
    assert p99([wait for at, wait in loop.waits if at > 2]) <= latency_s + more_s
    assert len(loop.waits) >= share * CAPACITY * (lasts - loop.refused * REFUSE_COST_S)
    loop.comes = at_rate(CAPACITY / 4)
    loop.play(lasts + 2)
    assert not loop.admission.is_overloaded


@pytest.mark.parametrize("times", [2.0, 3.0])
def test_overload_is_seen_before_many_have_waited(times: float) -> None:
    """Within half a second of its beginning."""
    loop = Loop(0.08, at_rate(times * CAPACITY))
    loop.play(0.5)
    assert loop.admission.is_overloaded


@given(st.integers(200, 4000), st.floats(0.01, 0.3))
@FEW
def test_callers_that_wait_for_their_answers_are_no_overload(callers: int, latency_s: float) -> None:
    """However many of them ask again at once: as many come as are answered."""
    asked = 0

    def again(loop: Loop, _start: float, _end: float) -> int:
        nonlocal asked
        due = callers + len(loop.waits) - asked
        asked += due
        return due

    loop = Loop(latency_s, again)
    loop.play(6.0)
    assert not loop.refused


@given(st.integers(1, 5000), st.floats(0.01, 0.3))
@FEW
def test_a_burst_ends_before_anyone_is_refused(count: int, latency_s: float) -> None:
    """Nobody of those who come at once is refused, nor who comes meanwhile."""
    loop = Loop(latency_s, lambda _loop, start, end: (0 if start else count) + CAPACITY / 3 * (end - start))
    loop.play(4.0)
    assert not loop.refused


def test_a_pace_is_found_from_too_little_and_from_too_much() -> None:
    """Where turns are short, and where they are long."""
    for rate in (10.0, 50_000.0):
        pace, now = Pace(), 0.0
        pace.begin(rate)
        elapsed = TURN_S
        while now < 10:
            elapsed = max(TURN_S, pace.due(elapsed, 10**6, 0) / 5000)
            now += elapsed
        assert 2500 <= pace.rate <= 8000


def test_a_pace_that_was_cut_down_is_found_again_soon() -> None:
    """Where turns are short it grows sevenfold within three seconds, also after a long turn."""
    pace, now = Pace(), 0.0
    pace.begin(700)
    pace.due(0.2, 10**6, 0)
    assert pace.rate < 700
    while now < 3:
        pace.due(1.25 * TURN_S, 10**6, 0)
        now += 1.25 * TURN_S
    assert pace.rate >= 7 * 600


def test_some_are_taken_up_however_long_turns_are() -> None:
    """A processor that does nothing else is no reason to take up none."""
    pace = Pace()
    pace.begin(1000)
    assert [pace.due(5.0, 100, 0) for _ in range(50)][-1] >= LEAST
    assert pace.due(5.0, 3, 0) == 3
