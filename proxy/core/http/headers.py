"""Decides which header fields are forwarded, dropped and stored: one list of dropped names for each way of a field.

    function         for the fields of                          drops                          asked by
    for_graph        a passed-through request                   NOT_TO_GRAPH                   upstream/passthrough
    for_stream       its reply, streamed to the caller          NOT_STREAMED                   upstream/passthrough
    for_caller       the reply to a read                        NOT_IN_READ_REPLIES            upstream/client
    for_slot         the same, in a slot of a batch             NOT_IN_READ_REPLIES            core/batch/response
    stored           an entry                                   NOT_STORED                     core/cache/policy
    updated_by_304   an entry that a 304 confirms               NOT_FROM_304                   core/cache/policy

The other lists (NOT_IN_PARTS to NOT_REPEATED) are dropped with `without`, where the text below each list says. The fast
path has no list of its own: `core/fast_path/answer_template` and `core/fast_path/prepared_reply` make their heads with
the functions above. A plain read sends none of its caller's fields to Graph; `upstream/client` and `core/batch/request`
write all that is sent. Names are compared in lower case.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeGuard

from proxy.core.memory.memo import memo
from proxy.core.model import Headers

HOP_BY_HOP = frozenset(
    {
        "connection",
        "http2-settings",  # what came with `Upgrade: h2c` (RFC 7540 section 3.2.1)
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-cnection",  # how Meta's front end spells Connection
    },
)
"""Fields about one connection (RFC 9110 section 7.6.1)."""

ELSEWHERE = frozenset({"alt-svc"})
"""Alternative services of Graph (RFC 7838): a client that used them would bypass the sidecar."""

CODED = frozenset({"content-encoding"})
"""The content coding of a body. On a reply that passes through, only `upstream/http1` drops it, where it has decoded
the body; slots and entries, whose bodies are text or decoded, never have it."""

FRAMING = CODED | {"content-length"}
"""Fields about the bytes that came from Graph; stored bodies are decoded, and framed anew."""

USAGE = frozenset(
    {
        "x-app-usage",
        "x-page-usage",
        "x-ad-account-usage",
        "x-business-use-case-usage",
        "x-fb-ads-insights-throttle",
        "x-fb-ads-insights-reach-throttle",
    },
)
"""The usage headers; never stored (developers.facebook.com/docs/graph-api/overview/rate-limiting).

`quota/usage_headers` reads all of them but USAGE_NOT_READ.
"""

USAGE_NOT_READ = frozenset({"x-fb-ads-insights-reach-throttle"})
"""Passed to callers only: over this limit Graph refuses nothing, it leaves `reach` out of answers about old dates.

(…/docs/marketing-api/insights/best-practices; the shape of the value is not documented.)
"""

APP_USAGE = frozenset({"x-app-usage", "x-page-usage"})
"""The usage headers that are about the caller's app or page, whatever was read."""

TRACE = frozenset({"x-fb-trace-id", "x-fb-request-id", "x-fb-debug", "x-fb-rev", "x-fb-rlafr"})
"""The fields that Meta's support asks for; in a batch they are on the batch's reply. They name one exchange."""

OF_ANY_REPLY = frozenset({"access-control-allow-origin", "strict-transport-security", "vary"})
"""The fields that every direct reply has, and that may be on a batch's reply but not in its slots."""

JSON_TYPE = "application/json; charset=UTF-8"
"""The Content-Type of Graph's direct replies."""

SCRIPT_TYPE = "text/javascript; charset=UTF-8"
"""The Content-Type that Graph gives to JSONP, and to JSON inside a batch."""

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


# --- the lists of dropped names; `for_caller`, `for_stream` and `for_graph` drop those that Connection names too ---

NOT_STREAMED = HOP_BY_HOP | ELSEWHERE
"""Dropped from both directions of a passed-through exchange; Set-Cookie stays, for such a reply has one caller."""

NOT_TO_GRAPH = NOT_STREAMED | {"host", "user-agent", "expect", "content-length", "cdn-loop"}
"""Dropped from a passed-through request: `upstream/passthrough` writes these anew."""

NOT_IN_READ_REPLIES = NOT_STREAMED | {"set-cookie", "content-length"}
"""Dropped from the reply to a read, which may go to several callers; its body is decoded, and framed anew."""

NOT_STORED = NOT_IN_READ_REPLIES | CODED | USAGE | TRACE | {"age"}
"""Dropped from what an entry stores."""

