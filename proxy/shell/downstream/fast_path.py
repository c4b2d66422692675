"""Answers plain reads from memory between two messages of a connection, without a task: from bytes to bytes.

Whatever is not plainly true goes the usual way, through the handler, which is the definition of every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from proxy.core.cache import policy
from proxy.core.cache.generation import Generation
from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.cache.purge import Purges
from proxy.core.fast_path.head_table import HeadTable
from proxy.core.fast_path.prepared_read import Preparation, PreparedRead
from proxy.core.fast_path.prepared_reply import FreshHit, field_lines, prepare_reply
from proxy.core.http import headers
from proxy.core.memory.memo import Memo
from proxy.core.model import Channel, Entry, Mode, Reply, Request
from proxy.core.quota.limiter import Limiter
from proxy.core.reply.response_head import http_date
from proxy.core.routing.rules import Rule
from proxy.core.shared.trust import Trust
from proxy.shell.clock import TimeOfDay
from proxy.shell.http.protocol import Connection
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.faults import log_fault


class EntriesInMemory(Protocol):
    """What the fast path needs of the memory tier."""

    @property
    def entries(self) -> Mapping[bytes, Entry | None]:
        """The entries in memory; to look here is no use of an entry."""

    def get(self, key: bytes) -> Entry | None:
        """The entry, which becomes the most recently used."""


class Asker(Protocol):
    """What asks for reads that memory does not answer."""

    def ask(self, connection: Connection, read: PreparedRead, head: bytes, entry: Entry | None) -> bool:
        """Let *connection* wait for the reply to *read*, and return whether it does; memory holds *entry* of it."""

    def forget(self) -> None:
        """Rely on nothing that was prepared before: settings changed, or everything was purged."""


class ComparisonSampler(Protocol):
    """Says which reads are to be compared: these take the handler's path."""

    percent: float
    """The share of the reads that are to be compared; 0: `wants` need not be asked."""

    def wants(self) -> bool:
        """Whether this read is to be compared; asked once a read."""


class BatchMessages(Protocol):
    """What answers clients' batches."""

    def take(self, connection: Connection, data: bytes) -> bool:
        """Answer *data*, which begins a message on *connection*; False: nothing was done, and it goes the usual way."""


_POST = b"POST "


