"""Writes the operations of an application's batch as they go to Graph, and the parameters of the call around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from proxy.core.batch import request as batch_request
from proxy.core.client_batch.operation import Envelope, Operation, depends_on
from proxy.core.model import Request
from proxy.core.routing.normal_form import without_transport


def top_level(envelope: Envelope, items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the parameters of a batch call for *items*. It always asks for header fields, for ETags and usage."""
    return {
        **envelope.credential.parameters,
        **dict(envelope.extra),
        "include_headers": "true",
        "batch": msgspec.json.encode(list(items)).decode(),
    }


def filled_operation(
    operation: Operation, relative_url: str, body: str, *, names: frozenset[str], named: bool
) -> dict[str, Any]:
    """Returns *operation* with its references filled in; its dependencies are limited to *names*.

    If another operation refers to it (*named*), Graph must not omit its response.
    """
    item = {**operation.item, "relative_url": without_transport(relative_url)}
    if body:
        item["body"] = body
    return _with_dependencies(item, operation, names=names, named=named)


def normal_operation(operation: Operation, request: Request, *, names: frozenset[str], named: bool) -> dict[str, Any]:
    """Returns the plain read that *operation* is, in normal form and with its validator; else as `filled_operation`."""
    item: dict[str, Any] = {**batch_request.operation(request)}
    if operation.name:
        item["name"] = operation.name
    return _with_dependencies(item, operation, names=names, named=named)


def _with_dependencies(
    item: dict[str, Any], operation: Operation, *, names: frozenset[str], named: bool
) -> dict[str, Any]:
    """Returns *item* with its dependencies limited to *names*, and with a response on success if it is *named*."""
    item.pop("depends_on", None)
    if kept := [name for name in depends_on(operation.item) if name in names]:
        item["depends_on"] = kept[0] if len(kept) == 1 else kept
    if named:
        item["omit_response_on_success"] = False
    return item


def files_of(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of an operation's attached files: a comma list (Meta's pages), or an object (its Java SDK)."""
    given = item.get("attached_files") or item.get("attachedFiles") or ""
    names = given.values() if isinstance(given, dict) else str(given).split(",")
    return tuple(str(name).strip() for name in names if str(name).strip())
