"""Renders a reply for its caller: 304, field order, paging links, JSONP, usage, Cache-Status and Server-Timing."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.core.graph import paging
from proxy.core.graph.jsonp import jsonp
from proxy.core.http import headers
from proxy.core.http.cache_control import matches
from proxy.core.http.cache_status import CACHE_NAME, NOT_FROM_CACHE, server_timing, status_fields
from proxy.core.model import NO_DIRECTIVES, Headers, Reply
from proxy.core.reply.field_order import in_order
from proxy.core.reply.link_origin import LinkOrigin
from proxy.core.routing.classify import Read


def render(read: Read, reply: Reply, link_origin: LinkOrigin, newest_usage: Headers) -> Reply:
    """Returns *reply* with everything that depends on this one caller; the shared and stored reply is not changed."""
    fields = (*_with_usage(reply, newest_usage), *status_fields(reply, read.request.directives))
    if reply.status == 200 and is_not_modified(read.request.directives.if_none_match, reply):
        return replace(reply, status=304, headers=headers.without(fields, frozenset({"content-length"})), body=b"")
    if reply.header("content-encoding"):
        return replace(reply, headers=fields)  # a coding that cannot be decoded here
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


def bare(reply: Reply) -> Reply:
    """Returns *reply*, which answers no read, with Cache-Status: an error about an unreadable message, or a stream."""
    return replace(reply, headers=(*reply.headers, *status_fields(reply, NO_DIRECTIVES)))


def passthrough_status(reason: str, *, writes: bool, trouble: str = "") -> Headers:
    """Returns Cache-Status and Server-Timing of a message that passes through for *reason*, or met *trouble*."""
    detail = trouble or ("" if writes else reason)
    status = f"{CACHE_NAME}; {'fwd=method' if writes else 'fwd=bypass'}{detail and f'; detail={detail}'}"
    return ("Cache-Status", status), ("Server-Timing", server_timing(None, None))


def is_not_modified(if_none_match: str, reply: Reply) -> bool:
    """Returns whether the caller already has *reply*: its ETag is in *if_none_match*."""
    etag = reply.header("etag")
    return bool(if_none_match and etag) and matches(if_none_match, etag or "")


def _is_json(reply: Reply) -> bool:
    return headers.media_type(reply.header("content-type") or "") in {"application/json", "text/javascript"}


def _with_usage(reply: Reply, newest: Headers) -> Headers:
    """Returns the fields with the usage headers of this reply, else with the newest known ones, never with stored ones.

    A batch has usage headers for its top-level token alone; for other tokens the newest known ones are as recent.
    """
    if (reply.origin_mode in NOT_FROM_CACHE and not reply.usage_of_top) or headers.pick(reply.headers, headers.USAGE):
        return reply.headers
    return (*reply.headers, *newest)
