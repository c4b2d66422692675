"""`/metrics` among the paths of the admin listener."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.core.routing.admin_access import Access
from proxy.shell.observe.counters import Counters

if TYPE_CHECKING:
    from proxy.shell.observe.prometheus import Exposition


def metrics_route(telemetry: Counters) -> dict[Access, list[web.RouteDef]]:
    """Returns the route of `/metrics`; the Prometheus client is imported when somebody scrapes for the first time."""
    made: list[Exposition] = []

    async def answer(request: web.Request) -> web.Response:
        if not made:
            module = await asyncio.to_thread(importlib.import_module, "proxy.shell.observe.prometheus")
            made.append(module.Exposition(telemetry))
        body, kind = made[0].scrape(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": kind})

    return {Access.READ: [web.get("/metrics", answer)]}
