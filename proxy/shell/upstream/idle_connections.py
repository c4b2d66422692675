"""Keeps the connections to Graph between two requests: each rests after an answer, and is then used again."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic

import aiohttp

from proxy.shell.upstream.connection import UpstreamConnection

KEPT_S = 30
"""Seconds after which a connection that was not used again is closed."""

RESTING_LIMIT = 256
"""The most connections that rest after an answer; further ones are closed instead."""

Connection = aiohttp.connector.Connection


class IdleConnections:
    """The connections that wait for a request, for each origin the longest idle one first."""

    def __init__(self, rest_s: float) -> None:
        """Let each connection rest for *rest_s* before it is used again."""
        self._rest_s = rest_s
        self._idle: dict[aiohttp.ClientRequest, deque[tuple[Connection, UpstreamConnection, float]]] = {}
        self._ends: deque[float] = deque(maxlen=RESTING_LIMIT)  # when the latest exchanges ended
        self._next_sweep: asyncio.Handle | None = None

    def keep(self, end: aiohttp.ClientRequest, connection: Connection, line: UpstreamConnection) -> None:
        """Keep *connection* to *end*, read by *line*, whose exchange has just ended; close it where too many rest."""
        now = monotonic()
        if len(self._ends) == RESTING_LIMIT and now - self._ends[0] < self._rest_s:
            connection.close()
            return
        self._ends.append(now)
        idle = self._idle.get(end)
        if idle is None:
            idle = self._idle[end] = deque()
        idle.append((connection, line, now))
        if self._next_sweep is None:
            self._sweep_later()

    def take(self, end: aiohttp.ClientRequest) -> tuple[Connection, UpstreamConnection] | None:
        """Return a connection to *end* that has rested, and on which nothing has come; None if there is none.

        Nothing has come of what is not read yet, either.
        """
        idle = self._idle.get(end)
        now = monotonic()
        while idle and now - idle[0][2] >= self._rest_s:
            connection, line, since = idle.popleft()
            if now - since <= KEPT_S and line.is_quiet():
                return connection, line
            connection.close()
        return None

    def give_up(self) -> None:
        """Hand all connections to their pool, which ends them when it is closed."""
        if self._next_sweep is not None:
            self._next_sweep.cancel()
            self._next_sweep = None
        for idle in self._idle.values():
            for connection, _, _ in idle:
                connection.release()
        self._idle.clear()

    def _sweep_later(self) -> None:
        self._next_sweep = asyncio.get_running_loop().call_later(KEPT_S, self._sweep)

    def _sweep(self) -> None:
        """Close the connections that have waited too long, or have ended."""
        self._next_sweep, now = None, monotonic()
        for end, idle in self._idle.items():
            kept = deque[tuple[Connection, UpstreamConnection, float]]()
            for connection, line, since in idle:
                if now - since < KEPT_S and line.is_reusable:
                    kept.append((connection, line, since))
                else:
                    connection.close()
            self._idle[end] = kept
        if any(self._idle.values()):
            self._sweep_later()
