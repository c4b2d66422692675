"""The layers of the drawing, joined from right to left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from proxy.app import from_settings
from proxy.app.components import Components
from proxy.core.fast_path.prepared_read import Preparation
from proxy.core.memory.budget import Budget
from proxy.settings import Settings
from proxy.shell.downstream.client_batch import ClientBatches
from proxy.shell.downstream.comparer import Comparer, DirectComparer
from proxy.shell.downstream.fast_path import FastPath
from proxy.shell.downstream.handler import DownstreamHandler
from proxy.shell.downstream.read import ReadHandler
from proxy.shell.http.drain import InFlight
from proxy.shell.http.listener import Listener
from proxy.shell.http.shedding import Shedder
from proxy.shell.intercept.ca import Authority
from proxy.shell.intercept.connect import ConnectHandler
from proxy.shell.intercept.tls_listener import TlsListener
from proxy.shell.observe.access_log import AccessLog
from proxy.shell.observe.counters import Gauges
from proxy.shell.pipeline.batch_usage import BatchUsage
from proxy.shell.pipeline.batcher import Batcher
from proxy.shell.pipeline.cache import Cache
from proxy.shell.pipeline.coalescer import Coalescer
from proxy.shell.pipeline.ids_splitter import IdsSplitter
from proxy.shell.pipeline.invalidator import Invalidator
from proxy.shell.pipeline.limiter_bypass import LimiterBypass
from proxy.shell.pipeline.merger import Merger
from proxy.shell.pipeline.rate_limiter import RateLimiter
from proxy.shell.upstream.client import UpstreamClient, UpstreamOptions
from proxy.shell.upstream.fair_share import Calls, Places
from proxy.shell.upstream.passthrough import Passthrough


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What of the stack is spoken to from outside."""

    inside: InFlight
    intercept: ConnectHandler
    listener: Listener
    door: TlsListener
    changes: Invalidator
    shedder: Shedder
    take: Callable[[Settings], None]  # lets what may change of new settings hold from now on, in every layer at once


@dataclass(frozen=True, slots=True)
class _Ends:
    """What speaks to Graph, all of it by one way."""

    way: UpstreamOptions
    upstream: UpstreamClient
    passthrough: Passthrough
    places: Places


@dataclass(frozen=True, slots=True)
class _Layers:
    """What a read goes through on its way there."""

    batcher: Batcher
    governor: RateLimiter
    cache: Cache
    merger: Merger
    coalescer: Coalescer


async def build(ground: Components, settings: Settings, lifetimes: AsyncExitStack) -> Pipeline:
    """The stack on its *ground*; leaving *lifetimes* closes it from left to right."""
    ends = await _ends(ground, settings, lifetimes)
    layers = _layers(ground, ends, lifetimes)
    flights: list[Callable[[Iterable[str]], None]] = [layers.coalescer.close, layers.merger.close_flights]
    changes = Invalidator(
        ground.invalidations,
        ground.purges,
        ground.subscriptions,
        ground.keys,
        ground.store,
        ground.clocks.now,
        flights,
        ground.shared,
    )
    await _share(ground, changes, lifetimes)
    server = _server(ground, ends, layers, changes, settings)
    server.comparer = comparer = await _comparer(ground, ends.way, server.byway, lifetimes)
    comparer.replace(settings.compare.percent)
    inside = InFlight(server.handle)
    fast_path = _fast_path(ground, server, inside, comparer)
    flights.append(fast_path.forget)
    _tell(ground, layers, inside)
    shedder = Shedder(settings.listener.lag_s, ground.telemetry)
    intercept, listener, door = _front(inside, ends.way, settings, shedder, fast_path)

    def take(new: Settings) -> None:
        ground.replace(new)
        comparer.replace(new.compare.percent)
        server.rewrite_links = fast_path.rewrites_links = new.paging.rewrite
        fast_path.forget()

    return Pipeline(inside, intercept, listener, door, changes, shedder, take)


