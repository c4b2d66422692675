"""The disk tier as the event loop sees it: two threads behind it, and trouble that ends here as a miss.

A visit that takes too long is trouble like any other. Its thread may wait for the disk for ever, so nothing is asked of
either thread until it has come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar, TypeVarTuple

from proxy.core.cache.encryption import BadSeal
from proxy.core.model import Entry
from proxy.shell.store.breaker import TROUBLE, Breaker, Limits, Unanswered, is_corrupt, is_full
from proxy.shell.store.database import Clear, Database, WriteReport
from proxy.shell.store.read_queue import GRACE_S, ReadQueue
from proxy.shell.store.worker import Worker
from proxy.shell.store.write_queue import Write

BAD_READS = 3
"""Reads that find the file damaged before it is set aside: one bad page must not cost all the others at once."""
FULL_TWICE = 2

_log = logging.getLogger("graph_sidecar.store")
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Disk:
    """One reader's and one writer's thread over a tier; nothing here raises but BadSeal.

    Exactly one connection writes and checkpoints: SQLite up to 3.51.2 can lose commits when two do (the WAL-reset bug).
    """

    def __init__(
        self, tier: Database, breaker: Breaker, opened: Callable[[bytes | None], None], limits: Limits
    ) -> None:
        self.troubles = 0
        self.shed = 0
        self.entries = 0
        self.bytes = 0
        self._tier = tier
        self._breaker = breaker
        self._opened = opened
        self._limits = limits
        self._reader, self._writer = Worker("store-reader"), Worker("store-writer")
        self._read = ReadQueue(self._reader, tier.read, limits.read_s, self._late)
        self._stuck: set[asyncio.Future[Any]] = set()  # visits that were given up, and have not come back
        self._open = False
        self._over = False
        self._clear = Clear.NOTHING
        self._bad_reads = 0
        self._new = False  # another was set aside for it, and it has taken no write yet
        self._full = 0
        self._told = ""
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether reading and writing make sense now."""
        return self._open and self._breaker.closed

    @property
    def accepting(self) -> bool:
        """Whether writes may wait for it: it is open, or soon will be."""
        return self._breaker.closed and not self._over

    @property
    def state(self) -> str:
        """`closed` (all is well) or `open` (memory only for now)."""
        return "closed" if self._breaker.closed else "open"

    @property
    def quarantines(self) -> int:
        """How often a database was set aside."""
        return self._tier.quarantines

    async def open(self) -> None:
        """Open what is there, after clearing it if that is owed; trouble opens the breaker."""
        async with self._turn:
            if self._over:
                return
            self._open = False
            clear, self._clear = self._clear, Clear.NOTHING
            before = self._tier.quarantines
            try:
                await self._on_reader(self._tier.hang_up)
                report = await self._on_writer(self._tier.open, clear)
                await self._on_reader(self._tier.read_nothing, within=self._limits.read_s)
                noted = await self._on_writer(self._tier.noted)
            except TROUBLE as error:
                self._owe(clear)
                self._note(error)
                return
            self._open = self._clear is Clear.NOTHING  # or a purge came meanwhile, and waits for its turn
            self._bad_reads, self._new = 0, self._tier.quarantines > before
            self._settle(report)
            self._recovered(noted)

    async def close(self) -> None:
        """Let both threads end, each having closed its own connection; the writer's last, as it checkpoints."""
        await self.settled()
        async with self._turn:
            if self._over:
                return
            self._open = False
            try:
                await self._on_reader(self._tier.hang_up)
                await self._on_writer(self._tier.close)
            except TROUBLE as error:
                self._note(error)
            if self._stuck:
                self._leave()
            else:
                self._end(wait=True)  # both are idle: they end at once

    def leave(self) -> None:
        """Wait for nothing: a thread that hangs in the file system closes what it holds when it wakes."""
        if not self._over:
            self._leave()

    def _leave(self) -> None:
        self._reader.submit(self._tier.hang_up)
        self._writer.submit(self._tier.close)
        self._end(wait=False)

    def _end(self, *, wait: bool) -> None:
        self._over, self._open = True, False
        self._reader.shutdown(wait=wait)
        self._writer.shutdown(wait=wait)

    async def read(self, key: bytes, token: str) -> Entry | None:
        """The entry of *key*; None if there is none or it cannot be had. Raises BadSeal."""
        if not self.ready:
            return None
        try:
            return await self._read(key, token)
        except BadSeal:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, a caller must get a miss
            self._stumble(error)
            return None

    async def write(self, group: Sequence[Write]) -> WriteReport | None:
        """Write a group; None if that failed as a whole."""
        if not self.ready:
            return None
        try:
            report = await self._on_writer(self._tier.write, group)
        except TROUBLE as error:
            self._fail(error)
            return None
        self._full, self._new = 0, False
        self._settle(report)
        return report

    async def note(self, text: bytes) -> bool:
        """Keep *text* beside the rows, once what was begun is done; whether that worked."""
        await self.settled()
        if not self.ready:
            return False
        try:
            await self._on_writer(self._tier.note, text)
        except TROUBLE as error:
            self._fail(error)
            return False
        return True

    async def tend(self) -> list[bytes]:
        """One round of housekeeping: try again what was broken, look after what is not; the keys that made room."""
        if self._breaker.due or (self._clear is not Clear.NOTHING and self._breaker.closed):
            await self.open()
        if not self.ready:
            return []
        try:
            report = await self._on_writer(self._tier.maintain)
        except TROUBLE as error:
            self._fail(error)
            return []
        self._settle(report)
        return report.shed

    def erase(self) -> None:
        """Remove every row as soon as the disk lets us; until then nothing is read."""
        self._owe(Clear.ERASE)
        self._open = False
        if self._breaker.closed:
            self._spawn(self.open())

    async def settled(self) -> None:
        """Wait for what was begun behind a caller's back."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    # --- trouble ---

    def _stumble(self, error: BaseException) -> None:
        """A read failed: a damaged page is a miss, and only several mean a damaged file."""
        if is_corrupt(error):
            self._bad_reads += 1
            self.troubles += 1
            if self._bad_reads >= BAD_READS:
                self._set_aside(error)
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """A write failed, or a read for no fault of the row's."""
        if not self._open:
            return
        if is_corrupt(error):
            self._set_aside(error)
        else:
            self._note(error)

    def _set_aside(self, error: BaseException) -> None:
        """Start empty: at once the first time, after a rest if the new database is damaged before it held anything."""
        self._owe(Clear.ASIDE)
        if self._new:
            self._note(error)
        elif self._open:
            self._open = False
            self._spawn(self.open())

    def _note(self, error: BaseException) -> None:
        """Count, say it once, and leave the disk alone for a while."""
        self.troubles += 1
        self._open = False
        self._full = self._full + 1 if is_full(error) else 0
        if self._full >= FULL_TWICE:
            self._owe(Clear.ERASE)  # on a full disk nothing can be deleted from a database, only the file itself
        self._breaker.trip()
        told = f"{type(error).__name__}: {error}"
        if told != self._told:
            _log.warning("the cache on disk rests, memory goes on: %s", told)
        self._told = told

    def _owe(self, clear: Clear) -> None:
        """Clear the database in this way when it is next opened; to erase outweighs to set aside."""
        if clear is Clear.ERASE or self._clear is Clear.NOTHING:
            self._clear = clear

    def _recovered(self, noted: bytes | None) -> None:
        self._breaker.reset()
        self._opened(noted)
        if self._told:
            _log.info("the cache on disk is back: %s", self._tier.path)
        self._told = ""

    # --- the threads ---

    @property
    def _silence(self) -> Unanswered:
        return Unanswered(f"the disk of {self._tier.path} does not answer")

    async def _on_reader(self, work: Callable[[*_Ts], _T], *args: *_Ts, within: float = 0.0) -> _T:
        return await self._visit(self._reader, within, work, *args)

    async def _on_writer(self, work: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        return await self._visit(self._writer, 0.0, work, *args)

    async def _visit(self, thread: Worker, within: float, work: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """What *work* gives on *thread*, *within* so many seconds. Raises TROUBLE."""
        if self._stuck:
            raise self._silence
        job = asyncio.get_running_loop().run_in_executor(thread, work, *args)
        try:
            await asyncio.wait((job,), timeout=within or self._limits.work_s)
            if not job.done():
                await asyncio.wait((job,), timeout=GRACE_S)
        finally:
            if not job.done():
                self._watch(job)
        if not job.done():
            raise self._silence
        return _result(job)

    def _late(self, job: asyncio.Future[Any]) -> Exception:
        """Take note of a trip that does not come back; what its readers are told."""
        self._watch(job)
        error = self._silence
        self._fail(error)
        return error

    def _watch(self, job: asyncio.Future[Any]) -> None:
        """Ask nothing of the disk until *job* has come back."""
        self._stuck.add(job)
        job.add_done_callback(self._came_back)

    def _came_back(self, job: asyncio.Future[Any]) -> None:
        self._stuck.discard(job)
        if not job.cancelled():
            job.exception()  # looked at: whatever it is, the disk is opened anew

    def _settle(self, report: WriteReport) -> None:
        self.shed += len(report.shed)
        self.entries, self.bytes = report.entries, report.bytes

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _result(job: asyncio.Future[_T]) -> _T:
    """What *job* gave; a mistake of ours there is trouble like any other, but told in full."""
    try:
        return job.result()
    except TROUBLE:
        raise
    except Exception as error:
        _log.exception("the cache on disk met something unexpected")
        raise OSError(f"unexpected: {type(error).__name__}") from error
