"""Splits a read of several objects (`?ids=a,b,c`) into reads of each, and joins their replies.

`shell/pipeline/ids_splitter` does so where `may_be_held` allows it: only under rules with `merge` and `fresh_s` that
store, for at most 500 distinct numeric ids with at most one edge, and without parameters such as `id` or `debug`. It
answers each object from its entry if it can, and asks Graph for the others in one read. The fast path leaves every
`?ids=` to it. Graph answers each object under its id and counts each as a call; one bad id fails the whole read
(developers.facebook.com/docs/graph-api/overview/rate-limiting).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping

import msgspec
from msgspec.structs import replace

from proxy.core.graph.errors import UNREADABLE
from proxy.core.http import headers
from proxy.core.memory.memo import memo
from proxy.core.model import Reply, Request
from proxy.core.quota import ledger
from proxy.core.routing.query import join_pairs, php_name, split_pairs
from proxy.core.routing.rules import Rule

_NUMERIC_ID = re.compile(r"(?:act_)?[0-9]+(?:_[0-9]+)*")
MOST_IDS = 500
"""The most objects of a read that is split; Graph itself answers 50."""

_PREVENTS_SPLIT = frozenset({"id", "debug"})
"""Parameters that name another object, or that add members about the whole read to the body."""
_bodies = msgspec.json.Decoder(dict[str, msgspec.Raw])


def reads_by_id(request: Request) -> dict[str, Request] | None:
    """Returns the read of each object that *request* names, by id; None if it is no such read."""
    found = _split_ids(request.query) if request.path.count("/") == 1 else None
    if found is None or len(found[0]) > MOST_IDS:
        return None
    ids, rest = found
    edge = request.path.removesuffix("/")
    return {each: replace(request, path=f"/{each}{edge}", query=rest) for each in ids}


def ids_in(path: str, query: str) -> tuple[str, ...]:
    """Returns the objects in `ids=` of a read that can be split; () for any other read."""
    found = _split_ids(query) if path.count("/") == 1 and "ids=" in query else None
    return found[0] if found else ()


@memo()
def _split_ids(query: str) -> tuple[tuple[str, ...], str] | None:
    pairs = split_pairs(query)
    named = [php_name(name) for name, _ in pairs]
    ids = tuple(dict(pairs).get("ids", "").split(","))
    if named.count("ids") != 1 or not _PREVENTS_SPLIT.isdisjoint(named):
        return None
    if len(set(ids)) < len(ids) or not all(map(_NUMERIC_ID.fullmatch, ids)):
        return None
    return ids, join_pairs(tuple(pair for pair in pairs if pair[0] != "ids"))


def may_be_held(part: Request, rule: Rule) -> bool:
    """Returns whether rule and caller allow that the read of one object is answered from the cache."""
    return rule.merge and rule.shared_s > 0 and not (part.directives.no_cache or part.directives.no_store)


def with_ids(request: Request, ids: Collection[str]) -> Request:
    """Returns *request* for the objects *ids* alone."""
    pairs = tuple((name, ",".join(ids) if name == "ids" else value) for name, value in split_pairs(request.query))
    return replace(request, query=join_pairs(pairs))


def split_reply(answer: Reply, ids: Collection[str]) -> dict[str, Reply] | None:
    """Returns the reply for each of *ids* from *answer*; None if *answer* does not hold exactly these.

    The parts have no ETag, because Graph's is that of the whole.
    """
    try:
        bodies = _bodies.decode(answer.body)
    except UNREADABLE:
        return None
    if answer.status != 200 or bodies.keys() != set(ids):
        return None
    fields = headers.without(answer.headers, headers.NOT_IN_PARTS)
    return {each: replace(answer, headers=fields, body=bytes(bodies[each])) for each in ids}


def join_replies(ids: Collection[str], from_cache: Mapping[str, Reply], from_graph: Mapping[str, Reply]) -> Reply:
    """Returns one reply for all *ids*, from those in the cache and those that Graph answered now."""
    found = {**from_cache, **from_graph}
    body = b"{" + b",".join(b'"%b":%b' % (each.encode(), found[each].body) for each in ids) + b"}"
    avoided = Counter[str]()
    for part in found.values():
        avoided.update(ledger.calls_avoided(part, 1))
    whole = next(iter(from_graph.values()), None) or min(from_cache.values(), key=lambda part: part.ttl or 0.0)
    return replace(
        whole,
        headers=headers.without(whole.headers, headers.NOT_IN_PARTS),
        body=body,
        detail="" if whole.detail == "superset" else whole.detail,
        avoided=tuple(avoided.items()),
    )
