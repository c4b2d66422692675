"""Parses an application's batch, in any of the shapes that clients write: its envelope and its operations.

Sources: developers.facebook.com/docs/graph-api/batch-requests and Meta's own SDKs, which disagree on several shapes.
A batch that is not understood passes through unchanged: then Graph itself reports what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.core.client_batch.operation import Envelope, Operation, depends_on
from proxy.core.client_batch.references import has_too_many, names_in
from proxy.core.client_batch.split import refuse_too_many
from proxy.core.graph.errors import UNREADABLE
from proxy.core.graph.jsonp import NO_CALLBACK, checked_callback
from proxy.core.memory import json_text
from proxy.core.model import Credential, Redacted
from proxy.core.routing.classify import UPLOAD, credential
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.normal_form import TRANSPORT, origin_form, read_target
from proxy.core.routing.query import Pairs

SHAPING = frozenset({"debug", "pretty", "locale", "date_format", "suppress_http_code", "return_ssl_resources"})
"""The parameters of a batch call that decide how each of its operations is answered."""

_NEUTRAL = {"format": frozenset({"json"}), "pretty": frozenset({"", "0", "false"})}
"""Values of parameters that change nothing in the answer; RestFB sends the first with every call."""

_CALL_PARAMETERS = frozenset(
    {"batch", "access_token", "appsecret_proof", "appsecret_time", "include_headers", "callback", "method"}
)

TOP_LEVEL = _CALL_PARAMETERS | SHAPING | {"format"}
"""The parameters of a batch call whose meaning is known; a batch with any other passes through unchanged."""

LARGEST_LOOSE = 2**20
"""The most characters of a batch that only the lenient parser can read, because that parser is slow."""

LONGEST_URL = 65_536
MOST_IN_URLS = 2 * 2**20
MOST_PAIRS = 10_000
MOST_ESCAPES = 50_000
"""The most characters, parameters and percent escapes in all operations of a batch that is parsed here."""

_FALSE = frozenset({"", "0", "false", "no", "off", "none", "null"})


class Unresolved(Exception):  # noqa: N818 - Meta's own word for it
    """An operation refers to one that is not before it: Graph refuses the whole batch."""

    def __init__(self, index: int, name: str, of: int) -> None:
        """Make Graph's message, with its double spaces (seen by arsduo/koala); the batch has *of* operations."""
        super().__init__(
            f"Request {index} cannot depend on an  unresolved request with  name {name}. "
            "Requests can only depend on preceding requests",
        )
        self.of = of


def may_hold_batch(head: Head) -> bool:
    """Returns whether a message may hold a batch: a POST to the root or an object, or with `batch` in its query."""
    if head.method != "POST":
        return False
    target = read_target(head.target)
    if target.path[1:].lower().startswith(UPLOAD):  # what is posted there is a file
        return False
    return target.path.count("/") == 1 or target.get("batch") != ""


def read_envelope(head: Head, form: Mapping[str, Any], hosts: GraphHosts) -> Envelope | None:
    """Returns the batch in *head* and *form* (the parameters of the body); None if it is none, or not understood.

    Raises Unresolved, and BadRequest for a `callback` that is no path of identifiers.
    """
    call = read_call(head, form, hosts)
    return None if call is None else with_operations(call)


def with_operations(call: BatchCall) -> Envelope | None:
    """Returns the envelope of *call* with its operations; None and raises as `read_envelope`."""
    operations = read_operations(call.batch)
    if operations is None:
        return None
    return replace(call.envelope, operations=operations, callback=checked_callback(call.callback))


class BatchCall(Redacted, frozen=True, gc=False):
    """A batch whose operations have not been read."""

    hidden = ("batch",)

    envelope: Envelope  # without operations and callback
    batch: object  # the parameter of that name
    callback: str  # unchecked


def read_call(head: Head, form: Mapping[str, Any], hosts: GraphHosts) -> BatchCall | None:
    """Returns what `read_envelope` reads before the operations; None if that is no batch, or not understood."""
    target = read_target(head.target)
    in_query = {name: values[-1] for name, values in target.lifted.items() if values}
    given = {**in_query, **dict(target.pairs), **form}
    given = {name: value for name, value in given.items() if not name.startswith(TRANSPORT)}
    who, extra = _top_credential(head, given), _extra_parameters(given)
    if (
        "batch" not in given
        or not TOP_LEVEL.issuperset(given)
        or who is None
        or extra is None
        or given.get("callback") == NO_CALLBACK
        or not hosts.takes_batches(hosts.of(head))
    ):
        return None
    if str(given.get("method", "post")).lower() != "post":
        return None
    envelope = Envelope(
        (),
        credential=who,
        host=hosts.of(head),
        path=origin_form(head.target).partition("?")[0],
        language=head.headers.get("accept-language", "").strip(),
        control=head.headers.get("cache-control", ""),
        priority=head.headers.get("priority", ""),
        include_headers=is_true(given.get("include_headers"), default=True),
        extra=extra,
        shaping=tuple(pair for pair in extra if pair[1].lower() not in _NEUTRAL.get(pair[0], ())),
    )
    return BatchCall(envelope, given["batch"], str(given.get("callback") or ""))


