"""Decides which reads that differ in `fields` may be merged into one read, and which fields that read asks for.

Only plain names at the top level of `fields` are merged (no arguments, no sub-selections), of one node or edge. Graph
answers with the fields in the order asked, leaves out empty ones, and adds `id` at the end where it was not asked for
(developers.facebook.com/docs/graph-api/guides/field-expansion, …/docs/graph-api/results).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from proxy.core.cache.cacheability import is_poll
from proxy.core.cache.key import Keys
from proxy.core.memory.memo import MEMO_BYTES, Memo
from proxy.core.model import NO_DIRECTIVES, Request
from proxy.core.routing.query import join_pairs, php_name, split_pairs
from proxy.core.routing.rules import Rule

FieldNames = frozenset[str]
JsonText = bytes | msgspec.Raw

_PLAIN_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_SHAPING = frozenset({"id", "ids", "metadata", "debug"})
"""Parameters that choose other objects, or that add members to a body which are no fields."""
_NEVER_MERGED_EDGES = frozenset({"insights"})
"""Edges whose rows depend on the fields: an insights report leaves out rows in which every field asked for is zero."""
AROUND_A_LIST = frozenset({"data", "paging", "summary"})


@dataclass(frozen=True, slots=True)
class Selection:
    """The plain field names of a read, and its query without them."""

    names: FieldNames
    rest: str


def selection(request: Request) -> Selection | None:
    """Returns the fields of *request* if it may be merged with other reads, else None."""
    return _selection(of_any_id(request.path), request.query)


def _parse_selection(path: str, query: str) -> Selection | None:
    segments = path[1:].split("/")
    if (
        not segments[0]
        or len(segments) > 2
        or segments[-1] in _NEVER_MERGED_EDGES
        or is_poll(Request("", "", path, query))
    ):
        return None
    pairs = split_pairs(query)
    named = [php_name(name) for name, _ in pairs]
    if named.count("fields") != 1 or not _SHAPING.isdisjoint(named):
        return None
    names = dict(pairs).get("fields", "").split(",")
    if len(set(names)) < len(names) or not all(map(_PLAIN_FIELD.fullmatch, names)):
        return None
    return Selection(frozenset(names), join_pairs(tuple(pair for pair in pairs if pair[0] != "fields")))


def of_any_id(path: str) -> str:
    """Returns *path* with "0" in place of a numeric id at its beginning: what is said of it holds for every id."""
    first, slash, edge = path[1:].partition("/")
    return f"/0{slash}{edge}" if first.isdecimal() and first.isascii() else path


_selection = Memo(_parse_selection, MEMO_BYTES // 2)
"""Remembers the selections of recent reads: programs repeat themselves."""


def with_fields(request: Request, names: FieldNames) -> Request:
    """Returns *request* with *names* in place of its fields, in normal form."""
    return replace(request, query=_query(request.query, names))


def _first_query(query: str, names: FieldNames) -> str:
    text = ",".join(sorted(names))
    return join_pairs(tuple((name, text if name == "fields" else value) for name, value in split_pairs(query)))


_query = Memo(_first_query, MEMO_BYTES // 2)


def may_share(request: Request) -> bool:
    """Returns whether the caller of *request* accepts a part of a merged reply: it sent no cache directives.

    A retry after a refusal is not merged: which of the fields the limit is about is not known.
    """
    return not request.after_refusal and replace(request.directives, if_none_match="") == NO_DIRECTIVES


def family(request: Request, rule: Rule, keys: Keys) -> Hashable:
    """Returns what reads must have in common to be merged: everything but their fields, the proof included."""
    return keys.entry(with_fields(request, frozenset())), keys.proof(request.credential), request.channel, rule


# --- together ---


class MergedSelection(msgspec.Struct, frozen=True, gc=False):
    """A merged read: its fields, and the indices of the reads in it."""

    names: FieldNames
    indices: tuple[int, ...]


def merge_selections(
    selections: Sequence[FieldNames], wanted: FieldNames, is_allowed: Callable[[FieldNames], bool]
) -> list[MergedSelection]:
    """Returns *selections* merged into as few reads as *is_allowed* permits.

    Each read also asks for the fields in *wanted* (those that other callers asked for lately), so that all reads come
    to ask for the same fields, and so have one ETag.
    """
    groups: list[MergedSelection] = []
    for index, names in enumerate(selections):
        at = (
            next((at for at, group in enumerate(groups) if is_allowed(group.names | names)), None)
            if is_allowed(names)
            else None
        )
        if at is None:
            groups.append(MergedSelection(names, (index,)))
        else:
            groups[at] = MergedSelection(groups[at].names | names, (*groups[at].indices, index))
    return [
        replace(group, names=group.names | wanted) if is_allowed(group.names | wanted) else group for group in groups
    ]
