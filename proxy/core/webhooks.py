"""What Meta's webhooks say: the handshake, whether an event is Meta's own, and what it tells of.

(developers.facebook.com/docs/graph-api/webhooks/getting-started) Events come late, twice, out of order, or never: each
ends the freshness of what was asked for before it came, and nothing lasts on its word but as long as the clock allows.
"""

from __future__ import annotations

import hmac
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from proxy.core import jsontext
from proxy.core.errors import UNREADABLE
from proxy.core.memo import Memo
from proxy.core.messages import Request
from proxy.core.normal import field_names, fields_in
from proxy.core.rules import Rule

LARGEST_BODY = 3 * 2**20
"""Bytes of a POST, which holds up to 1000 updates."""

_CHALLENGE = re.compile(r"[0-9]{1,64}")
_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_DEEPEST = 5
_LONGEST = 128
"""Characters of a field's name, and of a kind's."""
_ACCOUNTS = frozenset({"ad_account", "adaccount"})


@dataclass(frozen=True, slots=True)
class Event:
    """One change: the object, of what kind, in which fields or edges, and the other objects that it names."""

    kind: str
    node: str
    fields: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """All objects of which something may have changed."""
        return tuple(dict.fromkeys((self.node, *self.others)))


def challenge(query: Mapping[str, str], token: str) -> str | None:
    """What to echo to the handshake in *query*; None for one that does not know *token*."""
    said = query.get("hub.verify_token", "").encode("utf-8", "surrogateescape")
    is_known = hmac.compare_digest(said, token.encode())
    given = query.get("hub.challenge", "")
    return given if is_known and query.get("hub.mode") == "subscribe" and _CHALLENGE.fullmatch(given) else None


def is_signature(text: str) -> bool:
    """Whether *text* can be an X-Hub-Signature-256 at all."""
    return _SIGNATURE.fullmatch(text) is not None


def is_authentic(signature: str, body: bytes, secret: str) -> bool:
    """Whether *signature* is that of the raw *body* under the app's *secret*, compared in constant time."""
    return hmac.compare_digest(signature, f"sha256={hmac.digest(secret.encode(), body, 'sha256').hex()}")


def read_events(body: bytes) -> tuple[Event, ...] | None:
    """The events in *body*; None if it is none of Meta's notifications. What is odd in one of them hides no other."""
    try:
        told = jsontext.decode(body)
    except UNREADABLE:
        return None
    if not isinstance(told, dict) or not isinstance(told.get("object"), str) or not isinstance(told.get("entry"), list):
        return None
    if len(told["object"]) > _LONGEST:
        return None
    return tuple(event for entry in told["entry"] for event in _events(told["object"], entry))


def _events(kind: str, entry: object) -> Iterator[Event]:
    if not isinstance(entry, dict) or not (node := _id(entry.get("id"))):
        return
    changes = [change for change in _list(entry.get("changes")) if isinstance(change, dict)]
    fields = [change.get("field") for change in changes] + _list(entry.get("changed_fields"))
    others = [other for change in changes for other in _ids(change.get("value"), _DEEPEST)]
    if user := _id(entry.get("uid")):
        others.append(user)
    if kind in _ACCOUNTS and node.isdigit():
        others.append(f"act_{node}")
    named = tuple(dict.fromkeys(name for name in fields if isinstance(name, str) and len(name) <= _LONGEST))
    yield Event(kind, node, named, tuple(dict.fromkeys(others)))


def _ids(value: object, depth: int) -> Iterator[str]:
    """The objects that a `value` names: `post_id`, `comment_id`, `media: {id}`; who did it (`from`) has not changed."""
    if isinstance(value, list) and depth:
        for each in value:
            yield from _ids(each, depth - 1)
    if not isinstance(value, dict) or not depth:
        return
    for name, below in value.items():
        if (name == "id" or name.endswith("_id")) and (found := _id(below)):
            yield found
        elif name != "from":
            yield from _ids(below, depth - 1)


def _id(value: object) -> str:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if _ID.fullmatch(text) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


class Subscriptions:
    """Of which objects and fields Meta has been heard to tell, so that they may be fresh for longer.

    An object counts from its first event on; a field counts for every object of the kind that it was told of. What is
    extended is only what a rule calls fresh at all: an object read in such fields alone, or an edge of that name.
    """

    OBJECTS = 10_000
    FIELDS = 256

    def __init__(self, extend_s: float) -> None:
        """Let what is subscribed to be fresh for *extend_s* seconds."""
        self._kinds: OrderedDict[str, str] = OrderedDict()
        self._fields: dict[str, set[str]] = {}
        self._extended = Memo(lambda rule: replace(rule, fresh_s=max(rule.fresh_s, extend_s)))
        self._is_on = extend_s > 0

    def heard(self, event: Event) -> None:
        """Meta told *event*."""
        for node in {event.node, *(other for other in event.others if other == f"act_{event.node}")}:
            self._kinds[node] = event.kind
            self._kinds.move_to_end(node)
        while len(self._kinds) > self.OBJECTS:
            self._kinds.popitem(last=False)
        known = self._fields.setdefault(event.kind, set()) if len(self._fields) < self.FIELDS else set()
        known.update(event.fields[: max(0, self.FIELDS - len(known))])

    def extended(self, rule: Rule, request: Request) -> Rule:
        """*rule*, or what it comes to for what Meta tells of."""
        return self._extended(rule) if self._is_on and rule.fresh_s > 0 and self._covers(request) else rule

    def _covers(self, request: Request) -> bool:
        node, _, edge = request.path[1:].partition("/")
        known = self._fields.get(self._kinds.get(node, ""))
        if not known:
            return False
        if edge:
            return edge in known
        asked = set(field_names(fields_in(request.query))) - {"id"}
        return bool(asked) and asked <= known
