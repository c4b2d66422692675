"""Accepts many pending connections in one turn of the event loop; libuv, below uvloop, accepts one a turn.

One a turn is enough while turns are short. While turns are long, callers who open a connection for each request would
wait dozens of seconds before a byte is read, long after callers with open connections are served quickly again. As many
as wait would make a turn long by themselves, for all who have been let in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from aiohttp import web

AT_ONCE = 32
"""The most connections that are accepted in one turn of the event loop: they take a few milliseconds."""

_PAUSE_S = 1.0
"""Seconds until the next try where the system allows no further connection (EMFILE)."""


class Site(web.TCPSite):
    """A TCP site of aiohttp's that accepts in bulk."""

    _listening: tuple[socket.socket, ...] = ()

    async def start(self) -> None:
        """Begin to listen and accept."""
        await super().start()
        self._handovers: set[asyncio.Task[None]] = set()
        listening = getattr(self._server, "sockets", ())
        self._listening = tuple(socket.socket(fileno=os.dup(each.fileno())) for each in listening)
        for listening_socket in self._listening:
            listening_socket.setblocking(False)
            self._watch(listening_socket)

    async def stop(self) -> None:
        """Stop listening."""
        loop = asyncio.get_running_loop()
        for listening_socket in self._listening:
            loop.remove_reader(listening_socket)
            listening_socket.close()
        self._listening = ()
        await super().stop()

    def _watch(self, listening_socket: socket.socket) -> None:
        if listening_socket in self._listening:
            asyncio.get_running_loop().add_reader(listening_socket, self._accept, listening_socket)

    def _accept(self, listening_socket: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(AT_ONCE):
            try:
                connection, _address = listening_socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                loop.remove_reader(listening_socket)
                loop.call_later(_PAUSE_S, self._watch, listening_socket)
                return
            connection.setblocking(False)
            task = loop.create_task(self._hand_over(connection))
            self._handovers.add(task)
            task.add_done_callback(self._handovers.discard)

    async def _hand_over(self, connection: socket.socket) -> None:
        server = self._runner.server
        if server is None:
            connection.close()
            return
        with contextlib.suppress(OSError):  # the caller has closed the connection
            await asyncio.get_running_loop().connect_accepted_socket(server, connection)
