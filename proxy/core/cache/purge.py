"""Orders to forget what is held: which reads they are about, and how what is not in sight is forgotten when it is met.

An entry's key tells nothing of what it is about. Those that this process has kept or loaded are listed; of those that
an earlier run left on disk only the read that would use them tells, so an order stays in force for all that is older,
in later runs too: `written` is what these are to `recall`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from proxy.core.cache.tags import Tags
from proxy.core.graph.errors import UNREADABLE
from proxy.core.http.errors import BadRequest
from proxy.core.memory.memo import MEMO_BYTES, Recent
from proxy.core.routing.rules import glob_pattern, names_version

_FINGERPRINT = re.compile(r"[0-9a-f]{12,32}")
_ID = re.compile(r"""[^\s,"'\[\]/?#]{1,200}""")
_SHAPES = (
    'one of {"path": "/act_*/ads"}, without a version, {"id": "123"}, '
    '{"fingerprint": "12 or more hexadecimal digits"}, {"all": true}'
)


@dataclass(frozen=True, slots=True)
class Order:
    """What to forget; exactly one of these is said."""

    path: str = ""  # a glob over the path without its version
    id: str = ""
    fingerprint: str = ""  # the first digits are enough, as logs show them
    all: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """What a read is about, as far as orders go by it."""

    path: str
    tags: Tags
    fingerprint: bytes


def read_order(body: bytes) -> Order:
    """The order that *body* is. Raises BadRequest, which says what is allowed."""
    try:
        given = msgspec.json.decode(body)
    except UNREADABLE:
        given = None
    if not isinstance(given, dict) or len(given) != 1:
        raise BadRequest(f"must be JSON: {_SHAPES}")
    ((name, value),) = given.items()
    if name not in _ALLOWED or not _ALLOWED[name](value):
        raise BadRequest(f"must be {_SHAPES}")
    return Order(**{name: value})


def _is_glob(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= 1000 or names_version(value):
        return False
    return re.search(r"[\s#?]|//", value) is None


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


_ALLOWED: Mapping[str, Any] = {
    "path": _is_glob,
    "id": lambda value: _matches(_ID, value),
    "fingerprint": lambda value: _matches(_FINGERPRINT, value),
    "all": lambda value: value is True,
}


@dataclass(frozen=True, slots=True)
class _Mark:
    """An order in force for what was asked for up to *when*."""

    order: Order
    names: frozenset[str]
    when: float

    def covers(self, subject: Subject) -> bool:
        if self.order.all:
            return True
        if self.order.path:
            return glob_pattern(self.order.path).match(subject.path) is not None
        if self.order.fingerprint:
            return subject.fingerprint.hex().startswith(self.order.fingerprint)
        return not self.names.isdisjoint(subject.tags)


def _no_later(mark: _Mark, now: float) -> _Mark:
    return replace(mark, when=min(mark.when, now))


class _Written(msgspec.Struct, frozen=True):
    """What is written of all orders."""

    floor: float
    marks: list[_Mark]


class Purges:
    """What is held and known by what it is about, and the orders that were given; both bounded."""

    SUBJECTS = 20_000
    BYTES = 16 * MEMO_BYTES
    MARKS = 256

    def __init__(self) -> None:
        """Know of nothing."""
        self._subjects = Recent[bytes, Subject](self.SUBJECTS, self.BYTES)
        self._marks: list[_Mark] = []
        self._floor = 0.0  # of orders that were forgotten the safe thing is said: they were about everything

    @property
    def any(self) -> bool:
        """Whether an order was ever given."""
        return bool(self._marks or self._floor)

    def note(self, key: bytes, subject: Subject) -> None:
        """What is held under *key* is about *subject*."""
        self._subjects.put(key, subject)

    def add(self, order: Order, names: Tags, now: float) -> list[bytes]:
        """The keys that *order* is about, as far as they are known; *names* are those of its `id`."""
        mark = _Mark(order, frozenset(names), now)
        keys = [key for key, subject in self._subjects.items() if mark.covers(subject)]
        for key in keys:
            self._subjects.pop(key)
        self._put(mark)
        return keys

    def has_forgotten(self, subject: Subject, asked: float) -> bool:
        """Whether what is held of *subject*, asked for at *asked*, was to be forgotten."""
        return asked <= self._floor or any(mark.covers(subject) for mark in self._since(asked))

    def save(self) -> bytes:
        """All orders in force, for a later run."""
        return msgspec.json.encode(_Written(self._floor, self._marks))

    def load(self, text: bytes | None, now: float) -> None:
        """Let the orders in *text*, of an earlier run, be in force; of illegible ones the safe thing is said."""
        if text is None:
            return
        try:
            found = msgspec.json.decode(text, type=_Written)
        except UNREADABLE:
            found = _Written(now, [])
        self._floor = max(self._floor, min(found.floor, now))
        for mark in (_no_later(each, now) for each in found.marks):
            if mark not in self._marks:
                self._put(mark)

    def set_back(self, now: float, _by: float) -> None:
        """The clock was set back to *now*: an order from the future was given now."""
        self._floor = min(self._floor, now)
        self._marks = [_no_later(mark, now) for mark in self._marks]

    def _put(self, mark: _Mark) -> None:
        self._marks.append(mark)
        self._marks.sort(key=lambda each: each.when)
        if mark.order.all:
            self._floor = max(self._floor, mark.when)
        if len(self._marks) > self.MARKS:
            self._floor = max(self._floor, self._marks.pop(0).when)
        self._marks = [each for each in self._marks if each.when > self._floor]

    def _since(self, asked: float) -> Iterator[_Mark]:
        return (mark for mark in self._marks if asked <= mark.when)
