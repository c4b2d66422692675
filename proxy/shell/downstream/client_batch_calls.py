"""Sends a client's batch as calls of its own: operations in order, writes once, reads with their validators.

Graph resolves references within a call. A batch larger than Graph's limit is sent in parts, one after another, and
references to an earlier part are resolved here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec.structs import replace

from proxy.core.batch import response as batch_response
from proxy.core.client_batch import operation as client_batch_operation
from proxy.core.client_batch import outgoing
from proxy.core.client_batch import slots as client_batch_slots
from proxy.core.client_batch.jsonpath import BadPath
from proxy.core.client_batch.slots import ClientSlot
from proxy.core.client_batch.split import split_into_calls
from proxy.core.http import errors
from proxy.core.http.headers import for_caller
from proxy.core.model import Credential, Reply
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.ledger import RequestCost
from proxy.core.routing.classify import Read
from proxy.core.routing.nodes import calls_of
from proxy.shell import Announce, OnWrite, no_announcement
from proxy.shell.downstream.client_batch_slots import ClientBatchSlots
from proxy.shell.http.forms import EncodedForm, File, write_form
from proxy.shell.pipeline.batcher import CallObserver
from proxy.shell.pipeline.cache import Cache, ForwardedRead
from proxy.shell.pipeline.limiter_bypass import LimiterBypass, Probes
from proxy.shell.upstream.http1 import OnSent


class Post(Protocol):
    """Sends a batch call of the application's own, once."""

    async def __call__(
        self, host: str, path: str, language: str, form: EncodedForm, on_sent: OnSent, *, who: Credential
    ) -> Reply:
        """Return Graph's reply to *who*. Raises a SidecarError."""


class ClientBatchObserver(Protocol):
    """Counts the application's own batches."""

    def carried(self, loads: Iterable[tuple[RequestCost | None, int]]) -> CallObserver:
        """Begin to count a call with one load for each operation."""


@dataclass(frozen=True, slots=True)
class _PreparedOperation:
    """An operation ready to be sent, with the cache's forwarded if it is a plain read."""

    at: int
    item: Mapping[str, Any] = field(repr=False)  # may hold a token
    writes: bool
    written: tuple[str, ...] = ()
    who: Credential | None = None
    read: Read | None = None
    forwarded: ForwardedRead | None = None
    subject: QuotaSubject | None = None  # of a read
    probes: Probes = ()

    @property
    def calls(self) -> int:
        """As how many calls Graph counts the operation, as far as is known before it is sent."""
        return calls_of(str(self.item["relative_url"]).partition("?")[2])


