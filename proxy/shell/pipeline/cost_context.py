"""Which caller's cost record a call to Graph is charged to: set where a request comes in, read where a call is sent.

A context variable carries the record from task to task. A flight is therefore charged to the caller who started it,
whoever else waits for it, and even if that caller has gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from proxy.core.quota.ledger import RequestCost

_current: ContextVar[RequestCost | None] = ContextVar("cost", default=None)


def current_cost() -> RequestCost | None:
    """Return the cost record of the current context, or None."""
    return _current.get()


@contextmanager
def charged_to(cost: RequestCost | None) -> Iterator[None]:
    """Charge *cost* with the calls that are sent within, and with all calls of tasks that begin within."""
    token = _current.set(cost)
    try:
        yield
    finally:
        _current.reset(token)
