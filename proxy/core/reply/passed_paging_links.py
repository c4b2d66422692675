"""Rewrites paging links in replies that pass through, and decides which of these replies may hold any.

A client that follows such a link as Graph wrote it bypasses the sidecar from its second page on.
"""

from __future__ import annotations

from typing import Any

from proxy.core.graph import lax_json, paging
from proxy.core.http import codings, headers
from proxy.core.model import Headers
from proxy.core.reply.link_origin import LinkOrigin

LARGEST_BODY = 2**20
"""The most bytes of a reply that is collected to rewrite its links; a larger one is streamed unchanged."""

_JSON = frozenset({"application/json", "text/javascript", "application/javascript"})
_WRAPPED = b"/**/"


def may_hold_links(status: int, fields: Headers) -> bool:
    """Returns whether a reply is a small 200 with JSON in a coding that can be decoded here."""
    by_name = {name.lower(): value for name, value in fields}
    is_json = headers.media_type(by_name.get("content-type", "")) in _JSON
    size = by_name.get("content-length", "0")
    is_small = size.isdecimal() and int(size) <= LARGEST_BODY
    return status == 200 and is_json and is_small and codings.is_known(codings.content_codings(fields))


def accepted_codings(value: str) -> str:
    """Returns the codings in a caller's Accept-Encoding that can be decoded here; `identity` if there is none."""
    pieces = [piece.strip() for piece in value.split(",")]
    kept = [piece for piece in pieces if _can_decode(piece)]
    if not kept and any(_coding(piece) == "*" for piece in pieces):
        return codings.ACCEPTED
    return ", ".join(kept) or "identity"


def _can_decode(piece: str) -> bool:
    return _coding(piece) == "identity" or codings.is_known([_coding(piece)])


def _coding(piece: str) -> str:
    """Returns the coding in *piece* of an Accept-Encoding, without its weight (RFC 9110 section 12.5.3)."""
    return piece.partition(";")[0].strip().lower()


def with_our_links(body: bytes, link_origin: LinkOrigin) -> bytes:
    """Returns *body* with its paging links rewritten to *link_origin*: of one object, or of each slot of a batch."""
    if b"paging" not in body:
        return body
    start = body.find(b"(") + 1 if body.startswith(_WRAPPED) else 0
    end = body.rfind(b")") if start else len(body)
    inner = body[start:end]
    if not inner.lstrip().startswith(b"["):
        return paging.rewrite(body, link_origin.hosts, link_origin.origin)
    try:
        slots = lax_json.decode(inner)
    except lax_json.UNREADABLE:
        return body
    return body[:start] + lax_json.encode(_slots_with_our_links(slots, link_origin)) + body[end:]


def _slots_with_our_links(value: Any, link_origin: LinkOrigin) -> Any:
    """Returns slots with the links in their bodies rewritten; Graph also writes a slot as a pair with its number."""
    if isinstance(value, list):
        return [_slots_with_our_links(each, link_origin) for each in value]
    if not isinstance(value, dict) or not isinstance(body := value.get("body"), str):
        return value
    alone = paging.as_asked_alone(lax_json.text(body))
    return {**value, "body": paging.rewrite(alone, link_origin.hosts, link_origin.origin).decode()}
