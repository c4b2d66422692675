"""Answers batches of applications that hold nothing but plain reads, without a task for each read.

The reads wait for the same calls to Graph as single ones. What is not an ordinary answer is filled in as in any other
batch, by `ClientBatchSlots`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from proxy.core.client_batch.prepared_operations import PreparedBatch, PreparedOperations
from proxy.core.client_batch.prepared_slot import newest_fields
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.memory.memo import Memo
from proxy.core.model import Entry
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

    def is_ready(self) -> bool:
        """Whether batches are answered here now."""
        return self.is_open() and self.flights.is_calm()

    async def ask(self, slots: ClientBatchSlots, batch: PreparedBatch) -> list[AnsweredRead]:
        """Fill the *slots* of *batch*; return those that got no ordinary answer, if the token on top got none.

        Raises Large.
        """
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = WaitingBatch(self, slots, partial(_tell, answered))
        try:
            self.begin(waiting, batch)
            await answered
        finally:
            waiting.end()
        return waiting.unordinary()

    def begin(self, waiting: WaitingBatch, batch: PreparedBatch) -> None:
        """Ask for the reads of *batch*, at once or, where they are many, in turns of the event loop."""
        entries, at_once = self._look(batch)
        if len(at_once) == len(entries) <= MOST_ITEMS:
            self._ask(waiting, batch, entries, at_once)
        else:
            waiting.keep(asyncio.ensure_future(self._ask_in_turns(waiting, batch, at_once)))

    def _ask(
        self,
        waiting: WaitingBatch,
        batch: PreparedBatch,
        entries: Mapping[int, Entry | None] | Sequence[Entry | None],
        places: Sequence[int],
    ) -> None:
        """Ask for the reads at these *places* of *batch*, for which Graph is asked."""
        together = ask_together(waiting, batch, entries, places)
        if len(together) < len(places):
            for at in places:
                if at not in together:
                    waiting.ask(at, batch.reads[at])

    async def _ask_in_turns(self, waiting: WaitingBatch, batch: PreparedBatch, at_once: Sequence[int]) -> None:
        """Ask for the reads at the places *at_once* of *batch* in turns, after the others have been begun."""
        try:
            others = sorted({*range(len(batch.reads))}.difference(at_once))
            for at in others:
                waiting.ask_the_layers(at, batch.reads[at])
            if others:
                await asyncio.sleep(0)  # they join their batch in the next turn, and so do the rest
            for start in range(0, len(at_once), MOST_ITEMS):
                if start:
                    await pause()
                places = at_once[start : start + MOST_ITEMS]
                self._ask(waiting, batch, {at: self.memory(batch.reads[at].key) for at in places}, places)
        except Exception as fault:  # noqa: BLE001 - raised again where the batch is waited for
            waiting.fail(fault)

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
