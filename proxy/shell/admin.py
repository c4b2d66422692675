"""Our own paths, on a listener of their own: every path of the first one belongs to Graph."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web


def admin(is_ready: Callable[[], bool], stats: Callable[[], dict[str, object]]) -> web.Application:
    """Probes that do not depend on Meta being up, and the counts."""

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if is_ready() else web.Response(status=503, text="draining\n")

    async def told(_request: web.Request) -> web.Response:
        return web.json_response(stats())

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/stats", told)])
    return app
