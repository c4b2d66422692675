"""One operation of the application's own batch: what it asks, as whose, and whether it is a plain read.

Source: developers.facebook.com/docs/graph-api/batch-requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.core.batch.request import vouching
from proxy.core.client_batch.jsonpath import LONGEST
from proxy.core.client_batch.references import names_in, paths_in
from proxy.core.model import Channel, Credential, Redacted
from proxy.core.routing.classify import Bypass, Read, classify
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.query import LIFTED, Pairs, join_pairs, split_pairs
from proxy.core.routing.rules import RuleBook
from proxy.core.routing.target import named, nodes, read_target, version_of

_READ_MEMBERS = frozenset(
    {"method", "relative_url", "body", "name", "headers", "omit_response_on_success", "depends_on"}
)


class Operation(Redacted, frozen=True, gc=False):
    """One operation as it was sent, and what it says of itself; its texts may hold tokens."""

    hidden = ("item", "relative_url", "body", "headers")

    item: Mapping[str, Any]
    method: str
    relative_url: str
    body: str
    headers: Mapping[str, str]
    name: str
    parents: tuple[int, ...]  # the places of the operations that it names, all before its own
    is_quiet: bool  # its slot is null on success, if another operation names it

    @property
    def has_references(self) -> bool:
        """Whether its text has to be filled in before it can be asked."""
        return bool(names_in(self.relative_url) or names_in(self.body))


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """What a batch call says of the batch as a whole."""

    operations: tuple[Operation, ...]
    credential: Credential
    host: str
    path: str  # where it was posted to, version and all: operations without a version inherit that one
    language: str = ""
    control: str = ""  # the call's own Cache-Control, for operations without one
    priority: str = ""  # the call's own Priority, likewise
    include_headers: bool = True
    extra: Pairs = ()  # what else the call says, such as `format=json`
    shaping: Pairs = ()  # of that, what says how each operation is answered
    callback: str = ""

    @property
    def version(self) -> str:
        """The version in the path, "" without one."""
        return version_of(self.path)

    @property
    def referred(self) -> frozenset[int]:
        """The places of the operations that others name; of several that bear one name, all."""
        named = {self.operations[parent].name for operation in self.operations for parent in operation.parents}
        return frozenset(at for at, operation in enumerate(self.operations) if operation.name in named)

    @property
    def quoted(self) -> frozenset[int]:
        """Of these, whose answer others take more of than plain values: its order and its links show in theirs."""
        texts = [text for operation in self.operations for text in (operation.relative_url, operation.body)]
        named = {name for text in texts for name, path in paths_in(text) if not _is_plain_value(path)}
        return frozenset(at for at, operation in enumerate(self.operations) if operation.name in named)


_PLAIN_VALUE = re.compile(
    r"\$(?:\.\w+|\[\d+\]|(?<=\.data)\.\*|(?<=\.data)\[[\d:*]*\])*+(?:(?<=\.id)|(?<=\.hash)|(?<=\.name))"
)
"""A path to something that is the same in whatever order the fields around it were asked for."""


def _is_plain_value(path: str) -> bool:
    return len(path) <= LONGEST and _PLAIN_VALUE.fullmatch(path) is not None


def plain_read(
    operation: Operation, relative_url: str, envelope: Envelope, hosts: GraphHosts, rules: RuleBook
) -> Read | Bypass:
    """The plain read that *operation* is, its references filled in as *relative_url*; or why it is none.

    One without a token of its own asks with the batch's, as Graph would have it do. What a GET of its own may carry
    without ceasing to be a plain read (`User-Agent`, `Accept`), an operation may, too.
    """
    if operation.method != "GET":
        return Bypass("method", writes=True)
    # An empty member says nothing: Meta's Node SDK gives a read the list of no files.
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
    found = classify(Head("GET", _target(relative_url, envelope), fields), b"", hosts, rules)
    return Bypass("operation", writes=False) if isinstance(found, Read) and not _rides(found, rules) else found


def _rides(found: Read, rules: RuleBook) -> bool:
    """Whether a read means the same in a batch as alone, so that it may be asked either way."""
    return found.request.channel is Channel.BATCH or not rules.of(found.request).batch


def _may_write(relative_url: str, body: str) -> bool:
    """Whether a GET that is no plain read may be a write: `method=`, in its query or its body, beats the verb."""
    return "method" in body or "method=" in relative_url


def is_normal(relative_url: str) -> bool:
    """Whether the normal form asks the same parameters in the same order, so that the answer is laid out alike."""
    pairs = split_pairs(relative_url.partition("?")[2])
    return tuple(pair for pair in pairs if pair[0] not in LIFTED) == read_target(f"/?{join_pairs(pairs)}").pairs


def _target(relative_url: str, envelope: Envelope) -> str:
    """The operation's own request target: of the call it has the version, the token and what shapes the answer.

    Each where it says nothing of that itself.
    """
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


def asked_by(relative_url: str, body: str, envelope: Envelope) -> tuple[Credential, str, str]:
    """Whose call an operation is, and what it is about: a path and a query; its token may stand in its body."""
    target = read_target(_target(relative_url, envelope))
    token = dict(split_pairs(body)).get("access_token") or target.last("access_token")
    return Credential(token) if token else envelope.credential, target.path, target.query


def written_nodes(relative_url: str, body: str) -> tuple[str, ...]:
    """The objects that a write changes; () if that depends on what another operation answers."""
    is_whole = "://" in relative_url.partition("?")[0]
    target = read_target(relative_url if is_whole else f"/{relative_url.removeprefix('/')}")
    if names_in(relative_url):
        return ()
    return nodes(target.path, target.query) or (() if names_in(body) else named(dict(split_pairs(body))))


def depends_on(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The names that an operation gives as `depends_on`."""
    named = item.get("depends_on")
    return tuple(map(str, named)) if isinstance(named, list) else (str(named),) if named else ()
