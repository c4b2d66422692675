"""A client's batch of plain reads whose slots wait for their answers, without a task for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from proxy.core.client_batch.prepared_slot import (
    SlotTemplate,
    body_text,
    fresh_slot,
    json_text,
    slot_template,
    with_traces,
)
from proxy.core.fast_path.answer_template import Filled
from proxy.core.fast_path.batch_answer import AnswerKind
from proxy.core.fast_path.prepared_read import PreparedRead, TextOfSlot
from proxy.core.fast_path.prepared_reply import FreshHit
from proxy.core.graph import paging
from proxy.core.http.errors import Large
from proxy.core.model import Entry, Reply, Request
from proxy.core.routing.classify import Read
from proxy.shell.downstream.client_batch_slots import ClientBatchSlots
from proxy.shell.downstream.fast_flight import Moment
from proxy.shell.downstream.waiting_caller import ChargedCaller
from proxy.shell.http.protocol import Connection

if TYPE_CHECKING:  # it imports this module
    from proxy.shell.downstream.prepared_batches import PreparedBatches

AnsweredRead = tuple[Read, Reply]

MOST_TEMPLATES = 64
"""The most templates of slots that are remembered."""


class Group(Protocol):
    """Reads that are asked together."""

    def leave(self) -> None:
        """Ask for nothing any more that no other caller waits for."""


class WaitingBatch:
    """A batch whose reads wait for their answers."""

    def __init__(
        self, batches: PreparedBatches, slots: ClientBatchSlots, on_end: Callable[[BaseException | None], None]
    ) -> None:
        """Wait for the answers to the reads of all *slots*; *on_end* is called once, with the error if there is one."""
        self.batches = batches
        self.slots = slots
        self.version = slots.envelope.version
        self.is_top_answered = False
        """Whether a read with the token of the batch got an ordinary answer."""
        self.others: dict[int, AnsweredRead] = {}
        """The other answers, by the places of their reads."""
        self.callers: list[SlotCaller] = []
        self.groups: list[Group] = []
        self._missing = set(range(len(slots)))
        self._on_end = on_end
        self._is_over = False
        self._tasks: list[asyncio.Task[None]] = []
        self._templates: dict[Filled, SlotTemplate] = {}

    def ask(self, at: int, read: PreparedRead) -> None:
        """Ask for *read*, whose slot is at place *at*."""
        flights = self.batches.flights
        began = flights.reader.clock()
        flight = flights.join(read, self.batches.store.in_memory(read.key), began)
        if flight is None:
            self.ask_the_layers(at, read)
            return
        caller = SlotCaller(flight, read, began, flight.waiting == 1, batch=self, at=at)
        flight.callers[caller] = None
        self.callers.append(caller)

    def ask_the_layers(self, at: int, read: PreparedRead) -> None:
        """Ask for *read* in a task, as for reads of all other batches."""
        if at not in self.slots.costs:
            self.slots.open_read(at, read.read)
        self._tasks.append(asyncio.ensure_future(self._ask_the_layers(at, read.read)))

    def keep(self, task: asyncio.Task[None]) -> None:
        """Cancel *task* when the batch ends."""
        self._tasks.append(task)

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

    def template_of(self, kind: AnswerKind) -> SlotTemplate:
        """Return the template of slots of this *kind*, without what names the call."""
        known, name = self.batches.templates, (kind.untraced, self.slots.envelope.include_headers)
        template = known.get(name)
        if template is None:
            if len(known) >= MOST_TEMPLATES:
                known.clear()
            template = known[name] = slot_template(kind.untraced, include_headers=name[1])
        return template

    def write(self, read: PreparedRead, entry: Entry, filled: Filled, moment: Moment) -> tuple[bytes, int]:
        """Return the slot of *read* with *entry* and the head *filled*, and the size of its body."""
        text = read.text
        if text[0] is not entry.body or text[3] is not entry.meta.etag:
            text = self.prepare_text(read, entry)
        newest = self._newest_usage(read, moment.now) if filled.takes_newest else b""
        return self.template(filled).write(text[4], newest, text[2]), text[1]

    def _newest_usage(self, read: PreparedRead, now: float) -> bytes:
        usage, _ = self.batches.flights.reader.quota.newest_usage_of(read.fingerprint, read.node, now)
        return self.batches.newest(usage) if usage else b""

    def prepare_text(self, read: PreparedRead, entry: Entry) -> TextOfSlot:
        """Return the size of the body of *entry* as this caller gets it, and its text in a slot, kept with *read*."""
        origin, body, etag = read.link_origin, entry.body, entry.meta.etag
        given = paging.rewrite(body, origin.hosts, origin.origin) if origin.origin else body
        read.text = body, len(given), body_text(given), etag, json_text(etag)
        self.batches.grow(len(read.text[2]))
        return read.text

    def fill_together(
        self,
        places: Sequence[int],
        messages: Sequence[bytes],
        kind: AnswerKind,
        moment: Moment,
        requests: Sequence[Request],
    ) -> None:
        """Fill the slots at *places* with *messages* of this *kind*, which answer these *requests* of one token."""
        self._note_around(kind, moment, requests, places)
        self.slots.fill_together(places, messages)
        self._missing.difference_update(places)
        self._end_if_filled()

    def fill_whole(self, array: bytes, kind: AnswerKind, moment: Moment, requests: Sequence[Request]) -> None:
        """Fill all slots with those in *array*, which are of this *kind* and answer these *requests* of one token."""
        self._note_around(kind, moment, requests, range(len(requests)))
        self.slots.fill_whole(array)
        self._missing.clear()
        self._end_if_filled()

    def _note_around(
        self, kind: AnswerKind, moment: Moment, requests: Sequence[Request], places: Sequence[int]
    ) -> None:
        """Note the fields around the slots at *places*: those of the last read of the batch's version, if any is."""
        template, version, traces = self.template_of(kind), self.version, kind.traces
        alike = (at for at in reversed(range(len(requests))) if requests[at].version == version)
        last = next(alike, -1)
        if traces is None:
            template, traces = self.template(kind.own), ()
        around = template.around if last >= 0 else template.around_of_other_version
        around = with_traces(around, traces) if traces else around
        self.slots.note_around(places[last], around, reports_usage=moment.answer.has_usage)
        is_top = requests[0].credential == self.slots.envelope.credential
        self.is_top_answered = self.is_top_answered or is_top

    def fill_fresh(self, at: int, read: PreparedRead, entry: Entry, hit: FreshHit, now: float) -> bool:
        """Fill the slot at place *at* with *hit*, the reply to *read* from *entry* in memory; return whether it is."""
        envelope, reader = self.slots.envelope, self.batches.flights.reader
        began, kept = reader.clock(), hit.slots or {}
        slot = kept.get(envelope.include_headers)
        if slot is None:
            body = entry.body if hit.body is None else hit.body
            slot = fresh_slot(hit.reply, body, include_headers=envelope.include_headers)
            if slot is None:
                return False
            hit.slots = {**kept, envelope.include_headers: slot}
            self.batches.grow(len(slot.before) + len(slot.behind))
        newest, until, generation = hit.slot_usage
        if generation != hit.generation or now >= until:
            newest = self._usage_of_hit(read, hit, now)
        age_s = now - hit.asked_at
        around = slot.around if read.request.version == self.version else slot.around_of_other_version
        message = slot.write(newest, age_s, hit.reply.life - age_s)
        self.slots.fill_prepared(at, message, around, reports_usage=False)
        self.is_top_answered = self.is_top_answered or read.request.credential == envelope.credential
        hit.counted.add(now, reader.clock() - began, age_s)
        self.note_filled(at)
        return True

    def _usage_of_hit(self, read: PreparedRead, hit: FreshHit, now: float) -> bytes:
        """Return the newest usage for *read* as it stands in slots, kept with *hit* for as long as it is the newest."""
        reader = self.batches.flights.reader
        usage, lasts_s = reader.quota.newest_usage_of(read.fingerprint, read.node, reader.now())
        newest = self.batches.newest(usage) if usage else b""
        hit.slot_usage = newest, now + lasts_s, hit.generation
        return newest

    def unordinary(self) -> list[AnsweredRead]:
        """Return the reads that got no ordinary answer, if the token on top got none; else nothing."""
        return [] if self.is_top_answered else [self.others[at] for at in sorted(self.others)]

    def fill_other(self, at: int, read: Read, reply: Reply) -> None:
        """Note that the slot at place *at* holds *reply*, which is no ordinary one."""
        self.others[at] = read, reply
        self.note_filled(at)

    def note_filled(self, at: int) -> None:
        """Note that the slot at place *at* is filled."""
        self._missing.discard(at)
        self._end_if_filled()

    def _end_if_filled(self) -> None:
        if not self._missing and not self._is_over:
            self._is_over = True
            self._on_end(None)

    def fail(self, error: BaseException) -> None:
        """End the whole batch with *error*."""
        if not self._is_over:
            self._is_over = True
            self._on_end(error)

    def end(self) -> None:
        """Wait for nothing any more."""
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        if self._missing:
            for caller in self.callers:
                self.batches.flights.leave(caller)
            for group in tuple(self.groups):
                group.leave()


