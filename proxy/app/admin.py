"""Opens the admin listener and the listener of webhooks: their routes, their access rules and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from proxy.app import from_settings, log_setup, token_files
from proxy.app.listen import listen
from proxy.app.reload import Reloader
from proxy.core.routing.admin_access import Access
from proxy.settings import Address, Settings
from proxy.settings.load import SettingsError
from proxy.shell.admin.actions import action_routes, log_route, purge_route
from proxy.shell.admin.app import AdminRoutes, AdminRunner, admin
from proxy.shell.admin.dashboard import Dashboard
from proxy.shell.admin.event_stream import EventStream
from proxy.shell.admin.webhooks import WebhookEndpoint
from proxy.shell.http.listener_drain import drain
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.metrics_route import metrics_route
from proxy.shell.observe.stats import stats
from proxy.shell.pipeline.invalidator import Invalidator

ADMIN_DRAIN_S = 1
"""Seconds that open requests of these listeners get to end."""


class AdminAccess:
    """The access rules of the admin listener, from the newest settings."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError for a token file that cannot be used."""
        self._timeouts = from_settings.timeouts(settings)
        self._guard = from_settings.guard(settings)

    def take(self, new: Settings) -> None:
        """Take over *new* settings. Raises SettingsError, and then changes nothing."""
        self._guard = from_settings.guard(new)

    def runner(self, tables: Iterable[AdminRoutes]) -> AdminRunner:
        """Returns a runner that serves the routes in *tables*."""
        return AdminRunner(admin(tables, lambda: self._guard), self._timeouts)


@dataclass(frozen=True, slots=True)
class AdminListeners:
    """What the routes of the admin listener read and change."""

    ready: asyncio.Event
    ending: asyncio.Event
    telemetry: Counters
    watch: EventStream
    live: Reloader
    changes: Invalidator

    def tables(self) -> list[AdminRoutes]:
        """Returns all routes but `/webhooks`, which Meta may have to reach from outside."""
        return [
            action_routes(self.ready.is_set, partial(stats, self.telemetry), self.ending.set, self.live.reload),
            metrics_route(self.telemetry),
            log_route(log_setup.change),
            Dashboard(self.watch).routes(),
            {Access.ACT: [purge_route(self.changes.purge)]},
        ]


async def open_admin(
    listeners: AdminListeners,
    access: AdminAccess,
    settings: Settings,
    *,
    lifetimes: AsyncExitStack,
    last: AsyncExitStack,
) -> tuple[Address, Address]:
    """Open both listeners; returns the addresses of admin and `/webhooks`. Raises StartError and SettingsError.

    Admin stays open until *last*, so that `quit` knows that everything is written once admin no longer answers.
    """
    webhook_routes, webhooks_listen = _webhooks(listeners, settings), settings.webhooks.listen
    admin_runner = access.runner(listeners.tables() if webhooks_listen else [*listeners.tables(), webhook_routes])
    admin_at = await listen("admin", admin_runner, settings.admin)
    last.push_async_callback(drain, admin_runner, ADMIN_DRAIN_S)
    await last.enter_async_context(listeners.watch.sampling())
    if not webhooks_listen:
        return admin_at, admin_at
    webhooks_runner = access.runner([webhook_routes])
    webhooks_at = await listen("webhooks.listen", webhooks_runner, webhooks_listen)
    lifetimes.push_async_callback(drain, webhooks_runner, ADMIN_DRAIN_S)
    return admin_at, webhooks_at


def _webhooks(listeners: AdminListeners, settings: Settings) -> AdminRoutes:
    """Returns the route of `/webhooks`. Raises SettingsError for a token file that cannot be used."""
    if problems := list(token_files.token_file_problems(settings, *token_files.OF_WEBHOOKS)):
        raise SettingsError(problems)
    verify, secret = settings.webhooks.verify_token_file or None, settings.webhooks.secret_file or None
    return {
        Access.ANYONE: WebhookEndpoint(verify, secret, listeners.changes.on_events, listeners.telemetry.pushed).routes
    }