NOT_FROM_304 = FRAMING | {"etag", "content-type", "content-range", "connection"}
"""The fields of a 304 that do not replace those of the entry (RFC 9111 section 3.2)."""

NOT_IN_PARTS = frozenset({"etag"})
"""Dropped from a part of a merged read or of `?ids=`: Graph gave it no ETag (`core/merge/{projection,ids_split}`)."""

NOT_WITH_NEW_LINKS = FRAMING | {"transfer-encoding"}
"""Dropped from a passed-through reply whose paging links were rewritten (`upstream/passed_paging_links`)."""

NOT_FROM_REFUSED_BATCH = frozenset({"facebook-api-version"})
"""Dropped where the refusal of a batch answers its reads, which may be of other versions (`core/batch/response`)."""

NOT_IN_CLIENT_SLOTS = frozenset({"date", "server", "connection", "server-timing"}) | TRACE | FRAMING
"""Dropped from a slot of an application's own batch (`core/client_batch/slots.slot`)."""

NOT_AROUND_CLIENT_BATCH = frozenset({"content-type", "etag", "last-modified", "cache-control", "pragma", "expires"})
"""Dropped from the reply to an application's own batch, with NOT_IN_READ_REPLIES (`core/client_batch/slots.outer`)."""

NOT_REPEATED = USAGE | TRACE | {"retry-after", "date"}
"""Dropped from a refusal that is given to other callers (`core/quota/retry_after.stored_refusal`)."""


def for_caller(headers: Iterable[tuple[str, str]]) -> Headers:
    """Returns the fields of a decoded reply of Graph's that its caller gets."""
    fields = tuple(headers)
    dropped = NOT_IN_READ_REPLIES | _named_by_connection(fields)
    return tuple([field for field in fields if field[0].lower() not in dropped])


def for_slot(headers: Headers) -> Headers:
    """Returns `with_json_type(for_caller(headers))`, made in one pass, because every slot of a batch comes here."""
    fields, is_typed = [], False
    for field in headers:
        name = lower_name(field[0])
        if name == "connection":
            return with_json_type(for_caller(headers))
        if name in NOT_IN_READ_REPLIES:
            continue
        if name == "content-type" and not is_typed:
            is_typed = True
            fields.append((field[0], _json_type(field[1])))
        else:
            fields.append(field)
    return tuple(fields) if is_typed else (*fields, ("Content-Type", JSON_TYPE))


def lower_name(name: str) -> str:
    """Returns *name* in lower case; Graph's names repeat, and to look one up is quicker."""
    return _lower_case(name) if len(name) <= _USUAL_NAME else name.lower()


_USUAL_NAME = 64
_lower_case = lru_cache(maxsize=512)(str.lower)


def for_graph(headers: Iterable[tuple[str, str]]) -> Headers:
    """Returns the fields of a passed-through request that Graph gets."""
    return _streamed(tuple(headers), NOT_TO_GRAPH)


def for_stream(headers: Iterable[tuple[str, str]]) -> Headers:
    """Returns the fields of Graph's reply to a passed-through request that the caller gets."""
    return _streamed(tuple(headers), NOT_STREAMED)


def _streamed(fields: Headers, dropped: frozenset[str]) -> Headers:
    all_dropped = dropped | _named_by_connection(fields)
    return tuple((name, value) for name, value in fields if name.lower() not in all_dropped)


def stored(headers: Headers, etag: str = "") -> bytes:
    """Returns the fields to store in an entry, as one block of bytes, with an empty ETag in place of *etag*.

    So entries whose fields differ in their ETags alone have equal blocks.
    """
    kept = [(name, value) for name, value in headers if lower_name(name) not in NOT_STORED]
    if etag:
        kept = [
            (name, "" if value == etag else value) if lower_name(name) == "etag" else (name, value)
            for name, value in kept
            if value or lower_name(name) != "etag"
        ]
    return "\r\n".join([f"{name}: {value}" for name, value in kept]).encode("utf-8", "surrogateescape")


def from_stored(block: bytes, etag: str = "") -> Headers:
    """Returns the fields in the block of an entry with this *etag*."""
    lines = block.decode("utf-8", "surrogateescape").split("\r\n") if block else []
    fields = tuple([(name, value) for name, _, value in (line.partition(": ") for line in lines)])
    if not etag:
        return fields
    return tuple([(name, value if value or lower_name(name) != "etag" else etag) for name, value in fields])


_ETAG, _LINE_BREAKS = b"ETag: ", frozenset({b"", b"\r\n"})
_ETAG_LINE = re.compile(rb"(?i)(?:(?<=\r\n)|^)(etag: )([^\r\n]*)")


