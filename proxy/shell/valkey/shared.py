"""The shared store as the pipeline layers use it: entries, leases, the log, limits, and whether they can be trusted."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.core.cache.purge import PurgeOrder
from proxy.core.graph.webhooks import Event
from proxy.core.memory.memo import MEMO_BYTES, Recent
from proxy.core.shared.history import SharedHistory
from proxy.core.shared.log_index import LogIndex
from proxy.core.shared.open_writes import OpenWrites
from proxy.core.shared.records import Changed, Closed, Content, Opened, Purged
from proxy.core.shared.trust import LATE_S, TRUST_S, Trust
from proxy.core.shared.wire import Id
from proxy.shell import Announced
from proxy.shell.valkey.entries import Entries
from proxy.shell.valkey.events import GAP_S, Events
from proxy.shell.valkey.fleet import OTHER_SECRET, Fleet
from proxy.shell.valkey.leases import CAUSES, Flights
from proxy.shell.valkey.limits import SharedLimits

_log = logging.getLogger("graph_sidecar.shared")

WRITE_BYTES: Final = 8
VOUCHED: Final = 50_000
"""The most entries whose position in the log is remembered to be in order."""

RENEW_S: Final = 20.0
"""The seconds after which a write that is still open is announced again."""

LOOK_S: Final = 0.01

EVENTS: Final = 100
"""The most events in one record."""

NO_WAIT_S: Final = 1.0
"""The seconds for which no read waits for the log after a read has waited in vain."""


AGAIN_S = 0.5
"""Seconds after which a task goes on that had a fault of its own."""

ENDS_AT = ContextVar("ends_at", default=math.inf)
"""When the budget of the read at hand is used up, in seconds of the loop; infinity where it has not begun."""

HAS_CAUGHT_UP = ContextVar("has_caught_up", default=False)
"""Whether the current read has waited until all records older than the read were read from the log."""


@dataclass(eq=False, slots=True)
class Write(Announced):
    """An open write of this replica."""

    shared: Shared
    name: bytes
    nodes: tuple[str, ...]
    who: bytes
    began: float
    announced_at: float
    logged_at: float = math.inf  # when the log had the record of its beginning, and which log that was
    logged_in: object = None

    async def answered(self) -> None:
        """Announce that Graph has answered the write; return when its caller may get the answer."""
        await self.shared.close(self)

    def lost(self) -> None:
        """Note that there was no answer: Graph may still perform the write."""
        self.shared.lost(self)


@dataclass(eq=False, slots=True)
class Shared:
    """This replica's part in the fleet, as the layers use it."""

    fleet: Fleet
    log: Events
    entries: Entries
    flights: Flights
    limits: SharedLimits
    open_writes: OpenWrites
    history: SharedHistory
    now: Callable[[], float]  # our time of day
    writes_waited: int = 0
    writes_unlogged: int = 0  # that were answered before the log had them
    _no_wait_until: float = -math.inf
    _vouched: Recent[bytes, float] = field(default_factory=lambda: Recent(VOUCHED, 8 * MEMO_BYTES))
    _writes: dict[bytes, Write] = field(default_factory=dict)

    @property
    def index(self) -> LogIndex:
        """Return the index of the log."""
        return self.log.index

    @property
    def budget_s(self) -> float:
        """Return the seconds that a read may wait for the store, in all."""
        return self.fleet.budget_s

    @property
    def ends_at(self) -> float:
        """Return when the budget of the current read is used up; it begins with the first wait for the store."""
        return min(ENDS_AT.get(), self.steady() + self.budget_s)

    @property
    def trust(self) -> Trust:
        """Return the lease for serving held entries as fresh."""
        return self.fleet.trust

    @staticmethod
    def steady() -> float:
        """Return monotonic seconds; the loop's own clock stands still while callbacks run, so it would be too early."""
        return time.monotonic()

    # --- trust ---

    @property
    def is_believed(self) -> bool:
        """Return whether all records of other replicas are known, up to a moment ago."""
        return self.trust.is_valid(self.steady())

    @property
    def is_away(self) -> bool:
        """Return whether the log cannot be read for now: then no read waits for it."""
        return not self.fleet.client.is_up or self.steady() < self._no_wait_until

    async def catch_up(self, within_s: float) -> bool:
        """Wait until all records of the others are known, at most so long; return whether they are."""
        if self.is_believed or HAS_CAUGHT_UP.get():
            return True
        if self.is_away:
            return False
        self.fleet.client.ask((b"PING",)).add_done_callback(lambda done: done.cancelled() or done.exception())
        is_current = await self.log.catch_up(within_s)
        if not is_current:
            self._no_wait_until = self.steady() + NO_WAIT_S
        return is_current and self.trust.has_sign_of_life(self.steady())

    def doubt(self, key: Callable[[], bytes], tags: Callable[[], Iterable[str]]) -> float:
        """Return the epoch seconds before which no entry *key* with *tags* is fresh; infinity: none is fresh.

        *key* and *tags* are called only where they matter.
        """
        if not (self.is_believed or self._may_go_on()):
            return math.inf
        if self.open_writes and self.open_writes.cover(tags()):
            return math.inf
        since = self.trust.since
        if not since:
            return 0.0
        vouched = self._vouched.get(key())
        return since if vouched is None or vouched >= since else math.nextafter(vouched, 0.0)

    def _may_go_on(self) -> bool:
        """Return whether a read goes on although the log was not just read: it has waited, or `alone = fresh`."""
        return HAS_CAUGHT_UP.get() or (self.fleet.goes_by_clock and self.is_away)

    def is_certain(self, tags: Callable[[], Iterable[str]]) -> bool:
        """Return whether a write of another replica to *tags* is known here as soon as it is answered."""
        if not (self.is_believed or self._may_go_on()):
            return False
        return not self.open_writes or not self.open_writes.cover(tags())

    def vouch(self, key: bytes, asked: float) -> None:
        """Remember that the entry *key*, *asked* for then, has a position in this log."""
        self._vouched.put(key, asked)

    def restart(self) -> None:
        """Start again with another log: older entries are not fresh, unless their position is in it."""
        self.trust.since = self.now()
        self._vouched = Recent(VOUCHED, 8 * MEMO_BYTES)
        self.open_writes.clear()

    # --- writes ---

    async def announce(self, nodes: tuple[str, ...], who: bytes) -> Write:
        """Announce a write before it is sent, and wait until the log has the record, within the budget of a read."""
        now = self.steady()
        write = Write(self, os.urandom(WRITE_BYTES), nodes, who, now, now)
        self._writes[write.name] = write
        opened = self._publish_opened(write)
        opened.add_done_callback(lambda done: self._on_logged(write, done))
        if self.fleet.client.is_up:
            await asyncio.wait([opened], timeout=self.budget_s)
        return write

    async def close(self, write: Write) -> None:
        """Announce that Graph has answered *write*; return when its caller may get the answer.

        Then no replica serves older entries as fresh: each has read the record, or trusts no entry any more.
        """
        self._writes.pop(write.name, None)
        closed = self.log.publish(Closed(write.name, write.nodes, write.who))
        began = self.steady()
        if await self._is_logged(closed, began):
            is_one_log = write.logged_in == self._current_log
            read_by = (write.logged_at if is_one_log else self.steady()) + TRUST_S
            await asyncio.sleep(max(0.0, read_by - self.steady()))
        else:
            self.writes_unlogged += 1
            await asyncio.sleep(TRUST_S)  # so long others still trust what they read before the store went away
        self.writes_waited += self.steady() - began > LOOK_S

    def lost(self, write: Write) -> None:
        """Note that *write* got no answer: what it may change is not fresh while Graph may still perform it."""
        self._writes.pop(write.name, None)
        self._publish_opened(write)

    def changed(self, events: Sequence[Event]) -> None:
        """Pass on *events* of webhooks."""
        for first in range(0, len(events), EVENTS):
            part = events[first : first + EVENTS]
            self.log.publish(Changed(tuple((each.kind, each.node, each.fields, each.others) for each in part)))

    async def purged(self, order: PurgeOrder) -> None:
        """Pass on an operator's *order*; return when the others have read it, or cannot be reached."""
        written = self.log.publish(Purged(order.path, order.id, order.fingerprint, order.all))
        if await self._is_logged(written, self.steady()):
            await asyncio.sleep(TRUST_S)

    async def _is_logged(self, written: asyncio.Future[Id], since: float) -> bool:
        """Return whether the log took a record sent at *since*; wait until no replica can trust a log without it.

        A store that answers and takes no writes is believed no longer than LATE_S. One that cannot be reached in an
        attempt begun since then is another log, or has left a gap, for who reaches it later.
        """
        while not written.done():
            if self.steady() >= since + LATE_S + TRUST_S:
                return False
            is_away = not self.fleet.client.is_up and self.fleet.client.has_tried(since)
            if is_away and self.log.lag_s > GAP_S:  # else others may read the log as well as this replica does
                return False
            await asyncio.wait([written], timeout=LOOK_S)
        return True

    @property
    def _current_log(self) -> object:
        """Return what differs once records that the log took may be lost: the connection and the log."""
        return self.fleet.client.connections, self.log.index.lineage

    def _on_logged(self, write: Write, done: asyncio.Future[Id]) -> None:
        if not done.cancelled() and done.exception() is None:
            write.logged_at, write.logged_in = self.steady(), self._current_log

    def _publish_opened(self, write: Write) -> asyncio.Future[Id]:
        return self.log.publish(Opened(write.name, write.nodes, write.who))

    def publish(self, what: Content) -> None:
        """Write *what* to the log, after the reply."""
        self.log.publish(what)

    # --- tasks ---

    async def tend_forever(self, expired: Callable[[], None]) -> None:
        """Announce long writes again, and give up open writes of other replicas whose time is over."""
        while True:
            await asyncio.sleep(1.0)
            now = self.steady()
            for write in list(self._writes.values()):
                if now - write.announced_at >= RENEW_S:
                    write.announced_at = now
                    self._publish_opened(write)
            expired()

    async def start(self, lifetimes: AsyncExitStack, expired: Callable[[], None]) -> None:
        """Start all tasks; leaving *lifetimes* ends them."""
        fleet = self.fleet
        tasks: list[Callable[[], Awaitable[None]]] = [
            fleet.client.run,
            fleet.beat_forever,
            self.log.run,
            self.log.write_forever,
            self.flights.run,
            lambda: self.tend_forever(expired),
        ]
        running = [asyncio.ensure_future(_go_on(task)) for task in tasks]

        async def end() -> None:
            await self._write_last_records()
            for task in running:
                task.cancel()
            for task in running:
                with suppress(asyncio.CancelledError):
                    await task

        lifetimes.push_async_callback(end)

    async def _write_last_records(self) -> None:
        """Wait until the log has the last records."""
        until = self.steady() + 1.0
        while self.log.unwritten and self.fleet.client.is_up and self.steady() < until:  # noqa: ASYNC110 - or never
            await asyncio.sleep(LOOK_S)

    # --- statistics ---

    def stats(self) -> dict[str, Any]:
        """Return the current numbers, and the trouble if there is one."""
        fleet, log, counts, flights = self.fleet, self.log, self.fleet.client.counts, self.flights
        steady = self.steady()
        lag = log.lag_s
        return {
            "store": str(fleet.dialer.location),
            "up": fleet.client.is_up,
            "believed": self.is_believed,
            "full": self.entries.is_full(steady),
            "other_secret": OTHER_SECRET in {fleet.trouble, fleet.refused},
            "trouble": fleet.trouble or fleet.refused or log.trouble,
            "replicas": fleet.replicas,
            "sign_of_life_s": round(fleet.silent_s, 1),
            "visits": counts.visits,
            "visit_s": round(counts.seconds, 4),
            "failed": counts.failed,
            "refused": counts.refused,
            "opened": counts.opened,
            "flights": {"led": flights.led, "joined": flights.followed, "taken_over": flights.taken_over},
            "waiting": flights.waiting,
            "alone": {cause: flights.alone[cause] for cause in CAUSES},
            "entries": self.entries.stats(),
            "log": {
                "lag_s": round(lag, 3) if lag < math.inf else -1,
                "records": log.read,
                "gaps": log.gaps,
                "lineages": log.lineages,
                "untold": log.unwritten,
                "open_writes": len(self.open_writes),
            },
            "probes": {"here": self.limits.probes, "elsewhere": self.limits.probes_left},
            "writes_waited": self.writes_waited,
            "writes_untold": self.writes_unlogged,
        }


async def _go_on(task: Callable[[], Awaitable[None]]) -> None:
    """Do *task*, which has no end; after a fault of its own again, so that the replica goes on sharing."""
    while True:
        try:
            await task()
        except Exception as fault:  # noqa: BLE001 - told
            _log.error("a fault in sharing with other replicas", exc_info=fault)
            await asyncio.sleep(AGAIN_S)
