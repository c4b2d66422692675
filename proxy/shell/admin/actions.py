"""Routes of the admin listener: probes, `/stats`, and an operator's actions: quit, reload, purge, log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web

from proxy.core.cache.purge import PurgeOrder, read_order
from proxy.core.http.errors import BadRequest
from proxy.core.routing.admin_access import Access
from proxy.shell.admin.app import error_response

_LOG: Mapping[str, Mapping[str, object]] = {
    "level": {level: level for level in ("debug", "info", "warning", "error")},
    "replies": {"true": True, "false": False},
}
"""The names and values that `POST /log` takes."""


def action_routes(
    is_ready: Callable[[], bool],
    stats: Callable[[], Mapping[str, object]],
    quit_now: Callable[[], None],
    reload: Callable[[], Awaitable[Mapping[str, object]]],
) -> dict[Access, list[web.RouteDef]]:
    """The routes of probes, `/stats`, `/quit` and `/reload`, by the access that each needs.

    *reload* returns its result; if the settings were refused, `problems` lists why.
    """

    def troubles() -> Sequence[Mapping[str, object]]:
        """The troubles of the shared store; they hold no names, so a probe may show them to everyone."""
        found = stats().get("troubles", ())
        return [each for each in found if each["about"] == "shared"] if isinstance(found, list) else ()

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        lines = "".join(f"{each['what']}\n" for each in troubles()) if "verbose" in request.query else ""
        if not is_ready():
            return web.Response(status=503, text=f"draining\n{lines}")
        return web.Response(text=f"ok\n{lines}")

    async def show_stats(_request: web.Request) -> web.Response:
        return web.json_response(stats())

    async def end(_request: web.Request) -> web.Response:
        quit_now()
        return web.json_response({"draining": True})

    async def reload_settings(_request: web.Request) -> web.Response:
        result = await reload()
        if "problems" in result:
            return error_response(422, "the new settings were refused, the old ones stay in force", **result)
        return web.json_response(result)

    return {
        Access.ANYONE: [web.get("/livez", livez), web.get("/readyz", readyz)],
        Access.READ: [web.get("/stats", show_stats)],
        Access.ACT: [web.post("/quit", end), web.post("/reload", reload_settings)],
    }


def log_route(change: Callable[..., Mapping[str, object]]) -> dict[Access, list[web.RouteDef]]:
    """The route of `POST /log`: *change* gets `level` and `replies`, given as JSON or in the query."""

    async def log(request: web.Request) -> web.Response:
        try:
            given = {**request.query, **(await request.json() if request.can_read_body else {})}
            wanted = {name: _LOG[name][str(value).lower()] for name, value in given.items()}
        except (KeyError, TypeError, ValueError):
            return error_response(400, "level must be debug, info, warning or error; replies must be true or false")
        return web.json_response(change(**wanted))

    return {Access.ACT: [web.post("/log", log)]}


def purge_route(purge: Callable[[PurgeOrder], Awaitable[Mapping[str, object]]]) -> web.RouteDef:
    """The route of `POST /purge`: *purge* carries out the order in the body."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            order = read_order(await request.read())
        except BadRequest as error:
            return error_response(400, error.detail)
        return web.json_response(await purge(order))

    return web.post("/purge", handle)
