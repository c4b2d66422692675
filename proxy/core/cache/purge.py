"""Purge orders: which entries they cover, and how they stay in force for entries on disk that are not known yet.

The key of an entry does not show its path, object or token. Entries that this process has stored or loaded are listed
here. An entry that an earlier run left on disk shows them only when a read asks for it, so an order stays in force for
every older entry, in later runs too: `save` and `load` carry the orders over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgspec

from proxy.core.cache.generation import Generation
from proxy.core.cache.tags import Tags
from proxy.core.graph.errors import UNREADABLE
from proxy.core.http.errors import BadRequest
from proxy.core.memory.memo import MEMO_BYTES, weight
from proxy.core.routing.rules import glob_pattern, names_version

ROW_BYTES = 250
"""Bytes that an entry takes here besides the text of what it is about: its key and its place in the table."""

_FINGERPRINT = re.compile(r"[0-9a-f]{12,32}")
_OBJECT_ID = re.compile(r"""[^\s,"'\[\]/?#]{1,200}""")
_SHAPES = (
    'one of {"path": "/act_*/ads"}, without a version, {"id": "123"}, '
    '{"fingerprint": "12 or more hexadecimal digits"}, {"all": true}'
)


@dataclass(frozen=True, slots=True)
class PurgeOrder:
    """Which entries to forget; exactly one of the members is set."""

    path: str = ""  # a glob over the path without its version
    id: str = ""
    fingerprint: str = ""  # the first digits are enough, as logs show them
    all: bool = False


