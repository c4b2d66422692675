"""Shares a fixed number of connections fairly between tokens and kinds of calls, and queues calls that wait."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from math import inf
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

TOKEN_TIMES, KIND_TIMES = 7, 31
"""The connections that a token, or a kind of call, may hold for each free connection.

These are dynamic thresholds (A. K. Choudhury, E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet
switches", IEEE/ACM Transactions on Networking 6(2), 1998): a lone token gets seven eighths of all connections, however
slow its calls are; the next token gets most of the rest, and some stay free for those that come later.
"""

TOKEN_LEAVES, KIND_LEAVES = 2, 1
"""How many connections one token, or one kind, leaves free at least; this matters where there are few in all."""


class Kind(Enum):
    """The kinds of calls to Graph; no kind may take the last connections."""

    BATCH = "batch"
    SINGLE = "single"
    CARRIED = "carried"  # batches of the application's own

    __hash__ = object.__hash__  # Enum's own is a function of Python, and every read is looked up by it


class Shares:
    """How many connections each token and each kind of call holds."""

    def __init__(self, count: int) -> None:
        """Share *count* connections, all of them free."""
        self.count = self.free = count
        self._taken: dict[Hashable, int] = {}
        self._calm_above = max(TOKEN_LEAVES, count / (TOKEN_TIMES + 1))
        self.is_calm = self.free > self._calm_above
        """Whether so many are free that every owner may take one."""

    def may_take(self, owner: Hashable) -> bool:
        """Returns whether *owner*, a token or a Kind, may hold one more; the last are for owners that hold none."""
        held = self._taken.get(owner, 0)
        if not held:
            return self.free > 0
        times, leaves = (KIND_TIMES, KIND_LEAVES) if isinstance(owner, Kind) else (TOKEN_TIMES, TOKEN_LEAVES)
        return self.free > leaves and held < times * self.free

    def take(self, kind: Kind, owners: Collection[Hashable]) -> None:
        """Record that a call of *kind* takes one connection for all of *owners*."""
        self.free -= 1
        self.is_calm = self.free > self._calm_above
        taken = self._taken
        for owner in (kind, *owners):
            taken[owner] = taken.get(owner, 0) + 1

    def give_back(self, kind: Kind, owners: Collection[Hashable]) -> None:
        """Record that the call has ended and its connection is free."""
        self.free += 1
        self.is_calm = self.free > self._calm_above
        taken = self._taken
        for owner in (kind, *owners):
            taken[owner] -= 1
            if not taken[owner]:
                del taken[owner]


@dataclass(slots=True)
class _OwnerQueue(Generic[Item]):
    """The waiting items of one owner in their order, with their slots, and since when the owner waits for its turn."""

    turn: float
    items: OrderedDict[Item, int] = field(default_factory=OrderedDict)
    slots: int = 0  # of all items


def _is_one(item: Item, slots: int) -> Item:
    """Never called: an item of one slot is not split."""
    raise ValueError(f"{slots} slots of {type(item).__name__}")


class FairQueue(Generic[Item]):
    """Waiting items: first in, first out for each owner, and round robin between owners.

    An item may count as several slots: its owner takes a turn for each of them, and the item is split where a call has
    no room for all of them.
    """

    def __init__(self, split: Callable[[Item, int], Item] = _is_one) -> None:
        """Start empty; *split* removes the first so many slots of an item, and returns them as an item."""
        self._items: OrderedDict[Item, tuple[Hashable, float]] = OrderedDict()
        self._queues: OrderedDict[Hashable, _OwnerQueue[Item]] = OrderedDict()
        self._split = split
        self.slots = 0
        """How many slots all that wait count as."""

    def __len__(self) -> int:
        """Returns how many slots wait."""
        return self.slots

    def add(self, item: Item, owner: Hashable, since: float, slots: int = 1) -> None:
        """Add *item* of *owner*, of so many *slots*, waiting from *since* on; with infinity it never times out."""
        self._items[item] = owner, since
        self.slots += slots
        queue = self._queues.get(owner)
        if queue is None:
            queue = self._queues[owner] = _OwnerQueue(since)
        queue.items[item] = slots
        queue.slots += slots

    def discard(self, item: Item) -> bool:
        """Remove *item*; returns whether it was waiting here."""
        if (found := self._items.pop(item, None)) is None:
            return False
        queue = self._queues[found[0]]
        slots = queue.items.pop(item)
        queue.slots -= slots
        self.slots -= slots
        if not queue.items:
            del self._queues[found[0]]
        return True

    def shrink(self, item: Item, slots: int) -> None:
        """Let *item* count as *slots* from now on, which are fewer; it may not be waiting here."""
        found = self._items.get(item)
        if found is not None:
            queue = self._queues[found[0]]
            gone = queue.items[item] - slots
            queue.items[item] = slots
            queue.slots -= gone
            self.slots -= gone

    def ready(self, most: int, may_take: Callable[[Hashable], bool] | None) -> tuple[int, float]:
        """Returns how many slots could leave now (counted up to *most*), and since when the first of them waits.

        Only owners for which *may_take* is true count; None means all of them.
        """
        if may_take is None:
            return self.slots, next(iter(self._items.values()))[1] if self._items else inf
        count, since = 0, inf
        for owner, queue in self._queues.items():
            if may_take(owner):
                since = min(since, self._items[next(iter(queue.items))][1])
                count += queue.slots
                if count >= most:
                    break
        return count, since

    def take(self, most: int, may_take: Callable[[Hashable], bool] | None, now: float) -> list[Item]:
        """Remove and return the next items, at most *most* slots, of owners for which *may_take* is true; None: of all.

        One slot of each owner comes before a second of any.
        """
        if self.slots <= most and (may_take is None or all(map(may_take, self._queues))):
            return self.clear()
        owners = list(islice((owner for owner in self._queues if may_take is None or may_take(owner)), most))
        taken: list[Item] = []
        left = most
        while owners and left:
            # Each turn is as long as it can be without a second slot of any owner coming before the first of another.
            turn = 1 if len(self._items) == self.slots else max(1, left // len(owners))
            for owner in owners[:left]:
                queue = self._queues[owner]
                queue.turn = now
                self._queues.move_to_end(owner)
                left -= self._take_turn(queue, turn, taken)
            owners = [owner for owner in owners if owner in self._queues]
        return taken

    def _take_turn(self, queue: _OwnerQueue[Item], most: int, taken: list[Item]) -> int:
        """Move the next *most* slots of an owner's *queue*, or what there is, to *taken*; returns how many."""
        left = most
        while left and queue.items:
            item, slots = next(iter(queue.items.items()))
            if slots > left:
                taken.append(self._split(item, left))
                queue.items[item] -= left
                queue.slots -= left
                self.slots -= left
                return most
            self.discard(item)
            taken.append(item)
            left -= slots
        return most - left

    def waited(self, owner: Hashable, may_take: Callable[[Hashable], bool], now: float) -> float:
        """Returns how long the item has waited that is next in line for *owner*: about as long will a new item wait."""
        if (queue := self._queues.get(owner)) is not None:
            return now - self._items[next(iter(queue.items))][1]
        return next((now - queue.turn for each, queue in self._queues.items() if may_take(each)), 0.0)

    def late(self, before: float) -> list[Item]:
        """Remove and return the items that wait since *before* or longer."""
        found = []
        for item, (_, since) in self._items.items():
            if before < since < inf:
                break
            if since <= before:
                found.append(item)
        for item in found:
            self.discard(item)
        return found

    def clear(self) -> list[Item]:
        """Remove and return all items."""
        items = list(self._items)
        self._items.clear()
        self._queues.clear()
        self.slots = 0
        return items
