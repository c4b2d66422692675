"""What one batch carries to Graph, slot by slot, and what takes the slots of Graph's answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from proxy.core.batch.lanes import Route, route_of
from proxy.core.fast_path.batch_answer import BatchAnswer
from proxy.core.quota.ledger import Payer
from proxy.shell.pipeline.batch_queue import Queued, QueuedRead
from proxy.shell.pipeline.queued_group import QueuedGroup


class BatchContents:
    """The reads of one batch: single ones first, then those of each group."""

    __slots__ = ("groups", "parts", "queued", "requests", "singles")

    def __init__(self, queued: Sequence[Queued]) -> None:
        """Take the reads of *queued*, which leave now."""
        self.queued = queued
        groups = [each for each in queued if isinstance(each, QueuedGroup)]
        singles: Sequence[Any] = [each for each in queued if not isinstance(each, QueuedGroup)] if groups else queued
        self.singles: Sequence[QueuedRead] = singles
        self.groups: Sequence[QueuedGroup] = groups
        self.requests = [read.request for read in self.singles]
        self.parts = [read.part for read in self.singles]
        for group in groups:
            requests, parts = group.depart()
            self.requests += requests
            self.parts += parts

    def __len__(self) -> int:
        return len(self.parts)

    def loads(self) -> list[tuple[Payer | None, int]]:
        """Return what the call of each single read is charged to, and as how many calls Graph counts it."""
        return [read.load() for read in self.singles]

    def read(self, at: int) -> QueuedRead:
        """Return what takes the reply in the slot at place *at*, which has not been taken."""
        if at < len(self.singles):
            return self.singles[at]
        at -= len(self.singles)
        for group in self.groups:
            if at < group.slots:
                return group.read(at)
            at -= group.slots
        raise IndexError(at)

    def routes(self) -> set[Route]:
        """Return the routes of the reads."""
        found = {read.route or route_of(read.request) for read in self.singles}
        return found.union(*[group.routes() for group in self.groups])

    def take(self, answer: BatchAnswer) -> Collection[int]:
        """Let the reads take the slots of *answer* that are ordinary ones; return the places of these slots."""
        slots = answer.slots(len(self))
        taken = {
            at
            for at, (read, slot) in enumerate(zip(self.singles, slots, strict=False))
            if slot is not None and read.take(slot, answer)
        }
        at = len(self.singles)
        if slots:
            for group in self.groups:
                own = slots if group.slots == len(slots) else slots[at : at + group.slots]
                taken.update([at + place for place in group.take(own, answer)])
                at += group.slots
        return taken
