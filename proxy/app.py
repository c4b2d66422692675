"""Builds the stack and owns its lifetimes. Here, and nowhere else, anything is constructed.

application ─► server ─► unbatcher ─► coalescer ─► merger ─► cache ─► governor ─► batcher ─► upstream ─► Graph
                  └────► passthrough ────────────────────────────────────────────────────────────────────► Graph
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import resource
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from aiohttp import web

from proxy import logs
from proxy.core.batching import Limits
from proxy.core.errors import Uncertified
from proxy.core.guarding import Access, Guard
from proxy.core.intercepting import Gate, is_loopback
from proxy.core.keys import Keys
from proxy.core.messages import Credential, Reply, Request
from proxy.core.pools import Stages
from proxy.core.purging import Purges
from proxy.core.quota import Asker, Quota
from proxy.core.reading import Hosts
from proxy.core.rules import Rule, RuleBook, RuleMatch
from proxy.core.sealing import Sealer
from proxy.core.touching import Touches
from proxy.core.webhooks import Subscriptions
from proxy.loading import SettingsError
from proxy.reloading import Reloader
from proxy.settings import Address, Settings
from proxy.shell.admin import AdminRunner, Rows, TokenFileError, admin, log_rows, read_token, rows
from proxy.shell.authority import Authority
from proxy.shell.batcher import Batcher
from proxy.shell.cache import Cache
from proxy.shell.changes import Changes
from proxy.shell.coalescer import Coalescer
from proxy.shell.dashboard import Dashboard
from proxy.shell.dialing import Lookup
from proxy.shell.drain import Inside, drain
from proxy.shell.governor import Governor, Listening
from proxy.shell.history import Watch
from proxy.shell.intercept import Door, Intercept
from proxy.shell.listener import Listener
from proxy.shell.merger import Merger
from proxy.shell.metrics import rows as metrics_rows
from proxy.shell.passthrough import Passthrough
from proxy.shell.patience import Patience
from proxy.shell.pulse import pulse
from proxy.shell.purge import purge_row
from proxy.shell.reader import Reader
from proxy.shell.server import Server
from proxy.shell.several import Several
from proxy.shell.store import KeyFileError, Store, load_or_make
from proxy.shell.telemetry import VERSION, Gauges, Telemetry
from proxy.shell.telling import Telling
from proxy.shell.unbatcher import Unbatcher
from proxy.shell.upstream import Upstream, Way
from proxy.shell.webhooks import Webhooks

_log = logging.getLogger("graph_sidecar")

MALLOPT = {-8: 1, -1: 131_072, -3: 131_072}
"""glibc's M_ARENA_MAX, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD (malloc.h); other C libraries have no such call."""

BACKLOG = 4096
"""Callers that may connect in one turn of the loop; one too many is dropped by the system and tries again in 1 s."""

ADMIN_DRAIN_S = 1
"""Seconds that probes and the like get at the end."""


class StartError(Exception):
    """The sidecar cannot start; the text says what is in the way and what would do."""


@dataclass(frozen=True, slots=True)
class Running:
    """A sidecar that serves."""

    listen: Address
    admin: Address
    telemetry: Telemetry
    live: Reloader
    webhooks: Address  # where Meta tells of changes
    mint: Callable[[frozenset[str]], Awaitable[None]]  # has leaves at hand; raises Uncertified
    tls: Address | None = None  # where programs come in that a hosts file leads here

    @property
    def url(self) -> str:
        """What to put in the place of https://graph.facebook.com."""
        return f"http://{self.listen}"

    @property
    def admin_url(self) -> str:
        """Where our own paths are."""
        return f"http://{self.admin}"


def serve(settings: Settings, reread: Callable[[], Settings]) -> int:
    """Run until SIGTERM or SIGINT; the exit status. Raises StartError and SettingsError.

    At SIGHUP, what *reread* gives is taken; it raises SettingsError.
    """
    logs.set_up(settings.log)
    _keep_the_heap_small()
    _take_all_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, reread))


def _keep_the_heap_small() -> None:
    """One heap for all threads, and large blocks given back at once: glibc keeps more than it needs."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in MALLOPT.items():
            mallopt(option, value)


def _take_all_files() -> None:
    """Connections are files: as many as this process may ever open."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(settings: Settings, reread: Callable[[], Settings]) -> int:
    """Serve until a signal, then drain; a second signal does not wait for those inside."""
    ending, task = asyncio.Event(), asyncio.current_task()

    def told() -> None:
        if ending.is_set() and task is not None:
            task.cancel()
        ending.set()

    loop, hung_up = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    try:
        return await _serve_until(ending, hung_up, settings, reread)
    except asyncio.CancelledError:
        _log.warning("told to stop again: requests that were open are broken off")
        return 1


