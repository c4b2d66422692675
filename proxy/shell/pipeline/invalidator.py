"""What was changed, whoever tells of it: writes through the sidecar, Meta's webhooks, an operator's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.core.cache.invalidation import InvalidationIndex
from proxy.core.cache.key import Keys
from proxy.core.cache.purge import PurgeOrder, Purges
from proxy.core.cache.subscriptions import Subscriptions
from proxy.core.graph.webhooks import Event
from proxy.core.model import Credential, EntryMeta
from proxy.shell import Announced

UNSURE_S = 60
"""Seconds in which Graph may still be at a write whose answer never came: what is asked meanwhile is not fresh."""


class PurgeableStore(Protocol):
    """What the invalidator needs of a store."""

    def known_meta(self, key: bytes) -> EntryMeta | None:
        """The entry without its body, as far as memory knows it; the disk is not read."""

    def drop(self, key: bytes) -> None:
        """Forget *key* everywhere."""

    def purge(self) -> None:
        """Forget everything."""

    async def save_purges(self, orders: bytes) -> bool:
        """Save purge *orders* for the next run; True if they are on disk."""

    def stats(self) -> dict[str, int | float | str]:
        """The numbers of now, by name."""


class Replicas(Protocol):
    """The other replicas."""

    async def announce(self, nodes: tuple[str, ...], who: bytes) -> Announced:
        """A write to *nodes*, with the token of the fingerprint *who*, is about to leave."""

    def changed(self, events: Sequence[Event]) -> None:
        """Meta report of *events*."""

    async def purged(self, order: PurgeOrder) -> None:
        """An operator has ordered so; returns when they have heard it, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class Invalidator:
    """Ends freshness and flights; everything it works with is made by `app`."""

    index: InvalidationIndex
    purges: Purges
    subscriptions: Subscriptions
    keys: Keys
    store: PurgeableStore
    now: Callable[[], float]
    flights: Sequence[Callable[[Iterable[str]], None]]  # each lets nobody join what is in the air and reads these names
    replicas: Replicas | None = None  # the replicas that are report of what changes here

    async def announce(self, nodes: tuple[str, ...], who: Credential | None) -> Announced:
        """A write to *nodes*, () for any, with the token of *who*, is about to leave."""
        if self.replicas is None:
            return Announced()
        return await self.replicas.announce(nodes, self.keys.fingerprint(who))

    def on_write(self, nodes: tuple[str, ...], who: Credential | None, *, answered: bool) -> None:
        """A write to *nodes*, () for any, with the token of *who*; one that was not *answered* may be done yet."""
        when = self.now() if answered else self.now() + UNSURE_S
        self._close(self.index.record_write(nodes, self.keys.fingerprint(who), when))

    def on_events(self, events: Sequence[Event]) -> None:
        """Meta report of *events*."""
        changed: set[str] = set()
        for event in events:
            self.subscriptions.on_event(event)
            changed.update(self.index.record_write(event.nodes, self.keys.fingerprint(None), self.now()))
        if changed:
            self._close(changed)
        if events and self.replicas is not None:
            self.replicas.changed(events)

    async def purge(self, order: PurgeOrder) -> dict[str, object]:
        """Forget what *order* is about; how much went at once, and whether the rest goes when it is met.

        It is in force at once; when this returns it is *durable*, unless the disk rests, and no later run undoes it.
        """
        report = await self.purge_here(order, self.now())
        if self.replicas is not None:
            await self.replicas.purged(order)
        return report

    async def purge_here(self, order: PurgeOrder, when: float) -> dict[str, object]:
        """The same of an order that was given *when*, which other replicas have heard."""
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
