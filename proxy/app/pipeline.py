"""Builds the pipeline as `proxy/__init__.py` draws it, layer by layer from right to left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from proxy.app import from_settings
from proxy.app.components import Components
from proxy.core.client_batch.prepared_operations import PreparedOperations
from proxy.core.fast_path.head_table import HeadTable
from proxy.core.fast_path.prepared_read import Preparation
from proxy.core.memory.budget import Budget
from proxy.settings import Settings
from proxy.shell.downstream.batch_messages import BatchMessages
from proxy.shell.downstream.client_batch import ClientBatches
from proxy.shell.downstream.fast_flights import FastFlightOptions, FastFlights
from proxy.shell.downstream.fast_path import FastPath
from proxy.shell.downstream.handler import DownstreamHandler
from proxy.shell.downstream.prepared_batches import PreparedBatches
from proxy.shell.downstream.read import ReadHandler
from proxy.shell.http.listener import Listener
from proxy.shell.http.listener_drain import InFlight
from proxy.shell.http.shedding import Shedder
from proxy.shell.intercept.ca import Authority
from proxy.shell.intercept.connect import ConnectHandler
from proxy.shell.intercept.tls_listener import TlsListener
from proxy.shell.observe.access_logger import AccessLog
from proxy.shell.observe.gauges import Gauges
from proxy.shell.pipeline.batcher import Batcher
from proxy.shell.pipeline.cache import Cache
from proxy.shell.pipeline.coalescer import Coalescer
from proxy.shell.pipeline.comparer import Comparer, DirectComparer
from proxy.shell.pipeline.ids_splitter import IdsSplitter
from proxy.shell.pipeline.invalidator import Invalidator
from proxy.shell.pipeline.limiter_bypass import LimiterBypass
from proxy.shell.pipeline.merger import Merger
from proxy.shell.pipeline.rate_limiter import RateLimiter
from proxy.shell.store.store import Store
from proxy.shell.upstream.client import UpstreamClient, UpstreamOptions
from proxy.shell.upstream.fair_share import Calls, Places
from proxy.shell.upstream.passthrough import Passthrough

if TYPE_CHECKING:
    from proxy.shell.pipeline.shared.cache import CacheOptions
    from proxy.shell.pipeline.shared.coalescer import MergerOptions
    from proxy.shell.pipeline.shared.rate_limiter import RateLimiterOptions


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts of the pipeline that the rest of the process uses."""

    inside: InFlight
    intercept: ConnectHandler
    listener: Listener
    tls_listener: TlsListener
    invalidator: Invalidator
    shedder: Shedder
    take: Callable[[Settings], None]  # takes over the reloadable part of new settings, in every layer at once


@dataclass(frozen=True, slots=True)
class _Upstream:
    """The parts that call Graph, all with the same options."""

    options: UpstreamOptions
    client: UpstreamClient
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
    """Returns the pipeline built from *components*; leaving *lifetimes* closes the layers, that nearest Graph last."""
    upstream = await _open_upstream(components, settings, lifetimes)
    layers = _layers(components, upstream, lifetimes)
    flights: list[Callable[[Iterable[str]], None]] = [layers.coalescer.close, layers.merger.close_flights]
    invalidator = Invalidator(
        components.invalidations,
        components.purges,
        components.subscriptions,
        components.keys,
        components.store,
        components.clocks.now,
        flights,
        components.shared,
    )
    await _share(components, invalidator, lifetimes)
    handler = _handler(components, upstream, layers, invalidator, settings)
    handler.comparer = comparer = await _comparer(components, upstream.options, handler.limiter_bypass, lifetimes)
    comparer.replace(settings.compare.percent)
    inside = InFlight(handler.handle, components.generation.advance)
    fast_path = _fast_path(components, layers, handler, inside, comparer)
    flights.append(fast_path.forget)
    _connect_counters(components, layers, inside)
    shedder = Shedder(settings.listener.lag_s, components.telemetry, inside.callers)
    intercept, listener, tls_listener = _front(inside, upstream.options, settings, shedder, fast_path)
    components.telemetry.gauges.connections = lambda: listener.open_connections
    components.telemetry.gauges.max_connections = settings.listener.connections
    components.telemetry.usage_series = settings.metrics.usage_series

    def take(new: Settings) -> None:
        components.replace(new)
        comparer.replace(new.compare.percent)
        components.telemetry.usage_series = new.metrics.usage_series
        handler.rewrite_links = fast_path.rewrites_links = new.paging.rewrite
        fast_path.forget()

    return Pipeline(inside, intercept, listener, tls_listener, invalidator, shedder, take)


