"""Starts a whole sidecar, from its listeners to its store, and drains it at the end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from proxy.app import from_settings, log_setup
from proxy.app.admin import ADMIN_DRAIN_S, AdminAccess, AdminListeners, open_admin
from proxy.app.components import MACHINE, Clocks, build_components
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
    webhooks: Address  # where Meta tells of changes
    mint: Callable[[frozenset[str]], Awaitable[None]]  # has leaves at hand; raises Uncertified
    tls: Address | None = None  # where programs come in that a hosts file leads here

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
    """A whole sidecar; leaving it drains. Raises StartError and SettingsError.

    *ending* is set when somebody asks for its end; *reread* is what a reload asks.
    """
    ready, ending = asyncio.Event(), ending or asyncio.Event()
    async with AsyncExitStack() as last, AsyncExitStack() as lifetimes:
        ground = await build_components(settings, clocks, lifetimes)
        stack = await build(ground, settings, lifetimes)
        telemetry, access = ground.telemetry, AdminAccess(settings)
        live = _reloader(settings, reread or (lambda: settings), access, stack)
        watch = EventStream(partial(stats, telemetry), clocks.monotonic, run=secrets.token_hex(4))
        admin_listeners = AdminListeners(ready, ending, telemetry, watch, live, stack.changes)
        admin_at, webhooks_at = await open_admin(admin_listeners, access, settings, lifetimes=lifetimes, last=last)
        listen_at, tls_at = await _open_stack(stack, live, lifetimes)
        stack.intercept.ports = frozenset(at.port for at in (listen_at, admin_at, webhooks_at, tls_at) if at)
        watch.listen = f"http://{listen_at}"
        await lifetimes.enter_async_context(pulse(telemetry))
        await lifetimes.enter_async_context(stack.shedder.watching())
        ready.set()
        lifetimes.callback(ready.clear)
        yield Sidecar(listen_at, admin_at, telemetry, live, webhooks_at, stack.door.make_leaves, tls_at)


def _reloader(settings: Settings, reread: Callable[[], Settings], access: AdminAccess, stack: Pipeline) -> Reloader:
    """Returns a function that takes over new settings in all parts at once."""

    def take(new: Settings) -> None:
        access.take(new)  # first, for it alone can refuse
        stack.take(new)
        if new.log != live.settings.log:
            log_setup.set_up(new.log)

    live = Reloader(settings, reread, take)
    return live


async def _open_stack(stack: Pipeline, live: Reloader, lifetimes: AsyncExitStack) -> tuple[Address, Address | None]:
    """Open the listeners of applications, in clear and with TLS; returns their addresses. Raises StartError."""
    theirs = web.ServerRunner(stack.listener, shutdown_timeout=0)
    listen_at = await listen("listen", theirs, live.settings.listen)
    lifetimes.push_async_callback(_finish, theirs, stack, live)
    tls_at = await _open_door(stack, live.settings, lifetimes)
    lifetimes.push_async_callback(_say_goodbye, stack, live)
    return listen_at, tls_at


async def _open_door(stack: Pipeline, settings: Settings, lifetimes: AsyncExitStack) -> Address | None:
    """Open the TLS listener, if `intercept.listen` is set, with a certificate for each of Graph's hosts."""
    at, hosts = settings.intercept.listen, from_settings.graph_hosts(settings)
    if not at:
        return None
    try:
        await stack.door.make_leaves(hosts)
    except Uncertified as error:
        raise StartError(f"intercept.listen = {at}: {error}") from None
    keeping = asyncio.ensure_future(stack.door.renew_leaves(hosts))
    lifetimes.callback(keeping.cancel)
    door = web.ServerRunner(stack.door, shutdown_timeout=0)
    tls_at = await listen("intercept.listen", door, at)
    lifetimes.push_async_callback(drain, door, ADMIN_DRAIN_S)
    return tls_at


async def _say_goodbye(stack: Pipeline, live: Reloader) -> None:
    """Answer requests for `drain_grace_s` more, each reply with `Connection: close`, so that clients leave."""
    stack.inside.begin_drain()
    await asyncio.sleep(live.settings.drain_grace_s)


async def _finish(theirs: web.ServerRunner, stack: Pipeline, live: Reloader) -> None:
    """Wait for the open requests to be answered, for `drain_s` at most."""
    seconds = live.settings.drain_s
    await asyncio.gather(drain(theirs, seconds, stack.inside), stack.intercept.drain(seconds))
