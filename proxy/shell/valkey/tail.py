"""Reads the log over one connection, for ever: as soon as there are records, and several times in TRUST_S without.

Each read leaves as one pipeline: the read itself, and a second read behind it that the store keeps until there are
records (`XREAD BLOCK`). The end of that wait, or a timer, lets the next pipeline leave. So a read of a quiet log costs
one message each way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from proxy.shell.valkey import random_bytes
from proxy.shell.valkey.link import Away, Command, Link, holds, pack

BLOCK_MS: Final = 60
"""How long the store waits for new records before it answers that there are none."""

NEWS_S: Final = 0.07
"""Seconds after which the log is read again although the store has announced no records.

An idle store looks at its clock ten times a second (its setting `hz`), so it ends a wait of BLOCK_MS as late as after
160 ms; a command that is sent meanwhile wakes it.
"""

READ_S: Final = 1.0
"""Seconds after which a connection counts as broken that has brought no replies."""

_NONCE_BYTES: Final = 8
_READ: Final = b"r"
_WAIT: Final = b"w"


Reading = tuple[Sequence[Command], Command]
"""The commands of a read, and the one that the store answers as soon as there is a record behind those."""


@dataclass(eq=False, slots=True)
class Tail:
    """Reads of the log over *link*, which is used for nothing else."""

    link: Link
    reading: Callable[[], Reading]  # the same object as long as nothing new was read
    is_in_hurry: Callable[[], bool]  # whether the next read is not to wait for records
    clock: Callable[[], float]
    _sent: float = 0.0  # when the newest read left
    _nonce: bytes = b""  # of its echoes
    _expected: int = 0  # how many replies it gets
    _has_wait: bool = False  # whether it has a wait behind it
    _is_due: bool = False  # whether the read after that has not left
    _early: asyncio.Future[None] | None = None  # lets it leave before that wait ends
    _packed: tuple[Reading, bytes, bytes] | None = None  # the newest commands as bytes
    _pages: int = 0

    async def pages(self) -> AsyncGenerator[tuple[float, list[Any]]]:
        """Yield the replies to each read, and when that left. Raises Away."""
        others = [asyncio.ensure_future(each) for each in (self._watch(), self._send_early())]
        try:
            await self._send()
            while True:
                page = await self._replies(self._expected, self._nonce + _READ)
                self._pages += 1
                yield self._sent, page
                if self._has_wait:
                    await self._wait()
                else:
                    await self._send()
        finally:
            for task in others:
                task.cancel()

    def wake(self) -> None:
        """Send the next read now, if it waits."""
        if self._early is not None and not self._early.done():
            self._early.set_result(None)

    async def _wait(self) -> None:
        """Wait until there are records, or for the time of the next read, and let that leave."""
        self._is_due = True
        if self.is_in_hurry():
            self.wake()
        timer = asyncio.get_running_loop().call_later(max(0.0, self._sent + NEWS_S - self.clock()), self.wake)
        try:
            await self._replies(1, self._nonce + _WAIT)
        finally:
            timer.cancel()
        if self._is_due:
            await self._send()

    async def _send_early(self) -> None:
        """Send reads before the wait ends that is before them, when woken; whoever reads the replies notes failures."""
        with suppress(Away):
            while True:
                self._early = asyncio.get_running_loop().create_future()
                await self._early
                if self._is_due:
                    await self._send()

    async def _send(self) -> None:
        """Send a read, and a wait behind it unless there is a hurry."""
        reading = self.reading()
        if self._packed is None or self._packed[0] is not reading:
            commands, wait = reading
            self._packed = reading, pack(commands), pack((wait,))
        _, read, waiting = self._packed
        self._nonce, self._expected = random_bytes.take(_NONCE_BYTES), len(reading[0])
        self._has_wait = not self.is_in_hurry()
        message = read + pack(((b"ECHO", self._nonce + _READ),))
        if self._has_wait:
            message += waiting + pack(((b"ECHO", self._nonce + _WAIT),))
        self._sent, self._is_due = self.clock(), False
        await self.link.send(message)

    async def _replies(self, number: int, echo: bytes) -> list[Any]:
        """Read so many replies, and the *echo* behind them. Raises Away where that is not in its place."""
        replies = [await self.link.reply() for _ in range(number + 1)]
        if replies.pop() != echo or holds(replies, echo[:-1]):
            await self.link.close()
            raise Away("its replies are out of step")
        return replies

    async def _watch(self) -> None:
        """Close the connection if nothing comes over it; a loop that was late itself has a second look."""
        seen, strikes = -1, 0
        while strikes < 2:
            await asyncio.sleep(READ_S / 2)
            strikes = strikes + 1 if self._pages == seen else 0
            seen = self._pages
        await self.link.close()
