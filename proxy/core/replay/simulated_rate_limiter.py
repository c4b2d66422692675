"""The rate limiter of the simulation, and the simulated Graph behind it: reads wait in line in simulated time.

`shell/pipeline/rate_limiter` does the same with tasks; both ask `quota.limiter`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from proxy.core.cache.key import FlightKey, Keys
from proxy.core.model import Mode, Reply, Request
from proxy.core.observe.access_log import AccessLogEntry
from proxy.core.quota.buckets import BucketName
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.ledger import RequestCost
from proxy.core.quota.limiter import RELEASED_PER_REPLY, Go, Halt, LimitChanges, Limiter, QuotaVerdict, Wait
from proxy.core.replay.counterfactual import SimulatedReply
from proxy.core.replay.event_queue import TURN_S, EventQueue


class Graph(Protocol):
    """The simulated Graph."""

    def answer(
        self, line: AccessLogEntry, request: Request, subject: QuotaSubject, now: float, *, held: float
    ) -> SimulatedReply:
        """Returns the reply to *request*, which the recorded *line* is about; the entry was fetched at *held*."""


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedCaller:
    """The caller of a simulated read: its line in the log, and its cost record."""

    line: AccessLogEntry
    cost: RequestCost
    left: float = -math.inf  # when its batch left, if later reads of the same turn of the event loop joined it

    @property
    def turn_s(self) -> float:
        """Seconds that such a turn of the event loop lasts."""
        return min(TURN_S, self.line.total_ms / 2000)


@dataclass(frozen=True, slots=True, eq=False)
class AskedRead:
    """A read to send to Graph, and what is done with the outcome."""

    request: Request
    subject: QuotaSubject
    caller: SimulatedCaller
    held_since: float  # when the entry that it revalidates was fetched; 0 without one
    on_reply: Callable[[Reply], None]
    on_halt: Callable[[Reply], None]  # gets Graph's earlier refusal under the same limit; nothing is sent


@dataclass(slots=True, eq=False)
class _DelayedRead:
    asked: AskedRead
    since: float
    end: float
    alarm: int = 0
    bucket: BucketName | None = None  # the limit that it waits, or has waited, for
    is_sent: bool = False


class SimulatedRateLimiter:
    """Sends reads to the simulated Graph, now or when *limiter* admits them."""

    def __init__(self, limiter: Limiter, graph: Graph, keys: Keys, events: EventQueue) -> None:
        """Start with no read waiting; *events* is the clock."""
        self.waited_s: list[float] = []  # of reads that were delayed
        self._limiter, self._graph, self._keys, self._events = limiter, graph, keys, events
        self._delayed: dict[FlightKey, list[_DelayedRead]] = {}
        self._lines: dict[BucketName | None, list[_DelayedRead]] = {}

    def take(self, asked: AskedRead) -> None:
        """Send a read, delay it, or refuse it."""
        now, request = self._events.now, asked.request
        verdict = self._limiter.admit(asked.subject, request.priority, now, after_refusal=request.after_refusal)
        if not isinstance(verdict, Wait):
            self._go(asked, verdict)
            return
        delayed = _DelayedRead(asked, now, now + self._limiter.stages.longest_wait_s)
        self._delayed.setdefault(self._keys.flight(request), []).append(delayed)
        self._wait_in_line(delayed, verdict)

    def promote(self, key: FlightKey) -> None:
        """Send the delayed reads of the flight under *key*: a read of ordinary priority has joined it."""
        for delayed in list(self._delayed.get(key, ())):
            self._ask_again(delayed, promoted=True)

    def _wait_in_line(self, delayed: _DelayedRead, wait: Wait) -> None:
        """Wait in line until the limiter is asked again; the first in line is woken when its time has come."""
        line = self._lines.setdefault(wait.bucket, [])
        line.insert(0 if delayed.bucket else len(line), delayed)
        delayed.bucket = wait.bucket
        delayed.alarm += 1
        number, end = delayed.alarm, delayed.end
        when = min(self._events.now + wait.seconds, end) if line[0] is delayed else end
        self._events.at(when, lambda: self._ask_again(delayed) if delayed.alarm == number else None)

    def _ask_again(self, delayed: _DelayedRead, *, promoted: bool = False) -> None:
        if delayed.is_sent:
            return
        now, request = self._events.now, delayed.asked.request
        delayed.alarm += 1
        _drop(self._lines, delayed.bucket, delayed)
        has_waited = promoted or now >= delayed.end
        verdict = self._limiter.admit(
            delayed.asked.subject, request.priority, now, has_waited=has_waited, after_refusal=request.after_refusal
        )
        if isinstance(verdict, Wait):
            self._wait_in_line(delayed, verdict)
            return
        delayed.is_sent = True
        _drop(self._delayed, self._keys.flight(request), delayed)
        self.waited_s.append(now - delayed.since)
        self._go(delayed.asked, verdict, delayed.bucket)

    def _wake(self, bucket: BucketName | None, count: int) -> None:
        for delayed in self._lines.get(bucket, [])[:count]:
            self._events.at(self._events.now, partial(self._ask_again, delayed))

    def _go(self, asked: AskedRead, verdict: QuotaVerdict, released: BucketName | None = None) -> None:
        if isinstance(verdict, Halt):
            asked.on_halt(verdict.reply)
            self._wake(released, RELEASED_PER_REPLY)
        elif isinstance(verdict, Go):
            self._send(asked, verdict.probes, released)

    def _send(self, asked: AskedRead, probes: tuple[BucketName, ...], released: BucketName | None) -> None:
        caller, now = asked.caller, self._events.now
        answer = self._graph.answer(caller.line, asked.request, asked.subject, now, held=asked.held_since)
        caller.cost.send(answer.calls - answer.uncertain)
        caller.cost.send(answer.uncertain, is_counted=False)
        began = caller.left if now - caller.left < 2 * TURN_S else now  # unless the rate limiter delayed it

        def on_end() -> None:
            if answer.reply.mode is Mode.FAILED:
                self._limiter.on_no_reply(probes, self._events.now)
            else:
                self._on_changes(self._limiter.on_reply(asked.subject, answer.reply, self._events.now, probes))
            asked.on_reply(answer.reply)
            self._wake(released, RELEASED_PER_REPLY)

        self._events.at(began + answer.seconds, on_end)

    def _on_changes(self, changes: LimitChanges) -> None:
        if changes.stopped:  # from the last on, because a read that goes on waiting moves to the front
            for delayed in [delayed for line in self._lines.values() for delayed in reversed(line)]:
                self._ask_again(delayed)
        elif changes.eased:
            for bucket in list(self._lines):
                self._wake(bucket, 1)


def _drop(kept: dict[Any, list[_DelayedRead]], key: Any, delayed: _DelayedRead) -> None:
    """Remove *delayed* from those under *key*."""
    kept[key].remove(delayed)
    if not kept[key]:
        del kept[key]
