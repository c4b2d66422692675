"""Reads that wait, without a task for each, until the log of the fleet is read again.

A replica that was slow to read the log may not call anything fresh, and may let no read join a call that has begun. One
reading of the log is then enough for all callers; after it they are answered as if they had come then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.http import errors
from proxy.core.model import Entry
from proxy.core.reply.response_head import framed, http_date
from proxy.shell.downstream.fast_path import Asker
from proxy.shell.http.protocol import Connection
from proxy.shell.observe.faults import log_fault
from proxy.shell.valkey.shared import ENDS_AT, Shared


@dataclass(slots=True, eq=False)
class WaitingRead:
    """A connection whose caller waits for the log."""

    reads: WaitingReads
    connection: Connection
    head: bytes = field(repr=False)  # of the message; holds a token

    def leave(self) -> None:
        """Note that the caller has hung up."""
        self.reads.callers.discard(self)

    def break_off(self, error: errors.SidecarError) -> None:
        """Answer with *error*: the sidecar ends."""
        self.leave()
        head, body = framed(errors.reply_of(error), http_date(int(time.time())), keeps=False)
        self.connection.answer(head, body, keeps=False)


@dataclass(slots=True, eq=False)
class WaitingReads:
    """Lets reads wait for the log where that was not just read, and has the fast path answer them then."""

    shared: Shared
    callers: set[Any]  # all that wait for an answer of the fast path
    flights: Asker  # asks Graph for what memory does not answer
    take: Callable[[Connection, bytes], bool] = lambda _connection, _head: False  # the fast path's
    _waiting: list[WaitingRead] = field(default_factory=list)
    _reading: asyncio.Task[None] | None = None
    _is_answering: bool = False

    def ask(self, connection: Connection, read: PreparedRead, head: bytes, entry: Entry | None) -> bool:
        """Let *connection* wait for the log, or for the reply to *read* as *flights* have it."""
        if self._is_answering or self.shared.is_believed or self.shared.is_away:
            return self.flights.ask(connection, read, head, entry)
        waiting = WaitingRead(self, connection, head)
        self._waiting.append(waiting)
        self.callers.add(waiting)
        connection.wait_for(waiting)
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        return True

    def forget(self) -> None:
        """Rely on nothing that was prepared before; each read that waits is looked for anew."""
        self.flights.forget()

    async def _read(self) -> None:
        """Wait for the log on behalf of all that wait, as long as more come."""
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                mark = ENDS_AT.set(self.shared.ends_at)  # what is left of it is for the other visits of these reads
                try:
                    await self.shared.catch_up(self.shared.budget_s)
                finally:
                    self._answer_all(waiting)
                    ENDS_AT.reset(mark)
        finally:
            self._reading = None

    def _answer_all(self, waiting: list[WaitingRead]) -> None:
        self._is_answering = True  # whoever is not answered now does not wait again
        try:
            for each in waiting:
                if each in self.callers:
                    self.callers.discard(each)
                    self._answer(each)
        finally:
            self._is_answering = False

    def _answer(self, waiting: WaitingRead) -> None:
        try:
            if self.take(waiting.connection, waiting.head):
                return
        except Exception as fault:  # noqa: BLE001 - told, and the caller gets an answer all the same
            log_fault(fault)
        waiting.connection.pass_to_handler(waiting, waiting.head)
