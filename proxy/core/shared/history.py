"""The merge history of a replica that shares: what one replica learns of fields, all replicas know."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping

from proxy.core.memory.memo import Recent
from proxy.core.merge.history import MergeHistory
from proxy.core.merge.selection import FieldNames
from proxy.core.model import Reply
from proxy.core.shared.records import Wanted

SENT_AGAIN_S = 30.0
"""Seconds after which the same record is sent to the other replicas again."""

MOST_SENT = 4096


class SharedHistory(MergeHistory):
    """`MergeHistory` with names of families that are equal on every replica; sends what it learns to the others."""

    def __init__(self, name: Callable[[bytes], bytes], send: Callable[[Wanted], None]) -> None:
        """Start empty; *name* derives a keyed name from a text, *send* sends a record to the other replicas."""
        super().__init__()
        self._name = name
        self._send = send
        self._sent = Recent[tuple[bytes, FieldNames, FieldNames], float](MOST_SENT)

    def supersets(self, family: Hashable, own: FieldNames, now: float) -> list[FieldNames]:
        """As `MergeHistory.supersets`."""
        return super().supersets(self._named(family), own, now)

    def wanted(self, family: Hashable, now: float, fresh_s: float) -> FieldNames:
        """As `MergeHistory.wanted`."""
        return super().wanted(self._named(family), now, fresh_s)

    def may_merge(self, family: Hashable, names: FieldNames, now: float) -> bool:
        """As `MergeHistory.may_merge`."""
        return super().may_merge(self._named(family), names, now)

    def on_reply(
        self,
        family: Hashable,
        names: FieldNames,
        answer: Reply,
        selections: Collection[FieldNames],
        now: float,
        *,
        fresh_s: float,
    ) -> None:
        """As `MergeHistory.on_reply`; sends what was learned to the other replicas."""
        named = self._named(family)
        super().on_reply(named, names, answer, selections, now, fresh_s=fresh_s)
        found = self._families.get(named)
        if found is None or names not in found.answered:
            return
        for own in selections:
            if now - (self._sent.get((named, names, own)) or -math.inf) >= SENT_AGAIN_S:
                self._sent.put((named, names, own), now)
                self._send(Wanted(named, tuple(sorted(own)), tuple(sorted(names))))

    def on_failure(
        self, family: Hashable, names: FieldNames, alone: Mapping[FieldNames, Reply | None], now: float
    ) -> None:
        """As `MergeHistory.on_failure`."""
        super().on_failure(self._named(family), names, alone, now)

    def apply(self, what: Wanted, now: float) -> None:
        """Learn what another replica has learned."""
        self.record(what.family, frozenset(what.names), [frozenset(what.own)], now)

    def _named(self, family: Hashable) -> bytes:
        return family if isinstance(family, bytes) else self._name(repr(family).encode("utf-8", "surrogatepass"))
