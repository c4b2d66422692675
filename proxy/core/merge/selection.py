"""One fetch for many fields: which reads may be asked as one, what that one asks, and what of its answer is whose.

Only names at the top level of `fields`, without arguments or sub-selections, of one node or edge. Graph answers with
the asked fields in the asked order, leaves out those that are empty, and puts `id` last where nobody asked for it
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

FieldSet = frozenset[str]
JsonText = bytes | msgspec.Raw

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_SHAPING = frozenset({"id", "ids", "metadata", "debug"})
"""Parameters that say of which objects, or add to a body what is no field."""
_APART = frozenset({"insights"})
"""Edges whose rows come and go with the fields: a report leaves out rows in which all that was asked for is zero."""
AROUND_A_LIST = frozenset({"data", "paging", "summary"})
ETAG = frozenset({"etag"})


@dataclass(frozen=True, slots=True)
class Selection:
    """What a read asks of what: plain field names, and its query without them."""

    names: FieldSet
    rest: str


def selection(request: Request) -> Selection | None:
    """The fields that *request* may ask together with others; None for a read that stays by itself."""
    return _selection(request.path, request.query)


def _first_selection(path: str, query: str) -> Selection | None:
    segments = path[1:].split("/")
    if not segments[0] or len(segments) > 2 or segments[-1] in _APART or is_poll(Request("", "", path, query)):
        return None
    pairs = split_pairs(query)
    named = [php_name(name) for name, _ in pairs]
    if named.count("fields") != 1 or not _SHAPING.isdisjoint(named):
        return None
    names = dict(pairs).get("fields", "").split(",")
    if len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names)):
        return None
    return Selection(frozenset(names), join_pairs(tuple(pair for pair in pairs if pair[0] != "fields")))


_selection = Memo(_first_selection, 2 * MEMO_BYTES)
"""Programs repeat themselves."""


def with_fields(request: Request, names: FieldSet) -> Request:
    """*request* with *names* in place of its fields, in normal form."""
    return replace(request, query=_query(request.query, names))


def _first_query(query: str, names: FieldSet) -> str:
    text = ",".join(sorted(names))
    return join_pairs(tuple((name, text if name == "fields" else value) for name, value in split_pairs(query)))


_query = Memo(_first_query, 2 * MEMO_BYTES)


def may_share(request: Request) -> bool:
    """Whether the caller of *request* takes any answer that Graph gives now, as its own headers tell.

    One that comes back after a refusal asks for itself: nothing tells which of the fields that limit is about.
    """
    return not request.after_refusal and replace(request.directives, if_none_match="") == NO_DIRECTIVES


def family(request: Request, rule: Rule, keys: Keys) -> Hashable:
    """What reads must have in common to be asked as one: all but their fields, what vouches for them included."""
    return keys.entry(with_fields(request, frozenset())), keys.proof(request.credential), request.channel, rule


# --- together ---


class MergedSelection(msgspec.Struct, frozen=True, gc=False):
    """Reads, by their places in a row, that are asked as one; and what that one asks."""

    names: FieldSet
    places: tuple[int, ...]


def merge_selections(
    selections: Sequence[FieldSet], wanted: FieldSet, may: Callable[[FieldSet], bool]
) -> list[MergedSelection]:
    """Put *selections* together into as few as *may* be asked.

    Each is widened by what is *wanted* of the same by others, so that all come to ask one thing, which has one ETag.
    """
    groups: list[MergedSelection] = []
    for place, names in enumerate(selections):
        at = next((at for at, group in enumerate(groups) if may(group.names | names)), None) if may(names) else None
        if at is None:
            groups.append(MergedSelection(names, (place,)))
        else:
            groups[at] = MergedSelection(groups[at].names | names, (*groups[at].places, place))
    return [replace(group, names=group.names | wanted) if may(group.names | wanted) else group for group in groups]