class ClientBatchCalls:
    """Performs the operations of one batch in order."""

    def __init__(
        self,
        slots: ClientBatchSlots,
        files: Mapping[str, File],
        *,
        cache: Cache,
        post: Post,
        observer: ClientBatchObserver,
        clock: Callable[[], float],
        on_write: OnWrite,
        limiter_bypass: LimiterBypass,
        announce: Announce = no_announcement,
    ) -> None:
        """Fill *slots*; tell *on_write* of each write, and *limiter_bypass* of each reply.

        *announce* is called before a write is sent.
        """
        self._slots = slots
        self._files = files
        self._cache = cache
        self._post = post
        self._observer = observer
        self._clock = clock
        self._on_write = on_write
        self._limiter_bypass = limiter_bypass
        self._announce = announce

    async def perform(self, places: Sequence[int]) -> Reply | None:
        """Fill the slots at *places*; return a reply if Graph refuses the first call as a whole. Raises SidecarError.

        Once a part has been answered, an error of a later part fills the slots of that part only.
        """
        for number, part in enumerate(split_into_calls(places)):
            try:
                refusal = await self._perform(part)
            except errors.SidecarError as error:
                if number == 0 or isinstance(error, errors.Large):
                    raise
                refusal = errors.reply_of(error)
            if refusal is None:
                continue
            if number == 0:
                return refusal
            for at in part:
                self._slots.fill_as_received(at, client_batch_slots.slot(refusal, include_headers=True))
        return None

    async def _perform(self, part: Sequence[int]) -> Reply | None:
        """Send one call and fill its slots; return Graph's reply if it refuses the whole call."""
        ready: list[_PreparedOperation] = []
        async for at in self._slots.in_turns(part):
            if (one := await self._prepare(at, frozenset(other.at for other in ready))) is not None:
                ready.append(one)
        if not ready:
            return None
        began = self._clock()
        try:
            answer, slots = await self._call(ready)
        except errors.SidecarError as error:
            if not error.has_left:
                raise
            if any(one.writes for one in ready):
                raise errors.unsure(error) from None
            if isinstance(error, errors.Late) or (isinstance(error, errors.Large) and not self._slots.writes):
                raise
            answer, slots = errors.reply_of(errors.Cut("the batch ended unanswered")), None
        refused, probes = client_batch_slots.is_refusal(answer, self._slots.envelope), _probes(ready)
        self._limiter_bypass.on_reply(self._slots.envelope.credential, answer, probes=probes if refused else ())
        if refused or (any(one.writes for one in ready) and self._is_passed_on(answer, ready)):
            self._limiter_bypass.on_no_reply(() if refused else probes)
            for one in ready:
                self._record_delivery(one, answer)
            return replace(answer, headers=for_caller(answer.headers))
        self._slots.keep_outer(answer.headers)
        all_slots = slots or [_missing_slot(one) for one in ready]
        await self._settle_all(ready, all_slots, answer, self._clock() - began)
        return None

    def _is_passed_on(self, answer: Reply, ready: Sequence[_PreparedOperation]) -> bool:
        """Whether Graph's *answer* to a call with writes is passed on unchanged, because it cannot be read here.

        If the batch was sent in parts, or not in whole, the answer to one call is not the answer to the batch.
        """
        if not batch_response.is_array(answer):
            return True
        return len(ready) == len(self._slots) and batch_response.is_garbled(answer)

    # --- before the call ---

    async def _prepare(self, at: int, beside: frozenset[int]) -> _PreparedOperation | None:
        """Return the operation ready to be sent *beside* others; None if it is not performed (its slot says why)."""
        slots, operation = self._slots, self._slots.operation(at)
        if slots.any_failed(set(operation.parents) - beside):
            return None
        try:
            url, body = slots.texts(at)
        except BadPath as path:
            slots.fill_as_received(at, client_batch_slots.bad_path(str(path)))
            return None
        slots.costs[at].correct_asked(calls_of(url.partition("?")[2]))
        read, names = slots.read(at, url), frozenset(slots.operation(other).name for other in beside)
        if isinstance(read, Read):
            return await self._prepare_read(at, read, names)
        item = outgoing.filled_operation(operation, url, body, names=names, named=at in slots.referred)
        if not read.writes:
            return self._prepare_other(
                at, item, *client_batch_operation.credential_and_target(url, body, slots.envelope)
            )
        who, _, _ = client_batch_operation.credential_and_target(url, body, slots.envelope)
        return _PreparedOperation(
            at, item, writes=True, written=client_batch_operation.written_nodes(url, body), who=who
        )

    async def _prepare_read(self, at: int, read: Read, names: frozenset[str]) -> _PreparedOperation | None:
        """Return a plain read in normal form, with its validator unless Graph must resolve references to its body."""
        operation, named = self._slots.operation(at), at in self._slots.referred
        forwarded, request = await self._cache.prepare_forward(read.request), read.request
        subject = self._limiter_bypass.subject(request.credential, request.path, request.query)
        try:
            probes = self._admit(at, subject)
        except errors.Throttled as throttled:
            # A held reply may be outdated by a write of this very batch.
            instead = (
                throttled.reply
                if self._slots.writes
                else await self._cache.answer_while_throttled(forwarded, throttled)
            )
            self._limiter_bypass.on_delivered_reply(subject, instead)
            self._slots.fill(at, read, instead, 0.0)
            return None
        if named:
            forwarded = replace(forwarded, request=forwarded.request.with_validator(""))
        item = outgoing.normal_operation(operation, forwarded.request, names=names, named=named)
        return _PreparedOperation(
            at, item, writes=False, read=read, forwarded=forwarded, subject=subject, probes=probes
        )

    def _prepare_other(
        self, at: int, item: Mapping[str, Any], who: Credential, path: str, query: str
    ) -> _PreparedOperation | None:
        """Return a read that is sent as it was written; None if a limit refuses it."""
        subject = self._limiter_bypass.subject(who, path, query)
        try:
            return _PreparedOperation(at, item, writes=False, subject=subject, probes=self._admit(at, subject))
        except errors.Throttled as throttled:
            self._limiter_bypass.on_delivered_reply(subject, throttled.reply)
            self._slots.fill_refused(at, throttled.reply)
            return None

    def _admit(self, at: int, subject: QuotaSubject) -> Probes:
        """Admit a read, in spite of its limit if a write depends on it; return its probes. Raises Throttled."""
        try:
            return self._limiter_bypass.admit(subject, after_refusal=self._slots.after_refusal)
        except errors.Throttled:
            if at in self._slots.needed_by_writes:
                return ()
            raise

    # --- the call ---

    async def _call(self, ready: Sequence[_PreparedOperation]) -> tuple[Reply, list[Any] | None]:
        """Send the call once; return the reply, and its slots if there is one for each operation.

        At the end the writes have happened or may have happened: both invalidate.
        """
        envelope = self._slots.envelope
        names = dict.fromkeys(name for one in ready for name in outgoing.files_of(one.item))
        files = [self._files[name] for name in names if name in self._files]
        form = write_form(outgoing.top_level(envelope, [one.item for one in ready]), files)
        answered, writes = False, [one for one in ready if one.writes]
        announced = await asyncio.gather(*(self._announce(one.written, one.who) for one in writes))
        try:
            with self._observer.carried([(self._slots.costs[one.at], one.calls) for one in ready]) as sending:
                who, left = envelope.credential, sending.left
                answer = await self._post(envelope.host, envelope.path, envelope.language, form, left, who=who)
                answered = True
                slots = batch_response.slots_of(answer, len(ready))
                sending.answered([batch_response.is_slot_counted(slot) for slot in slots or ()])
                whole = replace(answer, batch=sending.id)
        finally:
            if not answered:
                self._limiter_bypass.on_no_reply(_probes(ready))
                for each in announced:
                    each.lost()
            for one in writes:
                self._on_write(one.written, one.who, answered=answered)
        await asyncio.gather(*(each.answered() for each in announced))
        return whole, slots

    # --- after the call ---

    async def _settle_all(
        self, ready: Sequence[_PreparedOperation], slots: Sequence[object], answer: Reply, seconds: float
    ) -> None:
        """Fill the slots, then ask unanswered reads again, each after those that it references."""
        for one, slot in zip(ready, slots, strict=True):
            self._record_limits(one, slot, answer)
        missing = [
            one for one, slot in zip(ready, slots, strict=True) if not await self._settle(one, slot, answer, seconds)
        ]
        for one in ready:
            self._count_ids(one)
        while missing:
            waiting = {one.at for one in missing}
            free = [one for one in missing if waiting.isdisjoint(self._slots.operation(one.at).parents)]
            await asyncio.gather(*(self._ask_again(one) for one in free))
            missing = [one for one in missing if one not in free]

    def _count_ids(self, one: _PreparedOperation) -> None:
        """Count the calls for ids that came from another operation's reply; their number is known only now."""
        operation = self._slots.operation(one.at)
        if not operation.has_references or self._slots.any_failed(operation.parents):
            return
        with contextlib.suppress(BadPath):
            more = calls_of(self._slots.texts(one.at)[0].partition("?")[2]) - one.calls
            self._slots.costs[one.at].ask(more)
            self._slots.costs[one.at].send(more)

    def _record_limits(self, one: _PreparedOperation, slot: object, answer: Reply) -> None:
        reply = batch_response.slot_reply(slot, answer, conditional=True, is_top=False)
        if reply is None:
            self._limiter_bypass.on_no_reply(one.probes)
            return
        url, body = str(one.item.get("relative_url") or ""), str(one.item.get("body") or "")
        who, path, query = client_batch_operation.credential_and_target(url, body, self._slots.envelope)
        self._limiter_bypass.on_reply(who, reply, path, query, one.probes)
        if one.read is None:
            self._record_delivery(one, reply)

    def _record_delivery(self, one: _PreparedOperation, reply: Reply) -> None:
        """Note that *reply* goes to this read's caller, so that a retry after a refusal is recognized."""
        if one.subject is not None:
            self._limiter_bypass.on_delivered_reply(one.subject, reply)

    async def _settle(self, one: _PreparedOperation, slot: object, answer: Reply, seconds: float) -> bool:
        """Fill the slot from Graph's *slot*, or from the store after a 304.

        Return False for a read that Graph has not answered.
        """
        if one.forwarded is None or one.read is None:
            self._slots.fill_as_received(one.at, slot)
            is_answered = one.writes or not client_batch_slots.is_unanswered(slot)
            if is_answered:
                self._slots.count_passed(one.at, slot, seconds, writes=one.writes, batch=answer.batch)
            return is_answered
        asked, top = one.forwarded.request, self._slots.envelope.credential
        reply = batch_response.slot_reply(
            slot, answer, conditional=bool(asked.validator), is_top=asked.credential == top
        )
        settled = await self._cache.on_answer(one.forwarded, reply) if reply is not None else None
        if settled is None:
            self._slots.fill_as_received(one.at, slot if reply is None else None)
            return False
        self._record_delivery(one, settled)
        self._slots.fill(one.at, one.read, replace(settled, batch=answer.batch), seconds)
        return True

    async def _ask_again(self, one: _PreparedOperation) -> None:
        """Ask a read through the pipeline, references resolved; reads that depend on a failure stay as they are."""
        operation = self._slots.operation(one.at)
        if self._slots.any_failed(operation.parents):
            return
        try:
            read = one.read or self._slots.read(one.at, self._slots.texts(one.at)[0], again=True)
        except BadPath:
            return
        if isinstance(read, Read):
            await self._slots.ask(one.at, read)


def _probes(ready: Sequence[_PreparedOperation]) -> Probes:
    return tuple(name for one in ready for name in one.probes)


def _missing_slot(one: _PreparedOperation) -> ClientSlot:
    """Return the slot of an operation that Graph's reply lacks: an error for a write, as null would be retried."""
    if not one.writes:
        return None
    error = errors.Nonsense("Graph answered this batch with another number of slots")
    return client_batch_slots.slot(errors.reply_of(errors.unsure(error)), include_headers=True)
