"""Connects this replica to the store that replicas share; imported only where `shared.url` is set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from proxy.core.cache.encryption import Sealer
from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.routing.rules import RuleBook
from proxy.core.shared.history import SharedHistory
from proxy.core.shared.lease import Leases
from proxy.core.shared.limiter import SharedLimiter
from proxy.core.shared.location import read_location
from proxy.core.shared.open_writes import OpenWrites
from proxy.core.shared.wire import Wire
from proxy.settings import Settings
from proxy.shell.pipeline.invalidator import Invalidator
from proxy.shell.pipeline.shared.changes import SharedChanges
from proxy.shell.valkey.entries import KEPT_S, Entries
from proxy.shell.valkey.events import Events
from proxy.shell.valkey.fleet import Fleet
from proxy.shell.valkey.leases import Flights
from proxy.shell.valkey.limits import SharedLimits
from proxy.shell.valkey.link import Dialer
from proxy.shell.valkey.shared import Shared

FIRST_S = 0.5
"""Seconds that a start waits for the shared store, before it goes on without it."""


def build_shared(
    settings: Settings, master: bytes, index: InvalidationIndex, rules: RuleBook, now: Callable[[], float]
) -> Shared:
    """Returns this replica's connection to the fleet; nothing runs yet."""
    own = settings.shared
    ca_file = str(own.ca_file) if own.ca_file else ""
    dialer = Dialer(read_location(own.url), lambda: (_secret(own.username_file), _secret(own.password_file)), ca_file)
    wire = Wire(master)
    fleet = Fleet(dialer, wire, own.timeout_ms / 1000, goes_by_clock=own.alone == "fresh")
    client, replica = fleet.client, fleet.replica
    log = Events(dialer, client, wire, replica, window_s=rules.longest_s + KEPT_S, is_fit=lambda: fleet.is_fit)
    log.trust = fleet.trust
    return Shared(
        fleet,
        log,
        Entries(client, wire.names, Sealer(master), fleet.clock, own.entry_kb * 1024),
        Flights(client, wire, Leases(master), replica, settings.upstream.reply_timeout_s),
        SharedLimits(client, wire.names, replica, lambda: fleet.replicas),
        OpenWrites(index.tags_of_write, lambda: index.version, fleet.trust.on_open_writes),
        SharedHistory(wire.names.family, log.publish_later),
        now,
    )


async def start_shared(
    shared: Shared,
    invalidator: Invalidator,
    limiter: SharedLimiter,
    clocks: tuple[Callable[[], float], Callable[[], float]],
    lifetimes: AsyncExitStack,
) -> None:
    """Start *shared* for this replica; leaving *lifetimes* ends it."""
    changes = SharedChanges(invalidator, limiter, shared, shared.history, *clocks)
    shared.log.effects = changes
    limiter.send = shared.publish
    await shared.start(lifetimes, changes.expire)
    until = shared.steady() + FIRST_S
    while not (shared.is_believed or shared.steady() >= until or shared.fleet.has_failed):  # noqa: ASYNC110 - three ends
        await asyncio.sleep(0.005)


def _secret(file: Path | str) -> str:
    return Path(file).read_text("utf-8").strip() if file else ""
