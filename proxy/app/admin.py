"""The listeners of our own paths: who is let in, what is there, and how long they stay."""

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
from proxy.shell.http.drain import drain
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.metrics_route import metrics_route as metrics_rows
from proxy.shell.observe.stats import stats
from proxy.shell.pipeline.invalidator import Invalidator

DRAIN_S = 1
"""Seconds that probes and the like get at the end."""


class Gatekeeper:
    """Lets in to our own paths whom the newest settings allow."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError for a token file that cannot be used."""
        self._patience = from_settings.timeouts(settings)
        self._guard = from_settings.guard(settings)

    def take(self, new: Settings) -> None:
        """Be told of *new* settings. Raises SettingsError, and then all is as it was."""
        self._guard = from_settings.guard(new)

    def runner(self, tables: Iterable[AdminRoutes]) -> AdminRunner:
        """What answers as *tables* say, for any listener."""
        return AdminRunner(admin(tables, lambda: self._guard), self._patience)


@dataclass(frozen=True, slots=True)
class AdminListeners:
    """What our own paths tell of, and what they act on."""

    ready: asyncio.Event
    ending: asyncio.Event
    telemetry: Counters
    watch: EventStream
    live: Reloader
    changes: Invalidator

    def tables(self) -> list[AdminRoutes]:
        """All of them but `/webhooks`, which the world may have to reach."""
        return [
            action_routes(self.ready.is_set, partial(stats, self.telemetry), self.ending.set, self.live.reload),
            metrics_rows(self.telemetry),
            log_route(log_setup.change),
            Dashboard(self.watch).routes(),
            {Access.ACT: [purge_route(self.changes.purge)]},
        ]


async def open_own(
    own: AdminListeners, gatekeeper: Gatekeeper, settings: Settings, *, lifetimes: AsyncExitStack, last: AsyncExitStack
) -> tuple[Address, Address]:
    """Where admin and `/webhooks` came to be. Raises StartError and SettingsError.

    Admin is open until *last*, so that whoever waits for the end knows that all is written once nobody answers.
    """
    pushed, apart = _webhooks(own, settings), settings.webhooks.listen
    ours = gatekeeper.runner(own.tables() if apart else [*own.tables(), pushed])
    admin_at = await listen("admin", ours, settings.admin)
    last.push_async_callback(drain, ours, DRAIN_S)
    await last.enter_async_context(own.watch.sampling())
    if not apart:
        return admin_at, admin_at
    world = gatekeeper.runner([pushed])
    webhooks_at = await listen("webhooks.listen", world, apart)
    lifetimes.push_async_callback(drain, world, DRAIN_S)
    return admin_at, webhooks_at


def _webhooks(own: AdminListeners, settings: Settings) -> AdminRoutes:
    """The row of `/webhooks`, where its secrets are set. Raises SettingsError."""
    if problems := list(token_files.token_file_problems(settings, *token_files.OF_WEBHOOKS)):
        raise SettingsError(problems)
    verify, secret = settings.webhooks.verify_token_file or None, settings.webhooks.secret_file or None
    return {Access.ANYONE: WebhookEndpoint(verify, secret, own.changes.on_events, own.telemetry.pushed).routes}