class PurgeSubject(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The properties of an entry by which purge orders select."""

    path: str
    tags: Tags
    fingerprint: bytes


def read_order(body: bytes) -> PurgeOrder:
    """Returns the order in *body*. Raises BadRequest, whose text says what is allowed."""
    try:
        given = msgspec.json.decode(body)
    except UNREADABLE:
        given = None
    if not isinstance(given, dict) or len(given) != 1:
        raise BadRequest(f"must be JSON: {_SHAPES}")
    ((name, value),) = given.items()
    if name not in _ALLOWED or not _ALLOWED[name](value):
        raise BadRequest(f"must be {_SHAPES}")
    return PurgeOrder(**{name: value})


def _is_glob(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= 1000 or names_version(value):
        return False
    return re.search(r"[\s#?]|//", value) is None


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


_ALLOWED: Mapping[str, Any] = {
    "path": _is_glob,
    "id": lambda value: _matches(_OBJECT_ID, value),
    "fingerprint": lambda value: _matches(_FINGERPRINT, value),
    "all": lambda value: value is True,
}


@dataclass(frozen=True, slots=True)
class _OrderInForce:
    """An order in force for every entry that was fetched up to *when*."""

    order: PurgeOrder
    names: frozenset[str]
    when: float

    def covers(self, subject: PurgeSubject) -> bool:
        if self.order.all:
            return True
        if self.order.path:
            return glob_pattern(self.order.path).match(subject.path) is not None
        if self.order.fingerprint:
            return subject.fingerprint.hex().startswith(self.order.fingerprint)
        return not self.names.isdisjoint(subject.tags)


def _no_later(in_force: _OrderInForce, now: float) -> _OrderInForce:
    return replace(in_force, when=min(in_force.when, now))


class _SavedOrders(msgspec.Struct, frozen=True):
    """The orders in force, as they are saved."""

    floor: float
    marks: list[_OrderInForce]


class _Subjects:
    """What the newest entries are about, the oldest first: at most *capacity*, in no more than *limit* bytes.

    Each is one packed string where its text allows that, because its objects would take twice as much.
    """

    def __init__(self, capacity: int, limit: int) -> None:
        """Start empty."""
        self._capacity = capacity
        self._limit = limit
        self._subjects: dict[bytes, bytes | PurgeSubject] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self._subjects)

    def __contains__(self, key: bytes) -> bool:
        """Returns whether it is known what the entry under *key* is about."""
        return key in self._subjects

    def put(self, key: bytes, subject: PurgeSubject) -> None:
        """Record that the entry under *key* is about *subject*, and forget the oldest where there are too many."""
        if key in self._subjects:
            self.pop(key)
        try:
            packed = _pack(subject)
        except UnicodeEncodeError:  # a path with bytes that are no text
            self._subjects[key] = subject
            self._bytes += _size(subject)
        else:
            self._subjects[key] = packed
            self._bytes += ROW_BYTES + len(packed)
        if len(self._subjects) > self._capacity or self._bytes > self._limit:
            self._forget_oldest()

    def pop(self, key: bytes) -> None:
        """Forget what the entry under *key* is about."""
        if (packed := self._subjects.pop(key, None)) is not None:
            self._bytes -= _size(packed)

    def items(self) -> Iterator[tuple[bytes, PurgeSubject]]:
        """Yields each key with its subject."""
        for key, packed in self._subjects.items():
            yield key, _unpack(packed) if isinstance(packed, bytes) else packed

    def _forget_oldest(self) -> None:
        """Forget a sixteenth at once: a dict finds its first key slowly once many before it were removed."""
        for key in list(islice(self._subjects, 1 + len(self._subjects) // 16)):
            self.pop(key)


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(PurgeSubject).decode


def _size(packed: bytes | PurgeSubject) -> int:
    return ROW_BYTES + (len(packed) if isinstance(packed, bytes) else weight(packed))


class Purges:
    """The known entries with their properties, and the purge orders in force; both are bounded."""

    SUBJECTS = 20_000
    BYTES = 16 * MEMO_BYTES
    MARKS = 256

    def __init__(self, generation: Generation | None = None, subjects: int | None = None) -> None:
        """Start without entries and orders; each order advances *generation*.

        What at most so many *subjects*, the newest entries, are about is known.
        """
        self._generation = generation or Generation()
        self._subjects = _Subjects(self.SUBJECTS if subjects is None else subjects, self.BYTES)
        self._in_force: list[_OrderInForce] = []
        self._floor = 0.0  # every older entry counts as purged: a forgotten order is taken as one for everything

    @property
    def any(self) -> bool:
        """Whether any order is in force."""
        return bool(self._in_force or self._floor)

    @property
    def latest(self) -> float:
        """When the latest order was given, in epoch seconds; 0 for never."""
        return self._in_force[-1].when if self._in_force else self._floor

    def knows(self, key: bytes) -> bool:
        """Returns whether it is recorded what the entry under *key* is about."""
        return key in self._subjects

    def note(self, key: bytes, subject: PurgeSubject) -> None:
        """Record that the entry under *key* is about *subject*."""
        self._subjects.put(key, subject)

    def note_all(self, keys: Sequence[bytes], paths: Sequence[str], tags: Sequence[Tags], fingerprint: bytes) -> None:
        """Record what the entries of one token under *keys* are about, by *paths* and *tags*."""
        for key, path, names in zip(keys, paths, tags, strict=True):
            self._subjects.put(key, PurgeSubject(path, names, fingerprint))

    def add(self, order: PurgeOrder, names: Tags, now: float) -> list[bytes]:
        """Put *order* in force; returns the keys of the entries it covers. *names* are the tags of its `id`."""
        in_force = _OrderInForce(order, frozenset(names), now)
        keys = [key for key, subject in self._subjects.items() if in_force.covers(subject)]
        for key in keys:
            self._subjects.pop(key)
        self._put(in_force)
        return keys

    def has_forgotten(self, subject: PurgeSubject, asked: float) -> bool:
        """Returns whether an order covers the entry about *subject* that was fetched at *asked*."""
        return asked <= self._floor or any(in_force.covers(subject) for in_force in self._since(asked))

    def save(self) -> bytes:
        """Returns the orders in force as bytes, for `load` in a later run."""
        return msgspec.json.encode(_SavedOrders(self._floor, self._in_force))

    def load(self, text: bytes | None, now: float) -> None:
        """Put the saved orders in *text* in force; unreadable ones count as an order for everything."""
        if text is None:
            return
        try:
            found = msgspec.json.decode(text, type=_SavedOrders)
        except UNREADABLE:
            found = _SavedOrders(now, [])
        self._generation.advance()
        self._floor = max(self._floor, min(found.floor, now))
        for in_force in (_no_later(each, now) for each in found.marks):
            if in_force not in self._in_force:
                self._put(in_force)

    def set_back(self, now: float, _by: float) -> None:
        """Correct the times of all orders after the clock was set back to *now*."""
        self._generation.advance()
        self._floor = min(self._floor, now)
        self._in_force = [_no_later(in_force, now) for in_force in self._in_force]

    def _put(self, in_force: _OrderInForce) -> None:
        self._generation.advance()
        self._in_force.append(in_force)
        self._in_force.sort(key=lambda each: each.when)
        if in_force.order.all:
            self._floor = max(self._floor, in_force.when)
        if len(self._in_force) > self.MARKS:
            self._floor = max(self._floor, self._in_force.pop(0).when)
        self._in_force = [each for each in self._in_force if each.when > self._floor]

    def _since(self, asked: float) -> Iterator[_OrderInForce]:
        return (in_force for in_force in self._in_force if asked <= in_force.when)
