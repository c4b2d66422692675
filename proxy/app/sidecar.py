"""Starts a whole sidecar, from its store to its listeners; leaving the context ends it as `drain` says."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from proxy.app import from_settings, log_setup
from proxy.app.admin import ADMIN_DRAIN_S, AdminAccess, AdminListeners, open_admin
from proxy.app.components import MACHINE, Clocks, build_components
from proxy.app.drain import announce_end, drain_callers
from proxy.app.listen import StartError, listen
from proxy.app.pipeline import Pipeline, build
from proxy.app.reload import Reloader
from proxy.core.http.errors import Uncertified
from proxy.settings import Address, Settings
from proxy.shell.admin.event_stream import EventStream
from proxy.shell.http.listener_drain import drain
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.loop_lag import pulse
from proxy.shell.observe.stats import stats


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A running sidecar."""

    listen: Address
    admin: Address
    telemetry: Counters
    live: Reloader
    webhooks: Address  # where Meta reports changes
    make_leaves: Callable[[frozenset[str]], Awaitable[None]]  # makes certificates for hosts; raises Uncertified
    tls: Address | None = None  # for programs that a hosts file sends here

    @property
    def url(self) -> str:
        """The base URL to use in place of https://graph.facebook.com."""
        return f"http://{self.listen}"

    @property
    def admin_url(self) -> str:
        """The base URL of the admin listener."""
        return f"http://{self.admin}"


@asynccontextmanager
async def sidecar(
    settings: Settings,
    clocks: Clocks = MACHINE,
    *,
    ending: asyncio.Event | None = None,
    reread: Callable[[], Settings] | None = None,
) -> AsyncIterator[Sidecar]:
    """A running sidecar; leaving the context drains it. Raises StartError and SettingsError.

    *ending* is the event that asks for the end; `POST /quit` sets it. A reload calls *reread* for the settings.
    """
    ready, ending = asyncio.Event(), ending or asyncio.Event()
    async with AsyncExitStack() as last, AsyncExitStack() as lifetimes:
        components = await build_components(settings, clocks, lifetimes)
        pipeline = await build(components, settings, lifetimes)
        telemetry, access = components.telemetry, AdminAccess(settings)
        live = _reloader(settings, reread or (lambda: settings), access, pipeline, clocks.now)
        telemetry.gauges.last_reload = lambda: live.last
        watch = EventStream(partial(stats, telemetry), clocks.monotonic, run=secrets.token_hex(4))
        admin_listeners = AdminListeners(ready, ending, telemetry, watch, live, pipeline.invalidator)
        admin_at, webhooks_at = await open_admin(admin_listeners, access, settings, lifetimes=lifetimes, last=last)
        listen_at, tls_at = await _open_listeners(pipeline, live, lifetimes)
        pipeline.intercept.ports = frozenset(at.port for at in (listen_at, admin_at, webhooks_at, tls_at) if at)
        watch.listen = f"http://{listen_at}"
        telemetry.instance = f"{socket.gethostname()}:{listen_at.port}"
        telemetry.upstream_origin = settings.upstream.origin
        await lifetimes.enter_async_context(pulse(telemetry, pipeline.shedder.waited_s))
        await lifetimes.enter_async_context(pipeline.shedder.watching())
        ready.set()
        lifetimes.callback(ready.clear)
        yield Sidecar(listen_at, admin_at, telemetry, live, webhooks_at, pipeline.tls_listener.make_leaves, tls_at)


def _reloader(
    settings: Settings,
    reread: Callable[[], Settings],
    access: AdminAccess,
    pipeline: Pipeline,
    now: Callable[[], float],
) -> Reloader:
    """Returns a function that takes over new settings in all parts at once."""

    def take(new: Settings) -> None:
        access.take(new)  # first, for it alone can refuse
        pipeline.take(new)
        if new.log != live.settings.log:
            log_setup.set_up(new.log)

    live = Reloader(settings, reread, take, now)
    return live


async def _open_listeners(
    pipeline: Pipeline, live: Reloader, lifetimes: AsyncExitStack
) -> tuple[Address, Address | None]:
    """Open the listeners of applications, in clear and with TLS; returns their addresses. Raises StartError."""
    runner = web.ServerRunner(pipeline.listener, shutdown_timeout=0)
    listen_at = await listen("listen", runner, live.settings.listen)
    lifetimes.push_async_callback(drain_callers, runner, pipeline, live)
    tls_at = await _open_tls_listener(pipeline, live.settings, lifetimes)
    lifetimes.push_async_callback(announce_end, pipeline, live)
    return listen_at, tls_at


async def _open_tls_listener(pipeline: Pipeline, settings: Settings, lifetimes: AsyncExitStack) -> Address | None:
    """Open the TLS listener, if `intercept.listen` is set, with a certificate for each of Graph's hosts."""
    at, hosts = settings.intercept.listen, from_settings.graph_hosts(settings)
    if not at:
        return None
    try:
        await pipeline.tls_listener.make_leaves(hosts)
    except Uncertified as error:
        raise StartError(f"intercept.listen = {at}: {error}") from None
    renewing = asyncio.ensure_future(pipeline.tls_listener.renew_leaves(hosts))
    lifetimes.callback(renewing.cancel)
    runner = web.ServerRunner(pipeline.tls_listener, shutdown_timeout=0)
    tls_at = await listen("intercept.listen", runner, at)
    lifetimes.push_async_callback(drain, runner, ADMIN_DRAIN_S)
    return tls_at
