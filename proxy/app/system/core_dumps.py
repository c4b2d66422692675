"""Prevents core dumps, which would write the tokens in the process's memory to disk."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_DUMPABLE = 4
"""Linux (prctl(2)): a dump by a pipe, such as systemd-coredump's, ignores the limit and obeys this flag."""


def forbid_core_dumps() -> None:
    """Forbid core dumps of this process; on Linux also reading its memory, except by root."""
    _set_limit(0)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextmanager
def limit_for_children() -> Iterator[None]:
    """Restore the initial limit while this lasts, for programs that are started meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_CORE)[0]
    _set_limit(_INITIAL_LIMIT)
    try:
        yield
    finally:
        _set_limit(before)


def _set_limit(size: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (size, resource.getrlimit(resource.RLIMIT_CORE)[1]))


_INITIAL_LIMIT = resource.getrlimit(resource.RLIMIT_CORE)[0]
"""The limit that this process was started with."""
