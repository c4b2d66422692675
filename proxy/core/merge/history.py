"""The merge history: which field sets were asked, answered and refused together for reads of one object or edge."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.core.graph.errors import is_clean, is_trouble
from proxy.core.memory.memo import MEMO_BYTES, Recent
from proxy.core.merge.selection import FieldNames
from proxy.core.model import Reply

MOST_FIELDS = 100
"""The most fields of a merged read: fields that no caller reads cost bytes."""


_SELECTION_BYTES, _FIELD_BYTES = 400, 200
"""The most bytes of memory for a field set, and for each name in it."""


@dataclass(slots=True)
class _Family:
    """The field sets of reads that differ in their fields alone."""

    asked: OrderedDict[FieldNames, float] = field(default_factory=OrderedDict)  # when a caller last asked for this set
    answered: OrderedDict[FieldNames, None] = field(default_factory=OrderedDict)  # the merged sets that Graph answered
    refused: OrderedDict[FieldNames, float] = field(
        default_factory=OrderedDict
    )  # until when the set is not tried again

    @property
    def size(self) -> int:
        """The most bytes that this family takes."""
        return sum(
            _SELECTION_BYTES + _FIELD_BYTES * len(names) for names in (*self.asked, *self.answered, *self.refused)
        )


class MergeHistory:
    """The field sets that were asked together lately, and those that were refused, for a bounded number of families."""

    CAPACITY = 4096
    ASKED, ANSWERED, REFUSED = 32, 4, 16
    """The most field sets of each family."""
    REST_S = 300

    def __init__(self) -> None:
        """Start empty."""
        self._families = Recent[Hashable, _Family](self.CAPACITY, 8 * MEMO_BYTES)

    def supersets(self, family: Hashable, own: FieldNames, now: float) -> list[FieldNames]:
        """Returns the answered sets that contain *own* and more, newest first; records that *own* is wanted again."""
        found = self._families.get(family)
        more = [names for names in reversed(found.answered) if own < names] if found else []
        if found and more and own in found.asked:
            found.asked[own] = now
        return more

    def wanted(self, family: Hashable, now: float, fresh_s: float) -> FieldNames:
        """Returns the fields that other callers asked for lately: a read that adds them may answer their next reads."""
        found = self._families.get(family)
        asked = found.asked.items() if found else ()
        return frozenset().union(*(names for names, at in asked if now - at < max(self.REST_S, 2 * fresh_s)))

    def may_merge(self, family: Hashable, names: FieldNames, now: float) -> bool:
        """Returns whether *names* may be asked together: not too many, and no subset of them was refused lately."""
        found = self._families.get(family)
        refused = found.refused.items() if found else ()
        return len(names) <= MOST_FIELDS and not any(bad <= names and now < until for bad, until in refused)

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
        """Record Graph's *answer* to *names*, which answered all *selections* and stays fresh for *fresh_s*."""
        if not _is_good(answer):
            self._refuse(family, [names] if not is_trouble(answer) else [], now)
        elif fresh_s or len(selections) > 1:
            self.record(family, names, selections, now)

    def record(self, family: Hashable, names: FieldNames, selections: Collection[FieldNames], now: float) -> None:
        """Record that an answer to *names* answered all *selections*."""
        found = self._find(family)
        _put_newest(found.answered, names, None, self.ANSWERED)
        for own in selections:
            _put_newest(found.asked, own, now, self.ASKED)
        self._keep(family, found)

    def on_failure(
        self, family: Hashable, names: FieldNames, alone: Mapping[FieldNames, Reply | None], now: float
    ) -> None:
        """Record that the merged read of *names* failed; *alone* holds the reply to each selection asked by itself.

        Selections that fail by themselves are refused; if all succeed, their combination is. Errors on Graph's side
        and missing replies prove nothing.
        """
        bad = [own for own, reply in alone.items() if reply and not _is_good(reply) and not is_trouble(reply)]
        is_combination = all(reply and _is_good(reply) for reply in alone.values())
        self._refuse(family, [names] if is_combination else bad, now)

    def _refuse(self, family: Hashable, combinations: Iterable[FieldNames], now: float) -> None:
        for names in combinations:
            found = self._find(family)
            _put_newest(found.refused, names, now + self.REST_S, self.REFUSED)
            self._keep(family, found)
            if not self.may_merge(family, frozenset().union(*found.asked), now):
                found.asked.clear()

    def _find(self, family: Hashable) -> _Family:
        return self._families.get(family) or _Family()

    def _keep(self, family: Hashable, found: _Family) -> None:
        self._families.put(family, found, found.size)


def _put_newest(known: OrderedDict[FieldNames, Any], names: FieldNames, value: Any, capacity: int) -> None:
    """Record *names* as the newest set; the oldest is dropped beyond *capacity*."""
    known[names] = value
    known.move_to_end(names)
    if len(known) > capacity:
        known.popitem(last=False)


def _is_good(reply: Reply) -> bool:
    return reply.status == 200 and is_clean(reply.body)
