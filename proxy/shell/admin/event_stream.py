"""Samples the counters and sends them to readers as server-sent events.

Each reader remembers the last row that it was sent and takes the rows since when there are new ones. So nothing is
queued for a slow reader, and a reader that reconnects gets every row once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from proxy.core.observe.time_series import COLUMNS, STEP_S, TimeSeries

SAMPLE_EVERY_S = 1
"""Seconds between two samples of the counters."""


class EventStream:
    """Samples the counters every second for its readers, and every STEP_S seconds for the time series."""

    def __init__(self, stats: Callable[[], dict[str, Any]], clock: Callable[[], float], run: str) -> None:
        """Sample *stats*; *clock* gives monotonic seconds, *run* identifies this run of the sidecar."""
        self._stats = stats
        self._clock = clock
        self._run = run
        self._history = TimeSeries()
        self._due = clock()
        self._newest = b""
        self._changed = asyncio.Event()
        self._ended = False
        self._viewers = 0
        self.listen = ""
        """The address that programs use in place of Graph's; the page shows it before the first request."""

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Sample every second inside the context; at its end all event streams end."""
        task = asyncio.ensure_future(self._sample_forever())
        try:
            yield
        finally:
            task.cancel()
            self._ended = True
            self._changed.set()

    async def _sample_forever(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_EVERY_S)

    def sample(self) -> None:
        """Sample now: add a row to the time series if one is due, and wake the readers."""
        now = self._clock()
        due = now >= self._due
        if not due and not self._viewers:
            return
        stats = self._stats()
        if due:
            # A late sample does not make the next ones come in a burst.
            self._due = self._due + STEP_S if now < self._due + STEP_S else now + STEP_S
            self._history.add(stats)
        self._newest = msgspec.json.encode(stats)
        self._changed.set()
        self._changed = asyncio.Event()

    async def events(self, last_id: str) -> AsyncGenerator[bytes, None]:
        """Server-sent events (WHATWG HTML section 9.2) for a reader whose last event was *last_id*, "" for a new one.

        `history`: all rows, once, for a reader that is new to this run. `sample`: the rows since. `stats`: the
        content of `/stats`.
        """
        self._viewers += 1
        try:
            seen = self._resume_after(last_id)
            if seen is None:
                seen = self._history.last
                yield _event("history", self._rows_after(0, **self._description()), self._id(seen))
            self._newest = msgspec.json.encode(self._stats())
            while not self._ended:
                news = self._changed
                if seen < self._history.last:
                    rows, seen = self._rows_after(seen), self._history.last
                    yield _event("sample", rows, self._id(seen))
                yield _event("stats", self._newest)
                await news.wait()
        finally:
            self._viewers -= 1

    def _resume_after(self, last_id: str) -> int | None:
        """The number of the row that *last_id* names; None if it is another run's id or not one of ours."""
        run, _, number = last_id.partition("-")
        if run != self._run or not number.isascii() or not number.isdigit() or len(number) > 9:
            return None
        return int(number) if int(number) <= self._history.last else None

    def _description(self) -> dict[str, object]:
        """The step and columns of the rows, and the sidecar's address."""
        return {"step_s": STEP_S, "columns": COLUMNS, "listen": self.listen}

    def _id(self, number: int) -> str:
        return f"{self._run}-{number}"

    def _rows_after(self, number: int, **more: object) -> bytes:
        return msgspec.json.encode({**more, "rows": [each.tolist() for each in self._history.after(number)]})


def _event(name: str, data: bytes, identity: str = "") -> bytes:
    head = f"id: {identity}\nevent: {name}\n" if identity else f"event: {name}\n"
    return b"%bdata: %b\n\n" % (head.encode(), data)