async def _serve_until(
    ending: asyncio.Event, hung_up: asyncio.Event, settings: Settings, reread: Callable[[], Settings]
) -> int:
    async with sidecar(settings, ending=ending, reread=reread) as running, _reloading(hung_up, running.live.reload):
        _log.info("serving %s on %s, admin on %s", settings.upstream.origin, running.url, running.admin_url)
        gc.collect()
        gc.freeze()
        if not running.admin.is_loopback and not settings.admin_token_file:
            _log.warning("admin is open to others without admin_token_file: they may read counts, and nothing else")
        await ending.wait()
        _log.info("draining for at most %g s", running.live.settings.drain_s)
    _log.info("done")
    return 0


@asynccontextmanager
async def _reloading(hung_up: asyncio.Event, reload: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Reload whenever *hung_up* is set; whoever sends the signal reads in the log what came of it."""

    async def listen() -> None:
        while await hung_up.wait():
            hung_up.clear()
            await reload()

    task = asyncio.create_task(listen())
    try:
        yield
    finally:
        task.cancel()


@dataclass(frozen=True, slots=True)
class Clocks:
    """Who tells the time; a simulation brings its own."""

    now: Callable[[], float] = time.time  # seconds since 1970
    monotonic: Callable[[], float] = time.monotonic


@asynccontextmanager
async def sidecar(
    settings: Settings,
    clocks: Clocks = Clocks(),
    *,
    ending: asyncio.Event | None = None,
    reread: Callable[[], Settings] | None = None,
) -> AsyncIterator[Running]:
    """A whole sidecar, from its listeners to its store; leaving it drains. Raises StartError and SettingsError.

    *ending* is set when somebody asks for its end; *reread* is what a reload asks.
    """
    ending = ending or asyncio.Event()
    async with contextlib.AsyncExitStack() as last, contextlib.AsyncExitStack() as lifetimes:
        store, master = await _open_store(settings, lifetimes)
        telemetry, ready = Telemetry(clocks.monotonic, clocks.now), asyncio.Event()
        if settings.traces.endpoint:
            from proxy.shell.tracing import tracing

            telemetry.tracer = await lifetimes.enter_async_context(tracing(settings.traces.endpoint, VERSION))
        quota = Quota(_stages(settings), shared=settings.quota.group == "shared")
        stack = await _build(settings, master, store, telemetry, quota=quota, clocks=clocks, lifetimes=lifetimes)
        telemetry.gauges = Gauges(
            queued=lambda: stack.batcher.queued, store=store.stats, usage=lambda: quota.pools.shown(clocks.now())
        )
        guard = _guard(settings)

        def take(new: Settings) -> None:
            nonlocal guard
            guard = _guard(new)  # first, for it alone can be refused
            stack.take(new)
            if new.log != live.settings.log:
                logs.set_up(new.log)

        live = Reloader(settings, reread or (lambda: settings), take)
        watch = Watch(telemetry.stats, clocks.monotonic, run=secrets.token_hex(4))
        webhooks = _webhooks(settings, stack.changes, telemetry)
        tables: list[Rows] = [
            rows(ready.is_set, telemetry.stats, ending.set, live.reload),
            metrics_rows(telemetry),
            log_rows(logs.change),
            Dashboard(watch).rows(),
            {Access.ACT: [purge_row(stack.changes.purge)]},
        ]
        if not settings.webhooks.listen:
            tables.append(webhooks)
        ours = AdminRunner(admin(tables, lambda: guard), _patience(settings))
        admin_at = await _listen("admin", ours, settings.admin)
        # Last of all, so that whoever waits for the end knows that all is written when nobody answers any more.
        last.push_async_callback(drain, ours, ADMIN_DRAIN_S)
        await last.enter_async_context(watch.looking())
        webhooks_at = admin_at
        if settings.webhooks.listen:
            world = AdminRunner(admin([webhooks], lambda: guard), _patience(settings))
            webhooks_at = await _listen("webhooks.listen", world, settings.webhooks.listen)
            lifetimes.push_async_callback(drain, world, ADMIN_DRAIN_S)
        theirs = web.ServerRunner(stack.listener, shutdown_timeout=0)
        listen_at = await _listen("listen", theirs, settings.listen)
        doors: list[web.BaseRunner] = []
        lifetimes.push_async_callback(_leave, theirs, doors, stack, live)
        tls_at = await _open_door(stack, settings, doors, lifetimes)
        stack.intercept.ports = frozenset(at.port for at in (listen_at, admin_at, tls_at) if at)
        watch.listen = f"http://{listen_at}"
        await lifetimes.enter_async_context(pulse(telemetry))
        ready.set()
        lifetimes.callback(ready.clear)
        yield Running(listen_at, admin_at, telemetry, live, webhooks_at, stack.door.mint, tls_at)


async def _open_door(
    stack: Stack, settings: Settings, doors: list[web.BaseRunner], lifetimes: contextlib.AsyncExitStack
) -> Address | None:
    """Listen for TLS, if that is set, with a leaf for each host of Graph's at hand."""
    at, hosts = settings.intercept.listen, names(settings)
    if not at:
        return None
    try:
        await stack.door.mint(hosts)
    except Uncertified as error:
        raise StartError(f"intercept.listen = {at}: {error}") from None
    keeping = asyncio.ensure_future(stack.door.keep(hosts))
    lifetimes.callback(keeping.cancel)
    doors.append(web.ServerRunner(stack.door, shutdown_timeout=0))
    return await _listen("intercept.listen", doors[0], at)


async def _leave(theirs: web.ServerRunner, doors: list[web.BaseRunner], stack: Stack, live: Reloader) -> None:
    """Take what still comes from those who have not heard, each answer telling one of them; then drain."""
    stack.inside.say_goodbye()
    await asyncio.sleep(live.settings.drain_grace_s)
    for door in doors:
        await drain(door, ADMIN_DRAIN_S)
    seconds = live.settings.drain_s
    await asyncio.gather(drain(theirs, seconds, stack.inside), stack.intercept.leave(seconds))


async def _open_store(settings: Settings, lifetimes: contextlib.AsyncExitStack) -> tuple[Store, bytes]:
    cache = settings.cache
    try:
        master = load_or_make(cache.key_file if isinstance(cache.key_file, Path) else None)
    except KeyFileError as error:
        raise StartError(f"cache.key_file: {error}") from None
    store = Store(
        cache.dir if cache.disk_mb else None,
        Sealer(master, sealed=cache.sealed),
        memory_bytes=cache.memory_mb * 2**20,
        disk_bytes=cache.disk_mb * 2**20,
        max_body_bytes=cache.max_body_kb * 1024,
    )
    await store.open()
    lifetimes.push_async_callback(store.close)
    return store, master


@dataclass(frozen=True, slots=True)
class Stack:
    """What of the stack is spoken to from outside."""

    listener: Listener
    door: Door
    intercept: Intercept
    inside: Inside
    batcher: Batcher
    changes: Changes
    take: Callable[[Settings], None]  # lets what may change of new settings hold from now on, in every layer at once


async def _build(
    settings: Settings,
    master: bytes,
    store: Store,
    telemetry: Telemetry,
    *,
    quota: Quota,
    clocks: Clocks,
    lifetimes: contextlib.AsyncExitStack,
) -> Stack:
    """The stack of the drawing, from right to left."""
    way, hosts, rules, limits = _way(settings), _hosts(settings), rules_of(settings), _limits(settings)
    keys, touches, purges = Keys(master), Touches(), Purges()
    subscriptions = Subscriptions(settings.webhooks.extend_s)

    upstream, passthrough = Upstream(way), Passthrough(way)
    for end in (upstream, passthrough):
        await end.open()
        lifetimes.push_async_callback(end.close)

    def names(read: Request) -> tuple[str, ...]:
        return touches.names(read, keys.fingerprint(read.credential))

    def pressure(request: Request) -> float:
        return quota.pressure(Asker(keys.fingerprint(request.credential), request.path, request.query), clocks.now())

    def told_by_batch(top: Credential, answer: Reply) -> None:
        quota.note(Asker(keys.fingerprint(top), "/", ""), answer.headers, clocks.now())

    batcher = Batcher(Listening(upstream, told_by_batch), limits, telemetry, clocks.monotonic)
    governor = Governor(batcher, quota=quota, keys=keys, witness=telemetry, now=clocks.now)
    cache = Cache(
        governor,
        store=store,
        keys=keys,
        rule=lambda read: subscriptions.extended(rules.of(read), read),
        touches=touches,
        purges=purges,
        now=clocks.now,
        pressure=pressure,
        heard_behind=telemetry.replied_behind,
    )
    merger = Merger(cache, keys=keys, rule=rules.of, touched_by=names, limits=limits, clock=clocks.monotonic)
    coalescer = Coalescer(Several(merger, cache, rules.of, clocks.now), keys.flight, names, governor.urge)
    for layer in (batcher, cache, merger):
        lifetimes.push_async_callback(layer.close)

    flights = (coalescer.close, merger.close_flights)
    changes = Changes(touches, purges, subscriptions, keys, store, clocks.now, flights)

    telemetry.telling = Telling(keys, rules.of)
    reader = Reader(coalescer, upstream.single, keys, quota, telemetry, clocks.now, clocks.monotonic)
    unbatcher = Unbatcher(reader, cache, upstream.post, hosts, rules, changes.wrote, governor.heard)
    server = Server(reader, passthrough, unbatcher, hosts, rules, settings.paging.rewrite, way.trail, changes.wrote)
    inside = Inside(server.handle)
    gate = _gate(settings)
    authority = Authority(settings.intercept.ca_dir, gate.names)
    intercept = Intercept(inside.handle, gate, authority, connect_timeout_s=way.connect_timeout_s)
    listener = Listener(
        intercept.handle,
        patience=_patience(settings),
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
    )
    door = Door(intercept, authority, way.own, listener)

    def take(new: Settings) -> None:
        rules.take(rules_of(new))
        limits.take(_limits(new))
        quota.take(_stages(new))
        server.rewrite_links = new.paging.rewrite

    return Stack(listener, door, intercept, inside, batcher, changes, take)


async def _listen(name: str, runner: web.BaseRunner, at: Address) -> Address:
    await runner.setup()
    try:
        await web.TCPSite(runner, at.host, at.port, backlog=BACKLOG).start()
    except OSError as error:
        await runner.cleanup()
        raise StartError(f"{name} = {at}: {error.strerror or error}") from None
    return Address(at.host, runner.addresses[0][1])


def _webhooks(settings: Settings, changes: Changes, telemetry: Telemetry) -> Rows:
    """The rows of `/webhooks`, for any listener. Raises SettingsError."""
    given, problems = settings.webhooks, []
    files = {"verify_token_file": given.verify_token_file, "secret_file": given.secret_file}
    found = {name: file for name, file in files.items() if isinstance(file, Path)}
    for name, file in found.items():
        try:
            read_token(file)
        except TokenFileError as error:
            problems.append(f"webhooks.{name}: {error}")
    if problems:
        raise SettingsError(problems)
    answers = Webhooks(found.get("verify_token_file"), found.get("secret_file"), changes.heard, telemetry.pushed)
    return {Access.ANYONE: answers.routes}


def _guard(settings: Settings) -> Guard:
    file = settings.admin_token_file
    try:
        token = read_token(file) if isinstance(file, Path) else ""
    except TokenFileError as error:
        raise SettingsError([f"admin_token_file: {error}"]) from None
    return Guard(frozenset({*settings.admin_hosts, settings.admin.host}), token)


def _patience(settings: Settings) -> Patience:
    listener = settings.listener
    return Patience(listener.head_timeout_s, listener.stall_timeout_s, listener.idle_timeout_s, listener.connections)


def _way(settings: Settings) -> Way:
    upstream, origin = settings.upstream, urlsplit(settings.upstream.origin)
    return Way(
        in_clear=frozenset({origin.netloc} if origin.scheme == "http" else ()),
        user_agent=upstream.user_agent,
        connections=upstream.connections,
        connect_timeout_s=upstream.connect_timeout_s,
        reply_timeout_s=upstream.reply_timeout_s,
        lookup=Lookup(upstream.nameservers, upstream.address),
    )


def names(settings: Settings) -> frozenset[str]:
    """The hosts that the sidecar speaks for where TLS ends here."""
    return _gate(settings).names


def _gate(settings: Settings) -> Gate:
    """What CONNECT may reach; an origin that is asked in clear cannot be spoken to through TLS."""
    origin = urlsplit(settings.upstream.origin)
    graph = {"graph.facebook.com", *settings.upstream.hosts}
    if origin.scheme == "https":
        graph.add(origin.netloc.removesuffix(":443"))
    return Gate(frozenset(graph), settings.intercept.tunnel, is_loopback(settings.listen.host))


def _hosts(settings: Settings) -> Hosts:
    return Hosts(urlsplit(settings.upstream.origin).netloc, frozenset(settings.upstream.hosts))


def _limits(settings: Settings) -> Limits:
    batch = settings.batch
    return Limits(batch.slots, batch.window_ms / 1000, batch.in_flight, batch.queue, by_token=batch.group == "token")


def _stages(settings: Settings) -> Stages:
    return Stages(**settings.quota.model_dump(exclude={"group"}))


def rules_of(settings: Settings) -> RuleBook:
    """The rules that *settings* come to."""
    cache = settings.cache
    default = Rule(
        cache.fresh_s,
        cache.stale_if_error_s,
        cache.stale_while_revalidate_s,
        batch=settings.batch.enabled,
        merge=settings.merge.enabled,
        stretch_s=cache.stretch_s,
    )
    matches = []
    for table in settings.rules:
        given = table.model_dump(exclude={"path", "fields", "version", "batch"}, exclude_none=True)
        rule = replace(default, **given, batch=table.batch and default.batch)
        matches.append(RuleMatch(table.path, frozenset(table.fields), rule, table.version))
    return RuleBook(matches, default)
