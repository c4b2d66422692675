"""Meta's webhooks: answers the handshake, verifies signatures, and parses the events.

(developers.facebook.com/docs/graph-api/webhooks/getting-started) Events come late, twice, out of order, or never. So an
event only ends the freshness of what was fetched before it; it never makes an entry last longer than its rule allows.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.core.graph.errors import UNREADABLE
from proxy.core.memory import json_text

LARGEST_EVENT_BODY = 3 * 2**20
"""The most bytes of a notification, which holds up to 1000 updates."""

_CHALLENGE = re.compile(r"[0-9]{1,64}")
_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
_EVENT_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_DEEPEST = 5
_LONGEST = 128
"""Characters of a field's name, and of a kind's."""
_ACCOUNTS = frozenset({"ad_account", "adaccount"})


@dataclass(frozen=True, slots=True)
class Event:
    """One change of an object: its kind and id, the fields or edges that changed, and other objects that it names."""

    kind: str
    node: str
    fields: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """All objects that may have changed."""
        return tuple(dict.fromkeys((self.node, *self.others)))


def challenge(query: Mapping[str, str], token: str) -> str | None:
    """Returns the challenge to echo to the handshake in *query*; None if its verify token is not *token*."""
    given_token = query.get("hub.verify_token", "").encode("utf-8", "surrogateescape")
    is_known = hmac.compare_digest(given_token, token.encode())
    given = query.get("hub.challenge", "")
    return given if is_known and query.get("hub.mode") == "subscribe" and _CHALLENGE.fullmatch(given) else None


def is_signature(text: str) -> bool:
    """Returns whether *text* has the form of an X-Hub-Signature-256."""
    return _SIGNATURE.fullmatch(text) is not None


def is_authentic(signature: str, body: bytes, secret: str) -> bool:
    """Returns whether *signature* is that of the raw *body* under the app's *secret*, compared in constant time."""
    return hmac.compare_digest(signature, f"sha256={hmac.digest(secret.encode(), body, 'sha256').hex()}")


def read_events(body: bytes) -> tuple[Event, ...] | None:
    """Returns the events in *body*; None if it is no notification of Meta's. Odd entries are left out alone."""
    try:
        notification = json_text.decode(body)
    except UNREADABLE:
        return None
    if (
        not isinstance(notification, dict)
        or not isinstance(notification.get("object"), str)
        or not isinstance(notification.get("entry"), list)
    ):
        return None
    if len(notification["object"]) > _LONGEST:
        return None
    return tuple(event for entry in notification["entry"] for event in _events(notification["object"], entry))


def _events(kind: str, entry: object) -> Iterator[Event]:
    if not isinstance(entry, dict) or not (node := _event_id(entry.get("id"))):
        return
    changes = [change for change in _as_list(entry.get("changes")) if isinstance(change, dict)]
    fields = [change.get("field") for change in changes] + _as_list(entry.get("changed_fields"))
    others = [other for change in changes for other in _ids_in_value(change.get("value"), _DEEPEST)]
    if user := _event_id(entry.get("uid")):
        others.append(user)
    if kind in _ACCOUNTS and node.isdigit():
        others.append(f"act_{node}")
    named = tuple(dict.fromkeys(name for name in fields if isinstance(name, str) and len(name) <= _LONGEST))
    yield Event(kind, node, named, tuple(dict.fromkeys(others)))


def _ids_in_value(value: object, depth: int) -> Iterator[str]:
    """Yields the objects that a `value` names (`post_id`, `comment_id`, `media: {id}`), but not `from`, the actor."""
    if isinstance(value, list) and depth:
        for each in value:
            yield from _ids_in_value(each, depth - 1)
    if not isinstance(value, dict) or not depth:
        return
    for name, below in value.items():
        if (name == "id" or name.endswith("_id")) and (found := _event_id(below)):
            yield found
        elif name != "from":
            yield from _ids_in_value(below, depth - 1)


def _event_id(value: object) -> str:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if _EVENT_ID.fullmatch(text) else ""


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
