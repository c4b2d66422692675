"""Queues reads of the disk: reads that wait together share a trip to the reading thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from proxy.core.model import Entry

KeyAndToken = tuple[bytes, str]
"""A key, and the token that decrypts its entry."""
ReadResult = Entry | None | Exception

MAX_KEYS = 64  # the first of a trip waits for the last: 64 rows take about 2 ms

GRACE_S = 0.01
"""Seconds after a timeout in which an event loop that was late itself sees the results that have arrived."""

OnRead = Callable[[ReadResult], None]
"""Takes what was found for one key."""

_QueuedRead = tuple[KeyAndToken, OnRead]


class ReadQueue:
    """Sends the reads of one turn of the event loop together, and those that arrive meanwhile on the next trip.

    A trip to a thread and back costs several times what reading a row does.
    """

    def __init__(
        self,
        thread: Executor,
        read: Callable[[Sequence[KeyAndToken]], list[ReadResult]],
        timeout_s: float,
        on_timeout: Callable[[asyncio.Future[list[ReadResult]]], Exception],
    ) -> None:
        """Run *read* on *thread*; *on_timeout* gets a trip of more than *timeout_s*, and returns the error."""
        self._thread = thread
        self._read = read
        self._timeout_s = timeout_s
        self._on_timeout = on_timeout
        self._queued: list[_QueuedRead] = []
        self._is_busy = False  # whether a trip is under way, or will be at the end of this turn

    def add(self, key: bytes, token: str, on_read: OnRead) -> None:
        """Let *on_read* take the entry that *read* finds for *key*, or the exception that it returns."""
        self._queued.append(((key, token), on_read))
        if not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        trip, self._queued = self._queued[:MAX_KEYS], self._queued[MAX_KEYS:]
        loop = asyncio.get_running_loop()
        try:
            job = loop.run_in_executor(self._thread, self._read, [wanted for wanted, _ in trip])
        except RuntimeError as error:  # the thread has ended
            failed, self._queued, self._is_busy = [*trip, *self._queued], [], False
            _hand_out(failed, [error] * len(failed))
        else:
            alarm = loop.call_later(self._timeout_s, loop.call_later, GRACE_S, self._give_up, trip, job)
            job.add_done_callback(partial(self._return, trip, alarm))

    def _give_up(self, trip: list[_QueuedRead], job: asyncio.Future[list[ReadResult]]) -> None:
        """Fail the reads of a trip that does not return, and the reads that wait for the next one."""
        if job.done():
            return
        failed, self._queued = [*trip, *self._queued], []
        trip.clear()  # nothing is left to hand out when it returns
        _hand_out(failed, [self._on_timeout(job)] * len(failed))

    def _return(self, trip: list[_QueuedRead], alarm: asyncio.Handle, job: asyncio.Future[list[ReadResult]]) -> None:
        alarm.cancel()
        self._is_busy = bool(self._queued)
        if self._queued:
            self._send()
        if trip:
            _hand_out(trip, job.result())


def _hand_out(trip: list[_QueuedRead], answers: list[ReadResult]) -> None:
    for (_, on_read), found in zip(trip, answers, strict=True):
        on_read(found)


class Loads:
    """The keys that are being read now, and whether their entry was replaced meanwhile."""

    def __init__(self) -> None:
        self.under_way: dict[bytes, int] = {}
        """How many reads of each key are under way."""
        self._superseded: set[bytes] = set()

    def begin(self, key: bytes) -> None:
        """Note that a read of *key* begins."""
        self.under_way[key] = self.under_way.get(key, 0) + 1

    def end(self, key: bytes) -> bool:
        """Note that a read of *key* ends; True if its result is out of date."""
        late = key in self._superseded
        self.under_way[key] -= 1
        if not self.under_way[key]:
            del self.under_way[key]
            self._superseded.discard(key)
        return late

    def supersede(self, key: bytes) -> None:
        """Mark the reads of *key* in progress as out of date."""
        if key in self.under_way:
            self._superseded.add(key)

    def supersede_all(self) -> None:
        """Mark all reads in progress as out of date."""
        self._superseded.update(self.under_way)
