"""The fixtures of the journeys, for tests that put a fault around the sidecar."""

from tests.journeys.conftest import (
    ask,
    clock,
    fleet,
    graph,
    lifetimes,
    pytest_asyncio_loop_factories,
    sidecar,
    sidecar_settings,
    store,
)

__all__ = [
    "ask",
    "clock",
    "fleet",
    "graph",
    "lifetimes",
    "pytest_asyncio_loop_factories",
    "sidecar",
    "sidecar_settings",
    "store",
]
