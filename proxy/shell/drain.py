"""The end of a listener: nobody new comes in, and those inside are finished with, within their time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.core import dressing, errors
from proxy.core.reading import may_write
from proxy.shell.listener import LEAVING, respond

_log = logging.getLogger("graph_sidecar.drain")

_BREAK_OFF_S = 0.05
"""Seconds that aiohttp waits once more for what is open before it cancels it."""


class Inside:
    """Wraps a handler and knows how many messages are being answered."""

    def __init__(self, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        """Answer with *handle*."""
        self._handle = handle
        self._open: set[asyncio.Task[None] | None] = set()
        self._leaving = self._broken_off = False
        self._empty = asyncio.Event()
        self._empty.set()

    async def handle(self, message: web.BaseRequest) -> web.StreamResponse:
        """Answer *message*; near the end its connection is not kept."""
        task = asyncio.current_task()
        message[LEAVING] = lambda: self._leaving
        self._open.add(task)
        self._empty.clear()
        try:
            response = await self._handle(message)
        except asyncio.CancelledError:
            if task is None or not self._broken_off or message.writer.output_size:
                raise
            task.uncancel()
            response = _broken_off(message)
        finally:
            self._open.discard(task)
            if not self._open:
                self._empty.set()
        if self._leaving and not response.prepared:  # else its head has promised another answer
            response.force_close()
        return response

    def say_goodbye(self) -> None:
        """From now on each answer ends its connection."""
        self._leaving = True

    async def leave(self) -> None:
        """Wait until nothing is being answered."""
        self.say_goodbye()
        await self._empty.wait()

    async def break_off(self) -> None:
        """Tell those who still wait for the beginning of an answer that there will be none."""
        self._broken_off = True
        for task in self._open:
            if task is not None:
                task.cancel()
        await asyncio.sleep(_BREAK_OFF_S)


def _broken_off(message: web.BaseRequest) -> web.Response:
    """The answer to a message that was not finished with; a write may have happened, and must not be sent again."""
    error: errors.SidecarError = errors.Draining("the sidecar has stopped")
    if may_write(message.method, message.raw_path, has_body=message.body_exists):
        error = errors.unsure(error)
    return respond(dressing.bare(errors.reply_of(error)))


async def drain(runner: web.BaseRunner, seconds: float, inside: Inside | None = None) -> None:
    """Stop accepting and finish what is open; what is not finished after *seconds* is broken off.

    aiohttp closes connections first, and then hears no more of a body that is still coming; so it is called last.
    Its own shutdown_timeout counts twice, so the runner is to be made without one (0).
    """
    server = runner.server
    try:
        async with asyncio.timeout(seconds):
            for site in runner.sites:
                await site.stop()
            if inside is not None:
                await inside.leave()
            await runner.cleanup()
    except TimeoutError:
        _log.warning("requests are still open after %g s and are broken off", seconds)
        if inside is not None:
            await inside.break_off()
        if server is not None:
            await server.shutdown(_BREAK_OFF_S)
