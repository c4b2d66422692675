"""The admin listener's application: access control and error replies around its routes.

The admin listener is separate because every path of the first listener belongs to Graph.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_address

from aiohttp import web

from proxy.core.routing.admin_access import Access, AdminCaller, AdminRefusal, Guard, admin_refusal
from proxy.shell.http.listener import Listener
from proxy.shell.http.timeouts import Timeouts

_log = logging.getLogger("graph_sidecar.admin")

AdminHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]

AdminRoutes = Mapping[Access, Iterable[web.RouteDef]]

BODY_LIMIT = 1024**2
"""The most bytes that the body of a POST may have."""

_SECURITY_FIELDS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Header fields of every reply, for browsers; a route may set its own values."""

_WWW_AUTHENTICATE = 'Bearer realm="graph-sidecar", Basic realm="graph-sidecar", charset="UTF-8"'


def admin(tables: Iterable[AdminRoutes], guard: Callable[[], Guard]) -> web.Application:
    """An application with the routes in *tables*; *guard* says who may use them."""
    app = web.Application(middlewares=[_errors_as_json], client_max_size=BODY_LIMIT)
    app.on_response_prepare.append(_add_security_fields)
    for table in tables:
        for access, routes in table.items():
            app.add_routes([_guarded(route, access, guard) for route in routes])
    return app


def _guarded(route: web.RouteDef, access: Access, guard: Callable[[], Guard]) -> web.RouteDef:
    answer: AdminHandler = route.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        if refused := admin_refusal(access, _caller(request), guard()):
            _log.warning("%s %s was refused: %s", request.method, request.path, refused.reason)
            return _refusal_response(refused)
        return await answer(request)

    return web.RouteDef(route.method, route.path, handle, route.kwargs)


class AdminRunner(web.AppRunner):
    """Runs an application on our own listener, whose timeouts are bounded and whose errors quote no request."""

    def __init__(self, app: web.Application, timeouts: Timeouts) -> None:
        """Run *app* with *timeouts*."""
        super().__init__(app, auto_decompress=False, access_log=None, shutdown_timeout=0)
        self._timeouts = timeouts

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Listener(
            made.request_handler, request_factory=made.request_factory, timeouts=self._timeouts, **self._kwargs
        )


def _caller(request: web.Request) -> AdminCaller:
    return AdminCaller(
        request.method, {name.lower(): value for name, value in request.headers.items()}, _came_over_loopback(request)
    )


def _came_over_loopback(request: web.Request) -> bool:
    """True if the caller connected to a loopback address; its own address may be a service mesh's."""
    own = request.transport.get_extra_info("sockname") if request.transport else None
    return isinstance(own, tuple) and ip_address(own[0]).is_loopback


def _refusal_response(refused: AdminRefusal) -> web.Response:
    response = error_response(refused.status, refused.reason)
    if refused.status == 401:
        response.headers["WWW-Authenticate"] = _WWW_AUTHENTICATE
    return response


def error_response(status: int, reason: str, **more: object) -> web.Response:
    """An error of the admin listener as JSON."""
    return web.json_response(
        {"error": {"status": status, "message": f"graph-sidecar: {reason}", **more}}, status=status
    )


@web.middleware
async def _errors_as_json(request: web.Request, handler: AdminHandler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = error_response(error.status, error.reason.lower())
        response.headers.update({name: value for name, value in error.headers.items() if name == "Allow"})
        return response
    except Exception as fault:  # noqa: BLE001 - its type is reported; its text may hold secrets
        _log.error("%s %s failed: %s", request.method, request.path, type(fault).__name__)
        return error_response(500, f"internal error ({type(fault).__name__})")


async def _add_security_fields(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _SECURITY_FIELDS.items():
        response.headers.setdefault(name, value)
