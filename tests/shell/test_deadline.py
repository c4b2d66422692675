"""A deadline that moves sets no timer, and comes once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any, cast

from proxy.shell.deadline import Deadline


class Loop:
    """An event loop's clock and timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        self.timers.append(timer := Timer(when, call))
        return timer

    def pass_to(self, now: float) -> None:
        """Let time pass, and call what is due."""
        self.now = now
        for timer in [timer for timer in self.timers if timer.when() <= now and not timer.is_over]:
            timer.is_over = True
            timer.call()


class Timer:
    """One timer."""

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self._when, self.call, self.is_over = when, call, False

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self.is_over = True


def test_a_deadline_that_moves_on_sets_no_timer() -> None:
    """A thousand exchanges that end in time set one timer; the one that does not is found on time."""
    loop, reached = Loop(), list[float]()
    deadline = Deadline(cast("asyncio.AbstractEventLoop", cast("Any", loop)), lambda: reached.append(loop.now))
    for at in range(1000):
        loop.now = at / 1000
        deadline.set(loop.now + 30)
        deadline.at = inf
    assert len(loop.timers) == 1
    deadline.set(40.0)
    loop.pass_to(30.0)
    assert (reached, len(loop.timers)) == ([], 2)
    loop.pass_to(40.0)
    loop.pass_to(90.0)
    assert reached == [40.0]


def test_a_nearer_deadline_is_kept() -> None:
    """A deadline before the timer's gets a timer; a cancelled one gets none."""
    loop, reached = Loop(), list[float]()
    deadline = Deadline(cast("asyncio.AbstractEventLoop", cast("Any", loop)), lambda: reached.append(loop.now))
    deadline.set(30.0)
    deadline.set(2.0)
    loop.pass_to(2.0)
    loop.pass_to(30.0)
    assert reached == [2.0]
    deadline.set(50.0)
    deadline.cancel()
    loop.pass_to(99.0)
    assert reached == [2.0]