@dataclass(slots=True)
class FastPath:
    """What knows plain reads by the bytes of their heads, and answers those that a fresh entry in memory answers."""

    preparation: Preparation
    asker: Asker
    memory: EntriesInMemory
    rule: Callable[[Request], Rule]
    invalidations: InvalidationIndex
    purges: Purges
    limiter: Limiter
    telemetry: Counters
    generation: Generation
    comparer: ComparisonSampler
    is_leaving: Callable[[], bool]  # whether the sidecar is about to end
    now: TimeOfDay
    clock: Callable[[], float]  # monotonic seconds
    rewrites_links: bool
    table: HeadTable
    batches: BatchMessages | None = None  # answers clients' batches
    trust: Trust | None = None  # of a replica that shares, in what it holds
    doubted_at: Callable[[PreparedRead], float] = lambda _read: 0.0  # the moment before which nothing held is trusted
    _usage: Memo[..., bytes] = field(default_factory=lambda: Memo(field_lines))
    _date: tuple[int, bytes] = (0, b"")

    def answer_again(self, connection: Connection, data: bytes) -> bool:
        """Answer *data* as the last time if that is still true; False: nothing was done, and `take` is the next to ask.

        That is so while its entry is the one in memory, is fresh, and no generation has begun. The head is written
        again about once a second.
        """
        hit = self.table.hits.get(data)
        if hit is None or hit.generation != self.generation.number:
            return False
        now, began = self.now.clock(), self.clock()
        entry = self.memory.entries.get(hit.key)
        if entry is None or entry.meta is not hit.held or now < hit.since:
            return False
        if now >= hit.until and not self._write_head_again(hit, now):
            return False
        trust = self.trust
        if trust is not None and not (began < trust.until and trust.since < hit.asked_at):
            return False
        connection.send(hit.head + (entry.body if hit.body is None else hit.body), began)
        hit.counted.add(now, self.clock() - began, now - hit.asked_at)
        return True

    def _write_head_again(self, hit: FreshHit, now: float) -> bool:
        """Write the head of *hit* for *now*, unless its freshness or its usage headers are over."""
        if now >= hit.usage_until or now - hit.asked_at >= hit.reply.life:
            return False
        self.memory.get(hit.key)  # it has been used
        hit.frame(now, self._today(now))
        return True

    def take(self, connection: Connection, data: bytes) -> bool:
        """Answer *data*, which begins a message on *connection*; False: nothing was done, and it goes the usual way."""
        try:
            if data.startswith(_POST):
                return self.batches is not None and self.batches.take(connection, data)
            read = self.table.read_of(data, self.preparation, rewrites_links=self.rewrites_links)
            if read is None or self.is_leaving() or self.telemetry.tracer is not None:
                return False
            began, entry = self.clock(), self.memory.entries.get(read.key)
            if entry is not None:
                self.memory.get(read.key)  # it has been used
                if not read.is_kept:
                    self.table.keep(data, read)
            hit = None if entry is None or read.asks_always else self._fresh_hit(read, entry, began)
            if hit is None or entry is None:
                is_compared = self.comparer.percent and self.comparer.wants()
                return not is_compared and self.asker.ask(connection, read, data, entry)
        except Exception as fault:  # noqa: BLE001 - logged, and the handler answers
            log_fault(fault)
            return False
        self._give(connection, hit, entry, began)
        if self.limiter.is_quiet and not self.comparer.percent:
            self.table.add_hit(data, hit)
        return True

    def _give(self, connection: Connection, hit: FreshHit, entry: Entry, began: float) -> None:
        """Answer with *hit*, made of *entry* for a message that came at *began*, and count and log that."""
        connection.send(hit.head + (entry.body if hit.body is None else hit.body), began)
        hit.counted.add(hit.since, self.clock() - began, hit.since - hit.asked_at)

    def is_open(self) -> bool:
        """Whether reads may be answered here now: not those that are traced, nor while the sidecar ends."""
        return not self.is_leaving() and self.telemetry.tracer is None

    def forget(self, names: Iterable[str] = ()) -> None:
        """Forget all heads, and the tokens in them, where *names* name nothing: settings changed, or all was purged."""
        if not tuple(names):
            self.table.clear()
            self.asker.forget()

    def _fresh_hit(self, read: PreparedRead, entry: Entry, began: float) -> FreshHit | None:
        """The reply to *read* from *entry*, if that is plainly fresh, with its head for this moment."""
        now = self.now()
        hit = self.plain_hit(read, entry, began, now)
        if hit is None or self.comparer.wants():
            return None
        steady = self.now.steady()
        if not self.limiter.is_quiet:
            self.limiter.on_delivered(read.subject, steady, is_refused=False)
        usage, lasts_s = self.limiter.newest_usage_of(read.fingerprint, read.node, steady)
        hit.usage, hit.usage_until = self._usage(usage) if usage else b"", now + lasts_s
        hit.frame(now, self._today(now))
        return hit

    def plain_hit(self, read: PreparedRead, entry: Entry, began: float, now: float) -> FreshHit | None:
        """The reply to *read* from *entry*, if that is plainly fresh *now*; its head is of an earlier moment."""
        hit = read.hit
        if hit is None or hit.held is not entry.meta or hit.generation != self.generation.number:
            hit = self._check(read, entry)
        if hit is None or not hit.is_fresh(now) or self._is_doubted(read, hit.asked_at, began):
            return None
        return hit

    def _check(self, read: PreparedRead, entry: Entry) -> FreshHit | None:
        """The reply that *entry* gives to *read* in this generation, kept with it; None if it is not plainly fresh."""
        held = entry.meta
        life = policy.fresh_lifetime_s(held, read.request.directives, self.rule(read.request), read.proof)
        if life <= 0 or self._is_changed(read, held.asked_at):
            read.hit = None
        elif (
            read.hit is None
            or read.hit.held is not held
            or read.hit.reply.life != life
            or read.hit.counted.era != self.telemetry.era
        ):
            read.hit = self._prepare_hit(read, entry, life)
        if read.hit is not None:
            read.hit.generation = self.generation.number
        return read.hit

    def _is_changed(self, read: PreparedRead, asked: float) -> bool:
        """Whether what was *asked* for then may have changed since, or was to be forgotten."""
        if self.purges.latest >= asked:
            return True
        if self.invalidations.changed_at < asked:
            return False
        if self.invalidations.must_learn(read.key, asked):
            return True
        return self.invalidations.invalidated_at(read.request, read.fingerprint) >= asked

    def _is_doubted(self, read: PreparedRead, asked: float, clock: float) -> bool:
        """Whether other replicas may have changed until *clock* what was *asked* for then."""
        trust = self.trust
        is_trusted = trust is None or (clock < trust.until and trust.since < asked)
        return not is_trusted and self.doubted_at(read) >= asked

    def _prepare_hit(self, read: PreparedRead, entry: Entry, life: float) -> FreshHit | None:
        """The reply that *entry*, plainly fresh for *life* seconds, gives to *read*; None if it cannot be kept."""
        reply = prepare_reply(read.read, read.link_origin, entry, life)
        if reply is None:
            return None
        fields, channel = headers.from_stored(entry.headers, entry.meta.etag), Channel(entry.meta.channel)
        reused = Reply(200, fields, entry.body, Mode.REUSED, channel)
        given = replace(reused, status=reply.status, body=entry.body if reply.body is None else reply.body)
        counted = self.telemetry.prepare_hit(read.request, reused, read.fingerprint, given)
        self.table.grow_by_hit(reply)
        return FreshHit(read.key, entry.meta, reply, entry.meta.asked_at, reply.body, counted)

    def _today(self, now: float) -> bytes:
        """The value of Date at *now*."""
        second = int(now)
        if self._date[0] != second:
            self._date = second, http_date(second).encode()
        return self._date[1]
