"""Invalidates entries and flights after writes through the sidecar, Meta's webhooks and operators' purges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.core.cache.invalidation import InvalidationIndex, changes_until
from proxy.core.cache.key import Keys
from proxy.core.cache.purge import PurgeOrder, Purges
from proxy.core.cache.subscriptions import Subscriptions
from proxy.core.graph.webhooks import Event
from proxy.core.model import Credential, EntryMeta
from proxy.shell import Announced


class PurgeableStore(Protocol):
    """The methods of a store that the invalidator calls."""

    def known_meta(self, key: bytes) -> EntryMeta | None:
        """Return the metadata of the entry if it is in memory; the disk is not read."""

    def drop(self, key: bytes) -> None:
        """Forget *key* everywhere."""

    def purge(self) -> None:
        """Forget everything."""

    async def save_purges(self, orders: bytes) -> bool:
        """Save purge *orders* for the next run; True if they are on disk."""

    def stats(self) -> dict[str, int | float | str]:
        """Return the current numbers of the store by name."""


class Replicas(Protocol):
    """The other replicas that share entries with this one."""

    async def announce(self, nodes: tuple[str, ...], who: bytes) -> Announced:
        """Announce a write to *nodes*, by the token with fingerprint *who*, before it is sent."""

    def changed(self, events: Sequence[Event]) -> None:
        """Pass on *events* of webhooks to the other replicas."""

    async def purged(self, order: PurgeOrder) -> None:
        """Pass on an operator's *order*; return when the replicas have confirmed it or cannot be reached."""


@dataclass(frozen=True, slots=True)
class Invalidator:
    """Ends the freshness of entries, and closes flights to later reads."""

    index: InvalidationIndex
    purges: Purges
    subscriptions: Subscriptions
    keys: Keys
    store: PurgeableStore
    now: Callable[[], float]
    flights: Sequence[Callable[[Iterable[str]], None]]  # each closes the flights with these tags to later reads
    replicas: Replicas | None = None  # they get every change that happens here

    async def announce(self, nodes: tuple[str, ...], who: Credential | None) -> Announced:
        """Announce to the replicas a write to *nodes* (() if unknown) by *who*, before it is sent."""
        if self.replicas is None:
            return Announced()
        return await self.replicas.announce(nodes, self.keys.fingerprint(who))

    def on_write(self, nodes: tuple[str, ...], who: Credential | None, *, answered: bool) -> None:
        """Invalidate after a write to *nodes* (() if unknown) by *who*; one not *answered* may still be performed."""
        until = changes_until(self.now(), answered=answered)
        self._close(self.index.record_write(nodes, self.keys.fingerprint(who), until))

    def on_events(self, events: Sequence[Event]) -> None:
        """Invalidate the objects that *events* of webhooks name."""
        changed: set[str] = set()
        for event in events:
            self.subscriptions.on_event(event)
            changed.update(self.index.record_write(event.nodes, self.keys.fingerprint(None), self.now()))
        if changed:
            self._close(changed)
        if events and self.replicas is not None:
            self.replicas.changed(events)

    async def purge(self, order: PurgeOrder) -> dict[str, object]:
        """Purge here and on the replicas; return the counts for the answer of `POST /purge`.

        The order is in force at once. On return it is on disk, so that the next run keeps it, if *durable* is true.
        """
        report = await self.purge_here(order, self.now())
        if self.replicas is not None:
            await self.replicas.purged(order)
        return report

    async def purge_here(self, order: PurgeOrder, when: float) -> dict[str, object]:
        """Purge here alone, for an *order* given at *when* that the other replicas already have."""
        dropped, is_marked = self._forget(order, when)
        durable = await self.store.save_purges(self.purges.save())
        return {"dropped": dropped, "marked": is_marked, "durable": durable}

    def _forget(self, order: PurgeOrder, when: float) -> tuple[int | float | str, bool]:
        names = self.index.tags_showing(order.id) if order.id else ()
        keys = self.purges.add(order, names, when)
        self._close(names)
        if order.all:
            numbers = self.store.stats()
            self.store.purge()
            return max(numbers["memory_entries"], numbers["disk_entries"]), False
        dropped = sum(self.store.known_meta(key) is not None for key in keys)
        for key in keys:
            self.store.drop(key)
        return dropped, self.store.stats()["disk_entries"] != 0

    def _close(self, names: Iterable[str]) -> None:
        for close in self.flights:
            close(names)
