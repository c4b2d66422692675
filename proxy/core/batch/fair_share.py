"""Who may hold a connection to Graph, and who is next: fair shares of a fixed number, and queues that take turns."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

TOKEN_TIMES, KIND_TIMES = 7, 31
"""How many connections a token, or a kind of call, may hold for each that is free.

These are dynamic thresholds (A. K. Choudhury, E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet
switches", IEEE/ACM Transactions on Networking 6(2), 1998): a lone token gets seven eighths of all connections, however
slow its calls are; the next one gets most of what is left; and whoever comes then still finds some free.
"""

TOKEN_LEAVES, KIND_LEAVES = 2, 1
"""How many connections are left, at least, to other tokens and to other kinds: where there are few."""


class Kind(Enum):
    """Sorts of calls to Graph; none of them may take the last connections either."""

    BATCH = "batch"
    SINGLE = "single"
    CARRIED = "carried"  # batches of the application's own


class Shares:
    """How many connections each token and each kind of call holds."""

    def __init__(self, count: int) -> None:
        """Share *count* connections, all of them free."""
        self.count = self.free = count
        self._held: Counter[Hashable] = Counter()

    @property
    def is_calm(self) -> bool:
        """Whether so many are free that everybody may take one."""
        return self.free > TOKEN_LEAVES and self.count - self.free < TOKEN_TIMES * self.free

    def may_take(self, owner: Hashable) -> bool:
        """Whether *owner*, a token or a Kind, may hold one more; the last ones are for those who hold none."""
        held = self._held.get(owner, 0)
        if not held:
            return self.free > 0
        times, leaves = (KIND_TIMES, KIND_LEAVES) if isinstance(owner, Kind) else (TOKEN_TIMES, TOKEN_LEAVES)
        return self.free > leaves and held < times * self.free

    def take(self, kind: Kind, owners: Collection[Hashable]) -> None:
        """A call of *kind* takes a connection for all of *owners*."""
        self.free -= 1
        self._held.update((kind, *owners))

    def give_back(self, kind: Kind, owners: Collection[Hashable]) -> None:
        """The call has ended."""
        self.free += 1
        for owner in (kind, *owners):
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]


@dataclass(slots=True)
class _Line(Generic[T]):
    """What one owner waits for, in the order in which it came, and since when the owner waits for a turn."""

    turn: float
    items: OrderedDict[T, None] = field(default_factory=OrderedDict)


class FairQueue(Generic[T]):
    """Items that wait: each owner's in the order in which they came, owners in turns (round robin)."""

    def __init__(self) -> None:
        """Begin empty."""
        self._items: OrderedDict[T, tuple[Hashable, float]] = OrderedDict()
        self._lines: OrderedDict[Hashable, _Line[T]] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._items)

    def add(self, item: T, owner: Hashable, since: float) -> None:
        """Let *item* of *owner* wait from *since* on; from infinity: without a limit."""
        self._items[item] = owner, since
        line = self._lines.get(owner)
        if line is None:
            line = self._lines[owner] = _Line(since)
        line.items[item] = None

    def discard(self, item: T) -> bool:
        """Forget *item*; whether it has waited here."""
        if (found := self._items.pop(item, None)) is None:
            return False
        line = self._lines[found[0]]
        del line.items[item]
        if not line.items:
            del self._lines[found[0]]
        return True

    def ready(self, most: int, may: Callable[[Hashable], bool] | None) -> tuple[int, float]:
        """How many could leave now, counted up to *most*, and since when the first of them waits; None: all may."""
        if may is None:
            return len(self._items), next(iter(self._items.values()))[1] if self._items else inf
        count, since = 0, inf
        for owner, line in self._lines.items():
            if may(owner):
                since = min(since, self._items[next(iter(line.items))][1])
                count += len(line.items)
                if count >= most:
                    break
        return count, since

    def take(self, most: int, may: Callable[[Hashable], bool], now: float) -> list[T]:
        """The next to leave, at most so many, of owners that *may*; one of each owner before a second of any."""
        owners = list(islice((owner for owner in self._lines if may(owner)), most))
        taken: list[T] = []
        while owners and len(taken) < most:
            for owner in owners[: most - len(taken)]:
                line = self._lines[owner]
                item = next(iter(line.items))
                line.turn = now
                self._lines.move_to_end(owner)
                self.discard(item)
                taken.append(item)
            owners = [owner for owner in owners if owner in self._lines]
        return taken

    def waited(self, owner: Hashable, may: Callable[[Hashable], bool], now: float) -> float:
        """How long whoever stands where a newcomer of *owner* would come to stand has waited: as long will it wait."""
        if (line := self._lines.get(owner)) is not None:
            return now - self._items[next(iter(line.items))][1]
        return next((now - line.turn for each, line in self._lines.items() if may(each)), 0.0)

    def late(self, before: float) -> list[T]:
        """Forget, and return, what waits since *before* or longer."""
        found = []
        for item, (_, since) in self._items.items():
            if before < since < inf:
                break
            if since <= before:
                found.append(item)
        for item in found:
            self.discard(item)
        return found

    def clear(self) -> list[T]:
        """Forget, and return, everything."""
        items = list(self._items)
        self._items.clear()
        self._lines.clear()
        return items
