"""Slots of Graph's answer to a batch that have a new body: those that make alike replies are found together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from proxy.core.batch.response import Slot
from proxy.core.fast_path.answer_template import split_at_first_value
from proxy.core.fast_path.batch_answer import AnswerKind, BatchAnswer, meta_of_new, new_body
from proxy.core.fast_path.prepared_read import PreparedRead
from proxy.core.model import Credential, Entry, Mode


class NewEntries(NamedTuple):
    """The entries that slots with new bodies make whose replies are alike, and the places of these slots."""

    places: list[int]
    entries: list[Entry]


def find_new(
    answer: BatchAnswer, reads: Sequence[PreparedRead], slots: Sequence[Slot], asked: Sequence[float]
) -> dict[tuple[AnswerKind, bytes], NewEntries]:
    """Returns by kind and token what the *slots* of *answer* make for *reads* of which nothing is held.

    Slots that are no ordinary ones are left out.
    """
    found: dict[tuple[AnswerKind, bytes], NewEntries] = {}
    credential: Credential | None = answer.top
    kinds = {True: _Kinds(answer, is_top=True), False: _Kinds(answer, is_top=False)}
    kinds_of_token = kinds[True]
    for place, (read, slot, since) in enumerate(zip(reads, slots, asked, strict=True)):
        if read.request.credential is not credential:
            credential = read.request.credential
            kinds_of_token = kinds[credential == answer.top]
        if (body := new_body(slot)) is None or (told := kinds_of_token.find(slot)) is None:
            continue
        kind, etag = told
        alike = found.get((kind, read.fingerprint))
        if alike is None:
            alike = found[kind, read.fingerprint] = NewEntries([], [])
        alike.places.append(place)
        alike.entries.append(Entry(meta_of_new(read, etag, body, since), kind.own.stored, body))
    return found


class _Kinds:
    """Finds the kinds of replies to new bodies; most slots differ from the last one in their ETags alone."""

    def __init__(self, answer: BatchAnswer, *, is_top: bool) -> None:
        """Find those of *answer*, for reads whose token *is_top*."""
        self._answer = answer
        self._is_top = is_top
        self._before = self._behind = b""  # the JSON of a slot's `headers` around its ETag
        self._kind: AnswerKind | None = None  # of all slots that have the same there

    def find(self, slot: Slot) -> tuple[AnswerKind, str] | None:
        """Returns the kind of the replies to *slot*, and its ETag; None if the slot is no ordinary one."""
        raw, kind = bytes(slot.headers), self._kind
        if kind is not None and raw.startswith(self._before) and raw.endswith(self._behind):
            own = raw[len(self._before) : -len(self._behind)]
            if own.isalnum():
                return kind, f'"{own.decode()}"'
        found = self._answer.kind_of_new(Mode.MISS, slot, is_top=self._is_top)
        if found is not None:
            before, _, behind = split_at_first_value(raw)
            is_etag = self._answer.templates.stand_around_etag(before, behind)
            self._before, self._behind, self._kind = before, behind, found[0] if is_etag else None
        return found
