"""Core dumps: tokens are in the process's memory while they are in use, and a dump would write them to a disk."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_DUMPABLE = 4
"""Linux (prctl(2)): what dumps by a pipe, as systemd-coredump does, asks no limit, and asks this."""


def forbid() -> None:
    """Let nobody write this process's memory to a file when it crashes; on Linux only root may look into it, too."""
    _limit(0)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextmanager
def limit_of_others() -> Iterator[None]:
    """While this lasts, a program that is started may be dumped as it might without us."""
    before = resource.getrlimit(resource.RLIMIT_CORE)[0]
    _limit(_FOUND)
    try:
        yield
    finally:
        _limit(before)


def _limit(size: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (size, resource.getrlimit(resource.RLIMIT_CORE)[1]))


_FOUND = resource.getrlimit(resource.RLIMIT_CORE)[0]
"""The limit that this process was started with."""
