"""Values that the tests of `core` begin with."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from proxy.core.client_batch.operation import Envelope, Operation, plain_read
from proxy.core.client_batch.parse import read_envelope
from proxy.core.http import headers
from proxy.core.model import NO_DIRECTIVES, Channel, Credential, Entry, EntryMeta, Reply, Request
from proxy.core.routing.classify import Bypass, Read, classify
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.rules import Rule, RuleBook

TOKEN = "EAAB|secret-of-ann"
PROOF = "0a1b2c3d4e5f"
ETAG = '"e1"'
BODY = b'{"id":"1"}'
TYPED = (("Content-Type", "application/json; charset=UTF-8"),)

GRAPH = "graph.facebook.com"
INSTAGRAM = "graph.instagram.com"
UPLOADS = "rupload.facebook.com"
HOSTS = GraphHosts(GRAPH, frozenset({INSTAGRAM, UPLOADS}))
NO_RULES = RuleBook((), Rule())


def credential(token: str = TOKEN, proof: str = "", time: str = "") -> Credential:
    """Who asks."""
    return Credential(token, proof, time)


def request(query: str = "fields=name", token: str | None = TOKEN, **others: object) -> Request:
    """A plain read of /v25.0/1."""
    who = None if token is None else Credential(token)
    return replace(Request(GRAPH, "v25.0", "/1", query, "", who, directives=NO_DIRECTIVES), **others)


def reply(status: int = 200, body: bytes = BODY, etag: str = ETAG, **others: object) -> Reply:
    """What Graph says to it."""
    fields = (*TYPED, ("ETag", etag)) if etag else TYPED
    return replace(Reply(status, fields, body), **others)


def entry(
    *,
    asked: float = 1000.0,
    etag: str = ETAG,
    channel: Channel = Channel.BATCH,
    may_be_fresh: bool = True,
    proofs: tuple[bytes, ...] = (b"",),
    body: bytes = BODY,
    expires: float = 0.0,
) -> Entry:
    """What is held of it."""
    fields = (*TYPED, ("ETag", etag), ("Facebook-API-Version", "v25.0"))
    return Entry(EntryMeta(etag, channel.value, asked, may_be_fresh, proofs, expires), headers.stored(fields), body)


def head(target: str, method: str = "GET", **fields: str) -> Head:
    """A message's head; underscores in the names of *fields* stand for hyphens."""
    return Head(method, target, {name.replace("_", "-"): value for name, value in fields.items()})


def plain(target: str, **fields: str) -> Read:
    """The plain read that a GET of *target* is."""
    found = classify(head(target, **fields), b"", HOSTS, NO_RULES)
    assert isinstance(found, Read), found
    return found


def names(reply: Reply) -> list[str]:
    """The names of a reply's header fields."""
    return [name.lower() for name, _ in reply.headers]


ONE = {"relative_url": "1"}
TOP = Credential("TOP")


def envelope(*items: dict[str, Any], target: str = "/v25.0", **form: Any) -> Envelope:
    """A batch of *items*."""
    found = read_envelope(head(target, "POST"), {"access_token": "TOP", "batch": list(items), **form}, HOSTS)
    assert found is not None
    return found


def only(item: dict[str, Any]) -> Operation:
    """The one operation that *item* is."""
    (operation,) = envelope(item).operations
    return operation


def normal_operation(item: dict[str, Any], target: str = "/v25.0") -> Read | Bypass:
    """The plain read that *item* is in a batch of its own."""
    whole = envelope(item, target=target)
    return plain_read(whole.operations[0], whole.operations[0].relative_url, whole, HOSTS, NO_RULES)
