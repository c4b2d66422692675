"""What an operator may do: quit, reload, purge, change the log; and the probes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web

from proxy.core.cache.purge import PurgeOrder, read_order
from proxy.core.http.errors import BadRequest
from proxy.core.routing.admin_access import Access
from proxy.shell.admin.app import failure

_LOG: Mapping[str, Mapping[str, object]] = {
    "level": {level: level for level in ("debug", "info", "warning", "error")},
    "replies": {"true": True, "false": False},
}
"""What `POST /log` takes."""


def action_routes(
    is_ready: Callable[[], bool],
    stats: Callable[[], Mapping[str, object]],
    quit_now: Callable[[], None],
    reload: Callable[[], Awaitable[Mapping[str, object]]],
) -> dict[Access, list[web.RouteDef]]:
    """The table of our own paths, by who may come to them; each room that has more adds its rows.

    *reload* tells what came of it: what is wrong under `problems`.
    """

    def troubles() -> Sequence[Mapping[str, object]]:
        """What is wrong with what replicas share; a probe may tell it to anybody, for it holds no names."""
        found = stats().get("troubles", ())
        return [each for each in found if each["about"] == "shared"] if isinstance(found, list) else ()

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        lines = "".join(f"{each['what']}\n" for each in troubles()) if "verbose" in request.query else ""
        if not is_ready():
            return web.Response(status=503, text=f"draining\n{lines}")
        return web.Response(text=f"ok\n{lines}")

    async def told(_request: web.Request) -> web.Response:
        return web.json_response(stats())

    async def end(_request: web.Request) -> web.Response:
        quit_now()
        return web.json_response({"draining": True})

    async def read_again(_request: web.Request) -> web.Response:
        told = await reload()
        if "problems" in told:
            return failure(422, "the settings are not taken, all is as it was", **told)
        return web.json_response(told)

    return {
        Access.ANYONE: [web.get("/livez", livez), web.get("/readyz", readyz)],
        Access.READ: [web.get("/stats", told)],
        Access.ACT: [web.post("/quit", end), web.post("/reload", read_again)],
    }


def log_route(change: Callable[..., Mapping[str, object]]) -> dict[Access, list[web.RouteDef]]:
    """`POST /log`: what is told from now on, `level` and `replies` as JSON or in the query; *change* does it."""

    async def log(request: web.Request) -> web.Response:
        try:
            given = {**request.query, **(await request.json() if request.can_read_body else {})}
            wanted = {name: _LOG[name][str(value).lower()] for name, value in given.items()}
        except (KeyError, TypeError, ValueError):
            return failure(400, "level is debug, info, warning or error, replies is true or false")
        return web.json_response(change(**wanted))

    return {Access.ACT: [web.post("/log", log)]}


def purge_route(purge: Callable[[PurgeOrder], Awaitable[Mapping[str, object]]]) -> web.RouteDef:
    """The row of the admin listener's table."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            order = read_order(await request.read())
        except BadRequest as error:
            return failure(400, error.detail)
        return web.json_response(await purge(order))

    return web.post("/purge", handle)
