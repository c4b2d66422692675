"""The slots of one client batch while they fill, and the results that references need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cached_property
from typing import Any

from proxy.core.client_batch import slots
from proxy.core.client_batch.operation import Envelope, Operation, is_in_normal_form, plain_read
from proxy.core.client_batch.references import fill
from proxy.core.client_batch.slots import ClientSlot
from proxy.core.graph import lax_json, paging
from proxy.core.http.errors import Large, Nonsense, reply_of
from proxy.core.model import Headers, Mode, Reply
from proxy.core.observe.access_log import PassedMessage
from proxy.core.quota.ledger import RequestCost, calls_avoided
from proxy.core.reply import render
from proxy.core.reply.link_origin import LinkOrigin
from proxy.core.routing.classify import Bypass, Read
from proxy.core.routing.hosts import GraphHosts
from proxy.core.routing.nodes import calls_of
from proxy.core.routing.normal_form import read_target
from proxy.core.routing.rules import RuleBook
from proxy.shell.downstream.read import ReadHandler
from proxy.shell.http.turns import in_turns


class ClientBatchSlots:
    """One slot for each operation of an envelope, null until it is filled."""

    def __init__(
        self,
        envelope: Envelope,
        reader: ReadHandler,
        link_origin: LinkOrigin,
        hosts: GraphHosts,
        rules: RuleBook,
        *,
        size: int | None = None,
    ) -> None:
        """Have *size* slots, of reads that *envelope* does not list; if None, one for each operation that it lists."""
        self.envelope = envelope
        self.referred = envelope.referred
        self.costs: dict[int, RequestCost] = {}  # of each operation, once `open` was waited for
        self._quoted = envelope.quoted
        self._reader = reader
        self._link_origin = link_origin
        self._hosts = hosts
        self._rules = rules
        self._slots: list[ClientSlot] = [None] * (len(envelope.operations) if size is None else size)
        self._results: dict[int, Any] = {}
        self._outer: Headers | None = None  # the fields of Graph's reply to the first call
        self._around: Headers = ()  # the fields that are known from reads, without such a call
        self._array: bytes | None = None  # in the place of the slots
        self._around_at = -1  # the place of the slot that they are around
        self._reports_usage = False  # whether Graph reports usage on the batch's reply
        self.after_refusal = (
            False  # whether any of its operations was refused for a limit, and so all come back with it
        )

    async def open(self) -> None:
        """Open a cost record for each operation."""
        async for at in self.in_turns(range(len(self))):
            self.costs[at] = self._reader.operation_cost(self.operation(at), self.envelope)

    def open_read(self, at: int, read: Read) -> None:
        """Open the cost record of *read*, at a place that the envelope does not list."""
        self.costs[at] = self._reader.cost(read.request)

    def in_turns(self, places: Iterable[int]) -> AsyncIterator[int]:
        """Yield *places* in turns of the event loop."""
        return in_turns(places, lambda at: len(self.operation(at).relative_url) + len(self.operation(at).body))

    def __len__(self) -> int:
        return len(self._slots)

    def operation(self, at: int) -> Operation:
        """Return the operation at place *at*."""
        return self.envelope.operations[at]

    # --- before an operation is asked ---

    @cached_property
    def writes(self) -> frozenset[int]:
        """The places of the operations that may change something."""
        found = ((at, self.read(at, each.relative_url)) for at, each in enumerate(self.envelope.operations))
        return frozenset(at for at, read in found if isinstance(read, Bypass) and read.writes)

    @cached_property
    def needed_by_writes(self) -> frozenset[int]:
        """The places of operations that a write references, directly or indirectly."""
        wanted = {parent for at in self.writes for parent in self.operation(at).parents}
        for at in reversed(range(len(self))):  # what is named stands before what names it
            if at in wanted:
                wanted.update(self.operation(at).parents)
        return frozenset(wanted)

    def texts(self, at: int) -> tuple[str, str]:
        """Return its `relative_url` and `body`, references resolved as far as replies are known. Raises BadPath."""
        operation = self.operation(at)
        known = {self.operation(parent).name: parent for parent in operation.parents if parent in self._results}
        results = {name: self._results[parent] for name, parent in known.items()}
        return fill(operation.relative_url, results), fill(operation.body, results)

    def read(self, at: int, relative_url: str, *, again: bool = False) -> Read | Bypass:
        """Classify the operation, with *relative_url* for its own: a plain read, or why it is none.

        Some reads are sent as written because others reference them; not when they are asked *again*.
        """
        found = plain_read(self.operation(at), relative_url, self.envelope, self._hosts, self._rules)
        if isinstance(found, Read) and not again and at in self.referred and found.request.directives.if_none_match:
            return Bypass("conditional", writes=False)  # only Graph knows how references to a 304 resolve
        if isinstance(found, Read) and not again and at in self._quoted and not is_in_normal_form(relative_url):
            return Bypass("order", writes=False)
        return Bypass("callback", writes=False) if isinstance(found, Read) and found.callback else found

    def any_failed(self, places: Iterable[int]) -> bool:
        """Whether an operation at *places* did not succeed: then those that name it are not performed."""
        return any(at not in self._results for at in places)

    # --- when it was answered ---

    async def ask(self, at: int, read: Read) -> Reply:
        """Answer the operation through the pipeline like a GET. Raises Large if the batch may be passed through."""
        began = self._reader.clock()
        self.costs[at].correct_asked(calls_of(read.request.query))
        try:
            reply = await self._reader.ask(read, self.costs[at], after_refusal=self.after_refusal)
        except Large as large:
            if not self.writes:
                raise
            reply = reply_of(large)
        self.fill(at, read, reply, self._reader.clock() - began)
        return reply

    def fill(self, at: int, read: Read, reply: Reply, seconds: float) -> None:
        """Fill the slot of a read with *reply*; a slot's body is text, so a content coding is an error."""
        if reply.header("content-encoding"):
            reply = reply_of(Nonsense("Graph's reply is packed in a way that is not known here"))
        rendered = self._reader.render(read, reply, self.costs[at], self._link_origin, seconds)
        if reply.mode is not Mode.FAILED:
            fields = slots.fields_around_batch(rendered, same_version=read.request.version == self.envelope.version)
            self.note_around(at, fields, reports_usage=bool(reply.usage_of_top))
        self._slots[at] = slots.slot(rendered, include_headers=self.envelope.include_headers)
        if reply.status == 200:
            self._results[at] = _decoded(reply.body)

    def fill_prepared(self, at: int, slot: bytes, around: Headers, *, reports_usage: bool) -> None:
        """Fill the slot of a read that no other names with *slot*; *around* are the fields that the batch has too."""
        self.note_around(at, around, reports_usage=reports_usage)
        self._slots[at] = slot

    def fill_together(self, places: Sequence[int], messages: Sequence[bytes]) -> None:
        """Fill the slots at *places* with *messages*; `note_around` says what is around them."""
        for at, message in zip(places, messages, strict=True):
            self._slots[at] = message

    def fill_whole(self, array: bytes) -> None:
        """Fill all slots with those in *array*, a JSON array; `note_around` says what is around them."""
        self._array = array

    def note_around(self, at: int, fields: Headers, *, reports_usage: bool) -> None:
        """Note the *fields* around the slot at place *at*: the last slot with the most tells those of the batch."""
        self._reports_usage |= reports_usage
        if (len(fields), at) >= (len(self._around), self._around_at):
            self._around, self._around_at = fields, at

    def fill_refused(self, at: int, reply: Reply) -> None:
        """Fill the slot of a read that is not sent with Graph's *reply* about its limit."""
        slot = slots.slot(render.bare(reply), include_headers=self.envelope.include_headers)
        self._slots[at] = slot
        self.costs[at].avoid(calls_avoided(reply, self.costs[at].unsent))
        self.count_passed(at, slot, 0.0, writes=False, batch="", refusal=reply)

    def count_passed(
        self, at: int, slot: object, seconds: float, *, writes: bool, batch: str, refusal: Reply | None = None
    ) -> None:
        """Count an operation that is no plain read, from its *slot*; a null slot has status 0."""
        operation = self.operation(at)
        target = read_target(f"/{operation.relative_url.removeprefix('/')}")
        version = target.version or self.envelope.version
        passage = PassedMessage(
            operation.method, self.envelope.host, version, target.path, target.query, "operation", writes=writes
        )
        code = slot.get("code") if isinstance(slot, dict) else 0
        status = code if isinstance(code, int) else 0
        self._reader.telemetry.passed(passage, self.costs[at], status, seconds, batch, refusal=refusal)

    def fill_as_received(self, at: int, slot: object) -> None:
        """Fill the slot with Graph's *slot*; anything but an object becomes null."""
        if not isinstance(slot, dict):
            return
        self._slots[at] = slots.slot_as_received(
            slot, self._with_our_links, include_headers=self.envelope.include_headers
        )
        if slots.is_success(slot):
            self._results[at] = _decoded(lax_json.text(str(slot.get("body") or "")))

    def keep_outer(self, whole: Headers) -> None:
        """Keep the header fields *whole* of the first call's reply, for the reply to the batch."""
        self._outer = whole if self._outer is None else self._outer

    def outer(self) -> Headers:
        """Return the header fields of the batch's reply: Graph's own, else those known from the reads."""
        if self._outer is not None:
            return self._outer
        return (*self._around, *(self._reader.usage_of(self.envelope.credential) if self._reports_usage else ()))

    def shown(self) -> Sequence[ClientSlot] | bytes:
        """Return the slots as Graph shows them: a referenced success is null unless its operation asks to be shown.

        They are a JSON array where they were filled with one.
        """
        if self._array is not None:
            return self._array
        if not self.referred:
            return self._slots
        quiet = {at for at in self.referred if self.operation(at).is_quiet}
        return [None if at in quiet and slots.is_quiet(slot) else slot for at, slot in enumerate(self._slots)]

    def _with_our_links(self, body: bytes) -> bytes:
        return (
            paging.rewrite(body, self._link_origin.hosts, self._link_origin.origin)
            if self._link_origin.origin
            else body
        )


def _decoded(body: bytes) -> Any:
    try:
        return lax_json.decode(body)
    except lax_json.UNREADABLE:
        return None
