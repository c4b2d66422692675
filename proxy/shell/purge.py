"""`POST /purge`: an operator's order to forget what is held."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from proxy.core.errors import BadRequest
from proxy.core.purging import Order, read_order
from proxy.shell.admin import failure


def purge_row(purge: Callable[[Order], Awaitable[Mapping[str, object]]]) -> web.RouteDef:
    """The row of the admin listener's table."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            order = read_order(await request.read())
        except BadRequest as error:
            return failure(400, error.detail)
        return web.json_response(await purge(order))

    return web.post("/purge", handle)
