"""Fault injection: which faults are in force, and which of them applies to a call.

A fault is a JSON object: a `kind` from the table below, the calls it applies to (`where`, `id`, `path`, `method`), how
often (`count`, `after`, `probability`) and its details (`status`, `code`, …).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

FAULT_STAGES = {
    # one operation, alone or as a slot
    "null": "slot",
    "odd": "slot",
    "aborted": "slot",
    "error": "slot",
    # a limit is reached: for so many calls (`count`), or for so many `seconds` from the first that was refused
    "throttled": "slot",
    # a write that is done, and answered with an error that holds the good answer
    "original_response": "slot",
    # instead of doing what the call asks
    "refused": "instead",
    "batch_exception": "instead",
    "unknown": "instead",
    "unavailable": "instead",
    "html": "instead",
    "text": "instead",
    "empty": "instead",
    "error_in_200": "instead",
    "cut": "instead",
    # after doing it
    "short": "after",
    "long": "after",
    "odd_bytes": "after",
    "cut_middle": "after",
    "drip": "after",
    "cut_gzip": "after",
    "cut_deflate": "after",
    "unknown_coding": "after",
    "lost": "after",
    # before anything else
    "delay": "before",
}


@dataclass(slots=True)
class Fault:
    """One kind of fault, and when it applies."""

    kind: str
    where: str = "any"
    """`single`, `batch` or `any`; or `async`, a request of a set when its turn comes."""
    id: str = ""
    """Applies to calls about this object, and to a batch if one of its operations is about it."""
    path: str = ""
    """Applies to calls whose path without version matches this pattern (`*/insights`)."""
    method: str = ""
    count: int | None = None
    """Applies so many times; None means until it is removed."""
    after: int = 0
    """Lets so many matching calls pass first."""
    probability: float = 1.0
    status: int = 0
    """The HTTP status; 0 means the usual one of the kind."""
    code: int = 0
    subcode: int | None = 0
    """Of a code of the limits, 0 means the usual one, and null that it has none."""
    seconds: float = 0.0
    """Applies for so many seconds after the first time; 0 means that time does not end it."""
    retry_after_s: int = 0
    """The seconds in Retry-After of `throttled`; 0 means no such field."""
    message: str = ""
    """The error's message; for `odd` the text that is put into the body unescaped, half an emoji by default."""
    shape: str = ""
    """The shape of the error: Graph's, `old` (`error_code`, `error_msg`) or `instagram` (`error_type`, `code`)."""
    ms: float = 0.0
    """How long `delay` waits, or `drip` takes in all."""
    slots: int = 1
    """How many slots `short` drops or `long` adds."""
    place: str = "tail"
    """Which slots `short` drops: `head`, `middle` or `tail`."""
    counts: bool | None = None
    """Whether a faulty call counts against the limits; Meta does not document it. None: a call that was looked at
    counts (a slot, a refused token of a direct call), a call that was not performed at all does not."""


@dataclass(slots=True)
class Target:
    """The parts of a call that faults are matched with."""

    where: str
    method: str
    paths: Collection[str]
    ids: Collection[str]


class Faults:
    """The faults in force, and the random generator for their probability."""

    def __init__(self, seed: int, clock: Callable[[], float] = time.time) -> None:
        """Start without faults; *clock* returns the seconds since 1970."""
        self._seed = seed
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Remove all faults."""
        self.active: list[Fault] = []
        self._ends_at: dict[int, float] = {}  # when a fault that lasts for some seconds ends
        self._random = random.Random(self._seed)

    def add(self, given: Fault | dict[str, Any] | str) -> None:
        """Put a fault in force. Raises ValueError for an unknown kind or key."""
        self.active.append(fault_from(json.loads(given) if isinstance(given, str) else given))

    def as_json(self) -> list[dict[str, Any]]:
        """The faults as the control call takes them."""
        return [asdict(fault) for fault in self.active]

    def draw(self, stage: str, target: Target) -> Fault | None:
        """The first fault of this *stage* that applies to *target*; its count is taken down."""
        for fault in self.active:
            if FAULT_STAGES[fault.kind] == stage and _matches(fault, target) and self._strikes(fault):
                return fault
        return None

    def _strikes(self, fault: Fault) -> bool:
        if fault.after > 0:
            fault.after -= 1
            return False
        if fault.count == 0 or self._random.random() >= fault.probability:
            return False
        if fault.seconds and self._clock() >= self._ends_at.setdefault(id(fault), self._clock() + fault.seconds):
            return False
        if fault.count is not None:
            fault.count -= 1
        return True


def fault_from(given: Fault | dict[str, Any]) -> Fault:
    """The fault that *given* describes."""
    if isinstance(given, Fault):
        return given
    unknown = sorted(set(given) - {field.name for field in fields(Fault)})
    if unknown or given.get("kind") not in FAULT_STAGES:
        raise ValueError(f"no such fault: {given.get('kind')!r} {' '.join(unknown)}".strip())
    return Fault(**given)


def _matches(fault: Fault, target: Target) -> bool:
    if fault.kind == "null" and target.where == "single":
        return False
    if fault.kind == "original_response" and target.method == "GET":
        return False
    return (
        (fault.where == target.where or (fault.where == "any" and target.where != "async"))
        and fault.method in ("", target.method)
        and (not fault.id or fault.id in target.ids)
        and (not fault.path or any(fnmatchcase(path, fault.path) for path in target.paths))
    )