async def _open_upstream(components: Components, settings: Settings, lifetimes: AsyncExitStack) -> _Upstream:
    options = from_settings.upstream_options(settings)
    places = Places(settings.upstream.connections, components.limits, components.clocks.monotonic)
    upstream = _Upstream(options, UpstreamClient(options), Passthrough(options), places)
    for opened in (upstream.client, upstream.passthrough):
        await opened.open()
        lifetimes.push_async_callback(opened.close)
    return upstream


def _layers(components: Components, upstream: _Upstream, lifetimes: AsyncExitStack) -> _Layers:
    clocks = components.clocks
    batcher = Batcher(
        upstream.client,
        components.limits,
        components.telemetry,
        clocks.monotonic,
        upstream.places,
        on_reply=components.on_batch_reply,
        start=upstream.client.start_batch,
    )
    rate_limiter = _rate_limiter(components, batcher)
    cache = _cache(components, rate_limiter)
    merger = _merger(components, cache)
    splitter = IdsSplitter(merger, components.rules.of, clocks.now)
    coalescer = _coalescer(components, splitter, rate_limiter)
    for layer in (batcher, cache, merger):
        lifetimes.push_async_callback(layer.close)
    return _Layers(batcher, rate_limiter, cache, merger, coalescer)


# --- the layers that a replica that shares has in another form: each function returns one of the two ---


def _coalescer(components: Components, splitter: IdsSplitter, rate_limiter: RateLimiter) -> Coalescer:
    key, tags_of, promote = components.keys.flight, components.tags_of, rate_limiter.promote
    if components.shared is None:
        return Coalescer(splitter, key, tags_of, promote)
    from proxy.shell.pipeline.shared.coalescer import SharedCoalescer

    is_certain, shared = components.is_certain, components.shared
    return SharedCoalescer(splitter, key, tags_of, promote, is_certain=is_certain, shared=shared)


def _merger(components: Components, cache: Cache) -> Merger:
    options: MergerOptions = {
        "keys": components.keys,
        "rule": components.rules.of,
        "tags_of": components.tags_of,
        "limits": components.limits,
        "clock": components.clocks.monotonic,
    }
    if components.shared is None:
        return Merger(cache, **options)
    from proxy.shell.pipeline.shared.coalescer import SharedMerger

    return SharedMerger(cache, is_certain=components.is_certain, history=components.shared.history, **options)


def _rate_limiter(components: Components, batcher: Batcher) -> RateLimiter:
    options: RateLimiterOptions = {
        "keys": components.keys,
        "observer": components.telemetry,
        "now": components.steady,
    }
    if components.shared is None:
        return RateLimiter(batcher, quota=components.limiter, **options)
    from proxy.core.shared.limiter import SharedLimiter
    from proxy.shell.pipeline.shared.rate_limiter import SharedRateLimiter

    assert isinstance(components.limiter, SharedLimiter)  # noqa: S101 - as `components` made it
    fleet, probe_s = components.shared.limits, components.shared.flights.longest_s
    return SharedRateLimiter(batcher, quota=components.limiter, fleet=fleet, probe_s=probe_s, **options)


