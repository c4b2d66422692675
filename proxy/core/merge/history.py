"""What is remembered of reads that were asked as one: what others want of the same, and what cannot be had together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.core.graph.errors import is_clean, is_trouble
from proxy.core.memory.memo import MEMO_BYTES, Recent
from proxy.core.merge.selection import FieldSet
from proxy.core.model import Reply

MOST = 100
"""Fields that are asked together at most: what nobody reads costs bytes."""


_SELECTION, _FIELD = 400, 200
"""Bytes that a selection, and each name in it, takes at most in memory."""


@dataclass(slots=True)
class _Family:
    """What is known of the reads of one thing that differ in their fields alone."""

    asked: OrderedDict[FieldSet, float] = field(default_factory=OrderedDict)  # when somebody last wanted just these
    answered: OrderedDict[FieldSet, None] = field(default_factory=OrderedDict)  # what Graph was asked for them
    refused: OrderedDict[FieldSet, float] = field(default_factory=OrderedDict)  # until when it is not tried again

    @property
    def size(self) -> int:
        """The bytes that it takes at most."""
        return sum(_SELECTION + _FIELD * len(names) for names in (*self.asked, *self.answered, *self.refused))


class MergeHistory:
    """What was asked together of late, and what was refused, for a bounded number of families."""

    PLACES = 4096
    ASKED, ANSWERED, REFUSED = 32, 4, 16
    """Selections of each family."""
    REST_S = 300

    def __init__(self) -> None:
        """Know nothing."""
        self._families = Recent[Hashable, _Family](self.PLACES, 8 * MEMO_BYTES)

    def supersets(self, family: Hashable, own: FieldSet, now: float) -> list[FieldSet]:
        """The selections with an answer that may hold *own* and more, the newest first: *own* is wanted again."""
        found = self._families.get(family)
        more = [names for names in reversed(found.answered) if own < names] if found else []
        if found and more and own in found.asked:
            found.asked[own] = now
        return more

    def wanted(self, family: Hashable, now: float, fresh_s: float) -> FieldSet:
        """What others want, by which a read is worth widening: their reads may come while its answer is fresh."""
        found = self._families.get(family)
        asked = found.asked.items() if found else ()
        return frozenset().union(*(names for names, at in asked if now - at < max(self.REST_S, 2 * fresh_s)))

    def may_merge(self, family: Hashable, names: FieldSet, now: float) -> bool:
        """Whether *names* can be asked together: they are not too many, and none of them were refused of late."""
        found = self._families.get(family)
        refused = found.refused.items() if found else ()
        return len(names) <= MOST and not any(bad <= names and now < until for bad, until in refused)

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
        """Graph's *answer* to *names* was the answer to all *selections*, and is *fresh_s* of use to others."""
        if not _is_good(answer):
            self._refuse(family, [names] if not is_trouble(answer) else [], now)
        elif fresh_s or len(selections) > 1:
            found = self._find(family)
            _put(found.answered, names, None, self.ANSWERED)
            for own in selections:
                _put(found.asked, own, now, self.ASKED)
            self._keep(family, found)

    def on_failure(self, family: Hashable, names: FieldSet, alone: Mapping[FieldSet, Reply | None], now: float) -> None:
        """There was no answer to *names* that could be taken apart; asked *alone* the selections were told this.

        Those that are bad by themselves are to blame; if all are good it is their company; trouble teaches nothing.
        """
        bad = [own for own, reply in alone.items() if reply and not _is_good(reply) and not is_trouble(reply)]
        is_company = all(reply and _is_good(reply) for reply in alone.values())
        self._refuse(family, [names] if is_company else bad, now)

    def _refuse(self, family: Hashable, combinations: Iterable[FieldSet], now: float) -> None:
        for names in combinations:
            found = self._find(family)
            _put(found.refused, names, now + self.REST_S, self.REFUSED)
            self._keep(family, found)
            if not self.may_merge(family, frozenset().union(*found.asked), now):
                found.asked.clear()

    def _find(self, family: Hashable) -> _Family:
        return self._families.get(family) or _Family()

    def _keep(self, family: Hashable, found: _Family) -> None:
        self._families.put(family, found, found.size)


def _put(known: OrderedDict[FieldSet, Any], names: FieldSet, value: Any, places: int) -> None:
    """Note *names* as the newest; the oldest make room."""
    known[names] = value
    known.move_to_end(names)
    if len(known) > places:
        known.popitem(last=False)


def _is_good(reply: Reply) -> bool:
    return reply.status == 200 and is_clean(reply.body)
