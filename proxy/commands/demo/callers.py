"""The demo's callers: all send at once, each over a connection of its own, and each request is timed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.commands.demo.client import ClientConnection, LostConnectionError, open_connection, request
from proxy.commands.demo.traffic import TOKENS, DemoRead, Visit

_REPORT_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class CallersReport:
    """The measurements of the callers."""

    failed: int
    median_ms: float
    p99_ms: float


class Callers:
    """All callers of one server, or of several that share the work."""

    def __init__(self, urls: Sequence[str], on_progress: Callable[[int], None], slowness: float = 1.0) -> None:
        """Send to *urls*, caller by caller; *on_progress* is called now and then with the number of answered requests.

        All pauses are *slowness* times as long as planned.
        """
        self._urls = urls
        self._slowness = slowness
        self._on_progress = on_progress
        self._seconds: list[float] = []
        self._statuses: Counter[int] = Counter()

    async def send(self, visits: Sequence[Sequence[Visit]]) -> CallersReport:
        """Send the *visits* of each caller."""
        reporting = asyncio.ensure_future(self._keep_reporting())
        try:
            began = time.perf_counter()
            await asyncio.gather(*(self._call(self._url(number), each, began) for number, each in enumerate(visits)))
        finally:
            reporting.cancel()
        self._on_progress(self._statuses.total())
        failed = self._statuses.total() - self._statuses[200]
        return CallersReport(failed, percentile(self._seconds, 50) * 1000, percentile(self._seconds, 99) * 1000)

    def _url(self, number: int) -> str:
        """Returns where this caller sends: the callers of each token are spread over all servers."""
        return self._urls[number // len(TOKENS) % len(self._urls)]

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            self._on_progress(self._statuses.total())

    async def _call(self, url: str, visits: Sequence[Visit], began: float) -> None:
        connection: ClientConnection | None = None
        for visit in visits:
            await asyncio.sleep(began + visit.at * self._slowness - time.perf_counter())
            for asked in visit.asks:
                if connection is None:
                    connection = await open_connection(url)
                connection = await self._ask(url, connection, asked)
        if connection is not None:
            connection.close()

    async def _ask(self, url: str, connection: ClientConnection, asked: DemoRead) -> ClientConnection | None:
        """Ask and note; the connection, unless it was lost."""
        began = time.perf_counter()
        try:
            answer = await connection.ask(_to_bytes(url, asked))
        except LostConnectionError:
            self._statuses[0] += 1
            return None
        self._statuses[answer.status] += 1
        if not asked.body:
            self._seconds.append(time.perf_counter() - began)
        return connection


async def ask_once(url: str, asked: DemoRead) -> bytes:
    """Returns the body of a reply, over a connection for this request alone."""
    connection = await open_connection(url)
    try:
        return (await connection.ask(_to_bytes(url, asked))).text
    finally:
        connection.close()


def _to_bytes(url: str, asked: DemoRead) -> bytes:
    """Returns the request to *url* as bytes."""
    return request(url, "POST" if asked.body else "GET", asked.target, token=asked.token, body=asked.body)


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value that *share* percent of *values* do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share / 100), len(ordered) - 1)] if ordered else 0.0
