"""Reads under way: those of one turn share a trip to the reader's thread, and what is newer overtakes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from proxy.core.model import Entry

Wanted = tuple[bytes, str]
"""A key, and the token that opens its entry."""
Found = Entry | None | Exception

AT_ONCE = 64  # the first of a trip waits for the last: 64 rows take about 2 ms

GRACE_S = 0.01
"""Seconds after a time limit in which a loop that was late itself learns of what has come back."""

_Asked = tuple[Wanted, asyncio.Future[Entry | None]]


class ReadQueue:
    """Sends one read at once, and all that come while it is out together on the next trip.

    A trip to a thread and back costs several times what reading a row does; fifty loads in one turn make two trips.
    """

    def __init__(
        self,
        thread: Executor,
        read: Callable[[Sequence[Wanted]], list[Found]],
        limit_s: float,
        late: Callable[[asyncio.Future[list[Found]]], Exception],
    ) -> None:
        """Read on *thread*; *late* is told of a trip that takes longer than *limit_s*, and says what is wrong."""
        self._thread = thread
        self._read = read
        self._limit_s = limit_s
        self._late = late
        self._asked: list[_Asked] = []
        self._out = False

    async def __call__(self, key: bytes, token: str) -> Entry | None:
        """What *read* finds; raises what it finds wrong."""
        answer: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        self._asked.append(((key, token), answer))
        if not self._out:
            self._send()
        return await answer

    def _send(self) -> None:
        trip, self._asked = self._asked[:AT_ONCE], self._asked[AT_ONCE:]
        loop = asyncio.get_running_loop()
        try:
            job = loop.run_in_executor(self._thread, self._read, [wanted for wanted, _ in trip])
        except RuntimeError as error:  # the thread has ended
            _hand_out(trip, [error] * len(trip))
        else:
            self._out = True
            alarm = loop.call_later(self._limit_s, loop.call_later, GRACE_S, self._give_up, trip, job)
            job.add_done_callback(partial(self._return, trip, alarm))

    def _give_up(self, trip: list[_Asked], job: asyncio.Future[list[Found]]) -> None:
        """Keep nobody waiting for a trip that does not end, those included who would have gone on the next."""
        if job.done():
            return
        left, self._asked = [*trip, *self._asked], []
        _hand_out(left, [self._late(job)] * len(left))

    def _return(self, trip: list[_Asked], alarm: asyncio.Handle, job: asyncio.Future[list[Found]]) -> None:
        alarm.cancel()
        self._out = False
        if self._asked:
            self._send()
        _hand_out(trip, job.result())


def _hand_out(trip: list[_Asked], answers: list[Found]) -> None:
    for (_, answer), found in zip(trip, answers, strict=True):
        if answer.done():
            continue  # its caller has left
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)


class Loads:
    """Which keys are being read now, and which of those readings something newer has overtaken."""

    def __init__(self) -> None:
        self._under_way: dict[bytes, int] = {}
        self._overtaken: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, key: bytes) -> None:
        """A reading of *key* begins."""
        self._under_way[key] = self._under_way.get(key, 0) + 1

    def end(self, key: bytes) -> bool:
        """A reading of *key* ends; whether what it brings is out of date."""
        late = key in self._overtaken
        self._under_way[key] -= 1
        if not self._under_way[key]:
            del self._under_way[key]
            self._overtaken.discard(key)
        return late

    def overtake(self, key: bytes) -> None:
        """Something newer than any reading is known of *key*."""
        if key in self._under_way:
            self._overtaken.add(key)

    def overtake_all(self) -> None:
        """Every reading is out of date."""
        self._overtaken.update(self._under_way)
