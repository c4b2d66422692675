"""Answers batches of applications that hold nothing but plain reads, without a task for each read.

The reads wait for the same calls to Graph as single ones. What is not an ordinary answer is filled in as in any other
batch, by `ClientBatchSlots`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from proxy.core.client_batch.operation import Envelope
from proxy.core.client_batch.prepared_operations import PreparedOperations
from proxy.core.client_batch.prepared_slot import (
    SlotTemplate,
    body_text,
    json_text,
    newest_fields,
    slot_template,
)
from proxy.core.fast_path.answer_template import Filled
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.graph import paging
from proxy.core.http.errors import Large
from proxy.core.memory.memo import Memo
from proxy.core.model import Entry, Reply
from proxy.core.quota.ledger import RequestCost
from proxy.core.reply.link_origin import LinkOrigin
from proxy.core.routing.classify import Read
from proxy.shell.downstream.client_batch_slots import ClientBatchSlots
from proxy.shell.downstream.fast_flights import FastFlight, FastFlights, Moment
from proxy.shell.http.protocol import Connection
from proxy.shell.http.turns import MOST_ITEMS, pause

AnsweredRead = tuple[Read, Reply]


@dataclass(slots=True)
class PreparedBatches:
    """Asks for the reads of batches."""

    operations: PreparedOperations
    flights: FastFlights
    memory: Callable[[bytes], Entry | None]  # the entry under a key
    is_open: Callable[[], bool]  # whether reads may be answered here now
    grow: Callable[[int], None]  # counts bytes that are kept with reads
    newest: Memo[..., bytes] = field(default_factory=lambda: Memo(newest_fields))

    def read(self, batch: object, envelope: Envelope, origin: LinkOrigin) -> list[PreparedRead] | None:
        """Return the reads in *batch*; None for one that is to be answered by the handler of all batches."""
        if not self.is_open() or not self.flights.is_calm():
            return None
        return self.operations.read(batch, envelope, origin)

    async def ask(self, slots: ClientBatchSlots, reads: Sequence[PreparedRead]) -> list[AnsweredRead]:
        """Fill the *slots* of *reads*; return those that got no ordinary answer, if the token on top got none.

        Raises Large.
        """
        batch = WaitingBatch(self, slots, len(reads))
        try:
            asked = self._ask_the_layers_for_others(batch, reads)
            if asked:
                await asyncio.sleep(0)  # they join their batch in the next turn, and so do the rest
            for at, read in enumerate(reads):
                if at and at % MOST_ITEMS == 0:
                    await pause()
                if at not in asked:
                    batch.ask(at, read)
            await batch.answered
        finally:
            batch.end()
        return [] if batch.is_top_answered else [batch.others[at] for at in sorted(batch.others)]

    def _ask_the_layers_for_others(self, batch: WaitingBatch, reads: Sequence[PreparedRead]) -> frozenset[int]:
        """Ask in tasks for the reads that may be answered without Graph, or not at once; return their places."""
        others = [at for at, read in enumerate(reads) if not self._is_asked_at_once(read)]
        for at in others:
            batch.ask_the_layers(at, reads[at])
        return frozenset(others)

    def _is_asked_at_once(self, read: PreparedRead) -> bool:
        """Whether Graph is asked for *read* whatever is held, and what is held is known without the disk."""
        if not read.asks_always or read.is_low_priority:
            return False
        return self.memory(read.key) is not None or self.flights.is_unknown(read.key)


class WaitingBatch:
    """A batch whose reads wait for their answers."""

    def __init__(self, batches: PreparedBatches, slots: ClientBatchSlots, size: int) -> None:
        """Wait for the answers to so many reads."""
        self.batches = batches
        self.slots = slots
        self.version = slots.envelope.version
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_top_answered = False
        """Whether a read with the token of the batch got an ordinary answer."""
        self.others: dict[int, AnsweredRead] = {}
        """The other answers, by the places of their reads."""
        self._missing = set(range(size))
        self._callers: list[SlotCaller] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._templates: dict[Filled, SlotTemplate] = {}

    def ask(self, at: int, read: PreparedRead) -> None:
        """Ask for *read*, whose slot is at place *at*."""
        flights = self.batches.flights
        began = flights.reader.clock()
        flight = flights.join(read, self.batches.memory(read.key), began)
        if flight is None:
            self.ask_the_layers(at, read)
            return
        caller = SlotCaller(self, at, flight, read, began, is_first=flight.waiting == 1)
        flight.callers[caller] = None
        self._callers.append(caller)

    def ask_the_layers(self, at: int, read: PreparedRead) -> None:
        """Ask for *read* in a task, as for reads of all other batches."""
        if at not in self.slots.costs:
            self.slots.open_read(at, read.read)
        self._tasks.append(asyncio.ensure_future(self._ask_the_layers(at, read.read)))

    async def _ask_the_layers(self, at: int, read: Read) -> None:
        try:
            self.fill_other(at, read, await self.slots.ask(at, read))
        except Exception as error:  # noqa: BLE001 - raised again where the batch is waited for
            self.fail(error)

    def template(self, filled: Filled) -> SlotTemplate:
        """Return the template of slots with the head *filled*."""
        known = self._templates.get(filled)
        if known is None:
            include_headers = self.slots.envelope.include_headers
            known = self._templates[filled] = slot_template(filled, include_headers=include_headers)
        return known

    def fill_other(self, at: int, read: Read, reply: Reply) -> None:
        """Note that the slot at place *at* holds *reply*, which is no ordinary one."""
        self.others[at] = read, reply
        self.note_filled(at)

    def note_filled(self, at: int) -> None:
        """Note that the slot at place *at* is filled."""
        self._missing.discard(at)
        if not self._missing and not self.answered.done():
            self.answered.set_result(None)

    def fail(self, error: BaseException) -> None:
        """End the whole batch with *error*."""
        if not self.answered.done():
            self.answered.set_exception(error)

    def end(self) -> None:
        """Wait for nothing any more."""
        for task in self._tasks:
            task.cancel()
        if self._missing:
            for caller in self._callers:
                self.batches.flights.leave(caller)
        if self.answered.done() and not self.answered.cancelled():
            self.answered.exception()  # looked at, so that it is not reported as forgotten


class SlotCaller:
    """A slot that waits for the reply to its read."""

    __slots__ = ("at", "batch", "began", "cost", "flight", "is_first", "read", "tells_usage", "template")

    def __init__(
        self, batch: WaitingBatch, at: int, flight: FastFlight, read: PreparedRead, began: float, *, is_first: bool
    ) -> None:
        """Wait for *flight* since *began*; *is_first* says whether the flight was begun for this slot."""
        self.batch = batch
        self.at = at
        self.flight = flight
        self.read = read
        self.began = began
        self.is_first = is_first
        self.cost: RequestCost | None = None  # where it is not counted by `RouteCounts`
        self.template: SlotTemplate | None = None  # of the slot, once there is a message
        self.tells_usage = False  # whether the reply around Graph's slots tells of usage

    def record(self) -> RequestCost:
        """Return the cost record of the operation."""
        if self.is_first:
            return self.flight.record()
        if self.cost is None:
            self.cost = self.read.common.counts.record(is_sent=False)
        return self.cost

    def message(self, filled: Filled, entry: Entry, moment: Moment, _window_s: float) -> tuple[bytes, int]:
        """Return the slot with *entry* and the head *filled*, and the size of its body."""
        batch, read, newest = self.batch, self.read, b""
        self.template = template = batch.template(filled)
        self.tells_usage = moment.answer.tells_usage
        size, text = self._text(entry.body)
        if filled.takes_newest:
            usage, _ = self.flight.flights.reader.quota.newest_usage_of(read.fingerprint, read.node, moment.now)
            newest = batch.batches.newest(usage) if usage else b""
        return template.write(json_text(entry.meta.etag), newest, text), size

    def send(self, message: bytes) -> None:
        """Fill the slot with *message*."""
        batch, request, template = self.batch, self.read.request, self.template
        assert template is not None  # noqa: S101 - `message` has set it
        slots = batch.slots
        is_same = request.version == batch.version
        around = template.around if is_same else template.around_of_other_version
        slots.fill_prepared(self.at, msgspec.Raw(message), around, reports_usage=self.tells_usage)
        batch.is_top_answered = batch.is_top_answered or request.credential == slots.envelope.credential
        batch.note_filled(self.at)

    def _text(self, body: bytes) -> tuple[int, bytes]:
        """Return the size of *body* as this caller gets it, and the text that it is in a slot, kept with the read."""
        read = self.read
        if read.text[0] is not body:
            origin = read.link_origin
            given = paging.rewrite(body, origin.hosts, origin.origin) if origin.origin else body
            read.text = body, len(given), body_text(given)
            self.batch.batches.grow(len(read.text[2]))
        return read.text[1:]

    def render(self, reply: Reply, seconds: float) -> Reply:
        """Fill the slot with *reply*, which is not an ordinary one and came after so many *seconds*, counted."""
        slots = self.batch.slots
        slots.costs[self.at] = self.record()
        slots.fill(self.at, self.read.read, reply, seconds)
        return reply

    def send_reply(self, reply: Reply) -> None:
        """Note that the slot holds *reply*."""
        self.batch.fill_other(self.at, self.read.read, reply)

    def pass_to_handler(self, cause: BaseException | None) -> None:
        """Ask through the layers after all, because of *cause*; Large ends the batch, which is passed through."""
        if cause is not None and (isinstance(cause, Large) or not isinstance(cause, Exception)):
            self.batch.fail(cause)
            return
        self.batch.slots.costs[self.at] = self.record()
        self.batch.ask_the_layers(self.at, self.read)

    def ask_again(self, _take: Callable[[Connection, bytes], bool]) -> None:
        """Ask through the layers."""
        self.pass_to_handler(None)
