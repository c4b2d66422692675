"""The components that all layers share: counters, keys, store, rules, limits, invalidations and clocks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.app import from_settings
from proxy.app.listen import StartError
from proxy.core.batch.window import Limits
from proxy.core.cache.encryption import Sealer
from proxy.core.cache.generation import Generation
from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.cache.key import Keys
from proxy.core.cache.notes import Notes
from proxy.core.cache.purge import Purges
from proxy.core.cache.subscriptions import Subscriptions
from proxy.core.cache.tags import TagIndex
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.model import Credential, Reply, Request
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.limiter import Limiter
from proxy.core.routing.rules import Rule, RuleBook
from proxy.settings import CacheSettings, Settings
from proxy.settings.base import version
from proxy.shell.clock import TimeOfDay
from proxy.shell.observe.counters import Counters
from proxy.shell.store import Bounds, KeyFileError, Store, load_or_make_key

if TYPE_CHECKING:
    from proxy.shell.valkey.shared import Shared


HEADS_SHARE, LEAST_HEAD_BYTES = 8, 2**20
"""Known heads take this part of `cache.memory_mb` besides it, and so many bytes at least."""

SUBJECTS_PER_MB = 320
"""For each megabyte of `cache.memory_mb`, the subjects of so many entries are known, for orders to forget them.

What half as many bodies list is known in each of two generations, for writes to what they list.
"""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks; tests and simulations use their own."""

    now: Callable[[], float] = time.time  # seconds since 1970
    monotonic: Callable[[], float] = time.monotonic


MACHINE = Clocks()


@dataclass(frozen=True, slots=True)
class Components:
    """The shared components, built once."""

    clocks: Clocks
    time_of_day: TimeOfDay
    steady: Callable[[], float]  # epoch seconds that are never set back, for durations
    telemetry: Counters
    keys: Keys
    store: Store
    rules: RuleBook
    limits: Limits
    limiter: Limiter
    invalidations: InvalidationIndex
    purges: Purges
    subscriptions: Subscriptions
    generation: Generation
    head_bytes: int  # that known heads take, with what is prepared for their reads
    shared: Shared | None = None  # what replicas share

    def rule(self, read: Request) -> Rule:
        """Returns the rule for *read*, with freshness extended where webhooks report changes."""
        return self.subscriptions.extend(self.rules.of(read), read)

    def tags_of(self, read: Request) -> tuple[str, ...]:
        """Returns the tags of *read*."""
        return self.invalidations.tags_of(read, self.keys.fingerprint(read.credential))

    def is_certain(self, read: Request) -> bool:
        """Returns whether each write of another replica that may change *read* is known here once it is answered."""
        return self.shared is None or self.shared.is_certain(lambda: self.tags_of(read))

    def doubted_at(self, read: PreparedRead) -> float:
        """Returns the time before which no stored answer to *read* is fresh, according to the other replicas."""
        if self.shared is None:
            return 0.0
        return self.shared.doubt(lambda: read.key, lambda: self.tags_of(read.request))

    def pressure(self, read: Request) -> float:
        """Returns how scarce calls are for *read*: 0 calm, 1 nothing is sent."""
        subject = QuotaSubject(self.keys.fingerprint(read.credential), read.path, read.query)
        return self.limiter.pressure(subject, self.steady())

    def on_batch_reply(self, top: Credential, answer: Reply, path: str) -> None:
        """Learn from the usage headers of a batch's own reply, which are about *path* and the token of *top*."""
        self.limiter.on_usage(QuotaSubject(self.keys.fingerprint(top), path, ""), answer.headers, self.steady())

    def replace(self, new: Settings) -> None:
        """Take over the reloadable part of *new* settings."""
        self.rules.replace(from_settings.rules_of(new))
        self.limits.replace(from_settings.limits(new))
        self.limiter.replace(from_settings.stages(new))


async def build_components(settings: Settings, clocks: Clocks, lifetimes: AsyncExitStack) -> Components:
    """Returns the components for *settings*, with the store open. Raises StartError."""
    generation, master, now = Generation(), _installation_key(settings.cache), TimeOfDay(clocks.now)
    of_memory = SUBJECTS_PER_MB * max(settings.cache.memory_mb, 1)
    subjects, bodies = min(Purges.SUBJECTS, of_memory), min(TagIndex.CAPACITY, of_memory // 2)
    purges, invalidations = Purges(generation, subjects), InvalidationIndex(generation, bodies)
    clocks = replace(clocks, now=now)
    notes = Notes(purges, invalidations, now, has_log=bool(settings.shared.url))
    store = await _open_store(settings.cache, master, notes, now, lifetimes)
    telemetry = await _telemetry(settings, clocks, lifetimes)
    now.subscribe(store.set_back, invalidations.set_back, purges.set_back, telemetry.set_back)
    rules, shared = from_settings.rules_of(settings), None
    if settings.shared.url:
        from proxy.app.shared import build_shared

        shared = build_shared(settings, master, invalidations, rules, now)
    return Components(
        clocks=clocks,
        time_of_day=now,
        steady=now.steady,
        store=store,
        telemetry=telemetry,
        keys=Keys(master),
        rules=rules,
        limits=from_settings.limits(settings),
        limiter=_limiter(settings, generation),
        invalidations=invalidations,
        purges=purges,
        subscriptions=Subscriptions(settings.webhooks.extend_s, generation),
        generation=generation,
        head_bytes=max(LEAST_HEAD_BYTES, settings.cache.memory_mb * 2**20 // HEADS_SHARE),
        shared=shared,
    )


def _limiter(settings: Settings, generation: Generation) -> Limiter:
    """Returns the limiter; with `shared.url` one that also learns from other replicas."""
    stages, is_shared = from_settings.stages(settings), settings.quota.group == "shared"
    if not settings.shared.url:
        return Limiter(stages, shared=is_shared, generation=generation)
    from proxy.core.shared.limiter import SharedLimiter

    return SharedLimiter(stages, shared=is_shared, generation=generation)


def _installation_key(cache: CacheSettings) -> bytes:
    """Returns the installation's secret. Raises StartError."""
    try:
        return load_or_make_key(cache.key_file if isinstance(cache.key_file, Path) else None)
    except KeyFileError as error:
        raise StartError(f"cache.key_file: {error}") from None


async def _open_store(
    cache: CacheSettings, master: bytes, notes: Notes, now: Callable[[], float], lifetimes: AsyncExitStack
) -> Store:
    bounds = Bounds(cache.memory_mb * 2**20, cache.disk_mb * 2**20, cache.max_body_kb * 1024)
    sealer = Sealer(master, sealed=cache.sealed, is_lasting=cache.key_file != "ephemeral")
    if cache.disk_mb:
        sealer.warm_up(secrets.token_bytes(12))
    store = Store(cache.dir, sealer, bounds, now=now, restore_purges=notes.restore)
    await store.open()
    lifetimes.push_async_callback(store.close)
    lifetimes.callback(lambda: store.save_at_end(notes.at_end()))
    return store


async def _telemetry(settings: Settings, clocks: Clocks, lifetimes: AsyncExitStack) -> Counters:
    telemetry = Counters(clocks.monotonic, clocks.now, version())
    if settings.traces.endpoint:
        from proxy.shell.observe.tracing import tracing

        telemetry.tracer = await lifetimes.enter_async_context(tracing(settings.traces.endpoint, telemetry.version))
    return telemetry
