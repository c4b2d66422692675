"""How much work a call is: the lines of Python that it runs, or its processor time, which waits for nothing."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

COMMON_S = 0.0017
"""Seconds of the processor that the piece of work of `slowness` takes on the machine where bounds were set."""


def lines_run(call: Callable[[], object]) -> int:
    """The lines of Python that *call* runs, those of every function that it calls included."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@contextmanager
def untraced() -> Iterator[None]:
    """Coverage does not count what runs meanwhile: its own work would be measured too."""
    before = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(before)


def processor_time(call: Callable[[], object], times: int = 3) -> float:
    """The seconds of the processor that *call* takes in this thread, of so many *times* the shortest."""

    def once() -> float:
        began = time.thread_time()
        call()
        return time.thread_time() - began

    with untraced():
        return min(once() for _ in range(times))


def slowness() -> float:
    """How many times as long a fixed piece of work takes here as where bounds were set; 1 at the least."""
    return max(1.0, processor_time(lambda: sum(len(str(number)) for number in range(20_000))) / COMMON_S)


async def longest_turn(make: Callable[[], Coroutine[Any, Any, object]], wanted: float, times: int = 3) -> float:
    """The seconds of the processor in which what *make* makes let nobody else have a turn, at the most.

    What else the machine does makes some longer, so it is made again, up to so many *times*, until fewer than *wanted*.
    """
    found = await _longest_turn(make())
    return found if found < wanted or times == 1 else await longest_turn(make, wanted, times - 1)


async def _longest_turn(work: Coroutine[Any, Any, object]) -> float:
    longest = 0.0
    while True:
        with untraced():
            began = time.thread_time()
            try:
                work.send(None)
            except StopIteration:
                return max(longest, time.thread_time() - began)
            longest = max(longest, time.thread_time() - began)
        await asyncio.sleep(0)
