"""One plain read that waits for Graph without a task, and the callers that wait for its reply.

Where only the disk may hold an entry, that is loaded first, together with others of the same turn of the event loop.
Then Graph is asked with the entry's validator, as for an entry in memory. No task waits for the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec.structs import replace

from proxy.core.batch.lanes import Lane, Route
from proxy.core.batch.response import Slot
from proxy.core.fast_path.batch_answer import AnswerKind, BatchAnswer, confirmed
from proxy.core.fast_path.head import LARGEST_HEAD
from proxy.core.fast_path.new_entries import find_new
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.model import Entry, Mode, Reply, Request
from proxy.core.quota.ledger import Payer, RequestCost
from proxy.shell.downstream.waiting_caller import Caller
from proxy.shell.observe.faults import log_fault
from proxy.shell.observe.route_counts import AnswersOfBatch, OrdinaryAnswer, RouteCounts
from proxy.shell.pipeline.batch_queue import BatchCall
from proxy.shell.pipeline.batcher import QueueOfRead

if TYPE_CHECKING:  # it imports this module
    from proxy.shell.downstream.fast_flights import FastFlights

Fetch = Callable[[bytes, str, Callable[[Entry | None], None]], None]
"""Loads the entry of a key under a token, and hands it over in a later turn of the loop."""

_MAY_ASK_AT_ONCE = attrgetter("may_ask_at_once")


class FastFlight:
    """One read that is asked, and the callers that wait for its reply; it waits in the batch queue by itself."""

    slots: ClassVar[int] = 1
    is_group: ClassVar[bool] = False
    lane: Lane | None = None
    route: Route | None = None
    call: BatchCall | None = None
    place: QueueOfRead | None = None
    left = 0.0
    cost: RequestCost | None = None
    """The cost record, where its calls are not counted by `RouteCounts`."""
    is_sent = False
    has_time = False
    is_done = False
    """Whether Graph has answered, or will not."""
    is_over = False
    """Whether the callers have been answered."""
    reply: asyncio.Future[Reply] | None = None
    """The reply to come, where a task has joined."""
    resolving: asyncio.Task[Reply] | None = None

    def __init__(
        self, flights: FastFlights, read: PreparedRead, entry: Entry | None, since: float, asked: float
    ) -> None:
        """Ask for *read* since then; *entry* is what is held of it. *asked* is the same in epoch seconds."""
        self.flights = flights
        self.read = read
        self.entry = entry
        self.request: Request = read.asked or read.request
        self.part = read.part
        self.since = since
        self.asked = asked
        self.era = flights.era
        self.callers: dict[Caller, None] = {}  # in their order
        self.waiting = 0  # callers, and tasks that have joined
        self.has_joined = False  # whether a caller has come for whom the flight was not begun
        self.takes_slots = read.is_ordinary  # whether the replies can be made from templates

    # --- for the coalescer ---

    def own(self, _key: Hashable) -> FastFlight:
        """Return the flight itself, which is of one read."""
        return self

    def names(self, _key: Hashable) -> tuple[str, ...]:
        """Return the cache tags of what it reads."""
        return self.flights.coalescer.names(self.read.request)

    def future(self) -> asyncio.Future[Reply]:
        """Return the reply to come, for a task."""
        self.takes_slots = False
        if self.reply is None:
            self.reply = asyncio.get_running_loop().create_future()
        return self.reply

    def cancel(self) -> None:
        """End, because no caller waits any more; nothing more is asked for it."""
        self.is_over = self.is_done = True
        self.takes_slots = False
        if self.place is not None:
            self.place.queue.give_up(self)
        if self.resolving is not None:
            self.resolving.cancel()
        if self.reply is not None:
            self.reply.cancel()

    # --- for the batch queue, and for the ledger ---

    def load(self) -> tuple[Payer, int]:
        """Return what its call is charged to, and as how many calls Graph counts it."""
        return self.cost or self, 1

    def send(self, calls: int, *, is_counted: bool = True) -> None:
        """Record that a call was sent to Graph."""
        if is_counted and not self.is_sent and self.cost is None:
            self.is_sent, self.takes_slots = True, False
            counts: RouteCounts = self.read.common.counts
            counts.counted += 1
            if not counts.is_pending:
                counts.wait_for_settling()
        else:
            self.record().send(calls, is_counted=is_counted)

    def record(self) -> RequestCost:
        """Return the cost record of the request that began it."""
        if self.cost is None:
            self.cost, self.takes_slots = self.read.common.counts.record(is_sent=self.is_sent), False
        return self.cost

    def take(self, slot: Slot, answer: BatchAnswer) -> bool:
        """Answer all callers by *slot* of a batch's *answer* if that is an ordinary one; else do nothing.

        It is ordinary as long as nothing was changed since the entry was asked for, and the read was sent once.
        """
        flights, read, entry = self.flights, self.read, self.entry
        moment: Moment = answer.moment or flights.begin(answer)
        if not self.takes_slots or moment.is_leaving or self.era != flights.era:
            return False
        if entry is not None and moment.changed_at >= entry.meta.asked_at:
            return False
        try:
            if slot.code == 304 and entry is not None and self.request.validator:
                kind = answer.confirming(read, entry, slot)
                found = None if kind is None else (kind, confirmed(entry, read.proof, self.asked))
            else:
                found = answer.new(read, entry, slot, self.asked)
            if found is None or (self.has_joined and found[0].shared is None):
                return False
            kind, held = found
            is_held_behind = kind.mode is Mode.MISS and self._will_be_held(held)
            if not is_held_behind:
                flights.learn_usage(read, kind, moment)
                kind = flights.hold(read, kind, held)
        except Exception as fault:  # noqa: BLE001 - logged, and the layers answer
            log_fault(fault)
            return False
        self.is_done = self.is_over = True
        self.takes_slots = False
        flights.hand_out(self, kind, held, moment)
        if is_held_behind:
            self._hold(kind, held, moment)
        return True

    @staticmethod
    def take_alike(reads: Sequence[Any], slots: Sequence[Slot | None], answer: BatchAnswer) -> Collection[int]:
        """Answer at once those of the *reads* that are alike, of which nothing was held; return their places."""
        return take_new(reads, slots, answer)

    @property
    def awaits_first_body(self) -> bool:
        """Whether nothing is held of the read, and one caller waits for it who asks for nothing else meanwhile."""
        callers = self.callers
        if not self.takes_slots or self.entry is not None or self.has_joined or self.era != self.flights.era:
            return False
        return len(callers) == 1 and not any(map(_MAY_ASK_AT_ONCE, callers))

    def _will_be_held(self, entry: Entry) -> bool:
        """Return whether *entry* is certain to be held, and nobody asks for it before the replies are sent."""
        if not self.flights.will_take(self.read.key, entry, LARGEST_HEAD):
            return False
        return not any(map(_MAY_ASK_AT_ONCE, self.callers))

    def _hold(self, kind: AnswerKind, entry: Entry, moment: Moment) -> None:
        """Hold *entry*, and learn the usage in its replies, which have been sent and say that it is held."""
        flights, read = self.flights, self.read
        try:
            flights.hold(read, kind, entry)
            flights.learn_usage(read, kind, moment)
        except Exception as fault:  # noqa: BLE001 - logged; the callers have their answers
            log_fault(fault)

    def answer(self, reply: Reply, batch: str = "") -> None:
        """Let the layers say what becomes of *reply*, which came in *batch*."""
        if not self.is_done:
            waited = self.left - self.since + (reply.window_s or 0.0)
            lane = self.lane.name if self.lane and batch else reply.lane
            self.flights.settle(self, replace(reply, window_s=waited, batch=batch or reply.batch, lane=lane))

    def fail(self, error: BaseException) -> None:
        """Let the layers say what becomes of *error*."""
        if not self.is_done:
            self.flights.settle(self, error)


class Moment:
    """What stays the same while the slots of one batch are handed out, and the replies that were written."""

    __slots__ = (
        "_clock",
        "_now",
        "answer",
        "answers",
        "changed_at",
        "has_refused",
        "is_leaving",
        "together",
        "upstream_ms",
    )

    def __init__(
        self,
        answer: BatchAnswer,
        changed_at: float,
        clock: Callable[[], float],
        *,
        is_leaving: bool,
        has_refused: bool,
    ) -> None:
        """Begin with no replies."""
        self.answer = answer
        self.is_leaving = is_leaving
        self.changed_at = changed_at
        self._clock = clock
        self._now: float | None = None
        self.has_refused = has_refused
        self.upstream_ms = (answer.outer.upstream_s or 0.0) * 1000
        self.answers: list[OrdinaryAnswer] = []
        self.together: list[AnswersOfBatch] = []

    @property
    def now(self) -> float:
        """Return the time at which it was asked for first, of a clock that is never set back."""
        if self._now is None:
            self._now = self._clock()
        return self._now


FEWEST_ALIKE = 2
"""Reads that are answered together; one alone takes its slot."""


def take_new(reads: Sequence[Any], slots: Sequence[Slot | None], answer: BatchAnswer) -> Collection[int]:
    """Answer at once those of the *reads* that are alike, and of which nothing was held, by *slots* of *answer*.

    Return their places. What is stored is stored together, when these replies have been sent.
    """
    places = [
        at
        for at, (read, slot) in enumerate(zip(reads, slots, strict=True))
        if slot is not None and type(read) is FastFlight and read.awaits_first_body
    ]
    if len(places) < FEWEST_ALIKE:
        return ()
    waiting: list[FastFlight] = [reads[at] for at in places]
    flights, taken = waiting[0].flights, list[int]()
    moment: Moment = answer.moment or flights.begin(answer)
    if moment.is_leaving or moment.has_refused:
        return ()
    try:
        own = [slot for slot in [slots[at] for at in places] if slot is not None]
        found = find_new(answer, [each.read for each in waiting], own, [each.asked for each in waiting])
        for (kind, _), (alike, entries) in found.items():
            if _hand_out_new([waiting[at] for at in alike], kind, entries, moment):
                taken += [places[at] for at in alike]
    except Exception as fault:  # noqa: BLE001 - logged, and each slot is looked at
        log_fault(fault)
    return taken


def _hand_out_new(waiting: Sequence[FastFlight], kind: AnswerKind, entries: Sequence[Entry], moment: Moment) -> bool:
    """Answer the one caller of each of *waiting* with its first entry, if all are certain to be held; return that."""
    flights, reads = waiting[0].flights, [flight.read for flight in waiting]
    keys = [read.key for read in reads]
    if not flights.will_take_all(keys, entries, LARGEST_HEAD):
        return False
    callers = [next(iter(flight.callers)) for flight in waiting]
    windows = [flight.left - flight.since for flight in waiting]
    written = [
        caller.message(kind.own, entry, moment, window_s)
        for caller, entry, window_s in zip(callers, entries, windows, strict=True)
    ]
    lines = flights.reader.telemetry.lines_like(reads, kind.mode, kind.usage, entries, [size for _, size in written])
    times = [
        _send(flight, caller, message) for flight, caller, (message, _) in zip(waiting, callers, written, strict=True)
    ]
    moment.answers += [
        (read.common.counts, kind.mode, seconds, window_s, len(entry.body), line)
        for read, seconds, window_s, entry, line in zip(reads, times, windows, entries, lines, strict=True)
    ]
    try:
        flights.hold_new(reads, keys, entries)
        flights.note_usage(kind, reads, moment)
    except Exception as fault:  # noqa: BLE001 - logged; the callers have their answers
        log_fault(fault)
    return True


def _send(flight: FastFlight, caller: Caller, message: bytes) -> float:
    """End *flight*, whose one *caller* gets *message*; return the seconds since the caller asked."""
    flights, key = flight.flights, flight.read.flight
    flight.is_done = flight.is_over = True
    flight.takes_slots = False
    flight.callers = {}
    if flights.coalescer.flights.get(key) is flight:
        del flights.coalescer.flights[key]
    flights.callers.discard(caller)
    seconds = flights.reader.clock() - caller.began
    caller.send(message)
    return seconds


def load_entry(flight: FastFlight, fetch: Fetch) -> None:
    """Load the entry of the read that *flight* is for by *fetch*, and then ask Graph; until then others may join it."""
    credential = flight.read.request.credential
    fetch(flight.read.key, credential.token if credential else "", partial(_on_loaded, flight))


def _on_loaded(flight: FastFlight, entry: Entry | None) -> None:
    flights = flight.flights
    if flight.is_over:  # all callers have left
        return
    try:
        if flight.era != flights.era or not flights.may_ask(entry) or not _is_asked(flight, entry):
            flights.ask_layers(flight)
    except Exception as fault:  # noqa: BLE001 - logged, and the callers get their answers all the same
        flights.settle(flight, fault)


def _is_asked(flight: FastFlight, entry: Entry | None) -> bool:
    """Ask Graph with the validator of *entry*; return whether *flight* waits for a batch now.

    It does not where the policy does not ask Graph, and where too many reads wait.
    """
    flights, read = flight.flights, flight.read
    if entry is not None:
        flights.cache.note_loaded(read.request, read.key, read.fingerprint)
    if not read.asks_always:
        prepared = flights.cache.forward_loaded(read.request, read.key, entry)
        if prepared is None:
            return False
        entry = prepared[1]
    flight.since = flights.reader.clock()
    flights.prepare(read, entry, flight.since)
    flight.entry, flight.asked = entry, flights.now()
    flight.request, flight.part = read.asked or read.request, read.part
    return flights.enqueue(flight)
