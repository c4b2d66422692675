"""On whose bill a call to Graph goes: set where a caller's request comes in, looked up where a call leaves.

It travels with the task, as asyncio's contexts do: a flight goes on the bill of the caller who started it, whoever else
waits for it and whether that caller stays or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from proxy.core.quota.ledger import RequestCost

_current: ContextVar[RequestCost | None] = ContextVar("bill", default=None)


def current_cost() -> RequestCost | None:
    """The bill that is charged now."""
    return _current.get()


@contextmanager
def charged_to(cost: RequestCost | None) -> Iterator[None]:
    """Charge *cost* with what leaves within, and with what the tasks that begin within send ever after."""
    token = _current.set(cost)
    try:
        yield
    finally:
        _current.reset(token)
