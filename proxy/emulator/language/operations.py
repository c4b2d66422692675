"""The `batch` parameter: JSON in any of the shapes that clients send, read as operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.emulator.config import Config
from proxy.emulator.language import loose_json
from proxy.emulator.language.calls import Call, build_call, to_list
from proxy.emulator.language.errors import GraphError, batch_error, batch_malformed, batch_too_long, unresolved
from proxy.emulator.language.query import Params, falsy, parse_query
from proxy.emulator.language.references import fill_references, referenced_names

_SHAPING = ("debug", "pretty", "locale", "date_format", "suppress_http_code", "return_ssl_resources")
"""Parameters of a whole batch that say how each of its operations is answered."""

_INHERITED = ("accept-language",)
"""The batch's own header fields that apply to all operations; Meta's Android SDK sends the language there."""


@dataclass(slots=True)
class Operation:
    """One entry of the `batch` array."""

    index: int
    method: str
    relative_url: str
    body: str | Params
    headers: Mapping[str, str]
    name: str | None
    parents: list[str]
    omits_response: bool
    """True if its slot stays empty on success when another operation refers to it."""
    files: list[str] = field(default_factory=list)


def parse_operations(value: Any, limit: int, usual: str = "GET") -> list[Operation]:
    """The operations in a `batch` parameter. Raises GraphError if the whole batch is invalid."""
    items = _array(value)
    if not items:
        raise batch_error("batch parameter must hold at least one request")
    if len(items) > limit:
        raise batch_too_long(limit)
    found = [_operation(index, item, usual) for index, item in enumerate(items)]
    _check_order(found)
    return found


def operation_call(operation: Operation, top: Call, results: Mapping[str, Any], config: Config) -> Call:
    """The operation as a call, with its references filled in; without a token of its own it has that of *top*."""
    target = _without_origin(fill_references(operation.relative_url, results))
    body = operation.body
    params = parse_query(fill_references(body, results)) if isinstance(body, str) else body
    if config.batch_inherits and (shaping := [name for name in _SHAPING if name in top.params]):
        named = {*parse_query(target.partition("?")[2]), *params}
        params = {**{name: top.params[name] for name in shaping if name not in named}, **params}
    outer = {name: top.headers[name] for name in _INHERITED if name in top.headers and config.language_inherited}
    carried = {**outer, **operation.headers, "user-agent": top.user_agent}
    call = build_call(operation.method, target, carried, params, config, version=top.version)
    is_bare = call.token is None
    call.token = call.token or top.token
    call.has_batch_token = is_bare if config.proof_on_top == "bare" else config.proof_on_top == "every"
    return call


def object_ids(relative_url: str) -> list[str]:
    """The ids of the objects that a relative URL names."""
    path, _, query = relative_url.partition("?")
    parts = [part for part in path.split("/") if part]
    return parts + to_list(parse_query(query).get("ids", ""))


def relative_urls(value: Any) -> list[str]:
    """The relative URLs in a `batch` parameter, as far as it can be read."""
    try:
        return [str(item.get("relative_url") or "") for item in _array(value)]
    except GraphError:
        return []


def _array(value: Any) -> list[Any]:
    """The array in a `batch` parameter: JSON text, loose JSON, or an array already."""
    try:
        found = loose_json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise batch_malformed() from None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise batch_malformed()
    return found


def _operation(index: int, item: dict[str, Any], usual: str) -> Operation:
    url, body = str(item.get("relative_url") or ""), item.get("body") or ""
    name = item.get("name")
    return Operation(
        index=index,
        method=str(item.get("method") or usual).upper(),
        relative_url=_without_origin(url),
        body=body if isinstance(body, dict) else str(body),
        headers=item_headers(item.get("headers")),
        name=None if name is None else str(name),
        parents=[
            *_depends_on(item),
            *referenced_names(url),
            *(referenced_names(body) if isinstance(body, str) else ()),
        ],
        omits_response=not falsy(item.get("omit_response_on_success")),
        files=_attached(item.get("attached_files")),
    )


def _without_origin(url: str) -> str:
    """The part of an absolute URL that matters."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("http", "https"):
        return "/" + rest.partition("/")[2]
    return url


def _depends_on(item: dict[str, Any]) -> list[str]:
    named = item.get("depends_on")
    return [str(each) for each in named] if isinstance(named, list) else [str(named)] if named else []


def _attached(value: Any) -> list[str]:
    """Part names from a comma-separated text, or from the object that Meta's Java SDK sends."""
    return [str(name) for name in value.values()] if isinstance(value, dict) else to_list(value or "")


def item_headers(value: Any) -> dict[str, str]:
    """An operation's headers from any of the three shapes that clients send, names in lower case."""
    if isinstance(value, dict):
        pairs = [(str(name), str(text)) for name, text in value.items()]
    else:
        pairs = [_pair(each) for each in value or ()]
    return {name.strip().lower(): text.strip() for name, text in pairs}


def _pair(header: Any) -> tuple[str, str]:
    if isinstance(header, dict):
        return str(header.get("name", "")), str(header.get("value", ""))
    name, _, text = str(header).partition(":")
    return name, text


def _check_order(asked: list[Operation]) -> None:
    """Raise if an operation refers to one that does not stand before it."""
    seen: set[str] = set()
    for operation in asked:
        for parent in operation.parents:
            if parent not in seen:
                raise unresolved(operation.index, parent)
        if operation.name is not None:
            seen.add(operation.name)
