"""What the layers share: what they are told, what they remember, and who tells the time."""

from __future__ import annotations

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
from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.cache.key import Keys
from proxy.core.cache.purge import Purges
from proxy.core.cache.subscriptions import Subscriptions
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


@dataclass(frozen=True, slots=True)
class Clocks:
    """Who tells the time; a simulation brings its own."""

    now: Callable[[], float] = time.time  # seconds since 1970
    monotonic: Callable[[], float] = time.monotonic


MACHINE = Clocks()


@dataclass(frozen=True, slots=True)
class Components:
    """Made once, and the same for every layer."""

    clocks: Clocks
    steady: Callable[[], float]  # epoch seconds that are never set back, for what only counts how long
    telemetry: Counters
    keys: Keys
    store: Store
    rules: RuleBook
    limits: Limits
    limiter: Limiter
    invalidations: InvalidationIndex
    purges: Purges
    subscriptions: Subscriptions
    shared: Shared | None = None  # what replicas share

    def rule(self, read: Request) -> Rule:
        """What may be done with *read*, now that Meta tells of changes or does not."""
        return self.subscriptions.extend(self.rules.of(read), read)

    def touched_by(self, read: Request) -> tuple[str, ...]:
        """The names under which a change ends what *read* shows."""
        return self.invalidations.tags_of(read, self.keys.fingerprint(read.credential))

    def is_certain(self, read: Request) -> bool:
        """Whether every write of another replica that may concern *read* is known here as soon as it is answered."""
        return self.shared is None or self.shared.is_certain(lambda: self.touched_by(read))

    def doubted_at(self, read: PreparedRead) -> float:
        """The moment before which nothing that answers *read* is fresh, as far as other replicas tell."""
        if self.shared is None:
            return 0.0
        return self.shared.doubt(read.key, lambda: self.touched_by(read.request))

    def pressure(self, read: Request) -> float:
        """How near the limits of *read* have come."""
        asker = QuotaSubject(self.keys.fingerprint(read.credential), read.path, read.query)
        return self.limiter.pressure(asker, self.steady())

    def told_by_batch(self, top: Credential, answer: Reply, path: str) -> None:
        """Take what Graph says of limits to a whole batch, all about *path*, under the token of *top*."""
        self.limiter.on_usage(QuotaSubject(self.keys.fingerprint(top), path, ""), answer.headers, self.steady())

    def replace(self, new: Settings) -> None:
        """Let what may change of *new* settings hold from now on."""
        self.rules.replace(from_settings.rules_of(new))
        self.limits.replace(from_settings.limits(new))
        self.limiter.replace(from_settings.stages(new))


async def build_components(settings: Settings, clocks: Clocks, lifetimes: AsyncExitStack) -> Components:
    """The ground for a stack by *settings*, its store open. Raises StartError."""
    master, purges, touches, now = _master(settings.cache), Purges(), InvalidationIndex(), TimeOfDay(clocks.now)
    clocks = replace(clocks, now=now)
    store = await _open_store(settings.cache, master, lambda text: purges.load(text, now()), lifetimes)
    telemetry = await _telemetry(settings, clocks, lifetimes)
    now.subscribe(touches.set_back, purges.set_back, telemetry.set_back)
    rules, shared = from_settings.rules_of(settings), None
    if settings.shared.url:
        from proxy.app.shared import build_shared

        shared = build_shared(settings, master, touches, rules, now)
    return Components(
        clocks=clocks,
        steady=now.steady,
        store=store,
        telemetry=telemetry,
        keys=Keys(master),
        rules=rules,
        limits=from_settings.limits(settings),
        limiter=_limiter(settings),
        invalidations=touches,
        purges=purges,
        subscriptions=Subscriptions(settings.webhooks.extend_s),
        shared=shared,
    )


def _limiter(settings: Settings) -> Limiter:
    """What is known of limits: of a replica that shares, by what others are told, too."""
    stages, is_shared = from_settings.stages(settings), settings.quota.group == "shared"
    if not settings.shared.url:
        return Limiter(stages, shared=is_shared)
    from proxy.core.shared.limiter import SharedLimiter

    return SharedLimiter(stages, shared=is_shared)


def _master(cache: CacheSettings) -> bytes:
    """The installation's secret."""
    try:
        return load_or_make_key(cache.key_file if isinstance(cache.key_file, Path) else None)
    except KeyFileError as error:
        raise StartError(f"cache.key_file: {error}") from None


async def _open_store(
    cache: CacheSettings, master: bytes, noted: Callable[[bytes | None], None], lifetimes: AsyncExitStack
) -> Store:
    bounds = Bounds(cache.memory_mb * 2**20, cache.disk_mb * 2**20, cache.max_body_kb * 1024)
    store = Store(cache.dir, Sealer(master, sealed=cache.sealed), bounds, restore_purges=noted)
    await store.open()
    lifetimes.push_async_callback(store.close)
    return store


async def _telemetry(settings: Settings, clocks: Clocks, lifetimes: AsyncExitStack) -> Counters:
    telemetry = Counters(clocks.monotonic, clocks.now, version())
    if settings.traces.endpoint:
        from proxy.shell.observe.tracing import tracing

        telemetry.tracer = await lifetimes.enter_async_context(tracing(settings.traces.endpoint, telemetry.version))
    return telemetry
