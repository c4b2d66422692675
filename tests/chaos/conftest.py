"""The fixtures of the journeys, for tests that put a fault around the sidecar."""

from tests.journeys.conftest import (
    ask,
    clock,
    fleet,
    graph,
    lifetimes,
    pytest_asyncio_loop_factories,
    scene,
    sidecar,
    sidecar_settings,
    store,
)
from tests.shell.store.conftest import mounted

__all__ = [
    "ask",
    "clock",
    "fleet",
    "graph",
    "lifetimes",
    "mounted",
    "pytest_asyncio_loop_factories",
    "scene",
    "sidecar",
    "sidecar_settings",
    "store",
]
