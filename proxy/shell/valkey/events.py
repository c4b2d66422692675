"""The log that all replicas write and read: writes, events, purges, refused tokens, and reports about limits.

Trust depends on reading the log: an entry is fresh only within TRUST_S of sending a read of the log that was answered
and applied. So a replica that cannot read the log stops trusting its entries, without comparing clocks.

Each read looks at the epoch and the role of the server as well, because a log that was emptied, or
began anew, never answers a replica that reads on from an old position.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from redis.exceptions import ResponseError

from proxy.core.shared import records
from proxy.core.shared.log_index import LogIndex
from proxy.core.shared.records import Content, Record
from proxy.core.shared.trust import Trust
from proxy.core.shared.wire import BEGIN, NONCE_BYTES, Id, Wire
from proxy.shell.valkey.client import Client
from proxy.shell.valkey.link import Away, Command, Dialer, Link, understood
from proxy.shell.valkey.tail import BLOCK_MS, READ_S, Reading, Tail

GAP_S = 0.5
"""A replica that read nothing for so long may have missed records that could not be written; writes wait longer."""

REMEMBERED_S = 60.0
"""Our own records of the last so many seconds are written again into a new log: the old log may have lost them."""

LONGEST = 50_000
"""About the most records in the log; an entry older than the oldest record is not fresh for other replicas."""

PAGE = 1000
_ENTRIES = 64


class Effects(Protocol):
    """Applies the records of other replicas."""

    def apply(self, what: Content, at: Id, age_s: float, *, own: bool) -> None:
        """Apply the record at *at* in the log, which was written so many seconds ago; *own*: by this replica."""

    def restart(self) -> None:
        """Start again with another log: older entries are not fresh, unless their position is in this log."""

    def doubt(self) -> None:
        """Note that records may have been missed: no entry that was fetched before now is fresh."""


class NoEffects:
    """Ignores records, until the layers are built."""

    def apply(self, what: Content, at: Id, age_s: float, *, own: bool) -> None:
        """Do nothing."""

    def restart(self) -> None:
        """Do nothing."""

    def doubt(self) -> None:
        """Do nothing."""


@dataclass(eq=False, slots=True)
class _Unwritten:
    record: Record
    written: asyncio.Future[Id]


@dataclass(eq=False, slots=True)
class Events:
    """A reader and writer of the log; `run` is the task that reads, `write_forever` the task that writes."""

    dialer: Dialer
    client: Client
    wire: Wire
    replica: bytes
    window_s: float  # how far the log reaches back
    is_fit: Callable[[], bool]  # whether this replica may use the store at all
    effects: Effects = field(default_factory=NoEffects)
    trust: Trust = field(default_factory=Trust)
    clock: Callable[[], float] = time.monotonic
    index: LogIndex = field(default_factory=LogIndex)
    read: int = 0  # records
    gaps: int = 0
    lineages: int = 0
    trouble: str = "the log was not read yet"
    _waiters: list[tuple[float, asyncio.Future[None]]] = field(default_factory=list)  # and since when they wait
    _unwritten: deque[_Unwritten] = field(default_factory=deque)
    _recent: deque[tuple[float, Content]] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _number: int = 0
    _epoch: bytes = b""
    _tail: Tail | None = None
    _reading: tuple[Id, Reading] | None = None  # the position behind which the log is read, and by which commands
    _is_whole: bool = False  # whether the last page was the end of the log
    _store_ms: int = 0  # the last reading of the store's clock

    # --- trust ---

    @property
    def is_current(self) -> bool:
        """Return whether all records of other replicas are known, up to a moment ago."""
        return self.trust.has_read_log(self.clock())

    @property
    def lag_s(self) -> float:
        """Return the seconds since the newest answered read was sent."""
        return self.clock() - self.trust.log_read_at

    async def catch_up(self, within_s: float) -> bool:
        """Wait until all records of the others up to now are known, at most so long; return whether they are.

        They are once a read of the log is answered that was sent after now, however late this process notices.
        """
        if self.is_current:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self.clock(), waiter))
        if self._tail is not None:
            self._tail.wake()
        try:
            async with asyncio.timeout(max(0.0, within_s)):
                await waiter
        except (TimeoutError, Away):
            return False
        return True

    def _confirm(self, sent: float) -> None:
        if sent - self.trust.log_read_at > GAP_S and self.trust.log_read_at > -math.inf:
            self.gaps += 1
            self.effects.doubt()
        self.trust.on_log_read(sent)
        self.trouble, is_current = "", self.is_current
        waiting, self._waiters = self._waiters, []
        for since, waiter in waiting:
            if not (is_current or sent >= since):
                self._waiters.append((since, waiter))
            elif not waiter.done():
                waiter.set_result(None)

    def _fail(self, why: str) -> None:
        """Wake all that wait: the log cannot be read."""
        waiting, self._waiters = self._waiters, []
        for _, waiter in waiting:
            if not waiter.done():
                waiter.set_exception(Away(why))
                waiter.exception()  # looked at: its caller may have left

    # --- writing ---

    def publish(self, what: Content) -> asyncio.Future[Id]:
        """Queue *what* for the log; return its position, once the log has taken it."""
        written: asyncio.Future[Id] = asyncio.get_running_loop().create_future()
        self._add(what, written)
        self._recent.append((self.clock(), what))
        while self._recent and self._recent[0][0] < self.clock() - REMEMBERED_S:
            self._recent.popleft()
        return written

    def publish_later(self, what: Content) -> None:
        """Queue *what* for the log."""
        self.publish(what)

    def _add(self, what: Content, written: asyncio.Future[Id]) -> None:
        self._number += 1
        self._unwritten.append(_Unwritten(Record(self.replica, self._number, what), written))
        self._wake.set()

    def _publish_again(self) -> None:
        """Write our own records of the last minute again: the log is another one."""
        loop = asyncio.get_running_loop()
        for when, what in list(self._recent):
            if when > self.clock() - REMEMBERED_S:
                self._add(what, loop.create_future())

    @property
    def unwritten(self) -> int:
        """Return the number of records that the log has not taken yet."""
        return len(self._unwritten)

    async def write_forever(self) -> None:
        """Write the records that are queued, for ever."""
        while True:
            await self._wake.wait()
            if not (self.client.is_up and self.is_fit()) or not await self._write():
                await asyncio.sleep(random.uniform(0.05, 0.1))

    async def _write(self) -> bool:
        """Write one piece of the queue; return whether the log took all of it."""
        piece = [self._unwritten[at] for at in range(min(len(self._unwritten), _ENTRIES))]
        try:
            replies = await self.client.ask(*(self._line(each.record) for each in piece))
            for each, reply in zip(piece, replies, strict=True):
                if isinstance(reply, ResponseError):
                    self.trouble = f"the log takes no records: {reply}"
                    return False
                with understood():
                    at = Id.read(reply)
                self._unwritten.remove(each)
                if not each.written.done():
                    each.written.set_result(at)
        except Away:
            return False
        if not self._unwritten:
            self._wake.clear()
        return True

    def _line(self, record: Record) -> Command:
        sealed = records.seal_record(record, self.wire.box, self.wire.names, os.urandom(NONCE_BYTES))
        oldest = b"%d" % max(0, self._store_ms - int(self.window_s * 1000))
        return (b"XADD", self.wire.names.log, b"MINID", b"~", oldest, b"*", records.FIELD, sealed)

    # --- reading ---

    async def run(self) -> None:
        """Read the log, for ever; whatever fails is tried again."""
        failures = 0
        while True:
            began = self.clock()
            try:
                async with asyncio.timeout(READ_S * 2):
                    link = await self.dialer.dial()
                try:
                    await self._follow(link)
                finally:
                    self._tail, self._is_whole = None, False
                    await link.close()
            except (Away, TimeoutError) as error:
                self.trouble = str(error) or "it does not answer"
                self._fail(self.trouble)
            failures = 0 if self.clock() - began > READ_S else failures + 1
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(0.05 * 2**failures, 1.0))

    async def _follow(self, link: Link) -> None:
        """Read from where we are until something fails. Raises Away and TimeoutError."""
        while not self.is_fit():  # noqa: ASYNC110 - a property of the other connection
            await asyncio.sleep(0.1)
        await self._begin(link)
        tail = self._tail = Tail(link, self._reading_of_now, self._is_in_hurry, self.clock)
        async with aclosing(tail.pages()) as pages:
            async for sent, (page, epoch, role) in pages:
                self._take(page, epoch, role)
                if self._is_whole:
                    self._confirm(sent)
                else:
                    await asyncio.sleep(0)

    def _take(self, page: Any, epoch: Any, role: Any) -> None:
        """Apply one page of the log. Raises Away where it is not of the log that was begun."""
        if epoch != self._epoch or not _is_primary(role):
            raise Away("the log was emptied, or another server is the primary")
        if isinstance(page, ResponseError):
            raise Away(f"the log cannot be read: {page}")
        lines: list[tuple[Id, bytes]] = []
        if page is not None:
            with understood():
                lines = list(_lines(page))
            self._apply(lines)
        self._is_whole = len(lines) < PAGE

    def _is_in_hurry(self) -> bool:
        """Returns whether the log is to be read at once, and not when there are records."""
        return bool(self._waiters) or not (self._is_whole and self.is_current)

    def _reading_of_now(self) -> Reading:
        """Returns the commands that read the log behind the known records, and wait for more."""
        cursor, names = self.index.cursor, self.wire.names
        if self._reading is None or self._reading[0] is not cursor:
            place = (b"STREAMS", names.log, bytes(cursor))
            read = ((b"XREAD", b"COUNT", PAGE, *place), (b"GET", names.epoch), (b"ROLE",))
            self._reading = cursor, (read, (b"XREAD", b"COUNT", 1, b"BLOCK", BLOCK_MS, *place))
        return self._reading[1]

    async def _begin(self, link: Link) -> None:
        """Check that this is the log that was read before; if not, start again and read all of it."""
        names = self.wire.names
        async with asyncio.timeout(READ_S):
            _, epoch, info, stream, clock, role = await link.exchange(
                [
                    (b"SET", names.epoch, os.urandom(16).hex(), b"NX"),
                    (b"GET", names.epoch),
                    (b"INFO", b"replication"),
                    (b"XINFO", b"STREAM", names.log),
                    (b"TIME",),
                    (b"ROLE",),
                ]
            )
        if not isinstance(epoch, bytes) or not _is_primary(role):
            raise Away(f"the log cannot be begun: {epoch or role}")
        with understood():
            if isinstance(clock, list):
                self._store_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
            facts = _facts(stream)
        lineage = blake2b(epoch + _replication(info), digest_size=16).digest()
        last = facts.get(b"last-generated-id", BEGIN)
        self._epoch = epoch
        if lineage == self.index.lineage and self.index.cursor <= last:
            return
        had_one = bool(self.index.lineage)
        self.lineages += 1
        self.trust.on_log_read(-math.inf)
        self.index.begin(lineage, facts.get(b"max-deleted-entry-id", BEGIN))
        self.effects.restart()
        if had_one:
            self._publish_again()

    def _apply(self, lines: list[tuple[Id, bytes]]) -> None:
        for at, sealed in lines:
            self.index.cursor = max(self.index.cursor, at)
            self._store_ms = max(self._store_ms, at.ms)
            record = records.unseal_record(sealed, self.wire.box, self.wire.names)
            if record is None:
                continue
            self.read += 1
            if self.index.missed(record.sender, record.number):
                self.gaps += 1
                self.effects.doubt()
            age_s = max(0.0, (self._store_ms - at.ms) / 1000)
            self.effects.apply(record.what, at, age_s, own=record.sender == self.replica)


def _lines(page: Any) -> Iterator[tuple[Id, bytes]]:
    for _stream, entries in page or ():
        for at, fields in entries:
            pairs = dict(zip(fields[::2], fields[1::2], strict=True)) if fields else {}
            yield Id.read(at), pairs.get(records.FIELD, b"")


def _facts(stream: Any) -> dict[bytes, Id]:
    """Return the IDs in the reply to XINFO STREAM; none for a log without records."""
    if not isinstance(stream, list):
        return {}
    pairs = dict(zip(stream[::2], stream[1::2], strict=False))
    return {name: Id.read(pairs[name]) for name in (b"last-generated-id", b"max-deleted-entry-id") if name in pairs}


def _replication(info: Any) -> bytes:
    """Returns the replication ID, which changes when another server is promoted; b"" if the store does not give it."""
    if not isinstance(info, bytes):
        return b""
    return next((line for line in info.splitlines() if line.startswith(b"master_replid:")), b"")


def _is_primary(role: Any) -> bool:
    """Returns whether the server takes writes; a server that does not give its role counts as one that does."""
    return isinstance(role, ResponseError) or (isinstance(role, list) and role[:1] == [b"master"])
