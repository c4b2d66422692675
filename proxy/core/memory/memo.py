"""What is remembered, bounded in bytes: what functions said (`Memo`), what is known of keys (`Recent`).

Whoever asks chooses how long the names are that things are remembered by, so their number alone bounds nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from hashlib import blake2b
from sys import getsizeof
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

MEMO_BYTES = 2**20
"""What one function's memory takes at most, where nothing else is said; there are about two dozen."""

_LARGEST = 32
"""The part of a memory that one entry may take, as 1/n: a larger one is not kept, for it would displace too many."""

_PLACE = 200
"""Bytes of an entry's place in its table, and of the pair that holds it."""

_LONGEST = 200
"""Characters of a name that is kept as it is."""


def short(name: str) -> str:
    """*name*, or what stands for a long one: its beginning and a digest of all of it."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[:40]}…{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=20).hexdigest()}"


_FLAT = frozenset({str, bytes, int, float, bool, type(None), type})
_ROWS = frozenset({tuple, list, set, frozenset})


def weight(value: object) -> int:
    """The bytes that *value* takes, all that it refers to included; what is shared counts each time."""
    size, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        size += getsizeof(each)
        if (kind := type(each)) not in _FLAT:
            waiting.extend(each if kind in _ROWS else _inside(each))  # type: ignore[arg-type]
    return size


def _inside(value: object) -> Iterable[object]:
    match value:
        case Enum() | type() | str() | bytes():
            return ()
        case dict():
            return (*value, *value.values())
        case tuple() | list():
            return value
        case msgspec.Struct():
            return [getattr(value, name) for name in value.__struct_fields__]
        case _ if type(value).__eq__ is object.__eq__:  # somebody's own thing, and not a value
            return ()
        case _:
            slots = [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
            return (*slots, *getattr(value, "__dict__", {}).values())


class Memo(Generic[P, T]):
    """A function that remembers what it said of arguments of late, in no more than *limit* bytes.

    Two generations: what was asked for since the younger began, and before. A hit is one look into a dict. What is
    asked for again while it is old becomes young; when the young fill half of the bytes, the old are forgotten.
    """

    def __init__(self, function: Callable[P, T], limit: int = MEMO_BYTES) -> None:
        """Remember of *function*, whose arguments are given by position and can be hashed."""
        self._function = function
        self._limit = limit
        self._young: dict[tuple[Any, ...], tuple[T, int]] = {}
        self._old: dict[tuple[Any, ...], tuple[T, int]] = {}
        self._bytes = 0

    def __call__(self, *args: P.args, **named: P.kwargs) -> T:
        """What the function says."""
        found = self._young.get(args)
        return found[0] if found is not None else self._find(args, named)

    def __len__(self) -> int:
        """How many answers are remembered."""
        return len(self._young.keys() | self._old.keys())

    @property
    def bytes(self) -> int:
        """What the memory takes, at most."""
        return self._bytes + sum(size for _, size in self._old.values())

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._bytes = {}, {}, 0

    def _find(self, args: tuple[Any, ...], named: dict[str, Any]) -> T:
        found = self._old.get(args)
        if found is None:
            value = self._function(*args, **named)
            size = _PLACE + weight((args, value))
            if named or size > self._limit // _LARGEST:
                return value
            found = value, size
        if self._bytes + found[1] > self._limit // 2:
            self._young, self._old, self._bytes = {}, self._young, 0
        self._young[args] = found
        self._bytes += found[1]
        return found[0]


def memo(limit: int = MEMO_BYTES) -> Callable[[Callable[P, T]], Memo[P, T]]:
    """A decorator: the function becomes a Memo of *limit* bytes."""
    return lambda function: Memo(function, limit)


class Recent(Generic[K, V]):
    """Values by key, in the order of their last use: no more than so many *places*, and no more than *limit* bytes."""

    def __init__(self, places: int, limit: int = MEMO_BYTES) -> None:
        """Hold nothing yet."""
        self._places = places
        self._limit = limit
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        """How many are held."""
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        """Whether there is a value for *key*."""
        return key in self._values

    def get(self, key: K) -> V | None:
        """The value of *key*, its age as it was."""
        found = self._values.get(key)
        return None if found is None else found[0]

    def use(self, key: K) -> V | None:
        """The value of *key*, which is the newest from now on."""
        if (found := self._values.get(key)) is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def items(self) -> Iterator[tuple[K, V]]:
        """All, the least recently used first."""
        return ((key, value) for key, (value, _) in self._values.items())

    def put(self, key: K, value: V, size: int | None = None) -> list[tuple[K, V]]:
        """Hold *value*, of *size* bytes if that is known, as the newest; what has to leave for it.

        One that is too large for the whole leaves at once.
        """
        self.pop(key)
        size = _PLACE + weight(key) + (weight(value) if size is None else size)
        if size > self._limit // _LARGEST:
            return [(key, value)]
        self._values[key] = value, size
        self.bytes += size
        left = []
        while self.bytes > self._limit or len(self._values) > self._places:
            oldest, (old, freed) = self._values.popitem(last=False)
            self.bytes -= freed
            left.append((oldest, old))
        return left

    def change(self, function: Callable[[V], V]) -> None:
        """Put what *function* makes of each value in its place; it takes as many bytes."""
        for key, (value, size) in self._values.items():
            self._values[key] = function(value), size

    def pop(self, key: K) -> V | None:
        """Forget *key*; the value that it had."""
        found = self._values.pop(key, None)
        if found is None:
            return None
        self.bytes -= found[1]
        return found[0]

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.bytes = 0
