"""A batch that the application sent: its operations, in any of the shapes that clients write.

Sources: developers.facebook.com/docs/graph-api/batch-requests and Meta's own SDKs, which disagree on several shapes.
What is not understood here is passed on untouched: then Graph itself says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyjson5

from proxy.core.errors import UNREADABLE
from proxy.core.messages import Channel, Credential, Discreet
from proxy.core.normal import LIFTED, join_pairs, named, nodes, origin_form, read_target, split_pairs, version_of
from proxy.core.reading import Head, Hosts, Read, Skip, checked_callback, credential, read
from proxy.core.references import names_in, paths_in
from proxy.core.rules import RuleBook

TOP_LEVEL = frozenset(
    {"batch", "access_token", "appsecret_proof", "appsecret_time", "include_headers", "callback", "method"}
)
"""The parameters of a batch call whose meaning is known; a batch with any other is passed on untouched."""

_READ_MEMBERS = frozenset(
    {"method", "relative_url", "body", "name", "headers", "omit_response_on_success", "depends_on"}
)
_READ_HEADERS = frozenset({"if-none-match", "cache-control", "accept-language", "priority"})
_FALSE = frozenset({"", "0", "false", "no", "off", "none", "null"})


class Operation(Discreet, frozen=True, gc=False):
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
        named = {name for text in texts for name, path in paths_in(text) if not _PLAIN_VALUE.fullmatch(path)}
        return frozenset(at for at, operation in enumerate(self.operations) if operation.name in named)


_PLAIN_VALUE = re.compile(r"\$(?:\.\w+|\[\d+\]|\.data\.\*|\.data\[[\d:*]*\])*\.(?:id|hash|name)")
"""A path to something that is the same in whatever order the fields around it were asked for."""


class Unresolved(Exception):  # noqa: N818 - Meta's own word for it
    """An operation names another that does not stand before it: Graph refuses the whole batch."""

    def __init__(self, index: int, name: str, of: int) -> None:
        """Say it in Graph's words, its double spaces included (seen by arsduo/koala), of a batch of so many."""
        super().__init__(
            f"Request {index} cannot depend on an  unresolved request with  name {name}. "
            "Requests can only depend on preceding requests",
        )
        self.of = of


def may_hold_batch(head: Head) -> bool:
    """Whether a message may carry a batch: a POST to a root or to an object, or one that says so in its query."""
    if head.method != "POST":
        return False
    target = read_target(head.target)
    return target.path.count("/") == 1 or target.get("batch") != ""


def read_envelope(head: Head, form: Mapping[str, Any], hosts: Hosts) -> Envelope | None:
    """The batch that *head* and *form*, the parameters in the body, carry; None for all but a batch in known terms.

    Raises Unresolved, and BadRequest for a `callback` that is no path of identifiers.
    """
    target = read_target(head.target)
    in_query = {name: values[-1] for name, values in target.lifted.items() if values}
    given = {**in_query, **dict(target.pairs), **form}
    who = _top(head, given)
    if (
        "batch" not in given
        or not TOP_LEVEL.issuperset(given)
        or who is None
        or not hosts.takes_batches(hosts.of(head))
    ):
        return None
    if str(given.get("method", "post")).lower() != "post":
        return None
    operations = read_operations(given["batch"])
    if operations is None:
        return None
    return Envelope(
        operations,
        credential=who,
        host=hosts.of(head),
        path=origin_form(head.target).partition("?")[0],
        language=head.headers.get("accept-language", "").strip(),
        control=head.headers.get("cache-control", ""),
        priority=head.headers.get("priority", ""),
        include_headers=is_true(given.get("include_headers"), default=True),
        callback=checked_callback(str(given.get("callback") or "")),
    )


def _top(head: Head, given: Mapping[str, Any]) -> Credential | None:
    """The top-level credential; None if there is none, or more than one, or it is no text."""
    in_head = credential(head)
    tokens = {in_head.token} if isinstance(in_head, Credential) else set()
    named = [given.get(name) or "" for name in ("access_token", "appsecret_proof", "appsecret_time")]
    if isinstance(in_head, str) or not all(isinstance(value, str) for value in named):
        return None
    tokens |= {named[0]} - {""}
    return Credential(tokens.pop(), named[1], named[2]) if len(tokens) == 1 else None


def read_operations(batch: object) -> tuple[Operation, ...] | None:
    """The operations of a `batch` parameter, or None if it is not an array of objects. Raises Unresolved."""
    items = _array(batch)
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    operations: list[Operation] = []
    places: dict[str, int] = {}
    for index, item in enumerate(items):
        if (operation := _operation(index, item, places, len(items))) is None:
            return None
        operations.append(operation)
        if operation.name:
            places[operation.name] = index
    return tuple(operations)


def how_many(batch: object) -> int:
    """As how many calls a `batch` parameter counts that is not understood otherwise; one if it is no array."""
    return max(1, len(_array(batch) or ()))


