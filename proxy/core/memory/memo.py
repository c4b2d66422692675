"""Caches bounded in bytes: results of functions (`Memo`), and values by key (`Recent`).

Callers choose how long the keys are, so a bound on their number would not bound the memory.
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
"""The default limit in bytes of one cache; there are about two dozen."""

FUNCTION_BYTES = MEMO_BYTES // 4
"""What a function remembers where no limit is given: some hundred reads. The fast path remembers thousands."""

_LARGEST = 32
"""An entry larger than the limit divided by this is not kept, for it would displace too many others."""

_PLACE = 200
"""The bytes that a dict needs for one entry, with the tuple around its value."""

LONGEST = 200
"""The most characters of a name that `short` leaves as it is."""


def short(name: str) -> str:
    """Returns *name*; for a long one its beginning and a digest of the whole."""
    if len(name) <= LONGEST:
        return name
    return f"{name[:40]}…{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=20).hexdigest()}"


_FLAT = frozenset({str, bytes, int, float, bool, type(None), type})
_ROWS = frozenset({tuple, list, set, frozenset})


def weight(value: object) -> int:
    """Returns the bytes of *value* and of everything that it refers to; shared parts count each time."""
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
        case _ if type(value).__eq__ is object.__eq__:  # an object with an identity, not a value
            return ()
        case _:
            slots = [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
            return (*slots, *getattr(value, "__dict__", {}).values())


class Memo(Generic[P, T]):
    """A function that remembers its recent results, in no more than *limit* bytes.

    There are two generations of results. A hit in the younger one is a single dict lookup. A result that is used while
    it is in the older one moves to the younger; when the younger fills half of the bytes, the older is dropped.
    """

    def __init__(self, function: Callable[P, T], limit: int = FUNCTION_BYTES) -> None:
        """Remember results of *function*, whose arguments are hashable and given by position."""
        self._function = function
        self._limit = limit
        self._young: dict[tuple[Any, ...], tuple[T, int]] = {}
        self._old: dict[tuple[Any, ...], tuple[T, int]] = {}
        self._bytes = 0

    def __call__(self, *args: P.args, **named: P.kwargs) -> T:
        """Returns the function's result."""
        found = self._young.get(args)
        return found[0] if found is not None else self._find(args, named)

    def __len__(self) -> int:
        """Returns how many results are remembered."""
        return len(self._young.keys() | self._old.keys())

    @property
    def bytes(self) -> int:
        """The most bytes that the remembered results take."""
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


def memo(limit: int = FUNCTION_BYTES) -> Callable[[Callable[P, T]], Memo[P, T]]:
    """Returns a decorator that makes a function a Memo of *limit* bytes."""
    return lambda function: Memo(function, limit)


class Recent(Generic[K, V]):
    """Values by key, least recently used first: at most *places* of them, in no more than *limit* bytes."""

    def __init__(self, places: int, limit: int = MEMO_BYTES) -> None:
        """Start empty."""
        self._places = places
        self._limit = limit
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        """Returns how many values there are."""
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        """Returns whether there is a value for *key*."""
        return key in self._values

    def get(self, key: K) -> V | None:
        """Returns the value of *key*, without counting that as a use."""
        found = self._values.get(key)
        return None if found is None else found[0]

    def use(self, key: K) -> V | None:
        """Returns the value of *key*, and counts that as a use."""
        if (found := self._values.get(key)) is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def items(self) -> Iterator[tuple[K, V]]:
        """Returns all keys and values, least recently used first."""
        return ((key, value) for key, (value, _) in self._values.items())

    def put(self, key: K, value: V, size: int | None = None) -> list[tuple[K, V]]:
        """Add *value*, of *size* bytes if that is known; returns the entries that were dropped for it.

        A value that is too large for the cache is itself returned and not kept.
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
        """Replace each value by what *function* makes of it, which must take as many bytes."""
        for key, (value, size) in self._values.items():
            self._values[key] = function(value), size

    def pop(self, key: K) -> V | None:
        """Remove *key*; returns its value, None without one."""
        found = self._values.pop(key, None)
        if found is None:
            return None
        self.bytes -= found[1]
        return found[0]

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.bytes = 0
