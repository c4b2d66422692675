"""The objects: generated without end from their ids and a seed, and changed by what is written."""

from __future__ import annotations

import hashlib
import json
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.emulator.config import Settings
from proxy.emulator.objects.object_types import KINDS, Kind, child_id, children, kind_of, owner_number

_MISSING_NUMBERS = range(404_000, 405_000)
_YEAR_S = 31_536_000
_NEWS = 10_000
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
    owner: str = ""
    """For an object that was created: the digits by which children know what owns it."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was changed in an object, as webhooks tell it."""

    node: str
    field: str
    """A field of the object, or an edge of it."""
    value: Any
    at: float


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
        self._homes: dict[str, tuple[str, str]] = {}
        self._owners: dict[str, str] = {}
        self._deleted: set[str] = set()
        self._alike: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._news: deque[Change] = deque(maxlen=_NEWS)

    def node(self, node_id: str) -> Node | None:
        """The object with this id, or None if there is none."""
        kind = kind_of(node_id)
        if kind is None or self._is_missing(node_id):
            return None
        number = self._number(node_id)
        created = self._born.get(node_id) or _BORN + number % _YEAR_S
        revision, updated = self._age(node_id, number)
        written, owner = self._written.get(node_id, {}), self._owners.get(node_id, "")
        return Node(node_id, kind, number, revision, created, updated or created, written, owner)

    def touch(self, node_id: str, values: dict[str, Any] | None = None) -> None:
        """Change an object now, to *values* where they are given."""
        self._revisions[node_id] = self._revisions.get(node_id, 0) + 1
        self._changed[node_id] = self._clock()
        for name, value in (values or {"name": None}).items():
            self._news.append(Change(node_id, name, value, self._clock()))
        if node_id in self._homes:
            self._tell_home(node_id, "edited")
        if values:
            self._written.setdefault(node_id, {}).update(values)

    def create(self, parent: str, edge: str, kind: Kind, values: dict[str, Any]) -> str:
        """Add an object at the head of an edge and return its id."""
        prefix = child_id(kind, parent, "") if kind.name == "Post" else kind.prefix
        node_id = self.fresh(prefix, parent, edge, values)
        self._born[node_id] = self._clock()
        self._written[node_id] = dict(values)
        self._homes[node_id] = parent, edge
        self._owners[node_id] = self._owner(parent)
        made = self._made.setdefault((parent, edge), [])
        if self._settings.config.edge_order == "newest":
            made.insert(0, node_id)
        else:
            insort(made, node_id)
        self._tell_home(node_id, "add")
        return node_id

    def fresh(self, prefix: str, *content: Any) -> str:
        """A new id that follows from what it is for, and from how many alike there were before.

        The order in which different things are made does not show in it.
        """
        text = json.dumps([prefix, *content], sort_keys=True, default=str)
        self._alike[text] += 1
        digest = hashlib.blake2b(f"{self._alike[text]} {text}".encode(), digest_size=8, salt=self._salt())
        return f"{prefix}7{int.from_bytes(digest.digest(), 'big') % 10**12:012d}"

    def note(self, method: str, path: str, values: dict[str, Any]) -> None:
        """Note that a write was carried out."""
        self._notes[json.dumps([path, method, values], sort_keys=True, default=str)] += 1

    def described(self) -> dict[str, Any]:
        """Everything that writes have changed, without times and in no order but that of the ids."""
        created = {
            node_id: {"parent": parent, "edge": edge, "values": self._written.get(node_id, {})}
            for node_id, (parent, edge) in sorted(self._homes.items())
        }
        updated = {
            node_id: {"times": times, "values": self._written.get(node_id, {})}
            for node_id, times in sorted(self._revisions.items())
        }
        noted = [(json.loads(text), count) for text, count in sorted(self._notes.items())]
        writes = [{"method": method, "path": path, "values": values, "count": n} for (path, method, values), n in noted]
        return {"created": created, "updated": updated, "deleted": sorted(self._deleted), "writes": writes}

    def news(self) -> list[Change]:
        """What has changed since this was asked last; what nobody asks for is forgotten."""
        told = list(self._news)
        self._news.clear()
        return told

    def delete(self, node_id: str) -> None:
        """Take an object away for good."""
        self._deleted.add(node_id)
        self._news.append(Change(node_id, "status", "deleted", self._clock()))
        if node_id in self._homes:
            self._tell_home(node_id, "remove")

    def total(self, parent: str, edge: str) -> int:
        """How many objects the edge holds."""
        places = self.places(parent, edge)
        return len(self.members(parent, edge, 0, places)) if self._deleted else places

    def members(self, parent: str, edge: str, start: int, stop: int) -> list[str]:
        """The ids at these places of the edge; deleted ones leave the page short, as Graph does."""
        kind = self._edge_kind(parent, edge)
        made = self._made.get((parent, edge), [])
        places = range(max(0, start - len(made)), min(stop - len(made), self._generated(kind)))
        ids = made[start:stop] + [self._generated_id(kind, parent, place) for place in places]
        return [node_id for node_id in ids if node_id not in self._deleted] if self._deleted else ids

    def places(self, parent: str, edge: str) -> int:
        """How many places the edge has, deleted objects included."""
        return len(self._made.get((parent, edge), ())) + self._generated(self._edge_kind(parent, edge))

    def _tell_home(self, node_id: str, verb: str) -> None:
        """Tell of a change to what was created as one to the edge that it stands on."""
        parent, edge = self._homes[node_id]
        item = kind_of(node_id)
        name = item.name.lower() if item else "item"
        value = {"item": name, "verb": verb, f"{name}_id": node_id}
        self._news.append(Change(parent, edge, value, self._clock()))

    def _edge_kind(self, parent: str, edge: str) -> Kind:
        kind = kind_of(parent)
        return KINDS[kind.edges[edge]] if kind else KINDS["Page"]

    def _generated(self, kind: Kind) -> int:
        config = self._settings.config
        return len(config.ad_accounts) if kind.name == "AdAccount" else children(kind, config.edge_length)

    def _generated_id(self, kind: Kind, parent: str, place: int) -> str:
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

    def _age(self, node_id: str, number: int) -> tuple[int, float]:
        """The object's revision and when it last changed, 0 for never."""
        revision, changed = self._revisions.get(node_id, 0), self._changed.get(node_id, 0.0)
        every = self._settings.config.change_every_s
        if every:
            phase = number % 1000 / 1000 * every
            turns = int((self._clock() + phase) / every)
            return revision + turns, max(changed, turns * every - phase)
        return revision, changed
