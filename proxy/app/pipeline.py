"""Builds the pipeline of the drawing, layer by layer from right to left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import cast

from proxy.app import from_settings
from proxy.app.components import Components
from proxy.core.fast_path.prepared_read import Preparation
from proxy.core.memory.budget import Budget
from proxy.settings import Settings
from proxy.shell.downstream.client_batch import ClientBatches
from proxy.shell.downstream.comparer import Comparer, DirectComparer
from proxy.shell.downstream.fast_flights import FastFlights
from proxy.shell.downstream.fast_path import FastPath
from proxy.shell.downstream.handler import DownstreamHandler
from proxy.shell.downstream.read import ReadHandler
from proxy.shell.http.listener import Listener
from proxy.shell.http.listener_drain import InFlight
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
    """The parts of the pipeline that the rest of the process uses."""

    inside: InFlight
    intercept: ConnectHandler
    listener: Listener
    door: TlsListener
    changes: Invalidator
    shedder: Shedder
    take: Callable[[Settings], None]  # takes over the reloadable part of new settings, in every layer at once


@dataclass(frozen=True, slots=True)
class _Upstream:
    """What calls Graph, all with the same options."""

    way: UpstreamOptions
    upstream: UpstreamClient
    passthrough: Passthrough
    places: Places


@dataclass(frozen=True, slots=True)
class _Layers:
    """The layers that a read passes."""

    batcher: Batcher
    rate_limiter: RateLimiter
    cache: Cache
    merger: Merger
    coalescer: Coalescer


async def build(components: Components, settings: Settings, lifetimes: AsyncExitStack) -> Pipeline:
    """Returns the pipeline built from *components*; leaving *lifetimes* closes it from left to right."""
    upstream = await _open_upstream(components, settings, lifetimes)
    layers = _layers(components, upstream, lifetimes)
    flights: list[Callable[[Iterable[str]], None]] = [layers.coalescer.close, layers.merger.close_flights]
    changes = Invalidator(
        components.invalidations,
        components.purges,
        components.subscriptions,
        components.keys,
        components.store,
        components.clocks.now,
        flights,
        components.shared,
    )
    await _share(components, changes, lifetimes)
    server = _server(components, upstream, layers, changes, settings)
    server.comparer = comparer = await _comparer(components, upstream.way, server.limiter_bypass, lifetimes)
    comparer.replace(settings.compare.percent)
    inside = InFlight(server.handle)
    fast_path = _fast_path(components, layers, server, inside, comparer)
    flights.append(fast_path.forget)
    _connect_counters(components, layers, inside)
    shedder = Shedder(settings.listener.lag_s, components.telemetry)
    intercept, listener, door = _front(inside, upstream.way, settings, shedder, fast_path)

    def take(new: Settings) -> None:
        components.replace(new)
        comparer.replace(new.compare.percent)
        server.rewrite_links = fast_path.rewrites_links = new.paging.rewrite
        fast_path.forget()

    return Pipeline(inside, intercept, listener, door, changes, shedder, take)


async def _open_upstream(components: Components, settings: Settings, lifetimes: AsyncExitStack) -> _Upstream:
    way = from_settings.upstream_options(settings)
    places = Places(settings.upstream.connections, components.limits, components.clocks.monotonic)
    upstream = _Upstream(way, UpstreamClient(way), Passthrough(way), places)
    for end in (upstream.upstream, upstream.passthrough):
        await end.open()
        lifetimes.push_async_callback(end.close)
    return upstream


def _layers(components: Components, upstream: _Upstream, lifetimes: AsyncExitStack) -> _Layers:
    keys, rules, clocks = components.keys, components.rules, components.clocks
    batch_usage = BatchUsage(upstream.upstream, components.on_batch_reply)
    batcher = Batcher(batch_usage, components.limits, components.telemetry, clocks.monotonic, upstream.places)
    rate_limiter = _rate_limiter(components, batcher)
    cache = _cache_of(components)(
        rate_limiter,
        store=components.store,
        keys=keys,
        rule=components.rule,
        touches=components.invalidations,
        purges=components.purges,
        now=clocks.now,
        pressure=components.pressure,
        heard_behind=components.telemetry.replied_behind,
    )
    merger = _merger_of(components)(
        cache,
        keys=keys,
        rule=rules.of,
        tags_of=components.touched_by,
        limits=components.limits,
        clock=clocks.monotonic,
    )
    splitter = IdsSplitter(merger, rules.of, clocks.now)
    coalescer = _coalescer_of(components)(splitter, keys.flight, components.touched_by, rate_limiter.promote)
    for layer in (batcher, cache, merger):
        lifetimes.push_async_callback(layer.close)
    return _Layers(batcher, rate_limiter, cache, merger, coalescer)


def _coalescer_of(components: Components) -> type[Coalescer]:
    """The layer of one process, or of one of several replicas."""
    if components.shared is None:
        return Coalescer
    from proxy.shell.pipeline.shared.coalescer import SharedCoalescer

    return cast("type[Coalescer]", partial(SharedCoalescer, is_certain=components.is_certain, shared=components.shared))


def _merger_of(components: Components) -> type[Merger]:
    """The layer of one process, or of one of several replicas."""
    if components.shared is None:
        return Merger
    from proxy.shell.pipeline.shared.coalescer import SharedMerger

    return cast(
        "type[Merger]", partial(SharedMerger, is_certain=components.is_certain, history=components.shared.history)
    )


def _rate_limiter(components: Components, batcher: Batcher) -> RateLimiter:
    """Returns the rate limiter of a single process, or of one of several replicas."""
    keys, observer, now = components.keys, components.telemetry, components.steady
    if components.shared is None:
        return RateLimiter(batcher, quota=components.limiter, keys=keys, observer=observer, now=now)
    from proxy.core.shared.limiter import SharedLimiter
    from proxy.shell.pipeline.shared.rate_limiter import SharedRateLimiter

    assert isinstance(components.limiter, SharedLimiter)  # noqa: S101 - as `components` made it
    fleet = components.shared
    return SharedRateLimiter(
        batcher,
        quota=components.limiter,
        keys=keys,
        observer=observer,
        now=now,
        fleet=fleet.limits,
        probe_s=fleet.flights.longest_s,
    )


def _cache_of(components: Components) -> type[Cache]:
    """Returns the cache layer of a single process, or of one of several replicas."""
    if components.shared is None:
        return Cache
    from proxy.shell.pipeline.shared.cache import SharedCache

    return cast("type[Cache]", partial(SharedCache, shared=components.shared))


async def _share(components: Components, changes: Invalidator, lifetimes: AsyncExitStack) -> None:
    """Connect this replica to the others, if `shared.url` is set."""
    if components.shared is None:
        return
    from proxy.app.shared import start_shared
    from proxy.core.shared.limiter import SharedLimiter

    assert isinstance(components.limiter, SharedLimiter)  # noqa: S101 - as `components` made it
    await start_shared(
        components.shared, changes, components.limiter, (components.steady, components.clocks.monotonic), lifetimes
    )


def _connect_counters(components: Components, layers: _Layers, inside: InFlight) -> None:
    """Give the counters their gauges and their access log."""
    quota, now = components.limiter, components.steady
    components.telemetry.telling = AccessLog(components.keys, components.rules.of)
    components.telemetry.gauges = Gauges(
        queued=lambda: layers.batcher.queued,
        tasks=lambda: len(asyncio.all_tasks()),
        store=components.store.stats,
        usage=lambda: quota.buckets.stats_rows(now()),
        open=lambda: inside.open,
        draining=lambda: inside.is_draining,
        shared=components.shared.told if components.shared is not None else dict,
    )


async def _comparer(
    components: Components, way: UpstreamOptions, bypass: LimiterBypass, lifetimes: AsyncExitStack
) -> DirectComparer:
    """Returns the comparer, which asks Graph directly, over connections of its own."""
    upstream = UpstreamClient(way)
    await upstream.open()
    lifetimes.push_async_callback(upstream.close)
    comparer = DirectComparer(
        upstream.as_sent, components.limiter, bypass, components.keys, components.telemetry, components.steady
    )
    lifetimes.push_async_callback(comparer.close)
    components.telemetry.compare_percent = lambda: comparer.percent
    return comparer


def _server(
    components: Components, upstream: _Upstream, layers: _Layers, changes: Invalidator, settings: Settings
) -> DownstreamHandler:
    """Returns the handler of messages from the application."""
    rules, hosts, clocks = components.rules, from_settings.hosts(settings), components.clocks
    calls, keys, telemetry = Calls(upstream.upstream, upstream.places), components.keys, components.telemetry
    reader = ReadHandler(
        layers.coalescer, calls.single, keys, components.limiter, telemetry, components.steady, clocks.monotonic
    )
    byway = LimiterBypass(components.limiter, keys, components.steady, layers.rate_limiter.on_reply)
    client_batches = ClientBatches(
        reader, layers.cache, calls.post, hosts, rules, changes.on_write, byway, changes.announce
    )
    return DownstreamHandler(
        reader,
        upstream.passthrough,
        client_batches,
        hosts,
        rules,
        rewrite_links=settings.paging.rewrite,
        loop_guard=upstream.way.loop_guard,
        on_write=changes.on_write,
        limiter_bypass=byway,
        bodies=Budget(settings.listener.buffer_mb * 2**20),
        announce=changes.announce,
    )


def _fast_path(
    components: Components, layers: _Layers, server: DownstreamHandler, inside: InFlight, comparer: Comparer
) -> FastPath:
    """What answers plain reads from memory, before a message is parsed.

    While replies are traced, each goes the usual way; so does each that is compared.
    """
    telemetry = components.telemetry
    return FastPath(
        Preparation(server.hosts, components.rules, components.keys),
        _fast_flights(layers, server, inside) if components.shared is None else None,
        store=components.store,
        rule=components.rule,
        invalidations=components.invalidations,
        purges=components.purges,
        subscriptions=components.subscriptions,
        limiter=components.limiter,
        telemetry=telemetry,
        is_open=lambda: not inside.is_draining and telemetry.tracer is None,
        is_compared=comparer.wants,
        now=components.clocks.now,
        steady=components.steady,
        clock=components.clocks.monotonic,
        rewrites_links=server.rewrite_links,
        trust=components.shared.trust if components.shared is not None else None,
        doubted_at=components.doubted_at,
    )


def _fast_flights(layers: _Layers, server: DownstreamHandler, inside: InFlight) -> FastFlights:
    """What asks Graph for plain reads without a task for each. Replicas that share ask by the layers alone."""
    return FastFlights(
        layers.coalescer,
        layers.cache,
        layers.rate_limiter,
        layers.batcher,
        server.reader,
        is_leaving=lambda: inside.is_draining,
        callers=inside.callers,
    )


def _front(
    inside: InFlight, way: UpstreamOptions, settings: Settings, shedder: Shedder, fast_path: FastPath
) -> tuple[ConnectHandler, Listener, TlsListener]:
    """Returns the handler of CONNECT, the listener, and the listener for connections that begin with TLS."""
    policy = from_settings.connect_policy(settings)
    authority = Authority(settings.intercept.ca_dir, policy.names)
    patience = from_settings.timeouts(settings)
    intercept = ConnectHandler(
        inside.handle, policy, authority, connect_timeout_s=way.connect_timeout_s, timeouts=patience
    )
    listener = Listener(
        intercept.handle,
        timeouts=patience,
        shedder=shedder,
        fast_path=fast_path,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
    )
    return intercept, listener, TlsListener(intercept, authority, way.own, listener)
