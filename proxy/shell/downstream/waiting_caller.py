"""Who waits for the reply to a read that no task works on: a connection, or a slot of a client's batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from proxy.core.fast_path.answer_template import Filled
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.graph import paging
from proxy.core.http import errors
from proxy.core.model import Entry, Reply
from proxy.core.quota.ledger import RequestCost
from proxy.shell.http.protocol import Connection
from proxy.shell.observe.faults import log_fault

if TYPE_CHECKING:  # it imports this module
    from proxy.shell.downstream.fast_flight import FastFlight, Moment


class Caller(Protocol):
    """Who waits for the reply to a read that no task works on."""

    @property
    def flight(self) -> FastFlight:
        """What it waits for."""

    @property
    def read(self) -> PreparedRead:
        """What it asked for."""

    @property
    def began(self) -> float:
        """When it asked, in monotonic seconds."""

    @property
    def is_first(self) -> bool:
        """Whether the flight was begun for it."""

    @property
    def may_ask_at_once(self) -> bool:
        """Whether it may ask for the same again before `send` has returned."""

    def message(self, filled: Filled, entry: Entry, moment: Moment, window_s: float) -> tuple[bytes, int]:
        """Return *entry* with the head *filled* as it takes it, and the size of the body."""

    def send(self, message: bytes) -> None:
        """Take what `message` has returned."""

    def render(self, reply: Reply, seconds: float) -> Reply:
        """Return *reply*, which is not an ordinary one, as it takes it after so many *seconds*, counted."""

    def send_reply(self, reply: Reply) -> None:
        """Take what `render` has returned."""

    def pass_to_handler(self, cause: BaseException | None) -> None:
        """Be answered by the handler after all, because of *cause*."""

    def ask_again(self, take: Callable[[Connection, bytes], bool]) -> None:
        """Be answered as if the caller had come now: by *take*, the fast path's, or by the handler."""


class ChargedCaller(msgspec.Struct, eq=False):
    """A caller of a flight, and its cost record: that of the flight for the first, one without calls for the others."""

    flight: FastFlight
    read: PreparedRead
    began: float  # when it asked, in monotonic seconds
    is_first: bool  # whether the flight was begun for it
    cost: RequestCost | None = None  # where it is not counted by `RouteCounts`

    def __repr__(self) -> str:
        """Say what kind of thing this is, and nothing of the read, whose head holds a token."""
        return f"{type(self).__name__}()"

    def record(self) -> RequestCost:
        """Return the cost record of the caller's request."""
        if self.is_first:
            return self.flight.record()
        if self.cost is None:
            self.cost = self.read.common.counts.record(is_sent=False)
        return self.cost


class WaitingCaller(ChargedCaller, eq=False, kw_only=True):
    """A connection whose caller waits for the reply to a read."""

    connection: Connection
    head: bytes  # of the message, which may have to go the usual way

    @property
    def may_ask_at_once(self) -> bool:
        """Whether a further message of the connection has come."""
        return bool(self.connection.early)

    def message(self, filled: Filled, entry: Entry, moment: Moment, window_s: float) -> tuple[bytes, int]:
        """Return *entry* with the head *filled* as bytes, and how many of them are the body."""
        read, flights, given, newest = self.read, self.flight.flights, entry.body, b""
        if given.find(b"{", 1) >= 0 and (origin := read.link_origin).origin and paging.may_have_links(given):
            given = paging.rewrite(given, origin.hosts, origin.origin)
        if filled.takes_newest:
            usage, _ = flights.reader.quota.newest_usage_of(read.fingerprint, read.node, moment.now)
            newest = flights.usage_lines(usage) if usage else b""
        tail = filled.tail % (window_s * 1000, moment.upstream_ms, len(given))
        return b"".join((entry.meta.etag.encode().join(filled.head), newest, tail, given)), len(given)

    def send(self, head: bytes, body: bytes = b"", *, keeps: bool = True) -> None:
        """Send the reply; a fault in what comes behind it on the connection ends that connection alone."""
        try:
            self.connection.answer(head, body, keeps=keeps)
        except Exception as fault:  # noqa: BLE001 - logged; the reply was sent, so no other may follow
            log_fault(fault)
            self.connection.force_close()

    def render(self, reply: Reply, seconds: float) -> Reply:
        """Return *reply*, which is not an ordinary one, as the caller gets it after so many *seconds*, counted."""
        read = self.read
        return self.flight.flights.reader.render(read.read, reply, self.record(), read.link_origin, seconds)

    def send_reply(self, reply: Reply) -> None:
        """Send *reply*, as `render` has it."""
        self.flight.flights.send_to(self, reply)

    def pass_to_handler(self, cause: BaseException | None) -> None:
        """Let the handler answer the message after all; a fault there ends the connection alone."""
        try:
            self.connection.pass_to_handler(self, self.head, is_large=isinstance(cause, errors.Large))
        except Exception as fault:  # noqa: BLE001 - as above
            log_fault(fault)
            self.connection.force_close()

    def ask_again(self, take: Callable[[Connection, bytes], bool]) -> None:
        """Be answered as if the caller had come now: by *take*, the fast path's, or by the handler."""
        self.read.common.counts.asked -= 1
        if not take(self.connection, self.head):
            self.pass_to_handler(None)

    def leave(self) -> None:
        """Note that the caller has hung up."""
        self.flight.flights.leave(self)

    def break_off(self, error: errors.SidecarError) -> None:
        """Answer with *error*: the sidecar ends."""
        self.flight.flights.leave(self)
        self.flight.flights.send_to(self, errors.reply_of(error))
