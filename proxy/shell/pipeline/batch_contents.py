"""What one batch carries to Graph, slot by slot, and what takes the slots of Graph's answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter, methodcaller
from typing import Any, cast

from proxy.core.batch.lanes import Route, route_of
from proxy.core.batch.response import Slot
from proxy.core.fast_path.batch_answer import BatchAnswer
from proxy.core.model import Request
from proxy.core.quota.ledger import Payer
from proxy.shell.pipeline.batch_queue import Queued, QueuedRead
from proxy.shell.pipeline.queued_group import QueuedGroup

_IS_GROUP, _REQUEST, _PART, _ROUTE = map(attrgetter, ("is_group", "request", "part", "route"))
_LOAD = methodcaller("load")


class BatchContents:
    """The reads of one batch: single ones first, then those of each group."""

    __slots__ = ("groups", "parts", "queued", "requests", "singles", "size")

    def __init__(self, queued: Sequence[Queued]) -> None:
        """Take the reads of *queued*, which leave now."""
        self.queued = queued
        singles: Sequence[Any] = queued
        groups: Sequence[Any] = ()
        if any(map(_IS_GROUP, queued)):
            singles = [each for each in queued if not each.is_group]
            groups = [each for each in queued if each.is_group]
        self.singles: Sequence[QueuedRead] = singles
        self.groups: Sequence[QueuedGroup] = groups
        self.requests: list[Request] = list(map(_REQUEST, singles))
        self.parts: list[bytes] = list(map(_PART, singles))
        for group in groups:
            requests, parts = group.depart()
            self.requests += requests
            self.parts += parts
        self.size = len(self.parts)

    def loads(self) -> list[tuple[Payer | None, int]]:
        """Return what the call of each single read is charged to, and as how many calls Graph counts it."""
        return list(map(_LOAD, self.singles))

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
        found: set[Route | None] = set(map(_ROUTE, self.singles))
        if None in found:
            found = {read.route or route_of(read.request) for read in self.singles}
        for group in self.groups:
            found.update(group.routes())
        return cast("set[Route]", found)

    def take(self, answer: BatchAnswer) -> Collection[int]:
        """Let the reads take the slots of *answer* that are ordinary ones; return the places of these slots."""
        slots = answer.slots(self.size)
        taken = self._take_singles(slots[: len(self.singles)], answer) if slots else set()
        at = len(self.singles)
        if slots:
            for group in self.groups:
                own = slots if group.slots == len(slots) else slots[at : at + group.slots]
                taken.update([at + place for place in group.take(own, answer)])
                at += group.slots
        return taken

    def _take_singles(self, slots: Sequence[Slot | None], answer: BatchAnswer) -> set[int]:
        """Let each single read take its slot if that is an ordinary one, at once where many are alike."""
        singles, taken = self.singles, set[int]()
        if len(singles) > 1:
            for kind in {type(read): read for read in singles}.values():
                taken.update(kind.take_alike(singles, slots, answer))
        for at, (read, slot) in enumerate(zip(singles, slots, strict=True)):
            if slot is not None and at not in taken and read.take(slot, answer):
                taken.add(at)
        return taken
