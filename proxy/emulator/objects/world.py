"""The objects: generated from their ids and a seed, and changed by writes."""

from __future__ import annotations

import hashlib
import json
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.emulator.config import LiveConfig
from proxy.emulator.objects.object_types import (
    OBJECT_TYPES,
    ObjectType,
    child_id,
    children,
    object_type_of,
    owner_number,
)

_MISSING_NUMBERS = range(404_000, 405_000)
_YEAR_S = 31_536_000
_MAX_CHANGES_KEPT = 10_000
_EARLIEST_CREATION = 1_704_164_645
"""2024-01-02T03:04:05+0000."""


@dataclass(slots=True)
class Node:
    """An object as it is now."""

    id: str
    object_type: ObjectType
    number: int
    """A large number that follows from the id; generated values are drawn from it."""
    revision: int
    created: float
    updated: float
    written_values: dict[str, Any]
    owner: str = ""
    """For a created object: the digits of its owner, which the ids of its children contain."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an object, as webhooks report it."""

    node: str
    field: str
    """A field of the object, or an edge of it."""
    value: Any
    at: float


class World:
    """All objects."""

    def __init__(self, settings: LiveConfig, clock: Callable[[], float]) -> None:
        """Start with generated objects and no writes."""
        self._settings = settings
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Forget all writes."""
        self._written: dict[str, dict[str, Any]] = {}
        self._revisions: dict[str, int] = {}
        self._changed_at: dict[str, float] = {}
        self._created_on: dict[tuple[str, str], list[str]] = {}
        self._created_at: dict[str, float] = {}
        self._parents: dict[str, tuple[str, str]] = {}
        self._owners: dict[str, str] = {}
        self._deleted: set[str] = set()
        self._same_content: Counter[str] = Counter()
        self._write_counts: Counter[str] = Counter()
        self._changes: deque[Change] = deque(maxlen=_MAX_CHANGES_KEPT)

    def node(self, node_id: str) -> Node | None:
        """The object with this id, or None if there is none."""
        kind = object_type_of(node_id)
        if kind is None or self._is_missing(node_id):
            return None
        number = self._number(node_id)
        created = self._created_at.get(node_id) or _EARLIEST_CREATION + number % _YEAR_S
        revision, updated = self._revision_of(node_id, number)
        written, owner = self._written.get(node_id, {}), self._owners.get(node_id, "")
        return Node(node_id, kind, number, revision, created, updated or created, written, owner)

    def touch(self, node_id: str, values: dict[str, Any] | None = None) -> None:
        """Change an object now, to *values* where they are given."""
        self._revisions[node_id] = self._revisions.get(node_id, 0) + 1
        self._changed_at[node_id] = self._clock()
        for name, value in (values or {"name": None}).items():
            self._changes.append(Change(node_id, name, value, self._clock()))
        if node_id in self._parents:
            self._report_on_edge(node_id, "edited")
        if values:
            self._written.setdefault(node_id, {}).update(values)

    def create(self, parent: str, edge: str, kind: ObjectType, values: dict[str, Any]) -> str:
        """Add an object at the head of an edge and return its id."""
        prefix = child_id(kind, parent, "") if kind.name == "Post" else kind.prefix
        node_id = self.new_id(prefix, parent, edge, values)
        self._created_at[node_id] = self._clock()
        self._written[node_id] = dict(values)
        self._parents[node_id] = parent, edge
        self._owners[node_id] = self._owner(parent)
        made = self._created_on.setdefault((parent, edge), [])
        if self._settings.config.edge_order == "newest":
            made.insert(0, node_id)
        else:
            insort(made, node_id)
        self._report_on_edge(node_id, "add")
        return node_id

    def new_id(self, prefix: str, *content: Any) -> str:
        """A new id that follows from *content* and from how often the same content was used before.

        It does not depend on the order in which different objects are created.
        """
        text = json.dumps([prefix, *content], sort_keys=True, default=str)
        self._same_content[text] += 1
        digest = hashlib.blake2b(f"{self._same_content[text]} {text}".encode(), digest_size=8, salt=self._salt())
        return f"{prefix}7{int.from_bytes(digest.digest(), 'big') % 10**12:012d}"

    def record_write(self, method: str, path: str, values: dict[str, Any]) -> None:
        """Record that a write was performed."""
        self._write_counts[json.dumps([path, method, values], sort_keys=True, default=str)] += 1

    def as_json(self) -> dict[str, Any]:
        """Everything that writes have changed, without times, ordered by id."""
        created = {
            node_id: {"parent": parent, "edge": edge, "values": self._written.get(node_id, {})}
            for node_id, (parent, edge) in sorted(self._parents.items())
        }
        updated = {
            node_id: {"times": times, "values": self._written.get(node_id, {})}
            for node_id, times in sorted(self._revisions.items())
        }
        noted = [(json.loads(text), count) for text, count in sorted(self._write_counts.items())]
        writes = [{"method": method, "path": path, "values": values, "count": n} for (path, method, values), n in noted]
        return {"created": created, "updated": updated, "deleted": sorted(self._deleted), "writes": writes}

    def take_changes(self) -> list[Change]:
        """Remove and return the changes since the last call; only the newest _MAX_CHANGES_KEPT are kept."""
        changes = list(self._changes)
        self._changes.clear()
        return changes

    def delete(self, node_id: str) -> None:
        """Delete an object."""
        self._deleted.add(node_id)
        self._changes.append(Change(node_id, "status", "deleted", self._clock()))
        if node_id in self._parents:
            self._report_on_edge(node_id, "remove")

    def total(self, parent: str, edge: str) -> int:
        """How many objects the edge holds."""
        places = self.places(parent, edge)
        return len(self.members(parent, edge, 0, places)) if self._deleted else places

    def members(self, parent: str, edge: str, start: int, stop: int) -> list[str]:
        """The ids at these places of the edge; deleted ones leave the page short, as Graph does."""
        kind = self._edge_kind(parent, edge)
        made = self._created_on.get((parent, edge), [])
        places = range(max(0, start - len(made)), min(stop - len(made), self._generated(kind)))
        ids = made[start:stop] + [self._generated_id(kind, parent, place) for place in places]
        return [node_id for node_id in ids if node_id not in self._deleted] if self._deleted else ids

    def places(self, parent: str, edge: str) -> int:
        """How many places the edge has, deleted objects included."""
        return len(self._created_on.get((parent, edge), ())) + self._generated(self._edge_kind(parent, edge))

    def _report_on_edge(self, node_id: str, verb: str) -> None:
        """Report the change of a created object as a change of the edge that it is on."""
        parent, edge = self._parents[node_id]
        item = object_type_of(node_id)
        name = item.name.lower() if item else "item"
        value = {"item": name, "verb": verb, f"{name}_id": node_id}
        self._changes.append(Change(parent, edge, value, self._clock()))

    def _edge_kind(self, parent: str, edge: str) -> ObjectType:
        kind = object_type_of(parent)
        return OBJECT_TYPES[kind.edges[edge]] if kind else OBJECT_TYPES["Page"]

    def _generated(self, kind: ObjectType) -> int:
        config = self._settings.config
        return len(config.ad_accounts) if kind.name == "AdAccount" else children(kind, config.edge_length)

    def _generated_id(self, kind: ObjectType, parent: str, place: int) -> str:
        if kind.name == "AdAccount":
            return f"act_{self._settings.config.ad_accounts[place]}"
        return child_id(kind, parent, place)

    def _is_missing(self, node_id: str) -> bool:
        if node_id in self._deleted or node_id in self._settings.config.missing_ids:
            return True
        return node_id.isdecimal() and len(node_id) == 6 and int(node_id) in _MISSING_NUMBERS

    def _owner(self, parent: str) -> str:
        """The digits of what owns the children of *parent*: for ad objects, the account's."""
        known = self._owners.get(parent)
        generated = parent[4:-4] if parent.isdecimal() and len(parent) > 8 else owner_number(parent)
        return known or generated

    def _salt(self) -> bytes:
        return str(self._settings.config.seed).encode()[:16]

    def _number(self, node_id: str) -> int:
        digest = hashlib.blake2b(node_id.encode(), digest_size=8, salt=self._salt())
        return int.from_bytes(digest.digest(), "big")

    def _revision_of(self, node_id: str, number: int) -> tuple[int, float]:
        """The object's revision and when it last changed, 0 for never."""
        revision, changed = self._revisions.get(node_id, 0), self._changed_at.get(node_id, 0.0)
        every = self._settings.config.change_every_s
        if every:
            phase = number % 1000 / 1000 * every
            turns = int((self._clock() + phase) / every)
            return revision + turns, max(changed, turns * every - phase)
        return revision, changed
