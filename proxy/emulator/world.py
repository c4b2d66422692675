"""The objects: generated without end from their ids and a seed, and changed by what is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.emulator.config import Settings
from proxy.emulator.kinds import KINDS, Kind, child_id, children, kind_of

_MISSING_NUMBERS = range(404_000, 405_000)
_YEAR_S = 31_536_000
_BORN = 1_704_164_645
"""2024-01-02T03:04:05+0000."""


@dataclass(slots=True)
class Node:
    """An object as it is now."""

    id: str
    kind: Kind
    number: int
    """A large number that follows from the id; generated values are drawn from it."""
    revision: int
    created: float
    updated: float
    written: dict[str, Any]


class World:
    """Every object that can be asked for."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        """Start as generated, with nothing written."""
        self._settings = settings
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Forget all writes."""
        self._written: dict[str, dict[str, Any]] = {}
        self._revisions: dict[str, int] = {}
        self._changed: dict[str, float] = {}
        self._made: dict[tuple[str, str], list[str]] = {}
        self._born: dict[str, float] = {}
        self._deleted: set[str] = set()
        self._serial = 0

    def node(self, node_id: str) -> Node | None:
        """Return the object with this id, or None if there is none."""
        kind = kind_of(node_id)
        if kind is None or self._is_missing(node_id):
            return None
        number = self._number(node_id)
        created = self._born.get(node_id) or _BORN + number % _YEAR_S
        revision, updated = self._age(node_id, number)
        return Node(node_id, kind, number, revision, created, updated or created, self._written.get(node_id, {}))

    def touch(self, node_id: str, values: dict[str, Any] | None = None) -> None:
        """Change an object now, to *values* where they are given."""
        self._revisions[node_id] = self._revisions.get(node_id, 0) + 1
        self._changed[node_id] = self._clock()
        if values:
            self._written.setdefault(node_id, {}).update(values)

    def create(self, parent: str, edge: str, kind: Kind, values: dict[str, Any]) -> str:
        """Add an object at the head of an edge and return its id."""
        self._serial += 1
        node_id = child_id(kind, parent, f"7{self._serial:06d}")
        self._born[node_id] = self._clock()
        self._written[node_id] = dict(values)
        self._made.setdefault((parent, edge), []).insert(0, node_id)
        return node_id

    def delete(self, node_id: str) -> None:
        """Take an object away for good."""
        self._deleted.add(node_id)

    def total(self, parent: str, edge: str) -> int:
        """Return how many objects the edge holds."""
        kind = self._edge_kind(parent, edge)
        made, generated = self._made.get((parent, edge), ()), self._generated(kind)
        gone = sum(
            1 for node_id in self._deleted if node_id in made or node_id in self._generated_ids(kind, parent, generated)
        )
        return len(made) + generated - gone

    def members(self, parent: str, edge: str, start: int, stop: int) -> list[str]:
        """Return the ids at these places of the edge; deleted ones leave the page short, as Graph does."""
        kind = self._edge_kind(parent, edge)
        made = self._made.get((parent, edge), [])
        first, last = max(0, start - len(made)), min(stop - len(made), self._generated(kind))
        ids = made[start:stop] + [child_id(kind, parent, index) for index in range(first, last)]
        return [node_id for node_id in ids if node_id not in self._deleted] if self._deleted else ids

    def places(self, parent: str, edge: str) -> int:
        """Return how many places the edge has, deleted objects included."""
        return len(self._made.get((parent, edge), ())) + self._generated(self._edge_kind(parent, edge))

    def _edge_kind(self, parent: str, edge: str) -> Kind:
        kind = kind_of(parent)
        return KINDS[kind.edges[edge]] if kind else KINDS["Page"]

    def _generated(self, kind: Kind) -> int:
        return children(kind, self._settings.config.edge_length)

    def _generated_ids(self, kind: Kind, parent: str, count: int) -> set[str]:
        return {child_id(kind, parent, index) for index in range(count)}

    def _is_missing(self, node_id: str) -> bool:
        if node_id in self._deleted or node_id in self._settings.config.missing_ids:
            return True
        return node_id.isdecimal() and len(node_id) == 6 and int(node_id) in _MISSING_NUMBERS

    def _number(self, node_id: str) -> int:
        digest = hashlib.blake2b(node_id.encode(), digest_size=8, salt=str(self._settings.config.seed).encode()[:16])
        return int.from_bytes(digest.digest(), "big")

    def _age(self, node_id: str, number: int) -> tuple[int, float]:
        """Return the object's revision and when it last changed, 0 for never."""
        revision, changed = self._revisions.get(node_id, 0), self._changed.get(node_id, 0.0)
        every = self._settings.config.change_every_s
        if every:
            phase = number % 1000 / 1000 * every
            turns = int((self._clock() + phase) / every)
            return revision + turns, max(changed, turns * every - phase)
        return revision, changed