def _cache(components: Components, rate_limiter: RateLimiter) -> Cache:
    options: CacheOptions = {
        "store": components.store,
        "keys": components.keys,
        "rule": components.rule,
        "invalidations": components.invalidations,
        "purges": components.purges,
        "now": components.clocks.now,
        "pressure": components.pressure,
        "on_background_reply": components.telemetry.replied_in_background,
    }
    if components.shared is None:
        return Cache(rate_limiter, **options)
    from proxy.shell.pipeline.shared.cache import SharedCache

    return SharedCache(rate_limiter, shared=components.shared, **options)


async def _share(components: Components, invalidator: Invalidator, lifetimes: AsyncExitStack) -> None:
    """Connect this replica to the others, if `shared.url` is set."""
    if components.shared is None:
        return
    from proxy.app.shared import start_shared
    from proxy.core.shared.limiter import SharedLimiter

    assert isinstance(components.limiter, SharedLimiter)  # noqa: S101 - as `components` made it
    await start_shared(
        components.shared, invalidator, components.limiter, (components.steady, components.clocks.monotonic), lifetimes
    )


def _connect_counters(components: Components, layers: _Layers, inside: InFlight) -> None:
    """Give the counters their gauges and their access log."""
    quota, now = components.limiter, components.steady
    components.telemetry.relabelled = components.generation.advance
    components.telemetry.access_log = AccessLog(components.keys, components.rules.of)
    components.telemetry.gauges = Gauges(
        queued=lambda: layers.batcher.queued,
        tasks=lambda: len(asyncio.all_tasks()),
        store=components.store.stats,
        usage=lambda: quota.buckets.stats_rows(now()),
        open=lambda: inside.open,
        draining=lambda: inside.is_draining,
        shared=components.shared.stats if components.shared is not None else dict,
    )


async def _comparer(
    components: Components, options: UpstreamOptions, bypass: LimiterBypass, lifetimes: AsyncExitStack
) -> DirectComparer:
    """Returns the comparer, which asks Graph directly, over connections of its own."""
    upstream = UpstreamClient(options)
    await upstream.open()
    lifetimes.push_async_callback(upstream.close)
    comparer = DirectComparer(
        upstream.as_sent, components.limiter, bypass, components.keys, components.telemetry, components.steady
    )
    lifetimes.push_async_callback(comparer.close)
    components.telemetry.compare_percent = lambda: comparer.percent
    return comparer


def _handler(
    components: Components, upstream: _Upstream, layers: _Layers, invalidator: Invalidator, settings: Settings
) -> DownstreamHandler:
    """Returns the handler of messages from the application."""
    rules, hosts, clocks = components.rules, from_settings.hosts(settings), components.clocks
    calls, keys, telemetry = Calls(upstream.client, upstream.places), components.keys, components.telemetry
    reader = ReadHandler(
        layers.coalescer, calls.single, keys, components.limiter, telemetry, components.steady, clocks.monotonic
    )
    bypass = LimiterBypass(components.limiter, keys, components.steady, layers.rate_limiter.on_reply)
    client_batches = ClientBatches(
        reader, layers.cache, calls.post, hosts, rules, invalidator.on_write, bypass, invalidator.announce
    )
    return DownstreamHandler(
        reader,
        upstream.passthrough,
        client_batches,
        hosts,
        rules,
        rewrite_links=settings.paging.rewrite,
        loop_guard=upstream.options.loop_guard,
        on_write=invalidator.on_write,
        limiter_bypass=bypass,
        bodies=Budget(settings.listener.buffer_mb * 2**20),
        announce=invalidator.announce,
    )