def is_true(value: object, *, default: bool) -> bool:
    """A switch as PHP reads it, from a query, a form or JSON."""
    return default if value is None else str(value).lower() not in _FALSE


def plain_read(
    operation: Operation, relative_url: str, envelope: Envelope, hosts: Hosts, rules: RuleBook
) -> Read | Skip:
    """The plain read that *operation* is, its references filled in as *relative_url*; or why it is none.

    One without a token of its own asks with the batch's, as Graph would have it do.
    """
    if operation.method != "GET":
        return Skip("method", writes=True)
    # An empty member says nothing: Meta's Node SDK gives a read the list of no files.
    if operation.body or not _READ_MEMBERS.issuperset(name for name, value in operation.item.items() if value):
        return Skip("operation", writes=_may_write(relative_url, operation.body))
    if names_in(relative_url):
        return Skip("reference", writes=_may_write(relative_url, ""))
    if not _READ_HEADERS.issuperset(operation.headers) or "://" in relative_url.partition("?")[0]:
        return Skip("operation", writes=False)
    given = {
        "host": envelope.host,
        "accept-language": envelope.language,
        "cache-control": envelope.control,
        "priority": envelope.priority,
    }
    fields = {**{name: value for name, value in given.items() if value}, **operation.headers}
    found = read(Head("GET", _target(relative_url, envelope), fields), b"", hosts, rules)
    return Skip("operation", writes=False) if isinstance(found, Read) and not _rides(found, rules) else found


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
    """The operation's own request target: the call's version where it has none, the call's token where it has none."""
    path, mark, query = relative_url.removeprefix("/").partition("?")
    if envelope.version and not version_of(path):
        path = f"{envelope.version}/{path}"
    if not any(piece.startswith("access_token=") for piece in query.split("&")):
        query = "&".join(filter(None, (query, join_pairs(tuple(envelope.credential.parameters.items())))))
    return f"/{path}?{query}" if query or mark else f"/{path}"


def asked_by(relative_url: str, body: str, envelope: Envelope) -> tuple[Credential, str, str]:
    """Whose call an operation is, and what it is about: a path and a query; its token may stand in its body."""
    target = read_target(_target(relative_url, envelope))
    token = dict(split_pairs(body)).get("access_token") or target.last("access_token")
    return Credential(token) if token else envelope.credential, target.path, target.query


def _array(batch: object) -> list[Any] | None:
    """The array of a `batch`: one already (Meta's Node SDK), JSON, or JSON as loose as Meta's own samples."""
    found = _loosely(batch) if isinstance(batch, str) else batch
    return found if isinstance(found, list) else None


def _loosely(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except UnicodeEncodeError:  # its bytes are no text, and JSON could not tell of them again
        return None
    except UNREADABLE:
        pass
    try:
        return pyjson5.decode(text)
    except pyjson5.Json5Exception:
        return None


def _operation(index: int, item: dict[str, Any], places: Mapping[str, int], of: int) -> Operation | None:
    """One operation; None if a member has a shape that no client is known to write. Raises Unresolved."""
    url, body = item.get("relative_url") or "", item.get("body") or ""
    fields = _fields(item.get("headers"))
    if not isinstance(url, str) or not isinstance(body, str) or fields is None:
        return None
    return Operation(
        item=item,
        method=str(item.get("method") or "GET").upper(),
        relative_url=url,
        body=body,
        headers=fields,
        name="" if item.get("name") is None else str(item["name"]),
        parents=_places(index, (*depends_on(item), *names_in(url), *names_in(body)), places, of),
        is_quiet=is_true(item.get("omit_response_on_success"), default=True),
    )


def depends_on(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The names that an operation gives as `depends_on`."""
    named = item.get("depends_on")
    return tuple(map(str, named)) if isinstance(named, list) else (str(named),) if named else ()


def _places(index: int, names: Sequence[str], places: Mapping[str, int], of: int) -> tuple[int, ...]:
    for name in names:
        if name not in places:
            raise Unresolved(index, name, of)
    return tuple(dict.fromkeys(places[name] for name in names))


def _fields(given: object) -> dict[str, str] | None:
    """An operation's header fields by lower-case name: strings (Meta's pages), objects (its Python SDK), or a map."""
    if isinstance(given, dict):
        return {str(name).strip().lower(): str(value).strip() for name, value in given.items()}
    if not isinstance(given, list):
        return {} if not given else None
    pairs = [_pair(each) for each in given]
    return {name.strip().lower(): value.strip() for name, value in pairs if name}


def _pair(given: object) -> tuple[str, str]:
    if isinstance(given, dict):
        return str(given.get("name", "")), str(given.get("value", ""))
    name, _, value = str(given).partition(":")
    return name, value


def written_nodes(relative_url: str, body: str) -> tuple[str, ...]:
    """The objects that a write changes; () if that depends on what another operation answers."""
    target = read_target(f"/{relative_url.removeprefix('/')}")
    if names_in(relative_url):
        return ()
    return nodes(target.path, target.query) or (() if names_in(body) else named(dict(split_pairs(body))))
