"""Takes samples of the counts and tells those who look on, as server-sent events.

Each looker-on remembers how far it has been told and takes what it has missed when there is news. So nothing is queued
for a slow one, and one that comes back is told neither less nor twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from proxy.core.observe.time_series import COLUMNS, STEP_S, TimeSeries

NEWS_S = 1
"""Seconds from one look at the counts to the next."""


class EventStream:
    """Looks at the counts every second: for the history now and then, for lookers-on each time."""

    def __init__(self, stats: Callable[[], dict[str, Any]], clock: Callable[[], float], run: str) -> None:
        """Look at *stats*; *clock* gives monotonic seconds, *run* names this run of the sidecar."""
        self._stats = stats
        self._clock = clock
        self._run = run
        self._history = TimeSeries()
        self._due = clock()
        self._newest = b""
        self._news = asyncio.Event()
        self._over = False
        self._lookers = 0
        self.listen = ""
        """The address that programs are to ask in the place of Graph's, for who has asked nothing yet."""

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look every second while this lasts; those who look on are let go at its end."""
        task = asyncio.ensure_future(self._keep_looking())
        try:
            yield
        finally:
            task.cancel()
            self._over = True
            self._news.set()

    async def _keep_looking(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(NEWS_S)

    def look(self) -> None:
        """Look now: a row for the history if it is time for one, and news for those who look on."""
        now = self._clock()
        due = now >= self._due
        if not due and not self._lookers:
            return
        stats = self._stats()
        if due:
            # Late looks do not pile up.
            self._due = self._due + STEP_S if now < self._due + STEP_S else now + STEP_S
            self._history.add(stats)
        self._newest = msgspec.json.encode(stats)
        self._news.set()
        self._news = asyncio.Event()

    async def events(self, last_id: str) -> AsyncGenerator[bytes, None]:
        """Server-sent events for one looker-on that was told up to *last_id*, if that is not empty.

        `history`: everything, once, for who is new to this run. `sample`: the rows since. `stats`: what `/stats` says.
        (Server-sent events: WHATWG HTML section 9.2.)
        """
        self._lookers += 1
        try:
            seen = self._known(last_id)
            if seen is None:
                seen = self._history.last
                yield _event("history", self._told_after(0, **self._what()), self._id(seen))
            self._newest = msgspec.json.encode(self._stats())
            while not self._over:
                news = self._news
                if seen < self._history.last:
                    rows, seen = self._told_after(seen), self._history.last
                    yield _event("sample", rows, self._id(seen))
                yield _event("stats", self._newest)
                await news.wait()
        finally:
            self._lookers -= 1

    def _known(self, last_id: str) -> int | None:
        """How far one with *last_id* has been told; None if that was by another run, or is no id of ours."""
        run, _, number = last_id.partition("-")
        if run != self._run or not number.isascii() or not number.isdigit() or len(number) > 9:
            return None
        return int(number) if int(number) <= self._history.last else None

    def _what(self) -> dict[str, object]:
        """What a reader has to know of the rows, and of us."""
        return {"step_s": STEP_S, "columns": COLUMNS, "listen": self.listen}

    def _id(self, number: int) -> str:
        return f"{self._run}-{number}"

    def _told_after(self, number: int, **more: object) -> bytes:
        return msgspec.json.encode({**more, "rows": [each.tolist() for each in self._history.after(number)]})


def _event(name: str, data: bytes, identity: str = "") -> bytes:
    head = f"id: {identity}\nevent: {name}\n" if identity else f"event: {name}\n"
    return b"%bdata: %b\n\n" % (head.encode(), data)
