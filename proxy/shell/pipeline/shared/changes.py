"""Applies the records of other replicas here: their writes, events, purges, refused tokens and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.core.cache.invalidation import changes_until, tag_of_token
from proxy.core.cache.purge import PurgeOrder
from proxy.core.graph.webhooks import Event
from proxy.core.shared.history import SharedHistory
from proxy.core.shared.limiter import SharedLimiter
from proxy.core.shared.log_index import LogIndex
from proxy.core.shared.records import Changed, Closed, Content, LimitReport, Opened, Purged, Refused, Reopened, Wanted
from proxy.core.shared.wire import Id
from proxy.shell.pipeline.invalidator import Invalidator
from proxy.shell.valkey.shared import Shared

LIVE_S = 1.0
"""A record that is no older than this was read as it came, and counts as of now."""


@dataclass(eq=False, slots=True)
class SharedChanges:
    """Applies records of the log."""

    invalidator: Invalidator
    limiter: SharedLimiter
    shared: Shared
    history: SharedHistory
    steady: Callable[[], float]  # epoch seconds that are never set back, as the limiter takes them
    clock: Callable[[], float]  # monotonic seconds, as the merger takes them

    def apply(self, what: Content, at: Id, age_s: float, *, own: bool) -> None:
        """Apply the record at *at* in the log, which was written so many seconds ago; *own*: by this replica."""
        when = self.invalidator.now() - (age_s if age_s > LIVE_S else 0.0)
        apply: dict[type[Content], Callable[..., None]] = {
            Opened: self._opened,
            Closed: self._closed,
            Changed: self._changed,
            Refused: self._refused,
            Purged: self._purged,
            LimitReport: self._limits_reported,
            Reopened: self._reopened,
            Wanted: self._wanted,
        }
        apply[type(what)](what, at, when, own=own)

    def restart(self) -> None:
        """Start again with another log: older entries are not fresh, unless their position is in this log."""
        self.shared.restart()
        self._end_flights(())

    def doubt(self) -> None:
        """Note that records may have been missed: no entry that was fetched before now is fresh."""
        self.invalidator.index.invalidate((), self.invalidator.now())
        self._end_flights(())

    def expire(self) -> None:
        """Forget open writes of other replicas whose time is over: entries fetched from now on may be fresh."""
        now, index = self.invalidator.now(), self.index
        for nodes, who in self.shared.open_writes.expired(now):
            tags = self.invalidator.index.record_write(nodes, who, now)
            index.note(tags, Id(index.cursor.ms, index.cursor.number + 1))
            self._end_flights(tags)

    @property
    def index(self) -> LogIndex:
        """The index of the log."""
        return self.shared.index

    def _opened(self, what: Opened, at: Id, when: float, *, own: bool) -> None:
        tags = self.invalidator.index.tags_of_write(what.nodes, what.who)
        self.index.note(tags, at)
        if not own:
            self.shared.open_writes.open(what.write, what.nodes, what.who, changes_until(when, answered=False))
            self._end_flights(tags)

    def _closed(self, what: Closed, at: Id, when: float, *, own: bool) -> None:
        invalidations = self.invalidator.index
        tags = (
            invalidations.tags_of_write(what.nodes, what.who)
            if own
            else invalidations.record_write(what.nodes, what.who, when)
        )
        self.index.note(tags, at)
        self.shared.open_writes.close(what.write)
        if not own:
            self._end_flights(tags)

    def _changed(self, what: Changed, at: Id, when: float, *, own: bool) -> None:
        for event in (Event(*each) for each in what.events):
            if not own:
                self.invalidator.subscriptions.on_event(event)
            invalidations = self.invalidator.index
            tags = (
                invalidations.tags_of_write(event.nodes, b"")
                if own
                else invalidations.record_write(event.nodes, b"", when)
            )
            self.index.note(tags, at)
            if not own:
                self._end_flights(tags)

    def _refused(self, what: Refused, at: Id, when: float, *, own: bool) -> None:
        invalidations = self.invalidator.index
        self.index.note((tag_of_token(what.who),), at)
        if not own:
            invalidations.record_refused_token(what.who, when)

    def _purged(self, what: Purged, at: Id, when: float, *, own: bool) -> None:
        if what.all or not what.id:
            self.index.note((), at)
        else:
            self.index.note(self.invalidator.index.tags_showing(what.id), at)
        if not own:
            order = PurgeOrder(what.path, what.id, what.fingerprint, what.all)
            self._keep(asyncio.ensure_future(self.invalidator.purge_here(order, when)))

    def _limits_reported(self, what: LimitReport, _at: Id, when: float, *, own: bool) -> None:
        if not own:
            self.limiter.apply(what, self.steady() - max(0.0, self.invalidator.now() - when))

    def _reopened(self, what: Reopened, _at: Id, _when: float, *, own: bool) -> None:
        if not own:
            self.limiter.reopen(what, self.steady())

    def _wanted(self, what: Wanted, _at: Id, _when: float, *, own: bool) -> None:
        if not own:
            self.history.apply(what, self.clock())

    def _end_flights(self, tags: tuple[str, ...]) -> None:
        for close in self.invalidator.flights:
            close(tags)

    def _keep(self, task: asyncio.Future[Any]) -> None:
        """Keep a reference to *task* until it is done."""
        _purging.add(task)
        task.add_done_callback(_purging.discard)


_purging: set[asyncio.Future[Any]] = set()
