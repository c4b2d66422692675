"""Plain reads that wait for Graph without a task for each: callers' connections wait, and are written to.

A slot or reply that is not ordinary is settled by the layers' own functions, in a task. A read that the layers cannot
settle either (a 304 that confirms no entry) goes the usual way from its beginning.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypedDict

from msgspec.structs import replace

from proxy.core.batch.request import batch_part, split_at_node, split_at_validator, tag_in_part
from proxy.core.cache import policy
from proxy.core.cache.generation import Generation
from proxy.core.fast_path.batch_answer import AnswerKind, BatchAnswer
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.fast_path.prepared_reply import field_lines
from proxy.core.http import errors
from proxy.core.memory.memo import Memo
from proxy.core.model import Channel, Entry, Mode, Reply
from proxy.core.observe.access_log import Outcome, PreparedLine
from proxy.core.quota.limiter import NO_CHANGES
from proxy.core.reply.response_head import framed, http_date
from proxy.shell.downstream.fast_flight import FastFlight, Fetch, Moment, load_entry
from proxy.shell.downstream.read import ReadHandler
from proxy.shell.downstream.waiting_caller import Caller, WaitingCaller
from proxy.shell.http.protocol import Connection
from proxy.shell.observe.faults import log_fault
from proxy.shell.observe.route_counts import AnsweredCall, OrdinaryAnswer, RouteCounts, add_answers
from proxy.shell.pipeline.batcher import Batcher
from proxy.shell.pipeline.cache import Cache, ForwardedRead
from proxy.shell.pipeline.coalescer import Coalescer
from proxy.shell.pipeline.rate_limiter import RateLimiter

URGENT_S = 0.01
"""Seconds for which it is enough to have noted one read of ordinary priority of a token."""


class FastFlightOptions(TypedDict):
    """The arguments of `FastFlights` but for its cache."""

    coalescer: Coalescer
    limiter: RateLimiter
    batcher: Batcher
    reader: ReadHandler
    now: Callable[[], float]
    is_leaving: Callable[[], bool]
    callers: set[Any]
    is_unknown: Callable[[bytes], bool]
    will_take: Callable[[bytes, Entry, int], bool]
    will_take_all: Callable[[Sequence[bytes], Sequence[Entry], int], bool]
    generation: Generation
    renew: Callable[[bytes, str, Entry], None]


@dataclass(slots=True)
class FastFlights:
    """Asks for reads in batches, equal ones once, and writes the replies."""

    coalescer: Coalescer
    cache: Cache
    limiter: RateLimiter
    batcher: Batcher
    reader: ReadHandler
    now: Callable[[], float]  # epoch seconds
    is_leaving: Callable[[], bool]
    callers: set[Any]  # all that are connections
    is_unknown: Callable[[bytes], bool]  # whether nothing is held under a key, on disk either
    will_take: Callable[[bytes, Entry, int], bool]  # whether the first entry of a key is certain to be held
    will_take_all: Callable[[Sequence[bytes], Sequence[Entry], int], bool]  # the same of many
    generation: Generation  # another begins when a limit is near, a caller is refused, or entries are to be forgotten
    renew: Callable[[bytes, str, Entry], None]  # holds an entry that Graph has confirmed without new fields
    usage_lines: Memo[..., bytes] = field(default_factory=lambda: Memo(field_lines))
    era: int = 0  # another begins with new settings: what was asked before is settled by the layers
    fetch: Fetch | None = None  # loads an entry that is on disk alone; without it the layers do
    _date: tuple[int, bytes] = (0, b"")
    _calm: int = -1  # the generation in which no limit was near
    _urgent: tuple[bytes, float] = (b"", 0.0)  # the token whose read was noted last, and until when that is enough

    def ask(self, connection: Connection, read: PreparedRead, head: bytes, entry: Entry | None) -> bool:
        """Let *connection* wait for the reply to *read*, if that is asked in the ordinary way; return whether it is.

        *entry* is what memory holds of it.
        """
        began = self.reader.clock()
        flight = self.join(read, entry, began)
        if flight is None:
            return False
        caller = WaitingCaller(flight, read, began, flight.waiting == 1, connection=connection, head=head)
        flight.callers[caller] = None
        self.callers.add(caller)
        connection.wait_for(caller)
        return True

    def join(self, read: PreparedRead, entry: Entry | None, began: float) -> FastFlight | None:
        """Return what asks for *read*, counted for one more caller, who has yet to be added to its callers.

        None if the read is not asked in the ordinary way.
        """
        flight = self.coalescer.flights.get(read.flight)
        if flight is None:
            flight = self._open(read, entry, began)
            if flight is None:
                return None
        elif isinstance(flight := flight.own(read.flight), FastFlight):
            flight.takes_slots &= read.is_ordinary
            flight.has_joined = True
        else:
            return None
        counts: RouteCounts = read.common.counts or self.counts_of(read)
        counts.asked += 1
        if not counts.is_pending:
            counts.wait_for_settling()
        flight.waiting += 1
        return flight

    def counts_of(self, read: PreparedRead) -> RouteCounts:
        """Return what counts the replies to *read* and to those like it."""
        counts: RouteCounts | None = read.common.counts
        if counts is None:
            request = read.request
            counts = self.reader.telemetry.route_counts(request.path, request.query, read.app)
            read.common.counts = counts
        return counts

    def forget(self) -> None:
        """Let the layers settle what is under way: settings changed, or everything was purged."""
        self.era += 1

    def leave(self, caller: Caller) -> None:
        """Let *caller* wait no more; a flight without callers ends."""
        self.callers.discard(caller)
        flight = caller.flight
        if caller in flight.callers:
            del flight.callers[caller]
            self.coalescer.leave(flight.read.flight, flight)

    def _open(self, read: PreparedRead, entry: Entry | None, now: float) -> FastFlight | None:
        """Return a flight for *read*; None where the read is not asked, or not at once, or not in a batch."""
        request = read.request
        if request.channel is not Channel.BATCH:
            return None
        if read.is_low_priority or not self.may_ask(entry):
            return None
        is_on_disk = entry is None and not self.is_unknown(read.key)
        if is_on_disk and self.fetch is not None:
            loading = self.coalescer.flights[read.flight] = FastFlight(self, read, None, now, self.now())
            load_entry(loading, self.fetch)
            return loading
        if is_on_disk or not read.asks_always:
            prepared = self.cache.forward_from_memory(request, read.key)
            if prepared is None:
                return None
            entry = prepared[1]
        etag = entry.meta.etag if entry is not None else None
        token, enough_until = self._urgent
        if token is not read.fingerprint or now >= enough_until or read.asked is None or read.asked_etag != etag:
            self.prepare(read, entry, now)
        flight = self.begin_flight(read, entry, now)
        if flight is not None:
            self.coalescer.flights[read.flight] = flight
        return flight

    def begin_flight(self, read: PreparedRead, entry: Entry | None, now: float) -> FastFlight | None:
        """Return a new flight for *read*, which waits for a batch; None where too many wait."""
        flight = FastFlight(self, read, entry, now, self.now())
        return flight if self.enqueue(flight) else None

    def enqueue(self, flight: FastFlight) -> bool:
        """Let *flight* wait for a batch; return whether it does."""
        common = flight.read.common
        try:
            common.queue = flight.place = self.batcher.enqueue(flight, common.queue)
        except errors.Overloaded:
            return False
        return True

    def prepare(self, read: PreparedRead, entry: Entry | None, now: float) -> None:
        """Let *read* be asked with the validator of *entry*, and note that it is sent at *now*, in monotonic time."""
        if self._urgent[0] is not read.fingerprint or now >= self._urgent[1]:
            self.note_urgent(read, now)
        etag = entry.meta.etag if entry is not None else None
        if read.asked is None or read.asked_etag != etag:
            self.ask_with(read, entry)

    def note_urgent(self, read: PreparedRead, now: float) -> None:
        """Note that *read*, which is of ordinary priority, is sent."""
        self.reader.quota.note_urgent(read.fingerprint, self.reader.now())
        self._urgent = read.fingerprint, now + URGENT_S

    @staticmethod
    def ask_with(read: PreparedRead, entry: Entry | None) -> None:
        """Let *read* be asked with the validator of *entry*."""
        request, common = read.request, read.common
        read.asked_etag = entry.meta.etag if entry is not None else None
        read.asked = request.with_validator(policy.validator_for(entry.meta, request)) if entry else request
        validator, node = read.asked.validator, request.path[1:].partition("/")[0].encode()
        tag = tag_in_part(validator) if validator else None
        if tag is not None and common.around_validator is not None:
            before, between, behind = common.around_validator
            read.part = b"%b%b%b%b%b" % (before, node, between, tag, behind)
        elif validator:
            read.part = batch_part(read.asked)
            common.around_validator = split_at_validator(read.part, read.asked)
        elif common.around_node is not None:
            before, behind = common.around_node
            read.part = b"%b%b%b" % (before, node, behind)
        else:
            read.part = batch_part(request)
            common.around_node = split_at_node(read.part, request)

    def may_ask(self, entry: Entry | None) -> bool:
        """Whether a read of which memory holds *entry* may be sent without asking the limiter and the orders."""
        if self._calm != self.generation.number and not self.is_quiet():
            return False
        return entry is None or not self.cache.may_be_forgotten(entry.meta)

    def is_calm(self) -> bool:
        """Whether `is_quiet` is true, and no order to forget entries is in force."""
        return self.is_quiet() and not self.cache.has_orders

    def is_quiet(self) -> bool:
        """Whether no limit is near, and no caller was refused of late."""
        if self._calm != self.generation.number:
            if not self.reader.quota.is_quiet:
                return False
            self._calm = self.generation.number
        return True

    # --- ordinary answers ---

    def begin(self, answer: BatchAnswer) -> Moment:
        """Begin to hand out the slots of *answer*."""
        second = int(time.time())
        if self._date[0] != second:
            self._date = second, http_date(second).encode()
        answer.date = self._date[1]
        is_known_quiet = self._calm == self.generation.number  # then no caller was refused of late, either
        has_refused = not is_known_quiet and self.reader.quota.has_refused
        moment = answer.moment = Moment(
            answer, self.cache.changed_at, self.reader.now, is_leaving=self.is_leaving(), has_refused=has_refused
        )
        answer.at_end = partial(self._end, moment)
        return moment

    def _end(self, moment: Moment) -> None:
        """Count and log the replies to all slots."""
        answer = moment.answer
        try:
            call = AnsweredCall(answer.outer.upstream_s, answer.id, answer.lane)
            add_answers(self.reader.telemetry, moment.answers, moment.together, call)
        except Exception as fault:  # noqa: BLE001 - logged; the slots that are left are answered all the same
            log_fault(fault)

    def learn_usage(self, read: PreparedRead, kind: AnswerKind, moment: Moment) -> None:
        """Learn the usage in a reply of this *kind* to *read*."""
        if kind.usage:
            repeated = kind.repeated.get(read.fingerprint)
            if repeated is None:
                self._learn_usage(read, kind, moment)
            else:
                repeated.calls += 1

    def hold(self, read: PreparedRead, kind: AnswerKind, entry: Entry) -> AnswerKind:
        """Hold *entry*; return the kind of its replies, which say whether it is held."""
        if kind.keeps_fields and read.request.credential is not None:
            self.renew(read.key, read.request.credential.token, entry)
            return kind
        kept = Entry(entry.meta, kind.own.stored, entry.body)
        if kind.mode is Mode.REVALIDATED:
            self.cache.keep_confirmed(read.request, read.key, kept)
            return kind
        is_held = self.cache.keep_new(read.request, read.key, read.fingerprint, kept)
        return kind if is_held else kind.unstored() or kind

    def hold_new(self, reads: Sequence[PreparedRead], keys: Sequence[bytes], entries: Sequence[Entry]) -> None:
        """Hold *entries*, the first of *keys*, of *reads* of one token."""
        first = reads[0]
        self.cache.keep_all_new([read.request for read in reads], keys, first.fingerprint, entries)

    def hand_out(self, flight: FastFlight, kind: AnswerKind, entry: Entry, moment: Moment) -> None:
        """Write replies of this *kind* to the callers of *flight*; *entry* has their body."""
        read = flight.read
        if self.coalescer.flights.get(read.flight) is flight:
            del self.coalescer.flights[read.flight]
        callers, flight.callers = flight.callers, {}
        for caller in callers:
            self.callers.discard(caller)
            try:
                counted = self._answer(caller, kind, entry, moment)
            except Exception as fault:  # noqa: BLE001 - logged, and the callers get their answers all the same
                log_fault(fault)
                caller.pass_to_handler(fault)
            else:
                moment.answers.append(counted)

    def note_usage(self, kind: AnswerKind, reads: Sequence[PreparedRead], moment: Moment) -> None:
        """Learn the usage in replies of this *kind* to *reads* of one token."""
        if not kind.usage:
            return
        at, fingerprint = 0, reads[0].fingerprint
        while at < len(reads) and fingerprint not in kind.repeated:
            self._learn_usage(reads[at], kind, moment)
            at += 1
        if at < len(reads):
            kind.repeated[fingerprint].calls += len(reads) - at

    def _learn_usage(self, read: PreparedRead, kind: AnswerKind, moment: Moment) -> None:
        """Learn the usage headers of a reply; of others in the batch that repeat those of the app, only the number."""
        quota = self.reader.quota
        news = quota.on_usage_of_reply(read.subject, kind.usage, moment.now)
        if news is not NO_CHANGES:
            self.limiter.apply(news)
        recent = quota.recent_usage_of_app(read.fingerprint, kind.usage)
        if recent is not None:
            kind.repeated[read.fingerprint] = recent

    def _answer(self, caller: Caller, kind: AnswerKind, entry: Entry, moment: Moment) -> OrdinaryAnswer:
        """Write the reply to *caller*; return what is counted and logged of it at the end of the batch."""
        read, flight, body = caller.read, caller.flight, entry.body
        filled, mode = (kind.own, kind.mode) if caller.is_first else (kind.shared, Mode.COALESCED)
        assert filled is not None  # noqa: S101 - `take` has seen that there is a template
        window_s = flight.left - flight.since
        if moment.has_refused:
            self.reader.quota.on_ordinary_delivery(read.subject, moment.now)
        message, size = caller.message(filled, entry, moment, window_s)
        seconds = self.reader.clock() - caller.began
        caller.send(message)
        line = None
        try:
            line = self.line_of(read, kind, mode, entry, size)
        except Exception as fault:  # noqa: BLE001 - logged; the reply was sent, and is counted
            log_fault(fault)
        return read.common.counts, mode, seconds, window_s, len(body), line

    def line_of(self, read: PreparedRead, kind: AnswerKind, mode: Mode, entry: Entry, size: int) -> PreparedLine | None:
        """Return the log line of a reply of this *mode* with *entry*, whose body has *size* bytes for its caller."""
        last = read.known_line(kind.mode, mode) if kind.mode is Mode.REVALIDATED else None
        is_repeated = last is not None and last[0] == entry.meta.etag and last[1] == kind.usage
        if last is not None and is_repeated and last[3] == (size, self.reader.telemetry.era):
            return last[2]
        return self._prepare_line(read, kind, mode, entry, size, is_repeated=is_repeated)

    def _prepare_line(
        self, read: PreparedRead, kind: AnswerKind, mode: Mode, entry: Entry, size: int, *, is_repeated: bool
    ) -> PreparedLine | None:
        """Return the log line of such replies; it is kept with *read* if it *is_repeated*: the last one was like it."""
        telemetry, etag = self.reader.telemetry, entry.meta.etag
        is_shared = mode is Mode.COALESCED
        if not read.keeps_line and not is_shared:
            return telemetry.line_like(read, mode, kind.usage, entry, size)
        if is_shared:
            reply = Reply(200, (("ETag", etag), *kind.usage), entry.body, mode, joined=kind.mode)
            line = telemetry.prepare_line(read, reply, Outcome(200, size, 0.0, 1, avoided=1, sent=0))
        else:
            line = telemetry.line_like(read, mode, kind.usage, entry, size)
        is_for = (size, telemetry.era if is_repeated or is_shared else -1)
        known = etag, kind.usage, line if is_repeated or is_shared else None, is_for
        if kind.mode is Mode.REVALIDATED and is_shared:
            read.shared_line = known
        elif kind.mode is Mode.REVALIDATED:
            read.line = known
        return line

    # --- all other answers ---

    def settle(self, flight: FastFlight, answer: Reply | BaseException) -> None:
        """Let the layers say what becomes of Graph's *answer*, or of an error in its place."""
        flight.is_done = True
        try:
            if isinstance(answer, Reply):
                self.limiter.take(flight.read.subject, answer)
                reply = self.cache.apply_answer(self.forwarded(flight), flight.entry, answer)
                if reply is not None:
                    self.deliver(flight, reply)
                    return
            self._resolve(flight, answer)
        except Exception as fault:  # noqa: BLE001 - logged, and the callers get their answers all the same
            self.deliver(flight, fault)

    def ask_layers(self, flight: FastFlight) -> None:
        """Let the cache and the layers behind it answer *flight*, which is not asked in the ordinary way after all."""
        flight.is_done, flight.takes_slots = True, False
        self.leave_to(flight, self.cache(flight.read.request, flight.record()))

    def forwarded(self, flight: FastFlight) -> ForwardedRead:
        """Return what *flight* asks, for the cache."""
        return self.cache.forwarded(flight.request, flight.read.key, flight.entry, flight.asked)

    def _resolve(self, flight: FastFlight, answer: Reply | BaseException) -> None:
        """Let the cache say what becomes of an *answer* that is not an ordinary one."""
        if isinstance(answer, Reply | errors.SidecarError):
            forwarded = replace(self.forwarded(flight), cost=flight.record())
            self.leave_to(flight, self.cache.resolve(forwarded, answer))
        else:
            self.deliver(flight, answer)

    def leave_to(self, flight: FastFlight, asking: Coroutine[Any, Any, Reply]) -> None:
        """Let the layers answer *flight*, as *asking* does."""
        flight.resolving = asyncio.ensure_future(asking)
        flight.resolving.add_done_callback(partial(self._on_resolved, flight))

    def _on_resolved(self, flight: FastFlight, resolved: asyncio.Task[Reply]) -> None:
        if not resolved.cancelled():
            self.deliver(flight, resolved.exception() or resolved.result())

    def deliver(self, flight: FastFlight, answer: Reply | BaseException) -> None:
        """Give *answer* to all who wait."""
        flight.is_over = True
        self.coalescer.land(flight.read.flight, flight)
        if (joined := flight.reply) is not None and not joined.done():
            if isinstance(answer, BaseException):
                joined.set_exception(answer)
                joined.exception()  # looked at, so that a failure that everybody left is not reported as forgotten
            else:
                joined.set_result(answer)
        callers, flight.callers = flight.callers, {}
        for caller in callers:
            self.callers.discard(caller)
            cause = answer if isinstance(answer, BaseException) else None
            try:
                reply = self._reply(caller, answer)
                if reply is not None:
                    caller.send_reply(reply)
            except Exception as fault:  # noqa: BLE001 - as above
                log_fault(fault)
                reply, cause = None, fault
            if reply is None:
                caller.pass_to_handler(cause)

    def _reply(self, caller: Caller, answer: Reply | BaseException) -> Reply | None:
        """Return the reply that *answer* makes for *caller*, counted; None if the handler has to answer."""
        if isinstance(answer, Reply):
            reply = answer if caller.is_first else answer.shared()
        elif isinstance(answer, errors.SidecarError) and not isinstance(answer, errors.Large):
            reply = errors.reply_of(answer)
        else:
            if not isinstance(answer, errors.Large) and isinstance(answer, Exception):
                log_fault(answer)
            return None
        reader = self.reader
        reader.quota.on_delivered_reply(caller.read.subject, reply, reader.now())
        return caller.render(reply, reader.clock() - caller.began)

    def send_to(self, caller: WaitingCaller, reply: Reply) -> None:
        """Write *reply*, the last one of its connection if the sidecar is about to end."""
        keeps = not self.is_leaving()
        head, body = framed(reply, http_date(int(time.time())), keeps=keeps)
        caller.send(head, body, keeps=keeps)