def with_etag(block: bytes, etag: str) -> bytes:
    """Returns the *block* of an entry with its *etag* in each empty ETag."""
    return _as_bytes(etag).join(_around_empty_etags(block))


@memo()
def _around_empty_etags(block: bytes) -> tuple[bytes, ...]:
    """Returns the parts of *block* before and behind each empty ETag; entries share their blocks."""
    ends = [found.end() for found in _ETAG_LINE.finditer(block) if not found[2]]
    return tuple([block[start:end] for start, end in itertools.pairwise((0, *ends, len(block)))])


def without_etag(block: bytes, etag: str) -> bytes:
    """Returns the *block* of an entry as `stored` makes it: with an empty ETag in place of *etag*."""
    value = _as_bytes(etag)
    before, name, behind = block.partition(_ETAG + value)
    if name and value not in before and value not in behind and _is_line(before, behind):
        return b"".join((before, _ETAG, behind))
    return _ETAG_LINE.sub(lambda found: found[1] if found[2] == value else found[0], block)


def _is_line(before: bytes, behind: bytes) -> bool:
    """Returns whether what stands between *before* and *behind* is one line."""
    return before[-2:] in _LINE_BREAKS and behind[:2] in _LINE_BREAKS


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def updated_by_304(kept: Headers, newer_fields: Headers) -> Headers:
    """Returns the fields *kept* in an entry, updated by those of a 304 (RFC 9111 section 3.2).

    A field that is replaced keeps its place: a 304 that says nothing new leaves the entry as it is.
    """
    newer: dict[str, list[tuple[str, str]]] = {}
    for field in newer_fields:
        if (name := lower_name(field[0])) not in NOT_FROM_304:
            newer.setdefault(name, []).append(field)
    names, updated = frozenset(newer), list[tuple[str, str]]()
    for field in kept:
        name = lower_name(field[0])
        updated += newer.pop(name, ()) if name in names else (field,)
    return (*updated, *itertools.chain.from_iterable(newer.values()))


def head_bytes(start: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """Returns the head of a message as bytes. Raises ValueError if a line holds a line break, and so would be two."""
    lines = [start, *[f"{name}: {value}" for name, value in fields], "", ""]
    head = "\r\n".join(lines)
    if not head.count("\r") == head.count("\n") == len(lines) - 1:
        raise ValueError("a line of the head holds the end of a line")
    return head.encode("utf-8", "surrogateescape")


def is_field(pair: tuple[object, object]) -> TypeGuard[tuple[str, str]]:
    """Returns whether *pair* is a valid field name and value (RFC 9110 sections 5.1 and 5.5)."""
    name, value = pair
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return _is_name(name) and (value.isprintable() or _CONTROL.search(value) is None)


@memo()
def _is_name(name: str) -> bool:
    return _FIELD_NAME.fullmatch(name) is not None


def pick(headers: Headers, names: frozenset[str]) -> Headers:
    """Returns the fields whose names are among *names*."""
    return tuple([field for field in headers if field[0].lower() in names])


def without(headers: Headers, names: frozenset[str]) -> Headers:
    """Returns the fields whose names are not among *names*."""
    return tuple([field for field in headers if field[0].lower() not in names])


def is_redirect(status: int) -> bool:
    """Returns whether *status* is a redirect (RFC 9110 section 15.4)."""
    return 300 <= status < 400 and status != 304


def with_json_type(headers: Headers) -> Headers:
    """Returns a slot's fields with the Content-Type of a direct reply.

    Graph types slots of a batch `text/javascript`, and some clients parse only bodies that are typed as JSON.
    """
    at = next((at for at, (name, _) in enumerate(headers) if name.lower() == "content-type"), None)
    if at is None:
        return (*headers, ("Content-Type", JSON_TYPE))
    name, value = headers[at]
    return (*headers[:at], (name, _json_type(value)), *headers[at + 1 :])


def _json_type(value: str) -> str:
    return JSON_TYPE if media_type(value) == "text/javascript" else value


def media_type(value: str) -> str:
    """Returns the media type in a Content-Type, in lower case and without parameters (RFC 9110 section 8.3.1)."""
    return value.partition(";")[0].strip().lower()


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Returns the field names that the Connection field lists, which makes them hop-by-hop."""
    lists = [value for name, value in headers if name.lower() == "connection"]
    return frozenset([item.strip().lower() for value in lists for item in value.split(",")])
