"""Our own paths, on a listener of their own: every path of the first one belongs to Graph."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_address

from aiohttp import web

from proxy.core.routing.admin_access import Access, AdminCaller, Guard, Refusal, refusal
from proxy.shell.http.listener import Listener
from proxy.shell.http.timeouts import Timeouts

_log = logging.getLogger("graph_sidecar.admin")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Rows = Mapping[Access, Iterable[web.RouteDef]]

BODY_LIMIT = 1024**2
"""Bytes of a POST."""

_SAFE = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What a browser needs to be told of everything here; a row may say otherwise of itself."""

_CHALLENGE = 'Bearer realm="graph-sidecar", Basic realm="graph-sidecar", charset="UTF-8"'


def admin(tables: Iterable[Rows], guard: Callable[[], Guard]) -> web.Application:
    """An application that answers as *tables* say to those whom *guard* lets in."""
    app = web.Application(middlewares=[_told_in_json], client_max_size=BODY_LIMIT)
    app.on_response_prepare.append(_made_safe)
    for table in tables:
        for access, routes in table.items():
            app.add_routes([_guarded(route, access, guard) for route in routes])
    return app


def _guarded(route: web.RouteDef, access: Access, guard: Callable[[], Guard]) -> web.RouteDef:
    answer: Handler = route.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        if refused := refusal(access, _caller(request), guard()):
            _log.warning("%s %s was refused: %s", request.method, request.path, refused.reason)
            return _refused(refused)
        return await answer(request)

    return web.RouteDef(route.method, route.path, handle, route.kwargs)


class AdminRunner(web.AppRunner):
    """Runs an application on our own kind of listener, which is patient within bounds and quotes nobody."""

    def __init__(self, app: web.Application, patience: Timeouts) -> None:
        """Be as patient as *patience*."""
        super().__init__(app, auto_decompress=False, access_log=None, shutdown_timeout=0)
        self._patience = patience

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Listener(
            made.request_handler, request_factory=made.request_factory, patience=self._patience, **self._kwargs
        )


def _caller(request: web.Request) -> AdminCaller:
    return AdminCaller(
        request.method, {name.lower(): value for name, value in request.headers.items()}, _is_near(request)
    )


def _is_near(request: web.Request) -> bool:
    """Whether a loopback address was called; where the call seems to come from is what a mesh made of it."""
    own = request.transport.get_extra_info("sockname") if request.transport else None
    return isinstance(own, tuple) and ip_address(own[0]).is_loopback


def _refused(refused: Refusal) -> web.Response:
    response = failure(refused.status, refused.reason)
    if refused.status == 401:
        response.headers["WWW-Authenticate"] = _CHALLENGE
    return response


def failure(status: int, reason: str, **more: object) -> web.Response:
    """What goes wrong on the admin listener is told in JSON, as a program reads it."""
    return web.json_response(
        {"error": {"status": status, "message": f"graph-sidecar: {reason}", **more}}, status=status
    )


@web.middleware
async def _told_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = failure(error.status, error.reason.lower())
        response.headers.update({name: value for name, value in error.headers.items() if name == "Allow"})
        return response
    except Exception as fault:  # noqa: BLE001 - its kind is told; its text may hold what nobody should read
        _log.error("%s %s failed: %s", request.method, request.path, type(fault).__name__)
        return failure(500, f"a fault of its own ({type(fault).__name__})")


async def _made_safe(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _SAFE.items():
        response.headers.setdefault(name, value)
