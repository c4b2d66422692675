"""The values that are read from other parts when `/stats` or `/metrics` is asked for; nothing here is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class LastReload(NamedTuple):
    """Whether the last reload took over the settings, and when settings were last taken over, in epoch seconds."""

    is_successful: bool
    at: float  # the start counts


@dataclass(slots=True)
class Gauges:
    """Functions that return the present values of other parts."""

    queued: Callable[[], int] = lambda: 0
    tasks: Callable[[], int] = lambda: 0  # of the event loop
    store: Callable[[], Mapping[str, Any]] = dict
    usage: Callable[[], Sequence[Mapping[str, Any]]] = list
    open: Callable[[], int] = lambda: 0
    connections: Callable[[], int] = lambda: 0  # of callers, tunnels included
    max_connections: int = 0
    draining: Callable[[], bool] = lambda: False
    last_reload: Callable[[], LastReload] = lambda: LastReload(is_successful=True, at=0.0)
    shared: Callable[[], Mapping[str, Any]] = dict  # of the store that replicas share; empty without one
