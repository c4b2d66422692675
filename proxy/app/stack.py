"""The layers of the drawing, joined from right to left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from proxy.app import derived
from proxy.app.ground import Ground
from proxy.core.budget import Budget
from proxy.settings import Settings
from proxy.shell.authority import Authority
from proxy.shell.batcher import Batcher
from proxy.shell.byway import Byway
from proxy.shell.cache import Cache
from proxy.shell.changes import Changes
from proxy.shell.coalescer import Coalescer
from proxy.shell.door import Door
from proxy.shell.drain import Inside
from proxy.shell.governor import Governor, Listening
from proxy.shell.intercept import Intercept
from proxy.shell.listener import Listener
from proxy.shell.merger import Merger
from proxy.shell.passthrough import Passthrough
from proxy.shell.places import Calls, Places
from proxy.shell.reader import Reader
from proxy.shell.server import Server
from proxy.shell.several import Several
from proxy.shell.shedding import Shedder
from proxy.shell.telemetry import Gauges
from proxy.shell.telling import Telling
from proxy.shell.unbatcher import Unbatcher
from proxy.shell.upstream import Upstream, Way


@dataclass(frozen=True, slots=True)
class Stack:
    """What of the stack is spoken to from outside."""

    inside: Inside
    intercept: Intercept
    listener: Listener
    door: Door
    changes: Changes
    shedder: Shedder
    take: Callable[[Settings], None]  # lets what may change of new settings hold from now on, in every layer at once


@dataclass(frozen=True, slots=True)
class _Ends:
    """What speaks to Graph, all of it by one way."""

    way: Way
    upstream: Upstream
    passthrough: Passthrough
    places: Places


@dataclass(frozen=True, slots=True)
class _Layers:
    """What a read goes through on its way there."""

    batcher: Batcher
    governor: Governor
    cache: Cache
    merger: Merger
    coalescer: Coalescer


async def build(ground: Ground, settings: Settings, lifetimes: AsyncExitStack) -> Stack:
    """The stack on its *ground*; leaving *lifetimes* closes it from left to right."""
    ends = await _ends(ground, settings, lifetimes)
    layers = _layers(ground, ends, lifetimes)
    flights = (layers.coalescer.close, layers.merger.close_flights)
    changes = Changes(
        ground.touches, ground.purges, ground.subscriptions, ground.keys, ground.store, ground.clocks.now, flights
    )
    server = _server(ground, ends, layers, changes, settings)
    inside = Inside(server.handle)
    _tell(ground, layers, inside)
    shedder = Shedder(settings.listener.lag_s, ground.telemetry)
    intercept, listener, door = _front(inside, ends.way, settings, shedder)

    def take(new: Settings) -> None:
        ground.take(new)
        server.rewrite_links = new.paging.rewrite

    return Stack(inside, intercept, listener, door, changes, shedder, take)


async def _ends(ground: Ground, settings: Settings, lifetimes: AsyncExitStack) -> _Ends:
    way = derived.way(settings)
    places = Places(settings.upstream.connections, ground.limits, ground.clocks.monotonic)
    ends = _Ends(way, Upstream(way), Passthrough(way), places)
    for end in (ends.upstream, ends.passthrough):
        await end.open()
        lifetimes.push_async_callback(end.close)
    return ends


def _layers(ground: Ground, ends: _Ends, lifetimes: AsyncExitStack) -> _Layers:
    keys, rules, clocks = ground.keys, ground.rules, ground.clocks
    listening = Listening(ends.upstream, ground.told_by_batch)
    batcher = Batcher(listening, ground.limits, ground.telemetry, clocks.monotonic, ends.places)
    governor = Governor(batcher, quota=ground.quota, keys=keys, witness=ground.telemetry, now=ground.steady)
    cache = Cache(
        governor,
        store=ground.store,
        keys=keys,
        rule=ground.rule,
        touches=ground.touches,
        purges=ground.purges,
        now=clocks.now,
        pressure=ground.pressure,
        heard_behind=ground.telemetry.replied_behind,
    )
    merger = Merger(
        cache, keys=keys, rule=rules.of, touched_by=ground.touched_by, limits=ground.limits, clock=clocks.monotonic
    )
    several = Several(merger, rules.of, clocks.now)
    coalescer = Coalescer(several, keys.flight, ground.touched_by, governor.urge)
    for layer in (batcher, cache, merger):
        lifetimes.push_async_callback(layer.close)
    return _Layers(batcher, governor, cache, merger, coalescer)


def _tell(ground: Ground, layers: _Layers, inside: Inside) -> None:
    """Let telemetry see what it tells of, and how reads are named in the log."""
    quota, now = ground.quota, ground.steady
    ground.telemetry.telling = Telling(ground.keys, ground.rules.of)
    ground.telemetry.gauges = Gauges(
        queued=lambda: layers.batcher.queued,
        store=ground.store.stats,
        usage=lambda: quota.pools.shown(now()),
        open=lambda: inside.open,
        draining=lambda: inside.leaving,
    )


def _server(ground: Ground, ends: _Ends, layers: _Layers, changes: Changes, settings: Settings) -> Server:
    """The end towards the application."""
    rules, hosts, clocks = ground.rules, derived.hosts(settings), ground.clocks
    calls, keys, telemetry = Calls(ends.upstream, ends.places), ground.keys, ground.telemetry
    reader = Reader(layers.coalescer, calls.single, keys, ground.quota, telemetry, ground.steady, clocks.monotonic)
    byway = Byway(ground.quota, keys, ground.steady, layers.governor.heard)
    unbatcher = Unbatcher(reader, layers.cache, calls.post, hosts, rules, changes.wrote, byway)
    return Server(
        reader,
        ends.passthrough,
        unbatcher,
        hosts,
        rules,
        rewrite_links=settings.paging.rewrite,
        trail=ends.way.trail,
        wrote=changes.wrote,
        byway=byway,
        bodies=Budget(settings.listener.buffer_mb * 2**20),
    )


def _front(inside: Inside, way: Way, settings: Settings, shedder: Shedder) -> tuple[Intercept, Listener, Door]:
    """The ways in: any connection, and one that begins with TLS."""
    gate = derived.gate(settings)
    authority = Authority(settings.intercept.ca_dir, gate.names)
    patience = derived.patience(settings)
    intercept = Intercept(inside.handle, gate, authority, connect_timeout_s=way.connect_timeout_s, patience=patience)
    listener = Listener(
        intercept.handle,
        patience=patience,
        shedder=shedder,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
    )
    return intercept, listener, Door(intercept, authority, way.own, listener)
