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

_QueuedRead = tuple[KeyAndToken, asyncio.Future[Entry | None]]


class ReadQueue:
    """Sends one read at once, and the reads that arrive meanwhile together on the next trip.

    A trip to a thread and back costs several times what reading a row does; fifty loads in one turn make two trips.
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
        self._is_reading = False

    async def __call__(self, key: bytes, token: str) -> Entry | None:
        """The entry that *read* finds for *key*; raises the exception that *read* returns for it."""
        answer: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        self._queued.append(((key, token), answer))
        if not self._is_reading:
            self._send()
        return await answer

    def _send(self) -> None:
        trip, self._queued = self._queued[:MAX_KEYS], self._queued[MAX_KEYS:]
        loop = asyncio.get_running_loop()
        try:
            job = loop.run_in_executor(self._thread, self._read, [wanted for wanted, _ in trip])
        except RuntimeError as error:  # the thread has ended
            _hand_out(trip, [error] * len(trip))
        else:
            self._is_reading = True
            alarm = loop.call_later(self._timeout_s, loop.call_later, GRACE_S, self._give_up, trip, job)
            job.add_done_callback(partial(self._return, trip, alarm))

    def _give_up(self, trip: list[_QueuedRead], job: asyncio.Future[list[ReadResult]]) -> None:
        """Fail the reads of a trip that does not return, and the reads that wait for the next one."""
        if job.done():
            return
        failed, self._queued = [*trip, *self._queued], []
        _hand_out(failed, [self._on_timeout(job)] * len(failed))

    def _return(self, trip: list[_QueuedRead], alarm: asyncio.Handle, job: asyncio.Future[list[ReadResult]]) -> None:
        alarm.cancel()
        self._is_reading = False
        if self._queued:
            self._send()
        _hand_out(trip, job.result())


def _hand_out(trip: list[_QueuedRead], answers: list[ReadResult]) -> None:
    for (_, answer), found in zip(trip, answers, strict=True):
        if answer.done():
            continue  # its caller has left
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)


class Loads:
    """The keys that are being read now, and whether their entry was replaced meanwhile."""

    def __init__(self) -> None:
        self._under_way: dict[bytes, int] = {}
        self._superseded: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, key: bytes) -> None:
        """Note that a read of *key* begins."""
        self._under_way[key] = self._under_way.get(key, 0) + 1

    def end(self, key: bytes) -> bool:
        """Note that a read of *key* ends; True if its result is out of date."""
        late = key in self._superseded
        self._under_way[key] -= 1
        if not self._under_way[key]:
            del self._under_way[key]
            self._superseded.discard(key)
        return late

    def supersede(self, key: bytes) -> None:
        """Mark the reads of *key* in progress as out of date."""
        if key in self._under_way:
            self._superseded.add(key)

    def supersede_all(self) -> None:
        """Mark all reads in progress as out of date."""
        self._superseded.update(self._under_way)
