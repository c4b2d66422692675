"""The fields that callers of all replicas asked for lately, so that merging costs no call again on each replica."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping

from proxy.core.memory.memo import Recent
from proxy.core.merge.history import MergeHistory
from proxy.core.merge.selection import FieldSet
from proxy.core.model import Reply
from proxy.core.shared.records import Wanted

EACH_S = 30.0
"""Seconds after which the same is told again."""

TOLD = 4096


class SharedHistory(MergeHistory):
    """As `MergeHistory`, by names of families that mean the same to every replica; tells others what is wanted."""

    def __init__(self, name: Callable[[bytes], bytes], tell: Callable[[Wanted], None]) -> None:
        """*name* makes a keyed name of a family's text; *tell* takes what others should know."""
        super().__init__()
        self._name = name
        self._tell = tell
        self._told = Recent[tuple[bytes, FieldSet, FieldSet], float](TOLD)

    def supersets(self, family: Hashable, own: FieldSet, now: float) -> list[FieldSet]:
        """As `MergeHistory.supersets`."""
        return super().supersets(self._named(family), own, now)

    def wanted(self, family: Hashable, now: float, fresh_s: float) -> FieldSet:
        """As `MergeHistory.wanted`."""
        return super().wanted(self._named(family), now, fresh_s)

    def may_merge(self, family: Hashable, names: FieldSet, now: float) -> bool:
        """As `MergeHistory.may_merge`."""
        return super().may_merge(self._named(family), names, now)

    def on_reply(
        self,
        family: Hashable,
        names: FieldSet,
        answer: Reply,
        selections: Collection[FieldSet],
        now: float,
        *,
        fresh_s: float,
    ) -> None:
        """As `MergeHistory.on_reply`; what was learned is told."""
        named = self._named(family)
        super().on_reply(named, names, answer, selections, now, fresh_s=fresh_s)
        found = self._families.get(named)
        if found is None or names not in found.answered:
            return
        for own in selections:
            if now - (self._told.get((named, names, own)) or -math.inf) >= EACH_S:
                self._told.put((named, names, own), now)
                self._tell(Wanted(named, tuple(sorted(own)), tuple(sorted(names))))

    def on_failure(self, family: Hashable, names: FieldSet, alone: Mapping[FieldSet, Reply | None], now: float) -> None:
        """As `MergeHistory.on_failure`."""
        super().on_failure(self._named(family), names, alone, now)

    def apply(self, what: Wanted, now: float) -> None:
        """Take what another replica learned."""
        self.record(what.family, frozenset(what.names), [frozenset(what.own)], now)

    def _named(self, family: Hashable) -> bytes:
        return family if isinstance(family, bytes) else self._name(repr(family).encode("utf-8", "surrogatepass"))