def _extra_parameters(given: Mapping[str, Any]) -> Pairs | None:
    """Returns the parameters that a batch does not need; None if one of them is not understood."""
    named = [(name, value) for name, value in given.items() if name not in _CALL_PARAMETERS]
    extra = tuple((name, _form_value(value)) for name, value in named)
    is_json = all(value.lower() in _NEUTRAL["format"] for name, value in extra if name == "format")
    return extra if is_json and not any(isinstance(value, dict | list) for _, value in named) else None


def _form_value(value: object) -> str:
    """Returns *value* as a form writes it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _top_credential(head: Head, given: Mapping[str, Any]) -> Credential | None:
    """Returns the top-level credential; None if there is none, or more than one, or it is no text."""
    in_head = credential(head)
    tokens = {in_head.token} if isinstance(in_head, Credential) else set()
    named = [given.get(name) or "" for name in ("access_token", "appsecret_proof", "appsecret_time")]
    if isinstance(in_head, str) or not all(isinstance(value, str) for value in named):
        return None
    tokens |= {named[0]} - {""}
    return Credential(tokens.pop(), named[1], named[2]) if len(tokens) == 1 else None


def read_operations(batch: object) -> tuple[Operation, ...] | None:
    """Returns the operations of a `batch` parameter; None if it is no array of objects, or too costly to parse.

    Raises Unresolved, and BadRequest for more operations than are allowed.
    """
    items = _array(batch)
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    refuse_too_many(len(items))
    if _is_heavy(items):
        return None
    operations: list[Operation] = []
    indices: dict[str, int] = {}
    for index, item in enumerate(items):
        if (operation := _operation(index, item, indices, len(items))) is None:
            return None
        operations.append(operation)
        if operation.name:
            indices[operation.name] = index
    return tuple(operations)


def _is_heavy(items: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether parsing *items* would keep other callers waiting; no known client writes such operations."""
    urls = [str(item.get("relative_url") or "") for item in items]
    texts = [*urls, *(str(item.get("body") or "") for item in items)]
    return (
        any(len(url) > LONGEST_URL for url in urls)
        or sum(map(len, urls)) > MOST_IN_URLS
        or any(map(has_too_many, texts))
        or sum(text.count("&") for text in texts) > MOST_PAIRS
        or sum(text.count("%") for text in texts) > MOST_ESCAPES
    )


def calls_in_batch(batch: object) -> int:
    """Returns as how many calls a batch counts that is not parsed further: its operations, or one if it is no array."""
    return max(1, len(_array(batch) or ()))


def is_true(value: object, *, default: bool) -> bool:
    """Returns *value* (of a query, a form or JSON) as PHP reads a boolean."""
    return default if value is None else str(value).lower() not in _FALSE


def _array(batch: object) -> list[Any] | None:
    """Returns the array of a `batch`: a list (Meta's Node SDK), JSON, or the lenient JSON of Meta's samples."""
    found = _lenient_json(batch) if isinstance(batch, str) else batch
    return found if isinstance(found, list) else None


def _lenient_json(text: str) -> object:
    try:
        raw = text.encode()
    except UnicodeEncodeError:  # not UTF-8, so it could not be written as JSON again
        return None
    if json_text.is_heavy(raw):
        return None
    try:
        return json_text.decode(raw)
    except UNREADABLE:
        pass
    if len(text) > LARGEST_LOOSE:
        return None
    import pyjson5  # takes memory that only loose JSON needs

    try:
        return pyjson5.decode(text)
    except pyjson5.Json5Exception:
        return None


def _operation(index: int, item: dict[str, Any], indices: Mapping[str, int], of: int) -> Operation | None:
    """Returns one operation; None if a member has a shape that no known client writes. Raises Unresolved."""
    url, body = item.get("relative_url") or "", item.get("body") or ""
    fields = _operation_headers(item.get("headers"))
    if not isinstance(url, str) or not isinstance(body, str) or fields is None:
        return None
    return Operation(
        item=item,
        method=str(item.get("method") or "GET").upper(),
        relative_url=url,
        body=body,
        headers=fields,
        name="" if item.get("name") is None else str(item["name"]),
        parents=_parent_indices(index, (*depends_on(item), *names_in(url), *names_in(body)), indices, of),
        is_quiet=is_true(item.get("omit_response_on_success"), default=True),
    )


def _parent_indices(index: int, names: Sequence[str], indices: Mapping[str, int], of: int) -> tuple[int, ...]:
    for name in names:
        if name not in indices:
            raise Unresolved(index, name, of)
    return tuple(dict.fromkeys(indices[name] for name in names))


def _operation_headers(given: object) -> dict[str, str] | None:
    """Returns an operation's header fields by lower-case name: strings (Meta's pages), objects (Python SDK), a map."""
    if isinstance(given, dict):
        return {str(name).strip().lower(): str(value).strip() for name, value in given.items()}
    if not isinstance(given, list):
        return {} if not given else None
    pairs = [_header_pair(each) for each in given]
    return {name.strip().lower(): value.strip() for name, value in pairs if name}


def _header_pair(given: object) -> tuple[str, str]:
    if isinstance(given, dict):
        return str(given.get("name", "")), str(given.get("value", ""))
    name, _, value = str(given).partition(":")
    return name, value
