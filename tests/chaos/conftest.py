"""The fixtures of the journeys, for tests that put a fault between the sidecar and Graph."""

from tests.journeys.conftest import (
    ask,
    clock,
    graph,
    lifetimes,
    pytest_asyncio_loop_factories,
    sidecar,
    sidecar_settings,
)

__all__ = ["ask", "clock", "graph", "lifetimes", "pytest_asyncio_loop_factories", "sidecar", "sidecar_settings"]
