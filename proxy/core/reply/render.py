"""A reply as its caller gets it: order, JSONP, 304, links, usage, and the two fields that say what happened."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from proxy.core.graph import paging
from proxy.core.http import headers
from proxy.core.http.cache_control import matches
from proxy.core.http.cache_status import ASKED_NOW, NAME, server_timing, status_fields
from proxy.core.model import NO_DIRECTIVES, Headers, Reply
from proxy.core.reply.field_order import in_order
from proxy.core.routing.classify import Read


class LinkOrigin(msgspec.Struct, frozen=True, gc=False):
    """How the caller came in, for links that shall lead back here; an empty *origin* leaves them alone."""

    origin: str
    hosts: frozenset[str]


LINKS_UNCHANGED = LinkOrigin("", frozenset())


def render(read: Read, reply: Reply, link_origin: LinkOrigin, newest_usage: Headers) -> Reply:
    """*reply* with all that depends on this one caller. What is held and shared stays as Graph gave it."""
    fields = (*_with_usage(reply, newest_usage), *status_fields(reply, read.request.directives))
    if reply.status == 200 and is_known(read.request.directives.if_none_match, reply):
        return replace(reply, status=304, headers=headers.without(fields, frozenset({"content-length"})), body=b"")
    if reply.header("content-encoding"):
        return replace(reply, headers=fields)  # packed in a way that is not known here: nothing of it can be read
    body = reply.body
    if read.order and reply.status == 200:
        body = in_order(body, read.request.path, read.order)
    if link_origin.origin and reply.status == 200:
        body = paging.rewrite(body, link_origin.hosts, link_origin.origin)
    if read.callback and _is_json(reply):
        body = jsonp(body, read.callback)
        fields = (
            *headers.without(fields, frozenset({"content-type"})),
            ("Content-Type", headers.SCRIPT_TYPE),
        )
    return replace(reply, headers=fields, body=body)


def jsonp(body: bytes, callback: str) -> bytes:
    """*body* handed to the function *callback*, as Graph writes JSONP."""
    return b"/**/ " + callback.encode() + b"(" + body + b");"


def bare(reply: Reply) -> Reply:
    """*reply* where no read stands behind it: an error of ours about a message that was not understood, or a stream."""
    return replace(reply, headers=(*reply.headers, *status_fields(reply, NO_DIRECTIVES)))


def passthrough_status(reason: str, *, writes: bool, trouble: str = "") -> Headers:
    """The fields of what is none of the cache's business for *reason*, and of the *trouble* that it met."""
    detail = trouble or ("" if writes else reason)
    told = f"{NAME}; {'fwd=method' if writes else 'fwd=bypass'}{detail and f'; detail={detail}'}"
    return ("Cache-Status", told), ("Server-Timing", server_timing(None, None))


def is_known(if_none_match: str, reply: Reply) -> bool:
    """Whether the caller already holds *reply*: its ETag is among those of the caller's If-None-Match."""
    etag = reply.header("etag")
    return bool(if_none_match and etag) and matches(if_none_match, etag or "")


def _is_json(reply: Reply) -> bool:
    return headers.media_type(reply.header("content-type") or "") in {"application/json", "text/javascript"}


def _with_usage(reply: Reply, newest: Headers) -> Headers:
    """Usage as Graph told it with this reply, else the newest known, never what was held.

    Where a batch tells of it on its own reply alone, what is known of another token than that on top is no older.
    """
    if (reply.origin_mode in ASKED_NOW and not reply.usage_of_top) or headers.pick(reply.headers, headers.USAGE):
        return reply.headers
    return (*reply.headers, *newest)
