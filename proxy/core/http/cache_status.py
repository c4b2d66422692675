"""Writes the Cache-Status (RFC 9211) and Server-Timing fields of a reply."""

from __future__ import annotations

import math

from proxy.core.http.errors import (
    BadRequest,
    Draining,
    Looping,
    Misdirected,
    NotHeld,
    Overloaded,
    Unspoken,
    Unwelcome,
    word,
)
from proxy.core.model import CacheDirectives, Headers, Mode, Reply

CACHE_NAME = "graph-sidecar"
"""The cache's name in Cache-Status (RFC 9211 section 2)."""

NOT_FROM_CACHE = frozenset({Mode.MISS, Mode.CHANGED, Mode.FAILED})
_NEVER_SENT = frozenset(
    map(word, (NotHeld, Overloaded, Draining, BadRequest, Unspoken, Unwelcome, Misdirected, Looping))
)


def status_fields(reply: Reply, directives: CacheDirectives) -> Headers:
    """Returns the fields that describe how *reply* came about: Age, Cache-Status and Server-Timing."""
    age = (("Age", str(int(reply.age))),) if reply.age is not None else ()
    timing = server_timing(reply.window_s, reply.upstream_s, reply.lane)
    return (*age, ("Cache-Status", cache_status(reply, directives)), ("Server-Timing", timing))


def cache_status(reply: Reply, directives: CacheDirectives) -> str:
    """Returns the value of Cache-Status for *reply* (RFC 9211 section 2)."""
    parts = [CACHE_NAME, *_forwarding(reply, directives)]
    if reply.stored:
        parts.append("stored")
    if reply.mode is Mode.COALESCED and reply.ttl is None and reply.joined is not Mode.REUSED:
        parts.append("collapsed")  # `collapsed` is about a forwarded request, and a hit forwarded none
    if reply.detail:
        parts.append(f"detail={reply.detail}")
    return "; ".join(parts)


def _forwarding(reply: Reply, directives: CacheDirectives) -> list[str]:
    if reply.ttl is not None:
        return ["hit", f"ttl={math.floor(reply.ttl)}"]
    if reply.mode is Mode.FAILED and reply.detail in _NEVER_SENT:
        return []
    if reply.origin_mode is Mode.REUSED:  # a repeated refusal for a limit: neither forwarded nor stored
        return []
    wanted = "fwd=request" if directives.no_cache or directives.no_store else ""
    match reply.origin_mode:
        case Mode.REVALIDATED:
            return [wanted or "fwd=stale", "fwd-status=304"]
        case Mode.CHANGED:
            return [wanted or "fwd=stale", f"fwd-status={reply.status}"]
        case _:
            return [wanted or "fwd=uri-miss"]


def server_timing(window_s: float | None, upstream_s: float | None, lane: str = "") -> str:
    """Server-Timing (W3C), in milliseconds, and the lane of the batch that the reply came in."""
    rode = f", lane;desc={lane}" if lane else ""
    return f"window;dur={(window_s or 0) * 1000:.1f}, upstream;dur={(upstream_s or 0) * 1000:.1f}{rode}"
