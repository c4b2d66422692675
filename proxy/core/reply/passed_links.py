"""Replies that pass through: which of them may hold paging links, and those led back to where the caller came in.

Whoever followed such a link as Graph wrote it would go around the sidecar on its second page.
"""

from __future__ import annotations

from typing import Any

from proxy.core.graph import lax_json, paging
from proxy.core.http import codings, headers
from proxy.core.model import Headers
from proxy.core.reply.render import LinkOrigin

LARGEST = 2**20
"""Bytes of a reply that is held until it is whole; a larger one goes on as it comes, its links as they are."""

_JSON = frozenset({"application/json", "text/javascript", "application/javascript"})
_WRAPPED = b"/**/"


def may_hold_links(status: int, fields: Headers) -> bool:
    """Whether a reply is whole, and JSON in a coding that can be undone here."""
    told = {name.lower(): value for name, value in fields}
    is_json = headers.media_type(told.get("content-type", "")) in _JSON
    size = told.get("content-length", "0")
    is_small = size.isdecimal() and int(size) <= LARGEST
    return status == 200 and is_json and is_small and codings.is_known(codings.named(fields))


def accepted(told: str) -> str:
    """Of the codings that a caller accepts those that can be undone here; `identity` where none of them can."""
    pieces = [piece.strip() for piece in told.split(",")]
    kept = [piece for piece in pieces if _is_known(piece)]
    if not kept and any(_name(piece) == "*" for piece in pieces):
        return codings.ACCEPTED
    return ", ".join(kept) or "identity"


def _is_known(piece: str) -> bool:
    return _name(piece) == "identity" or codings.is_known([_name(piece)])


def _name(piece: str) -> str:
    """The coding that *piece* of an Accept-Encoding names, without its weight (RFC 9110 section 12.5.3)."""
    return piece.partition(";")[0].strip().lower()


def led_back(body: bytes, way_in: LinkOrigin) -> bytes:
    """*body* with its paging links led back by *way_in*: of one object, or of each slot of a batch."""
    if b"paging" not in body:
        return body
    start = body.find(b"(") + 1 if body.startswith(_WRAPPED) else 0
    end = body.rfind(b")") if start else len(body)
    inner = body[start:end]
    if not inner.lstrip().startswith(b"["):
        return paging.rewrite(body, way_in.hosts, way_in.origin)
    try:
        slots = lax_json.decode(inner)
    except lax_json.UNREADABLE:
        return body
    return body[:start] + lax_json.encode(_led_back(slots, way_in)) + body[end:]


def _led_back(told: Any, way_in: LinkOrigin) -> Any:
    """Slots with the links in their bodies led back; Graph also tells of a slot together with its number."""
    if isinstance(told, list):
        return [_led_back(each, way_in) for each in told]
    if not isinstance(told, dict) or not isinstance(body := told.get("body"), str):
        return told
    alone = paging.as_asked_alone(lax_json.text(body))
    return {**told, "body": paging.rewrite(alone, way_in.hosts, way_in.origin).decode()}
