"""The disk tier for the event loop: runs a database in two threads, and turns disk errors into cache misses.

An operation that takes too long counts as a disk error. Its thread may wait for the disk for ever, so neither thread
gets another operation until that one has returned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

from proxy.core.cache.encryption import BadSeal
from proxy.shell.store.corruption import DISK_ERRORS, Breaker, Clear, CorruptionPolicy, DiskTimeoutError
from proxy.shell.store.database import Database, WriteReport
from proxy.shell.store.read_queue import GRACE_S, OnRead, ReadQueue, ReadResult
from proxy.shell.store.worker import Worker
from proxy.shell.store.write_queue import QueuedWrite

_log = logging.getLogger("graph_sidecar.store")
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class DiskTimeouts(NamedTuple):
    """Seconds that an operation on the disk may take; a longer one counts as a disk error."""

    read_s: float  # a read, for which a caller waits
    work_s: float  # writing and opening, for which no caller waits


class Disk:
    """Runs *database* in one reading and one writing thread; its methods raise nothing.

    Exactly one connection writes and checkpoints: SQLite up to 3.51.2 can lose commits when two do (the WAL-reset bug).
    """

    def __init__(
        self, database: Database, breaker: Breaker, on_open: Callable[[bytes | None], None], timeouts: DiskTimeouts
    ) -> None:
        self.troubles = 0
        self.evictions = 0
        self.entries = 0
        self.bytes = 0
        self._database = database
        self._breaker = breaker
        self._on_open = on_open
        self._timeouts = timeouts
        self._reader, self._writer = Worker("store-reader"), Worker("store-writer")
        self._reads = ReadQueue(self._reader, database.read, timeouts.read_s, self._timed_out)
        self._unanswered: set[asyncio.Future[Any]] = set()  # timed out and not returned yet
        self._open = False
        self._closed = False
        self.accepting = True
        """Whether writes may be queued: the database is open, or will be soon."""
        self._clear = Clear.NOTHING
        self._policy = CorruptionPolicy()
        self._last_error = ""
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_other_key(self) -> bool:
        """Whether the rows were found to be written with another secret."""
        return self._database.is_other_key

    @property
    def ready(self) -> bool:
        """True if the database is open and the breaker is closed."""
        return self._open and self._breaker.closed

    @property
    def state(self) -> str:
        """The breaker's state: `closed` (in use) or `open` (memory only for now)."""
        return "closed" if self._breaker.closed else "open"

    @property
    def quarantines(self) -> int:
        """How many databases were quarantined."""
        return self._database.quarantines

    @property
    def newest_at(self) -> float:
        """When the newest row was written that was there when the database was opened, in epoch seconds."""
        return self._database.newest_at

    async def open(self) -> None:
        """Open the database, after the clearing that was asked for; a disk error opens the breaker."""
        async with self._opening:
            if self._closed:
                return
            self._open = False
            clear, self._clear = self._clear, Clear.NOTHING
            before = self._database.quarantines
            try:
                await self._on_reader(self._database.close_reader)
                report = await self._on_writer(self._database.open, clear)
                await self._on_reader(self._database.connect_reader, timeout_s=self._timeouts.read_s)
                saved_purges = await self._on_writer(self._database.saved_purges)
            except DISK_ERRORS as error:
                self._clear_on_open(clear)
                self._clear_on_open(self._policy.on_open_error(error).clear)
                self._trip(error)
                return
            self._open = self._clear is Clear.NOTHING  # False if a purge came meanwhile: it erases next
            self._policy.on_open(is_replacement=self._database.quarantines > before)
            self._apply(report)
            self._recovered(saved_purges)

    async def close(self) -> None:
        """Close both connections and end both threads; the writer closes last, because closing checkpoints."""
        await self.settled()
        async with self._opening:
            if self._closed:
                return
            self._open = False
            try:
                await self._on_reader(self._database.close_reader)
                await self._on_writer(self._database.close)
            except DISK_ERRORS as error:
                self._trip(error)
            if self._unanswered:
                self._abandon()
            else:
                self._end(wait=True)  # both are idle: they end at once

    def abandon(self) -> None:
        """End without waiting: a thread that hangs in the file system closes its connection when it returns."""
        if not self._closed:
            self._abandon()

    def _abandon(self) -> None:
        self._reader.submit(self._database.close_reader)
        self._writer.submit(self._database.close)
        self._end(wait=False)

    def _end(self, *, wait: bool) -> None:
        self._closed, self._open, self.accepting = True, False, False
        self._reader.shutdown(wait=wait)
        self._writer.shutdown(wait=wait)

    def read(self, key: bytes, token: str, on_read: OnRead) -> None:
        """Let *on_read* take the entry of *key*, None if there is none or the disk failed, BadSeal if it is bad.

        It is called in a later turn of the event loop.
        """
        if self.ready:
            self._reads.add(key, token, partial(self._on_read, on_read))
        else:
            asyncio.get_running_loop().call_soon(on_read, None)

    def _on_read(self, on_read: OnRead, found: ReadResult) -> None:
        if isinstance(found, Exception) and not isinstance(found, BadSeal):
            self._failed(found, reading=True)
            found = None  # whatever it is, a caller must get a miss
        on_read(found)

    async def list_keys(self, take: Callable[[list[bytes]], None]) -> bool:
        """Let *take*, in the reading thread, have all keys on disk; False if that broke off.

        Keys that are written meanwhile may be left out. Reads get their turn between two pages of keys.
        """
        last = b""
        while self.ready:
            try:
                last = await self._on_reader(self._database.list_keys, last, take, timeout_s=self._timeouts.read_s)
            except DISK_ERRORS as error:
                self._failed(error, reading=True)
                return False
            if not last:
                return True
        return False

    async def write(self, group: Sequence[QueuedWrite], now: float) -> WriteReport | None:
        """Write *group* at *now*, in epoch seconds; None if nothing of it was written."""
        if not self.ready:
            return None
        try:
            report = await self._on_writer(self._database.write, group, now)
        except DISK_ERRORS as error:
            self._failed(error)
            return None
        self._policy.on_write()
        self._apply(report)
        return report

    async def save_purges(self, orders: bytes) -> bool:
        """Write the purge *orders* to the folder, after the work that has begun; True if that worked."""
        await self.settled()
        if not self.ready:
            return False
        try:
            await self._on_writer(self._database.save_purges, orders)
        except DISK_ERRORS as error:
            self._failed(error)
            return False
        return True

    async def maintain(self) -> list[bytes]:
        """Reopen a failed database when it is due, else check it; returns the keys of rows deleted to make room."""
        if self._breaker.due or (self._clear is not Clear.NOTHING and self._breaker.closed):
            await self.open()
        if not self.ready:
            return []
        try:
            report = await self._on_writer(self._database.maintain)
        except DISK_ERRORS as error:
            self._failed(error)
            return []
        self._apply(report)
        return report.evicted

    def erase(self) -> None:
        """Remove every row as soon as the disk allows; until then nothing is read."""
        self._clear_on_open(Clear.ERASE)
        self._open = False
        if self._breaker.closed:
            self._spawn(self.open())

    async def settled(self) -> None:
        """Wait for background work that has begun."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    # --- errors ---

    def _failed(self, error: BaseException, *, reading: bool = False) -> None:
        """Do what `corruption` decides after an error of a read or a write: a miss, a new database now, or a rest."""
        if not self._open:
            return
        verdict = self._policy.on_error(error, reading=reading)
        self._clear_on_open(verdict.clear)
        if verdict.rests:
            self._trip(error)
            return
        self.troubles += 1
        if verdict.clear is not Clear.NOTHING:
            self._open = False
            self._spawn(self.open())

    def _trip(self, error: BaseException) -> None:
        """Count the error, log a new one, and open the breaker."""
        self.troubles += 1
        self._open = self.accepting = False
        self._breaker.trip()
        text = f"{type(error).__name__}: {error}"
        if text != self._last_error:
            _log.warning("the cache on disk is not used for now, entries are in memory only: %s", text)
        self._last_error = text

    def _clear_on_open(self, clear: Clear) -> None:
        """Clear the database as *clear* says when it is next opened; erasing outweighs quarantine."""
        if clear is Clear.ERASE or self._clear is Clear.NOTHING:
            self._clear = clear

    def _recovered(self, saved_purges: bytes | None) -> None:
        self._breaker.reset()
        self.accepting = not self._closed
        self._on_open(saved_purges)
        if self._last_error:
            _log.info("the cache on disk is in use again: %s", self._database.path)
        self._last_error = ""

    # --- the threads ---

    @property
    def _timeout_error(self) -> DiskTimeoutError:
        return DiskTimeoutError(f"the disk of {self._database.path} does not answer")

    async def _on_reader(self, work: Callable[[*_Ts], _T], *args: *_Ts, timeout_s: float = 0.0) -> _T:
        return await self._run(self._reader, timeout_s, work, *args)

    async def _on_writer(self, work: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        return await self._run(self._writer, 0.0, work, *args)

    async def _run(self, thread: Worker, timeout_s: float, work: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """The result of *work* on *thread*, waited for *timeout_s* seconds (0: work_s). Raises DISK_ERRORS."""
        if self._unanswered:
            raise self._timeout_error
        job = asyncio.get_running_loop().run_in_executor(thread, work, *args)
        try:
            await asyncio.wait((job,), timeout=timeout_s or self._timeouts.work_s)
            if not job.done():
                await asyncio.wait((job,), timeout=GRACE_S)
        finally:
            if not job.done():
                self._await_later(job)
        if not job.done():
            raise self._timeout_error
        return _result(job)

    def _timed_out(self, job: asyncio.Future[Any]) -> Exception:
        """Note a trip that did not return in time; the error for its readers."""
        self._await_later(job)
        error = self._timeout_error
        self._failed(error)
        return error

    def _await_later(self, job: asyncio.Future[Any]) -> None:
        """Use neither thread until *job* has returned."""
        self._unanswered.add(job)
        job.add_done_callback(self._answered)

    def _answered(self, job: asyncio.Future[Any]) -> None:
        self._unanswered.discard(job)
        if not job.cancelled():
            job.exception()  # marks the exception as retrieved; the disk is opened anew whatever it was

    def _apply(self, report: WriteReport) -> None:
        self.evictions += len(report.evicted)
        self.entries, self.bytes = report.entries, report.bytes

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _result(job: asyncio.Future[_T]) -> _T:
    """The result of *job*; a bug of ours becomes a disk error too, but is logged with its traceback."""
    try:
        return job.result()
    except DISK_ERRORS:
        raise
    except Exception as error:
        _log.exception("the cache on disk met an unexpected error")
        raise OSError(f"unexpected: {type(error).__name__}") from error