async def _ends(ground: Components, settings: Settings, lifetimes: AsyncExitStack) -> _Ends:
    way = from_settings.upstream_options(settings)
    places = Places(settings.upstream.connections, ground.limits, ground.clocks.monotonic)
    ends = _Ends(way, UpstreamClient(way), Passthrough(way), places)
    for end in (ends.upstream, ends.passthrough):
        await end.open()
        lifetimes.push_async_callback(end.close)
    return ends


def _layers(ground: Components, ends: _Ends, lifetimes: AsyncExitStack) -> _Layers:
    keys, rules, clocks = ground.keys, ground.rules, ground.clocks
    listening = BatchUsage(ends.upstream, ground.told_by_batch)
    batcher = Batcher(listening, ground.limits, ground.telemetry, clocks.monotonic, ends.places)
    governor = _rate_limiter(ground, batcher)
    cache = _cache_of(ground)(
        governor,
        store=ground.store,
        keys=keys,
        rule=ground.rule,
        touches=ground.invalidations,
        purges=ground.purges,
        now=clocks.now,
        pressure=ground.pressure,
        heard_behind=ground.telemetry.replied_behind,
    )
    merger = _merger_of(ground)(
        cache, keys=keys, rule=rules.of, touched_by=ground.touched_by, limits=ground.limits, clock=clocks.monotonic
    )
    several = IdsSplitter(merger, rules.of, clocks.now)
    coalescer = _coalescer_of(ground)(several, keys.flight, ground.touched_by, governor.promote)
    for layer in (batcher, cache, merger):
        lifetimes.push_async_callback(layer.close)
    return _Layers(batcher, governor, cache, merger, coalescer)


def _coalescer_of(ground: Components) -> Callable[..., Coalescer]:
    """The layer of one process, or of one of several replicas."""
    if ground.shared is None:
        return Coalescer
    from proxy.shell.pipeline.shared_coalescer import SharedCoalescer

    return partial(SharedCoalescer, is_certain=ground.is_certain)


def _merger_of(ground: Components) -> Callable[..., Merger]:
    """The layer of one process, or of one of several replicas."""
    if ground.shared is None:
        return Merger
    from proxy.shell.pipeline.shared_coalescer import SharedMerger

    return partial(SharedMerger, is_certain=ground.is_certain)


def _rate_limiter(ground: Components, batcher: Batcher) -> RateLimiter:
    """The layer of one process, or of one of several replicas."""
    told: dict[str, Any] = {"keys": ground.keys, "witness": ground.telemetry, "now": ground.steady}
    if ground.shared is None:
        return RateLimiter(batcher, quota=ground.limiter, **told)
    from proxy.core.shared.limiter import SharedLimiter
    from proxy.shell.pipeline.shared_rate_limiter import SharedRateLimiter

    assert isinstance(ground.limiter, SharedLimiter)  # noqa: S101 - as `components` made it
    fleet = ground.shared
    probe_s = fleet.flights.longest_s
    return SharedRateLimiter(batcher, quota=ground.limiter, fleet=fleet.limits, probe_s=probe_s, **told)


def _cache_of(ground: Components) -> Callable[..., Cache]:
    """The layer of one process, or of one of several replicas."""
    if ground.shared is None:
        return Cache
    from proxy.shell.pipeline.shared_cache import SharedCache

    return partial(SharedCache, shared=ground.shared)


async def _share(ground: Components, changes: Invalidator, lifetimes: AsyncExitStack) -> None:
    """Let this replica hear the others, if there are any."""
    if ground.shared is None:
        return
    from proxy.app.shared import start_shared
    from proxy.core.shared.limiter import SharedLimiter

    assert isinstance(ground.limiter, SharedLimiter)  # noqa: S101 - as `components` made it
    await start_shared(ground.shared, changes, ground.limiter, ground.steady, lifetimes)


