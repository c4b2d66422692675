"""Answers a batch that the application sent: splits it into operations, and joins their slots in order.

Reads without references go through the pipeline one by one, like any GET: collapsed, revalidated, batched with other
callers' reads. A batch with writes or references keeps its order and its own call to Graph (`ClientBatchCalls`). If it
has only reads and the referenced ones are held, references are resolved here, so that chains are revalidated too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from proxy.core.client_batch import slots as client_batch_slots
from proxy.core.client_batch.batch_form import BatchFrame
from proxy.core.client_batch.jsonpath import BadPath
from proxy.core.client_batch.operation import Envelope, credential_and_target
from proxy.core.client_batch.parse import BatchCall
from proxy.core.client_batch.prepared_operations import PreparedBatch
from proxy.core.client_batch.references import can_be_followed
from proxy.core.graph import errors as graph_errors
from proxy.core.http import errors
from proxy.core.model import Mode, Reply
from proxy.core.reply.link_origin import LinkOrigin
from proxy.core.reply.render import passthrough_status
from proxy.core.routing.classify import Bypass, Read
from proxy.core.routing.hosts import GraphHosts
from proxy.core.routing.rules import RuleBook
from proxy.shell import Announce, OnWrite, no_announcement
from proxy.shell.downstream.client_batch_calls import ClientBatchCalls, Post
from proxy.shell.downstream.client_batch_slots import ClientBatchSlots
from proxy.shell.downstream.prepared_batches import PreparedBatches
from proxy.shell.downstream.read import ReadHandler
from proxy.shell.downstream.waiting_batch import AnsweredRead
from proxy.shell.http.forms import File
from proxy.shell.pipeline.cache import Cache
from proxy.shell.pipeline.limiter_bypass import LimiterBypass


@dataclass(slots=True)
class ClientBatches:
    """Answers batches of applications."""

    reader: ReadHandler
    cache: Cache
    post: Post
    hosts: GraphHosts
    rules: RuleBook
    on_write: OnWrite
    limiter_bypass: LimiterBypass
    announce: Announce = no_announcement
    prepared: PreparedBatches | None = None

    async def answer(self, envelope: Envelope, files: Mapping[str, File], link_origin: LinkOrigin) -> Reply:
        """Return the array of slots for *envelope*, or an error of Graph's or the sidecar's for the whole batch.

        Raises Large if a reply is too large to buffer and the batch, all of reads, may be passed through instead.
        """
        self.reader.telemetry.unbatched(len(envelope.operations))
        slots = ClientBatchSlots(envelope, self.reader, link_origin, self.hosts, self.rules)
        calls = ClientBatchCalls(
            slots,
            files,
            cache=self.cache,
            post=self.post,
            observer=self.reader.telemetry,
            clock=self.reader.clock,
            on_write=self.on_write,
            limiter_bypass=self.limiter_bypass,
            announce=self.announce,
        )

        async def fill() -> Reply | None:
            await slots.open()
            return await self._fill(slots, calls)

        return await self._answer(slots, fill())

    async def answer_prepared(self, call: BatchCall, link_origin: LinkOrigin) -> Reply | None:
        """Return the array of slots for *call*, or an error for the whole batch; None unless all are plain reads.

        Raises Large if a reply is too large to buffer.
        """
        batch = self.prepare(call, link_origin)
        if self.prepared is None or batch is None:
            return None
        slots = self.open(call.envelope, link_origin, len(batch.reads))
        return await self._answer(slots, self._fill_prepared(self.prepared, slots, batch))

    @property
    def takes_prepared(self) -> bool:
        """Whether batches of plain reads are answered now without a task for each read."""
        return self.prepared is not None and self.prepared.is_ready() and not self.limiter_bypass.has_refused

    def prepare(self, call: BatchCall, link_origin: LinkOrigin) -> PreparedBatch | None:
        """Return the reads of *call*; None unless all are plain reads that are answered without a task for each."""
        if self.prepared is None or call.callback or not self.takes_prepared:
            return None
        return _with_top(self.prepared.operations.read(call.batch, call.envelope, link_origin), call.envelope)

    def prepare_form(self, operations: Sequence[bytes], frame: BatchFrame) -> PreparedBatch | None:
        """Return the same of the *operations* of a form with this *frame*."""
        if self.prepared is None:
            return None
        return _with_top(self.prepared.operations.read_form(operations, frame), frame.envelope)

    def open(self, envelope: Envelope, link_origin: LinkOrigin, size: int) -> ClientBatchSlots:
        """Return *size* empty slots of a batch of prepared reads, which is counted."""
        self.reader.telemetry.unbatched(size)
        return ClientBatchSlots(envelope, self.reader, link_origin, self.hosts, self.rules, size=size)

    async def _fill_prepared(
        self, prepared: PreparedBatches, slots: ClientBatchSlots, batch: PreparedBatch
    ) -> Reply | None:
        return refusal_of(slots, await prepared.ask(slots, batch))

    async def _answer(self, slots: ClientBatchSlots, filling: Coroutine[Any, Any, Reply | None]) -> Reply:
        """Return the array of *slots* after *filling*, or the error that this returns or raises."""
        try:
            whole = await filling
        except errors.SidecarError as error:
            if isinstance(error, errors.Large) and not slots.writes:
                raise
            whole = self.failed(error)
        return reply_of(slots, whole)

    def failed(self, error: errors.SidecarError) -> Reply:
        """Return the reply to a batch that ended with *error*, counted."""
        self.reader.telemetry.failed(error)
        return errors.reply_of(error)

    async def _fill(self, slots: ClientBatchSlots, calls: ClientBatchCalls) -> Reply | None:
        """Fill *slots* in the way that the batch allows; return a reply if Graph answered the batch as a whole."""
        envelope, operations, top = slots.envelope, slots.envelope.operations, slots.envelope.credential
        everyone = range(len(operations))
        reads = [slots.read(at, operations[at].relative_url) async for at in slots.in_turns(everyone)]
        if self.limiter_bypass.has_refused:
            slots.after_refusal = any(
                [self._is_after_refusal(envelope, at, reads[at]) async for at in slots.in_turns(everyone)]
            )
        if any(isinstance(read, Bypass) and read.writes for read in reads):
            return await calls.perform(everyone)
        if not any(isinstance(read, Read) and read.request.credential == top for read in reads):
            return await calls.perform(everyone)  # else Graph would never see the token on top
        if slots.referred:
            is_warm = await self._are_roots_held(slots, reads)
            return await (self._ask_in_chains(slots, calls) if is_warm else calls.perform(everyone))
        return await self._ask_one_by_one(slots, calls, reads)

    def _is_after_refusal(self, envelope: Envelope, at: int, read: Read | Bypass) -> bool:
        """Whether the last reply to the operation at place *at* was a refusal for a limit."""
        if isinstance(read, Read):
            asked = read.request
            return self.limiter_bypass.is_after_refusal(
                self.limiter_bypass.subject(asked.credential, asked.path, asked.query)
            )
        operation = envelope.operations[at]
        return self.limiter_bypass.is_after_refusal(
            self.limiter_bypass.subject(*credential_and_target(operation.relative_url, operation.body, envelope))
        )

    async def _ask_one_by_one(
        self, slots: ClientBatchSlots, calls: ClientBatchCalls, reads: Sequence[Read | Bypass]
    ) -> Reply | None:
        plain = [(at, read) for at, read in enumerate(reads) if isinstance(read, Read)]
        others = [at for at, read in enumerate(reads) if isinstance(read, Bypass)]
        replies, whole = await asyncio.gather(self._ask_all(slots, dict(plain)), calls.perform(others))
        return whole or refusal_of(slots, [(read, reply) for (_, read), reply in zip(plain, replies, strict=True)])

    async def _ask_all(self, slots: ClientBatchSlots, reads: Mapping[int, Read]) -> list[Reply]:
        """Ask all *reads* concurrently, started in turns of the event loop."""
        tasks: list[asyncio.Task[Reply]] = []
        try:
            tasks.extend([asyncio.ensure_future(slots.ask(at, reads[at])) async for at in slots.in_turns(reads)])
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _are_roots_held(self, slots: ClientBatchSlots, reads: Sequence[Read | Bypass]) -> bool:
        """Whether all operations are reads and the first reads of chains are held, so references can be resolved here.

        Duplicate names, and JSONPath expressions that are unknown here, are left to Graph.
        """
        async for at in slots.in_turns(range(len(slots))):
            if not can_be_followed(slots.operation(at).relative_url):
                return False
        names = [operation.name for operation in slots.envelope.operations if operation.name]
        if len(set(names)) < len(names):
            return False
        if not all(isinstance(read, Read) or slots.operation(at).has_references for at, read in enumerate(reads)):
            return False
        roots = [reads[at] for at in slots.referred if not slots.operation(at).has_references]
        return all([isinstance(read, Read) and await self.cache.holds(read.request) for read in roots])

    async def _ask_in_chains(self, slots: ClientBatchSlots, calls: ClientBatchCalls) -> Reply | None:
        """Ask each read as soon as those that it references have been answered."""
        tasks: list[asyncio.Task[AnsweredRead | None]] = []
        try:
            async for at in slots.in_turns(range(len(slots))):
                parents = [tasks[parent] for parent in slots.operation(at).parents]
                tasks.append(asyncio.ensure_future(self._ask_after_parents(slots, calls, at, parents)))
            answered = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return refusal_of(slots, [asked for asked in answered if asked is not None])

    async def _ask_after_parents(
        self,
        slots: ClientBatchSlots,
        calls: ClientBatchCalls,
        at: int,
        parents: Sequence[asyncio.Task[AnsweredRead | None]],
    ) -> AnsweredRead | None:
        await asyncio.gather(*parents)
        if slots.any_failed(slots.operation(at).parents):
            return None
        try:
            read = slots.read(at, slots.texts(at)[0])
        except BadPath as path:
            slots.fill_as_received(at, client_batch_slots.bad_path(str(path)))
            return None
        if isinstance(read, Read):
            return read, await slots.ask(at, read)
        if whole := await calls.perform([at]):
            slots.fill_as_received(at, client_batch_slots.slot(whole, include_headers=True))
        return None


def _with_top(batch: PreparedBatch | None, envelope: Envelope) -> PreparedBatch | None:
    """Return *batch* if it has a read of the token on top: else Graph would never see that token."""
    top = envelope.credential
    return batch if batch is not None and any(read.request.credential == top for read in batch.kinds) else None


def reply_of(slots: ClientBatchSlots, whole: Reply | None) -> Reply:
    """Return the reply with the array of *slots*, or *whole* in its place, an error for the whole batch."""
    callback = slots.envelope.callback
    if whole is None:
        reply = client_batch_slots.outer(slots.shown(), callback, slots.outer())
    else:
        reply = client_batch_slots.refused_batch(whole, callback)
    status_fields = passthrough_status("batch", writes=False, trouble=reply.detail)
    return replace(reply, headers=(*reply.headers, *status_fields))


def refusal_of(slots: ClientBatchSlots, asked: Sequence[AnsweredRead]) -> Reply | None:
    """Return the error for the whole batch: the top token is refused, or no operation could be sent; else None."""
    top = slots.envelope.credential
    of_top = [reply for read, reply in asked if read.request.credential == top]
    if of_top and all(graph_errors.blame(reply.status, reply.body) is graph_errors.Blame.TOKEN for reply in of_top):
        return of_top[0]
    failed = [reply for _, reply in asked if reply.mode is Mode.FAILED and reply.detail != errors.word(errors.NotHeld)]
    return failed[0] if len(failed) == len(slots) else None
