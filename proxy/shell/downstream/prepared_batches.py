"""Answers batches of applications that hold nothing but plain reads, without a task for each read.

The reads wait for the same calls to Graph as single ones. What is not an ordinary answer is filled in as in any other
batch, by `ClientBatchSlots`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from proxy.core.client_batch.operation import Envelope
from proxy.core.client_batch.prepared_operations import PreparedBatch, PreparedOperations
from proxy.core.client_batch.prepared_slot import newest_fields
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.memory.memo import Memo
from proxy.core.model import Entry
from proxy.core.reply.link_origin import LinkOrigin
from proxy.shell.downstream.client_batch_slots import ClientBatchSlots
from proxy.shell.downstream.fast_flights import FastFlights
from proxy.shell.downstream.flight_group import ask_together
from proxy.shell.downstream.waiting_batch import AnsweredRead, WaitingBatch
from proxy.shell.http.turns import MOST_ITEMS, pause


@dataclass(slots=True)
class PreparedBatches:
    """Asks for the reads of batches."""

    operations: PreparedOperations
    flights: FastFlights
    memory: Callable[[bytes], Entry | None]  # the entry under a key
    is_open: Callable[[], bool]  # whether reads may be answered here now
    grow: Callable[[int], None]  # counts bytes that are kept with reads
    newest: Memo[..., bytes] = field(default_factory=lambda: Memo(newest_fields))

    def read(self, batch: object, envelope: Envelope, origin: LinkOrigin) -> PreparedBatch | None:
        """Return the reads in *batch*; None for one that is to be answered by the handler of all batches."""
        if not self.is_open() or not self.flights.is_calm():
            return None
        return self.operations.read(batch, envelope, origin)

    async def ask(self, slots: ClientBatchSlots, batch: PreparedBatch) -> list[AnsweredRead]:
        """Fill the *slots* of *batch*; return those that got no ordinary answer, if the token on top got none.

        Raises Large.
        """
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = WaitingBatch(self, slots, partial(_tell, answered))
        try:
            await self._ask(waiting, batch)
            await answered
        finally:
            waiting.end()
        return waiting.unordinary()

    async def _ask(self, waiting: WaitingBatch, batch: PreparedBatch) -> None:
        """Ask for the reads of *batch*: those that leave for Graph now in one turn of the event loop, if they can."""
        entries, at_once = self._look(batch)
        if len(at_once) < len(entries):
            for at in sorted({*range(len(entries))}.difference(at_once)):
                waiting.ask_the_layers(at, batch.reads[at])
            await asyncio.sleep(0)  # they join their batch in the next turn, and so do the rest
            entries = [self.memory(read.key) for read in batch.reads]
        together = ask_together(waiting, batch, entries, at_once)
        for number, at in enumerate([at for at in at_once if at not in together]):
            if number and number % MOST_ITEMS == 0:
                await pause()
            waiting.ask(at, batch.reads[at])

    def _look(self, batch: PreparedBatch) -> tuple[list[Entry | None], list[int]]:
        """Return what memory holds of the reads of *batch*, and the places of those that Graph is asked for at once."""
        entries = [self.memory(read.key) for read in batch.reads]
        return entries, [at for at, read in enumerate(batch.reads) if self._is_asked_at_once(read, entries[at])]

    def _is_asked_at_once(self, read: PreparedRead, entry: Entry | None) -> bool:
        """Whether Graph is asked for *read* whatever is held, and what is held, *entry*, is known without the disk."""
        if not read.asks_always or read.is_low_priority:
            return False
        return entry is not None or self.flights.is_unknown(read.key)


def _tell(answered: asyncio.Future[None], error: BaseException | None) -> None:
    if answered.done():
        return
    if error is None:
        answered.set_result(None)
    else:
        answered.set_exception(error)
        answered.exception()  # looked at, so that it is not reported as forgotten
