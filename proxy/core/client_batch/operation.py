"""One operation of an application's batch: its target, its credential, and whether it is a plain read.

Source: developers.facebook.com/docs/graph-api/batch-requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.core.batch.request import vouching
from proxy.core.client_batch.jsonpath import LONGEST_PATH
from proxy.core.client_batch.references import names_in, paths_in
from proxy.core.model import Channel, Credential, Redacted
from proxy.core.routing.classify import Bypass, Read, classify
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.nodes import named_nodes, nodes
from proxy.core.routing.normal_form import read_target, version_of
from proxy.core.routing.query import LIFTED, Pairs, join_pairs, split_pairs
from proxy.core.routing.rules import RuleBook

_READ_MEMBERS = frozenset(
    {"method", "relative_url", "body", "name", "headers", "omit_response_on_success", "depends_on"}
)


class Operation(Redacted, frozen=True, gc=False):
    """One operation as the application sent it, parsed; its texts may hold tokens."""

    hidden = ("item", "relative_url", "body", "headers")

    item: Mapping[str, Any]
    method: str
    relative_url: str
    body: str
    headers: Mapping[str, str]
    name: str
    parents: tuple[int, ...]  # indices of the operations that it refers to, all before its own
    is_quiet: bool  # whether its slot is null on success if another operation refers to it

    @property
    def has_references(self) -> bool:
        """Whether its text has references that have to be filled in before it can be sent."""
        return bool(names_in(self.relative_url) or names_in(self.body))


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """An application's batch: its operations, and what the call states for all of them."""

    operations: tuple[Operation, ...]
    credential: Credential
    host: str
    path: str  # of the call, with its version: operations without a version inherit that one
    language: str = ""
    control: str = ""  # the call's own Cache-Control, for operations without one
    priority: str = ""  # the call's own Priority, likewise
    include_headers: bool = True
    extra: Pairs = ()  # the call's other parameters, such as `format=json`
    shaping: Pairs = ()  # those of `extra` that decide how each operation is answered
    callback: str = ""

    @property
    def version(self) -> str:
        """The version in the path, "" without one."""
        return version_of(self.path)

    @property
    def referred(self) -> frozenset[int]:
        """The indices of the operations that others refer to; if several have one name, all of them."""
        names = {self.operations[parent].name for operation in self.operations for parent in operation.parents}
        return frozenset(at for at, operation in enumerate(self.operations) if operation.name in names)

    @property
    def quoted(self) -> frozenset[int]:
        """Those of `referred` of which a reference inserts more than plain values: field order and links show."""
        texts = [text for operation in self.operations for text in (operation.relative_url, operation.body)]
        names = {name for text in texts for name, path in paths_in(text) if not _is_plain_value(path)}
        return frozenset(at for at, operation in enumerate(self.operations) if operation.name in names)


_PLAIN_VALUE = re.compile(
    r"\$(?:\.\w+|\[\d+\]|(?<=\.data)\.\*|(?<=\.data)\[[\d:*]*\])*+(?:(?<=\.id)|(?<=\.hash)|(?<=\.name))"
)
"""Matches a path to a value that does not depend on the order of the fields around it."""


def _is_plain_value(path: str) -> bool:
    return len(path) <= LONGEST_PATH and _PLAIN_VALUE.fullmatch(path) is not None


def plain_read(
    operation: Operation, relative_url: str, envelope: Envelope, hosts: GraphHosts, rules: RuleBook
) -> Read | Bypass:
    """Returns the plain read that *operation* is, with its references filled in as *relative_url*; or why it is none.

    An operation without a token uses the batch's, as in Graph. Fields that do not keep a GET from being a plain read
    (`User-Agent`, `Accept`) do not keep an operation from it either.
    """
    if operation.method != "GET":
        return Bypass("method", writes=True)
    # An empty member means nothing: Meta's Node SDK gives every read an empty list of files.
    if operation.body or not _READ_MEMBERS.issuperset(name for name, value in operation.item.items() if value):
        return Bypass("operation", writes=_may_write(relative_url, operation.body))
    if names_in(relative_url):
        return Bypass("reference", writes=_may_write(relative_url, ""))
    if "host" in operation.headers or "://" in relative_url.partition("?")[0]:
        return Bypass("operation", writes=False)
    given = {
        "host": envelope.host,
        "accept-language": envelope.language,
        "cache-control": envelope.control,
        "priority": envelope.priority,
    }
    fields = {**{name: value for name, value in given.items() if value}, **operation.headers}
    found = classify(Head("GET", request_target(relative_url, envelope), fields), b"", hosts, rules)
    return (
        Bypass("operation", writes=False)
        if isinstance(found, Read) and not _means_the_same_in_batch(found, rules)
        else found
    )


def _means_the_same_in_batch(found: Read, rules: RuleBook) -> bool:
    """Returns whether a read means the same in a batch as alone, so that it may be sent either way."""
    return found.request.channel is Channel.BATCH or not rules.of(found.request).batch


def _may_write(relative_url: str, body: str) -> bool:
    """Returns whether a GET may be a write: `method=` in its query or body overrides the method."""
    return "method" in body or "method=" in relative_url


def is_in_normal_form(relative_url: str) -> bool:
    """Returns whether the parameters of *relative_url* stand in normal order, so that the answer's order fits."""
    pairs = split_pairs(relative_url.partition("?")[2])
    return tuple(pair for pair in pairs if pair[0] not in LIFTED) == read_target(f"/?{join_pairs(pairs)}").pairs


def request_target(relative_url: str, envelope: Envelope) -> str:
    """Returns the operation's request target; version, token and shaping default to those of the call."""
    path, mark, query = relative_url.removeprefix("/").partition("?")
    if envelope.version and not version_of(path):
        path = f"{envelope.version}/{path}"
    if envelope.shaping:
        own = {name for name, _ in split_pairs(query)}
        shaping = join_pairs(tuple(pair for pair in envelope.shaping if pair[0] not in own))
        query = "&".join(filter(None, (query, shaping)))
    if not any(piece.startswith("access_token=") for piece in query.split("&")):
        query = "&".join(filter(None, (query, vouching(envelope.credential))))
    return f"/{path}?{query}" if query or mark else f"/{path}"


def credential_and_target(relative_url: str, body: str, envelope: Envelope) -> tuple[Credential, str, str]:
    """Returns an operation's credential (its token may stand in its body), path and query."""
    target = read_target(request_target(relative_url, envelope))
    token = dict(split_pairs(body)).get("access_token") or target.last("access_token")
    return Credential(token) if token else envelope.credential, target.path, target.query


def written_nodes(relative_url: str, body: str) -> tuple[str, ...]:
    """Returns the objects that a write changes; () if that depends on another operation's answer."""
    is_whole = "://" in relative_url.partition("?")[0]
    target = read_target(relative_url if is_whole else f"/{relative_url.removeprefix('/')}")
    if names_in(relative_url):
        return ()
    return nodes(target.path, target.query) or (() if names_in(body) else named_nodes(dict(split_pairs(body))))


def depends_on(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names in an operation's `depends_on`."""
    names = item.get("depends_on")
    return tuple(map(str, names)) if isinstance(names, list) else (str(names),) if names else ()