def _fast_path(
    components: Components, layers: _Layers, handler: DownstreamHandler, inside: InFlight, comparer: Comparer
) -> FastPath:
    """Returns the fast path, which answers plain reads from memory before a message is parsed.

    Replies that are traced or compared go the usual way.
    """
    telemetry, shared = components.telemetry, components.shared
    flights = _fast_flights(components, layers, handler, inside)
    fast_path = FastPath(
        Preparation(handler.hosts, components.rules, components.keys),
        flights,
        memory=components.store.memory,
        rule=components.rule,
        invalidations=components.invalidations,
        purges=components.purges,
        limiter=components.limiter,
        telemetry=telemetry,
        generation=components.generation,
        comparer=comparer,
        is_leaving=flights.is_leaving,
        now=components.time_of_day,
        clock=components.clocks.monotonic,
        rewrites_links=handler.rewrite_links,
        table=HeadTable(components.head_bytes),
        trust=shared.trust if shared is not None else None,
        doubted_at=components.doubted_at,
    )
    if shared is not None:
        from proxy.shell.downstream.shared.fast_flights import SharedFastFlights
        from proxy.shell.downstream.shared.waiting_reads import WaitingReads

        assert isinstance(flights, SharedFastFlights)  # noqa: S101 - as `_fast_flights` made it
        flights.take = fast_path.take
        fast_path.asker = WaitingReads(shared, inside.callers, flights, fast_path.take)
    else:
        prepared = handler.client_batches.prepared = _prepared_batches(fast_path, flights, components.store)
        fast_path.batches = BatchMessages(
            handler.client_batches,
            prepared,
            fast_path.table,
            is_leaving=flights.is_leaving,
            callers=inside.callers,
            rewrites_links=handler.rewrite_links,
        )
    return fast_path


def _prepared_batches(fast_path: FastPath, flights: FastFlights, store: Store) -> PreparedBatches:
    """Returns what answers clients' batches of plain reads; replicas that share use the layers alone."""
    return PreparedBatches(
        PreparedOperations(fast_path.table, fast_path.preparation),
        flights,
        store=store,
        is_open=fast_path.is_open,
        grow=fast_path.table.grow,
        plain_hit=fast_path.plain_hit,
        time_of_day=fast_path.now,
    )


def _fast_flights(components: Components, layers: _Layers, handler: DownstreamHandler, inside: InFlight) -> FastFlights:
    """Returns what asks Graph for plain reads without a task for each."""
    options: FastFlightOptions = {
        "coalescer": layers.coalescer,
        "limiter": layers.rate_limiter,
        "batcher": layers.batcher,
        "reader": handler.reader,
        "now": components.clocks.now,
        "is_leaving": partial(getattr, inside, "is_draining"),  # without a call of Python's
        "callers": inside.callers,
        "is_unknown": components.store.is_unknown,
        "will_take": components.store.will_take,
        "will_take_all": components.store.will_take_all,
        "generation": components.generation,
        "renew": components.store.renew,
    }
    if components.shared is None:
        return FastFlights(cache=layers.cache, fetch=components.store.fetch, **options)
    from proxy.shell.downstream.shared.fast_flights import SharedFastFlights
    from proxy.shell.pipeline.shared.cache import SharedCache

    assert isinstance(layers.cache, SharedCache)  # noqa: S101 - as `_cache` made it
    return SharedFastFlights(cache=layers.cache, shared=components.shared, shared_cache=layers.cache, **options)


def _front(
    inside: InFlight, options: UpstreamOptions, settings: Settings, shedder: Shedder, fast_path: FastPath
) -> tuple[ConnectHandler, Listener, TlsListener]:
    """Returns the handler of CONNECT, the listener, and the listener for connections that begin with TLS."""
    policy = from_settings.connect_policy(settings)
    authority = Authority(settings.intercept.ca_dir, policy.host_names)
    timeouts = from_settings.timeouts(settings)
    intercept = ConnectHandler(
        inside.handle, policy, authority, connect_timeout_s=options.connect_timeout_s, timeouts=timeouts
    )
    listener = Listener(
        intercept.handle,
        timeouts=timeouts,
        shedder=shedder,
        fast_path=fast_path,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
    )
    return intercept, listener, TlsListener(intercept, authority, options.own, listener)
