"""`graph-sidecar serve`: one process, from its start to its exit status; `drain` says how it ends."""

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

from proxy.app import log_setup
from proxy.app.drain import end_on_signals
from proxy.app.sidecar import sidecar
from proxy.app.system import core_dumps, resident_memory
from proxy.app.system.service_manager import Notify, ignore_notification
from proxy.settings import Settings
from proxy.settings.load import oddities

GARBAGE_BEFORE_A_SEARCH = 3000
"""New objects that are not freed yet before Python searches them for cycles; most live only as long as a read."""

_log = logging.getLogger("graph_sidecar")

RELEASE_S = 1.0
"""Seconds between two times at which free memory is returned to the kernel; that takes well under a millisecond."""


def serve(settings: Settings, reread: Callable[[], Settings], notify: Notify = ignore_notification) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. Raises StartError and SettingsError.

    At SIGHUP the settings are reloaded from *reread*, which raises SettingsError. *notify* is called when the sidecar
    is ready, and when it starts to drain.
    """
    if not settings.core_dumps:
        core_dumps.forbid_core_dumps()
    log_setup.set_up(settings.log)
    resident_memory.keep_the_heap_small()
    _raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, reread, notify))


def _raise_file_limit() -> None:
    """Raise the limit of open files to its maximum, because every connection is a file."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(settings: Settings, reread: Callable[[], Settings], notify: Notify) -> int:
    """Serve until a signal, then drain; returns 1 if a second signal broke off the requests in flight, else 0."""
    ending, reload_requested = end_on_signals(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload_requested.set)
    try:
        return await _serve_until(ending, reload_requested, settings, reread, notify)
    except asyncio.CancelledError:
        _log.warning("a second signal: open requests are broken off")
        return 1


async def _serve_until(
    ending: asyncio.Event,
    reload_requested: asyncio.Event,
    settings: Settings,
    reread: Callable[[], Settings],
    notify: Notify,
) -> int:
    async with (
        sidecar(settings, ending=ending, reread=reread) as running,
        _reloading(reload_requested, running.live.reload),
    ):
        serving = f"serving {settings.upstream.origin} on {running.url}, admin on {running.admin_url}"
        _log.info("%s", serving)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_BEFORE_A_SEARCH)
        resident_memory.release_code_of_the_start()
        for oddity in oddities(settings):
            _log.warning("%s", oddity)
        notify("READY", serving)
        await _until(ending)
        now = running.live.settings
        draining = f"draining for at most {now.drain_grace_s + now.drain_s:g} s"
        _log.info("%s", draining)
        notify("STOPPING", draining)
    _log.info("done")
    return 0


async def _until(ending: asyncio.Event) -> None:
    """Wait for *ending*, and return free memory to the kernel now and then."""
    while not ending.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await ending.wait()
        resident_memory.release_free_memory()


@asynccontextmanager
async def _reloading(reload_requested: asyncio.Event, reload: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Reload the settings whenever *reload_requested* is set; the outcome is in the log."""

    async def listen() -> None:
        while await reload_requested.wait():
            reload_requested.clear()
            await reload()

    task = asyncio.create_task(listen())
    try:
        yield
    finally:
        task.cancel()