class SlotCaller(ChargedCaller, eq=False, kw_only=True):
    """A slot that waits for the reply to its read."""

    batch: WaitingBatch
    at: int
    template: SlotTemplate | None = None  # of the slot, once there is a message
    has_usage: bool = False  # whether the reply around Graph's slots reports usage

    @property
    def may_ask_at_once(self) -> bool:
        """Return True: with its last slot the batch is answered, and another may have come."""
        return True

    def message(self, filled: Filled, entry: Entry, moment: Moment, _window_s: float) -> tuple[bytes, int]:
        """Return the slot with *entry* and the head *filled*, and the size of its body."""
        self.template = self.batch.template(filled)
        self.has_usage = moment.answer.has_usage
        return self.batch.write(self.read, entry, filled, moment)

    def send(self, message: bytes) -> None:
        """Fill the slot with *message*."""
        batch, request, template = self.batch, self.read.request, self.template
        assert template is not None  # noqa: S101 - `message` has set it
        slots = batch.slots
        is_same = request.version == batch.version
        around = template.around if is_same else template.around_of_other_version
        slots.fill_prepared(self.at, message, around, reports_usage=self.has_usage)
        batch.is_top_answered = batch.is_top_answered or request.credential == slots.envelope.credential
        batch.note_filled(self.at)

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