def _tell(ground: Components, layers: _Layers, inside: InFlight) -> None:
    """Let telemetry see what it tells of, and how reads are named in the log."""
    quota, now = ground.limiter, ground.steady
    ground.telemetry.telling = AccessLog(ground.keys, ground.rules.of)
    ground.telemetry.gauges = Gauges(
        queued=lambda: layers.batcher.queued,
        store=ground.store.stats,
        usage=lambda: quota.buckets.stats_rows(now()),
        open=lambda: inside.open,
        draining=lambda: inside.leaving,
        shared=ground.shared.told if ground.shared is not None else dict,
    )


async def _comparer(
    ground: Components, way: UpstreamOptions, bypass: LimiterBypass, lifetimes: AsyncExitStack
) -> DirectComparer:
    """What asks Graph directly, over connections that no caller waits for."""
    upstream = UpstreamClient(way)
    await upstream.open()
    lifetimes.push_async_callback(upstream.close)
    comparer = DirectComparer(upstream.as_sent, ground.limiter, bypass, ground.keys, ground.telemetry, ground.steady)
    lifetimes.push_async_callback(comparer.close)
    ground.telemetry.compare_percent = lambda: comparer.percent
    return comparer


def _server(
    ground: Components, ends: _Ends, layers: _Layers, changes: Invalidator, settings: Settings
) -> DownstreamHandler:
    """The end towards the application."""
    rules, hosts, clocks = ground.rules, from_settings.hosts(settings), ground.clocks
    calls, keys, telemetry = Calls(ends.upstream, ends.places), ground.keys, ground.telemetry
    reader = ReadHandler(
        layers.coalescer, calls.single, keys, ground.limiter, telemetry, ground.steady, clocks.monotonic
    )
    byway = LimiterBypass(ground.limiter, keys, ground.steady, layers.governor.on_reply)
    unbatcher = ClientBatches(reader, layers.cache, calls.post, hosts, rules, changes.on_write, byway, changes.announce)
    return DownstreamHandler(
        reader,
        ends.passthrough,
        unbatcher,
        hosts,
        rules,
        rewrite_links=settings.paging.rewrite,
        trail=ends.way.trail,
        wrote=changes.on_write,
        byway=byway,
        bodies=Budget(settings.listener.buffer_mb * 2**20),
        announce=changes.announce,
    )


def _fast_path(ground: Components, server: DownstreamHandler, inside: InFlight, comparer: Comparer) -> FastPath:
    """What answers plain reads from memory, before a message is parsed.

    While replies are traced, each goes the usual way; so does each that is compared.
    """
    telemetry = ground.telemetry
    return FastPath(
        Preparation(server.hosts, ground.rules, ground.keys),
        store=ground.store,
        rule=ground.rule,
        invalidations=ground.invalidations,
        purges=ground.purges,
        subscriptions=ground.subscriptions,
        limiter=ground.limiter,
        telemetry=telemetry,
        is_open=lambda: not inside.leaving and telemetry.tracer is None,
        is_compared=comparer.wants,
        now=ground.clocks.now,
        steady=ground.steady,
        clock=ground.clocks.monotonic,
        rewrites_links=server.rewrite_links,
        doubted_at=ground.doubted_at if ground.shared is not None else None,
    )


def _front(
    inside: InFlight, way: UpstreamOptions, settings: Settings, shedder: Shedder, fast_path: FastPath
) -> tuple[ConnectHandler, Listener, TlsListener]:
    """The ways in: any connection, and one that begins with TLS."""
    gate = from_settings.connect_policy(settings)
    authority = Authority(settings.intercept.ca_dir, gate.names)
    patience = from_settings.timeouts(settings)
    intercept = ConnectHandler(
        inside.handle, gate, authority, connect_timeout_s=way.connect_timeout_s, timeouts=patience
    )
    listener = Listener(
        intercept.handle,
        patience=patience,
        shedder=shedder,
        fast_path=fast_path,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
    )
    return intercept, listener, TlsListener(intercept, authority, way.own, listener)
