"""A reply as its caller gets it: order, JSONP, 304, links, usage, and the two fields that say what happened."""

from __future__ import annotations

import math

import msgspec
from msgspec.structs import replace

from proxy.core import headers, paging
from proxy.core.errors import BadRequest, Draining, Looping, Misdirected, NotHeld, Overloaded, Unspoken, Unwelcome, word
from proxy.core.messages import NO_WISHES, Headers, Mode, Reply, Wishes
from proxy.core.ordering import in_order
from proxy.core.reading import Read, matches

NAME = "graph-sidecar"
"""The cache's name in Cache-Status (RFC 9211 section 2)."""

_ASKED_NOW = frozenset({Mode.MISS, Mode.CHANGED, Mode.FAILED})
_NEVER_SENT = frozenset(
    map(word, (NotHeld, Overloaded, Draining, BadRequest, Unspoken, Unwelcome, Misdirected, Looping))
)


class WayIn(msgspec.Struct, frozen=True, gc=False):
    """How the caller came in, for links that shall lead back here; an empty *origin* leaves them alone."""

    origin: str
    hosts: frozenset[str]


LINKS_AS_THEY_ARE = WayIn("", frozenset())


def dress(read: Read, reply: Reply, way_in: WayIn, newest_usage: Headers) -> Reply:
    """*reply* with all that depends on this one caller. What is held and shared stays as Graph gave it."""
    fields = (*_with_usage(reply, newest_usage), *_told(reply, read.request.wishes))
    if reply.status == 200 and _is_known(read.request.wishes.if_none_match, reply):
        return replace(reply, status=304, headers=headers.without(fields, frozenset({"content-length"})), body=b"")
    if reply.header("content-encoding"):
        return replace(reply, headers=fields)  # packed in a way that is not known here: nothing of it can be read
    body = reply.body
    if read.order and reply.status == 200:
        body = in_order(body, read.request.path, read.order)
    if way_in.origin and reply.status == 200:
        body = paging.rewrite(body, way_in.hosts, way_in.origin)
    if read.callback and _is_json(reply):
        body = wrap(body, read.callback)
        fields = (
            *headers.without(fields, frozenset({"content-type"})),
            ("Content-Type", headers.SCRIPT_TYPE),
        )
    return replace(reply, headers=fields, body=body)


def wrap(body: bytes, callback: str) -> bytes:
    """*body* handed to the function *callback*, as Graph writes JSONP."""
    return b"/**/ " + callback.encode() + b"(" + body + b");"


def bare(reply: Reply) -> Reply:
    """*reply* where no read stands behind it: an error of ours about a message that was not understood, or a stream."""
    return replace(reply, headers=(*reply.headers, *_told(reply, NO_WISHES)))


def skipped(reason: str, *, writes: bool, trouble: str = "") -> Headers:
    """The fields of what is none of the cache's business for *reason*, and of the *trouble* that it met."""
    detail = trouble or ("" if writes else reason)
    told = f"{NAME}; {'fwd=method' if writes else 'fwd=bypass'}{detail and f'; detail={detail}'}"
    return ("Cache-Status", told), ("Server-Timing", _timing(None, None))


def _is_known(if_none_match: str, reply: Reply) -> bool:
    etag = reply.header("etag")
    return bool(if_none_match and etag) and matches(if_none_match, etag or "")


def _is_json(reply: Reply) -> bool:
    return headers.media_type(reply.header("content-type") or "") in {"application/json", "text/javascript"}


def _with_usage(reply: Reply, newest: Headers) -> Headers:
    """Usage as Graph told it with this reply, else the newest known, never what was held.

    Where a batch tells of it on its own reply alone, what is known of another token than that on top is no older.
    """
    if (reply.origin_mode in _ASKED_NOW and not reply.usage_of_top) or headers.pick(reply.headers, headers.USAGE):
        return reply.headers
    return (*reply.headers, *newest)


def _told(reply: Reply, wishes: Wishes) -> Headers:
    age = (("Age", str(int(reply.age))),) if reply.age is not None else ()
    timing = _timing(reply.window_s, reply.upstream_s)
    return (*age, ("Cache-Status", cache_status(reply, wishes)), ("Server-Timing", timing))


def cache_status(reply: Reply, wishes: Wishes) -> str:
    """The Cache-Status member for *reply* (RFC 9211 section 2)."""
    parts = [NAME, *_how(reply, wishes)]
    if reply.stored:
        parts.append("stored")
    if reply.mode is Mode.COALESCED and reply.ttl is None and reply.joined is not Mode.REUSED:
        parts.append("collapsed")  # it speaks of a call to Graph, and a hit made none
    if reply.detail:
        parts.append(f"detail={reply.detail}")
    return "; ".join(parts)


def _how(reply: Reply, wishes: Wishes) -> list[str]:
    if reply.ttl is not None:
        return ["hit", f"ttl={math.floor(reply.ttl)}"]
    if reply.mode is Mode.FAILED and reply.detail in _NEVER_SENT:
        return []
    if reply.origin_mode is Mode.REUSED:  # what Graph said when it was asked last: nothing was sent, nothing is held
        return []
    wanted = "fwd=request" if wishes.no_cache or wishes.no_store else ""
    match reply.origin_mode:
        case Mode.REVALIDATED:
            return [wanted or "fwd=stale", "fwd-status=304"]
        case Mode.CHANGED:
            return [wanted or "fwd=stale", f"fwd-status={reply.status}"]
        case _:
            return [wanted or "fwd=uri-miss"]


def _timing(window_s: float | None, upstream_s: float | None) -> str:
    """Server-Timing (W3C), in milliseconds."""
    return f"window;dur={(window_s or 0) * 1000:.1f}, upstream;dur={(upstream_s or 0) * 1000:.1f}"
