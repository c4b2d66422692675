"""Answers plain reads from memory between two messages of a connection, without a task: from bytes to bytes.

Whatever is not plainly true goes the usual way, through the handler, which is the definition of every answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from proxy.core.cache import policy
from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.cache.purge import Purges
from proxy.core.cache.subscriptions import Subscriptions
from proxy.core.fast_path import head
from proxy.core.fast_path.head_table import HeadTable
from proxy.core.fast_path.prepared_read import Preparation, PreparedRead
from proxy.core.fast_path.prepared_reply import PreparedReply, field_lines, prepare_reply
from proxy.core.http import headers
from proxy.core.memory.memo import Memo
from proxy.core.model import Channel, Entry, Mode, Reply, Request
from proxy.core.observe.access_log import Varying
from proxy.core.quota.limiter import Limiter
from proxy.core.reply.response_head import http_date
from proxy.core.routing.hosts import Head
from proxy.core.routing.rules import Rule
from proxy.core.shared.trust import Trust
from proxy.shell.downstream.fast_flights import FastFlights
from proxy.shell.http.protocol import Connection
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.prepared import PreparedCount

_GOOD = Reply(200, (), b"{}")
"""What tells of no limit."""


class EntriesInMemory(Protocol):
    """What the fast path needs of the store."""

    def in_memory(self, key: bytes) -> Entry | None:
        """The entry, if it is in memory."""


@dataclass(slots=True)
class FastPath:
    """What knows plain reads by the bytes of their heads, and answers those that a fresh entry in memory answers."""

    preparation: Preparation
    flights: FastFlights | None  # asks for reads that memory does not answer
    store: EntriesInMemory
    rule: Callable[[Request], Rule]
    invalidations: InvalidationIndex
    purges: Purges
    subscriptions: Subscriptions
    limiter: Limiter
    telemetry: Counters
    is_open: Callable[[], bool]  # whether reads may be answered here now
    is_compared: Callable[[], bool]  # whether the next read goes the usual way, to be compared with a direct one
    now: Callable[[], float]  # epoch seconds
    steady: Callable[[], float]  # epoch seconds that are never set back
    clock: Callable[[], float]  # monotonic seconds
    rewrites_links: bool
    trust: Trust | None = None  # of a replica that shares, in what it holds
    doubted_at: Callable[[PreparedRead], float] = lambda _read: 0.0  # the moment before which nothing held is trusted
    _table: HeadTable = field(default_factory=HeadTable)
    _usage: Memo[..., bytes] = field(default_factory=lambda: Memo(field_lines))
    _events: int = 0  # of Meta's that the rules in prepared replies know of
    _date: tuple[int, bytes] = (0, b"")

    def take(self, connection: Connection, data: bytes) -> bool:
        """Answer *data*, which begins a message on *connection*; False: nothing was done, and it goes the usual way."""
        end = data.find(b"\r\n")
        line, block = data[:end], data[end:]
        known = self._table.find(block)
        read = known.reads.get(line) if known is not None else None
        if read is None and (read := self._look(line, block, data)) is None:
            return False
        if not self.is_open():
            return False
        entry = self.store.in_memory(read.key)
        if entry is not None and not read.asks_always and self._reuse(connection, read, entry):
            return True
        return self.flights is not None and not self.is_compared() and self.flights.ask(connection, read, data, entry)

    def forget(self, names: Iterable[str] = ()) -> None:
        """Forget all heads, and the tokens in them, where *names* name nothing: settings changed, or all was purged."""
        if not tuple(names):
            self._table.clear()

    def _reuse(self, connection: Connection, read: PreparedRead, entry: Entry) -> bool:
        """Answer *read* with *entry* if that is plainly fresh."""
        began, now, held = self.clock(), self.now(), entry.meta
        reply = read.reply
        if reply is None or reply.held is not held or self._events != self.subscriptions.events:
            reply = self._prepare_reply(read, entry)
            if reply is None:
                return False
        age_s = now - held.asked_at
        if not 0 <= age_s < reply.life or self._is_changed(read, held.asked_at, began):
            return False
        if self.is_compared():
            return False
        steady = self.steady()
        self.limiter.on_delivered_reply(read.subject, _GOOD, steady)
        usage = self.limiter.newest_usage_of(read.fingerprint, read.node, steady)
        lines = self._usage(usage) if usage else b""
        connection.answer(reply.framed(age_s, lines, self._today(), entry))
        (read.hit or self._prepare_hit(read, reply, entry)).add(Varying(self.clock() - began, age_s))
        return True

    def _is_changed(self, read: PreparedRead, asked: float, clock: float) -> bool:
        """Whether what was *asked* for then may have changed until *clock*, or was to be forgotten."""
        if self.purges.latest >= asked:
            return True
        trust = self.trust
        if trust is not None and not (clock < trust.until and trust.since < asked) and self.doubted_at(read) >= asked:
            return True
        if self.invalidations.changed_at < asked:
            return False
        if self.invalidations.must_learn(read.key, asked):
            return True
        return self.invalidations.invalidated_at(read.request, read.fingerprint) >= asked

    def _prepare_reply(self, read: PreparedRead, entry: Entry) -> PreparedReply | None:
        """The reply that *entry* gives to *read*, kept with it; None where it is not fresh for any time."""
        if self._events != self.subscriptions.events:  # what Meta tells of may be fresh for longer, or no more
            self._events = self.subscriptions.events
            self._table.clear()
        life = policy.fresh_lifetime_s(entry.meta, read.request.directives, self.rule(read.request), read.proof)
        read.reply = read.hit = None
        if life > 0 and (reply := prepare_reply(read.read, read.link_origin, entry, life)) is not None:
            read.reply = reply
            self._table.grow(len(reply.start) + len(reply.body or b""))
        return read.reply

    def _prepare_hit(self, read: PreparedRead, reply: PreparedReply, entry: Entry) -> PreparedCount:
        """What each time counts as that *reply*, made of *entry*, answers *read*; kept with it."""
        fields, channel = headers.from_stored(entry.headers), Channel(entry.meta.channel)
        reused = Reply(200, fields, entry.body, Mode.REUSED, channel)
        given = replace(reused, status=reply.status, body=entry.body if reply.body is None else reply.body)
        read.hit = hit = self.telemetry.prepare_hit(read.request, reused, read.fingerprint, given)
        return hit

    def _look(self, line: bytes, block: bytes, data: bytes) -> PreparedRead | None:
        """The plain read that *data* asks for, in a *line* and a *block* that are not known together of late."""
        if not head.is_whole(data):
            return None
        known = self._table.find(block)
        if known is None:
            block = head.without_changing(block)
            known = self._table.find(block) or self._table.add(block, head.read_fields(block))
        if line in known.reads:
            return known.reads[line]
        is_known, read = self._table.find_older(block, line)
        if not is_known:
            target = head.read_target(line)
            if known.fields is not None and target is not None:
                asked = Head("GET", target, known.fields)
                read = self.preparation.prepare(asked, rewrite_links=self.rewrites_links)
            self._table.add_read(block, line, read)
        return read

    def _today(self) -> bytes:
        """The value of Date now."""
        second = int(time.time())
        if self._date[0] != second:
            self._date = second, http_date(second).encode()
        return self._date[1]
