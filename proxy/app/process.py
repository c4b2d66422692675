"""`graph-sidecar serve`: one process, its signals and its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvloop

from proxy.app import core_dumps, log_setup, resident_memory
from proxy.app.service_manager import Tell, to_nobody
from proxy.app.sidecar import sidecar
from proxy.settings import Settings

_log = logging.getLogger("graph_sidecar")


def serve(settings: Settings, reread: Callable[[], Settings], tell: Tell = to_nobody) -> int:
    """Run until SIGTERM or SIGINT; the exit status. Raises StartError and SettingsError.

    At SIGHUP, what *reread* gives is taken; it raises SettingsError. *tell* hears that it is ready, and drains.
    """
    if not settings.core_dumps:
        core_dumps.forbid()
    log_setup.set_up(settings.log)
    resident_memory.keep_the_heap_small()
    _take_all_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, reread, tell))


def _take_all_files() -> None:
    """Connections are files: as many as this process may ever open."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(settings: Settings, reread: Callable[[], Settings], tell: Tell) -> int:
    """Serve until a signal, then drain; a second signal does not wait for those inside."""
    ending, hung_up = _signals()
    try:
        return await _serve_until(ending, hung_up, settings, reread, tell)
    except asyncio.CancelledError:
        _log.warning("told to stop again: requests that were open are broken off")
        return 1


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """What is set by SIGTERM and SIGINT, the second of which cancels this task, and what by SIGHUP."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    ending, hung_up = asyncio.Event(), asyncio.Event()

    def told() -> None:
        if ending.is_set() and task is not None:
            task.cancel()
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    return ending, hung_up


async def _serve_until(
    ending: asyncio.Event, hung_up: asyncio.Event, settings: Settings, reread: Callable[[], Settings], tell: Tell
) -> int:
    async with sidecar(settings, ending=ending, reread=reread) as running, _reloading(hung_up, running.live.reload):
        serving = f"serving {settings.upstream.origin} on {running.url}, admin on {running.admin_url}"
        _log.info("%s", serving)
        gc.collect()
        gc.freeze()
        resident_memory.release_code_of_the_start()
        if not running.admin.is_loopback and not settings.admin_token_file:
            _log.warning("admin is open to others without admin_token_file: they may read counts, and nothing else")
        tell("READY", serving)
        await ending.wait()
        draining = f"draining for at most {running.live.settings.drain_s:g} s"
        _log.info("%s", draining)
        tell("STOPPING", draining)
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
