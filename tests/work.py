"""How much work a call is: the lines of Python that it runs, or its processor time, which waits for nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any


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


def processor_time(call: Callable[[], object]) -> float:
    """The seconds of the processor that *call* takes in this thread; what else the machine does adds nothing."""
    began = time.thread_time()
    call()
    return time.thread_time() - began
