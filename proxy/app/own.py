"""The listeners of our own paths: who is let in, what is there, and how long they stay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from proxy import logs, tokens
from proxy.app import derived
from proxy.app.opening import listen
from proxy.app.reloading import Reloader
from proxy.core.guarding import Access
from proxy.loading import SettingsError
from proxy.settings import Address, Settings
from proxy.shell.admin import AdminRunner, Rows, admin, log_rows, rows
from proxy.shell.changes import Changes
from proxy.shell.dashboard import Dashboard
from proxy.shell.drain import drain
from proxy.shell.history import Watch
from proxy.shell.metrics import rows as metrics_rows
from proxy.shell.purge import purge_row
from proxy.shell.stats import stats
from proxy.shell.telemetry import Telemetry
from proxy.shell.webhooks import Webhooks

DRAIN_S = 1
"""Seconds that probes and the like get at the end."""


class Gatekeeper:
    """Lets in to our own paths whom the newest settings allow."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError for a token file that cannot be used."""
        self._patience = derived.patience(settings)
        self._guard = derived.guard(settings)

    def take(self, new: Settings) -> None:
        """Be told of *new* settings. Raises SettingsError, and then all is as it was."""
        self._guard = derived.guard(new)

    def runner(self, tables: Iterable[Rows]) -> AdminRunner:
        """What answers as *tables* say, for any listener."""
        return AdminRunner(admin(tables, lambda: self._guard), self._patience)


@dataclass(frozen=True, slots=True)
class Own:
    """What our own paths tell of, and what they act on."""

    ready: asyncio.Event
    ending: asyncio.Event
    telemetry: Telemetry
    watch: Watch
    live: Reloader
    changes: Changes

    def tables(self) -> list[Rows]:
        """All of them but `/webhooks`, which the world may have to reach."""
        return [
            rows(self.ready.is_set, partial(stats, self.telemetry), self.ending.set, self.live.reload),
            metrics_rows(self.telemetry),
            log_rows(logs.change),
            Dashboard(self.watch).rows(),
            {Access.ACT: [purge_row(self.changes.purge)]},
        ]


async def open_own(
    own: Own, gatekeeper: Gatekeeper, settings: Settings, *, lifetimes: AsyncExitStack, last: AsyncExitStack
) -> tuple[Address, Address]:
    """Where admin and `/webhooks` came to be. Raises StartError and SettingsError.

    Admin is open until *last*, so that whoever waits for the end knows that all is written once nobody answers.
    """
    pushed, apart = _webhooks(own, settings), settings.webhooks.listen
    ours = gatekeeper.runner(own.tables() if apart else [*own.tables(), pushed])
    admin_at = await listen("admin", ours, settings.admin)
    last.push_async_callback(drain, ours, DRAIN_S)
    await last.enter_async_context(own.watch.looking())
    if not apart:
        return admin_at, admin_at
    world = gatekeeper.runner([pushed])
    webhooks_at = await listen("webhooks.listen", world, apart)
    lifetimes.push_async_callback(drain, world, DRAIN_S)
    return admin_at, webhooks_at


def _webhooks(own: Own, settings: Settings) -> Rows:
    """The row of `/webhooks`, where its secrets are set. Raises SettingsError."""
    if problems := list(tokens.problems(settings, *tokens.OF_WEBHOOKS)):
        raise SettingsError(problems)
    verify, secret = settings.webhooks.verify_token_file or None, settings.webhooks.secret_file or None
    return {Access.ANYONE: Webhooks(verify, secret, own.changes.heard, own.telemetry.pushed).routes}
