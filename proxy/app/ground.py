"""What the layers share: what they are told, what they remember, and who tells the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.app import derived
from proxy.app.opening import StartError
from proxy.core.batching import Limits
from proxy.core.draws import Asker
from proxy.core.keys import Keys
from proxy.core.messages import Credential, Reply, Request
from proxy.core.purging import Purges
from proxy.core.quota import Quota
from proxy.core.rules import Rule, RuleBook
from proxy.core.sealing import Sealer
from proxy.core.touching import Touches
from proxy.core.webhooks import Subscriptions
from proxy.settings import Cache, Settings
from proxy.shell.store import Bounds, KeyFileError, Store, load_or_make
from proxy.shell.telemetry import Telemetry
from proxy.shell.timeofday import TimeOfDay
from proxy.version import version


@dataclass(frozen=True, slots=True)
class Clocks:
    """Who tells the time; a simulation brings its own."""

    now: Callable[[], float] = time.time  # seconds since 1970
    monotonic: Callable[[], float] = time.monotonic


MACHINE = Clocks()


@dataclass(frozen=True, slots=True)
class Ground:
    """Made once, and the same for every layer."""

    clocks: Clocks
    steady: Callable[[], float]  # epoch seconds that are never set back, for what only counts how long
    telemetry: Telemetry
    keys: Keys
    store: Store
    rules: RuleBook
    limits: Limits
    quota: Quota
    touches: Touches
    purges: Purges
    subscriptions: Subscriptions

    def rule(self, read: Request) -> Rule:
        """What may be done with *read*, now that Meta tells of changes or does not."""
        return self.subscriptions.extended(self.rules.of(read), read)

    def touched_by(self, read: Request) -> tuple[str, ...]:
        """The names under which a change ends what *read* shows."""
        return self.touches.names(read, self.keys.fingerprint(read.credential))

    def pressure(self, read: Request) -> float:
        """How near the limits of *read* have come."""
        asker = Asker(self.keys.fingerprint(read.credential), read.path, read.query)
        return self.quota.pressure(asker, self.steady())

    def told_by_batch(self, top: Credential, answer: Reply, path: str) -> None:
        """Take what Graph says of limits to a whole batch, all about *path*, under the token of *top*."""
        self.quota.note(Asker(self.keys.fingerprint(top), path, ""), answer.headers, self.steady())

    def take(self, new: Settings) -> None:
        """Let what may change of *new* settings hold from now on."""
        self.rules.take(derived.rules_of(new))
        self.limits.take(derived.limits(new))
        self.quota.take(derived.stages(new))


async def lay(settings: Settings, clocks: Clocks, lifetimes: AsyncExitStack) -> Ground:
    """The ground for a stack by *settings*, its store open. Raises StartError."""
    master, purges, touches, now = _master(settings.cache), Purges(), Touches(), TimeOfDay(clocks.now)
    clocks = replace(clocks, now=now)
    store = await _open_store(settings.cache, master, lambda text: purges.recall(text, now()), lifetimes)
    telemetry = await _telemetry(settings, clocks, lifetimes)
    now.tell(touches.set_back, purges.set_back, telemetry.set_back)
    return Ground(
        clocks=clocks,
        steady=now.steady,
        store=store,
        telemetry=telemetry,
        keys=Keys(master),
        rules=derived.rules_of(settings),
        limits=derived.limits(settings),
        quota=Quota(derived.stages(settings), shared=settings.quota.group == "shared"),
        touches=touches,
        purges=purges,
        subscriptions=Subscriptions(settings.webhooks.extend_s),
    )


def _master(cache: Cache) -> bytes:
    """The installation's secret."""
    try:
        return load_or_make(cache.key_file if isinstance(cache.key_file, Path) else None)
    except KeyFileError as error:
        raise StartError(f"cache.key_file: {error}") from None


async def _open_store(
    cache: Cache, master: bytes, noted: Callable[[bytes | None], None], lifetimes: AsyncExitStack
) -> Store:
    bounds = Bounds(cache.memory_mb * 2**20, cache.disk_mb * 2**20, cache.max_body_kb * 1024)
    store = Store(cache.dir, Sealer(master, sealed=cache.sealed), bounds, noted=noted)
    await store.open()
    lifetimes.push_async_callback(store.close)
    return store


async def _telemetry(settings: Settings, clocks: Clocks, lifetimes: AsyncExitStack) -> Telemetry:
    telemetry = Telemetry(clocks.monotonic, clocks.now, version())
    if settings.traces.endpoint:
        from proxy.shell.tracing import tracing

        telemetry.tracer = await lifetimes.enter_async_context(tracing(settings.traces.endpoint, telemetry.version))
    return telemetry
