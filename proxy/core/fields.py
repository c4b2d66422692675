"""One fetch for many fields: which reads may be asked as one, what that one asks, and what of its answer is whose.

Only names at the top level of `fields`, without arguments or sub-selections, of one node or edge. Graph answers with
the asked fields in the asked order, leaves out those that are empty, and puts `id` last where nobody asked for it
(developers.facebook.com/docs/graph-api/guides/field-expansion, …/docs/graph-api/results).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from proxy.core import headers
from proxy.core.errors import UNREADABLE
from proxy.core.keys import Keys
from proxy.core.lasting import is_poll
from proxy.core.memo import MEMO_BYTES, Memo
from proxy.core.messages import NO_WISHES, Mode, Reply, Request
from proxy.core.normal import join_pairs, php_name, split_pairs
from proxy.core.rules import Rule

Names = frozenset[str]
_Text = bytes | msgspec.Raw

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_SHAPING = frozenset({"id", "ids", "metadata", "debug"})
"""Parameters that say of which objects, or add to a body what is no field."""
_APART = frozenset({"insights"})
"""Edges whose rows come and go with the fields: a report leaves out rows in which all that was asked for is zero."""
_UNASKED = "id"
_ROUND_A_LIST = frozenset({"data", "paging", "summary"})
_ETAG = frozenset({"etag"})


@dataclass(frozen=True, slots=True)
class Selection:
    """What a read asks of what: plain field names, and its query without them."""

    names: Names
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


def asking(request: Request, names: Names) -> Request:
    """*request* with *names* in place of its fields, in normal form."""
    return replace(request, query=_query(request.query, names))


def _first_query(query: str, names: Names) -> str:
    text = ",".join(sorted(names))
    return join_pairs(tuple((name, text if name == "fields" else value) for name, value in split_pairs(query)))


_query = Memo(_first_query, 2 * MEMO_BYTES)


def may_share(request: Request) -> bool:
    """Whether the caller of *request* takes any answer that Graph gives now, as its own headers tell.

    One that comes back after a refusal asks for itself: nothing tells which of the fields that limit is about.
    """
    return not request.returns and replace(request.wishes, if_none_match="") == NO_WISHES


def family(request: Request, rule: Rule, keys: Keys) -> Hashable:
    """What reads must have in common to be asked as one: all but their fields, what vouches for them included."""
    return keys.entry(asking(request, frozenset())), keys.proof(request.credential), request.channel, rule


# --- together ---


class Together(msgspec.Struct, frozen=True, gc=False):
    """Reads, by their places in a row, that are asked as one; and what that one asks."""

    names: Names
    places: tuple[int, ...]


def together(selections: Sequence[Names], wanted: Names, may: Callable[[Names], bool]) -> list[Together]:
    """Put *selections* together into as few as *may* be asked.

    Each is widened by what is *wanted* of the same by others, so that all come to ask one thing, which has one ETag.
    """
    groups: list[Together] = []
    for place, names in enumerate(selections):
        at = next((at for at, group in enumerate(groups) if may(group.names | names)), None) if may(names) else None
        if at is None:
            groups.append(Together(names, (place,)))
        else:
            groups[at] = Together(groups[at].names | names, (*groups[at].places, place))
    return [replace(group, names=group.names | wanted) if may(group.names | wanted) else group for group in groups]


# --- apart ---


def cut(reply: Reply, asked: Names, own: Names) -> Reply | None:
    """Of Graph's *reply* to *asked* what it would have said to *own*; None where that cannot be told.

    Graph has given no ETag for it, so it has none.
    """
    if own == asked:
        return reply
    body = project(reply.body, asked, own) if reply.status == 200 else None
    return None if body is None else replace(reply, body=body, headers=headers.without(reply.headers, _ETAG))


def unpaid(reply: Reply) -> Reply:
    """The part of one whose read another's paid for, if it was paid for at all."""
    is_asked = reply.ttl is None or reply.detail == "stale-if-error"
    return replace(reply, mode=Mode.COALESCED, joined=reply.mode, detail="merged") if is_asked else reply


def project(body: bytes, asked: Names, own: Names) -> bytes | None:
    """The JSON of *body*, which answers *asked*, less what *own* did not ask for; None if it is not understood.

    Values stay byte for byte as they are.
    """
    try:
        whole = _object.decode(body)
        if "data" not in asked and "data" in whole and memoryview(whole["data"])[0] == ord("["):
            return _write(_list(whole, asked, own))
        return _write(_fields(whole, asked, own))
    except (_Strange, *UNREADABLE):
        return None


class _Strange(Exception):  # noqa: N818 - it never leaves this room
    """A body in which there is what nobody asked for: nobody here knows whose it is."""


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def _fields(found: Mapping[str, _Text], asked: Names, own: Names) -> dict[str, _Text]:
    """The fields of one object, in the order in which Graph gave them; `id` last if only others asked for it."""
    if not found.keys() <= asked | {_UNASKED}:
        raise _Strange
    kept = {name: value for name, value in found.items() if name in own or name not in asked}
    return {**kept, _UNASKED: found[_UNASKED]} if _UNASKED in found else kept


def _list(whole: Mapping[str, _Text], asked: Names, own: Names) -> dict[str, _Text]:
    """An edge: its objects one by one, and links to further pages of the same fields."""
    if not whole.keys() <= _ROUND_A_LIST:
        raise _Strange
    rows = [_write(_fields(row, asked, own)) for row in _rows.decode(whole["data"])]
    made = {**whole, "data": b"[" + b",".join(rows) + b"]"}
    if "paging" in whole:
        paging = _object.decode(whole["paging"])
        links: dict[str, _Text] = {
            name: _linked(paging[name], asked, own) for name in ("previous", "next") if name in paging
        }
        made["paging"] = _write({**paging, **links})
    return made


_COMMA = re.compile(rb",|%2[Cc]|\\u0025(?:2[Cc])|\\u002[Cc]")
_ASKED = re.compile(rb"(?<=[?&6])fields=((?:\w|" + _COMMA.pattern + rb")*)")


def _linked(link: _Text, asked: Names, own: Names) -> bytes:
    r"""A link that asks for *own*, its commas spelled as Graph spelled them: `,`, `%2C`, or `\u00252C`."""
    return _ASKED.sub(lambda found: b"fields=" + _listed(found[1], asked, own), bytes(link))


def _listed(text: bytes, asked: Names, own: Names) -> bytes:
    names = [name.decode() for name in _COMMA.split(text)]
    if set(names) != asked:
        raise _Strange
    comma = _COMMA.search(text)
    return (comma.group() if comma else b"").join(name.encode() for name in names if name in own)


def _write(fields: Mapping[str, _Text]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), bytes(value)) for name, value in fields.items()) + b"}"
