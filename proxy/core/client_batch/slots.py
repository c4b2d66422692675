"""The application's batch on its way to Graph and back: operations made ready, replies made slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.core.batch import request as batch_request
from proxy.core.batch import response as batch_response
from proxy.core.client_batch.operation import Envelope, Operation, depends_on
from proxy.core.graph import lax_json, paging
from proxy.core.graph.errors import read_error
from proxy.core.http import headers
from proxy.core.http.errors import BadRequest, reply_of
from proxy.core.model import Headers, Reply, Request
from proxy.core.reply.render import jsonp
from proxy.core.routing.target import without_transport


def top_level(envelope: Envelope, items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The parameters of a call of the batch's own. Header fields are always asked for: ETags and usage stand there."""
    return {
        **envelope.credential.parameters,
        **dict(envelope.extra),
        "include_headers": "true",
        "batch": msgspec.json.encode(list(items)).decode(),
    }


def as_asked(
    operation: Operation, relative_url: str, body: str, *, names: frozenset[str], named: bool
) -> dict[str, Any]:
    """The operation as it goes on, filled in: it depends on *names* alone, and one that is *named* has to answer."""
    item = {**operation.item, "relative_url": without_transport(relative_url)}
    if body:
        item["body"] = body
    return _ordered(item, operation, names=names, named=named)


def as_read(operation: Operation, request: Request, *, names: frozenset[str], named: bool) -> dict[str, Any]:
    """The read that *operation* is, in normal form and with what it is conditional on; else as `as_asked`."""
    item: dict[str, Any] = {**batch_request.operation(request)}
    if operation.name:
        item["name"] = operation.name
    return _ordered(item, operation, names=names, named=named)


def _ordered(item: dict[str, Any], operation: Operation, *, names: frozenset[str], named: bool) -> dict[str, Any]:
    """*item* in its place among others: waiting for those of *names* that it depends on, told to speak if *named*."""
    item.pop("depends_on", None)
    if kept := [name for name in depends_on(operation.item) if name in names]:
        item["depends_on"] = kept[0] if len(kept) == 1 else kept
    if named:
        item["omit_response_on_success"] = False
    return item


def files_of(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts that an operation attaches: a comma list (Meta's pages), or an object (Meta's Java SDK)."""
    given = item.get("attached_files") or item.get("attachedFiles") or ""
    names = given.values() if isinstance(given, dict) else str(given).split(",")
    return tuple(str(name).strip() for name in names if str(name).strip())


# --- the way back ----------------------------------------------------------------------------------------------------

Slot = dict[str, Any] | None

_OUTER = frozenset({"date", "server", "connection", "server-timing"}) | headers.TRACE | headers.FRAMING


def slot(reply: Reply, *, include_headers: bool) -> dict[str, Any]:
    """*reply* as Graph tells it inside a batch: the body a string, null on 304, JSON called text/javascript.

    A redirect has no body at all (a slot seen by arsduo/koala).
    """
    told: dict[str, Any] = {"code": reply.status}
    if include_headers:
        fields = headers.without(reply.headers, _OUTER)
        told["headers"] = [{"name": _spelled(name), "value": _script_type(name, value)} for name, value in fields]
    if reply.body or not headers.is_redirect(reply.status):
        told["body"] = None if reply.status == 304 else reply.body.decode("utf-8", "replace")
    return told


def slot_as_received(
    told: Mapping[str, Any], links: Callable[[bytes], bytes], *, include_headers: bool
) -> dict[str, Any]:
    """A slot of Graph's own, its links led back by *links*."""
    kept = {name: value for name, value in told.items() if include_headers or name != "headers"}
    if isinstance(body := kept.get("body"), str):
        kept["body"] = links(paging.as_asked_alone(lax_json.text(body))).decode()
    return kept


def bad_path(path: str) -> dict[str, Any]:
    """The slot of an operation with a reference that nobody can follow."""
    reply = reply_of(BadRequest(f"{path} is no JSONPath that can be followed"))
    return slot(reply, include_headers=True)


def is_unanswered(told: object) -> bool:
    """Whether Graph left this slot out: null, aborted with its batch, or in trouble of Graph's own."""
    if not isinstance(told, dict):
        return True
    status, error = told.get("code"), read_error(str(told.get("body")).encode("utf-8", "replace"))
    return batch_response.is_worth_another_call(status if isinstance(status, int) else 0, error)


def is_refusal(answer: Reply, envelope: Envelope) -> bool:
    """Whether Graph refuses the batch as a whole, in its own words; anything else that is no array is trouble."""
    is_told_so = answer.status >= 400 or dict(envelope.extra).get("suppress_http_code")
    return bool(is_told_so) and answer.status < 500 and read_error(answer.body) is not None


def is_success(told: object) -> bool:
    """Whether others may build on this slot."""
    return isinstance(told, dict) and told.get("code") == 200


def is_quiet(told: object) -> bool:
    """Whether this slot may be left out where nobody wants to hear of success: it tells of no failure."""
    return isinstance(told, dict) and isinstance(code := told.get("code"), int) and code < 400


def outer(slots: Sequence[Slot], callback: str, told: Headers) -> Reply:
    """The reply around *slots*, with what Graph *told* around them."""
    body = lax_json.encode(slots)
    fields = (*headers.without(headers.passed_out(told), _OF_A_BODY), *_UNCACHED)
    named = {name.lower() for name, _ in fields}
    fields = fields if "access-control-allow-origin" in named else (*fields, ("Access-Control-Allow-Origin", "*"))
    if callback:
        return Reply(200, (("Content-Type", headers.SCRIPT_TYPE), *fields), jsonp(body, callback))
    return Reply(200, (("Content-Type", headers.JSON_TYPE), *fields), body)


def told_around(reply: Reply, *, same_version: bool) -> Headers:
    """What Graph's reply to one read shows of the fields that it gives a batch as a whole, of the *same_version*."""
    names = headers.OF_ANY_REPLY | headers.TRACE | ({"facebook-api-version"} if same_version else frozenset())
    return headers.pick(reply.headers, names)


def refused_batch(reply: Reply, callback: str) -> Reply:
    """*reply* as Graph's answer to the batch as a whole: the error alone, without what one read wanted around it."""
    if read_error(reply.body) is None:
        is_array = bool(callback) and reply.body.lstrip().startswith(b"[")
        return replace(reply, body=jsonp(reply.body, callback)) if is_array else reply
    found = lax_json.decode(reply.body)
    body = lax_json.encode({"error": found["error"]} if "error" in found else found)
    kind = headers.SCRIPT_TYPE if callback else headers.JSON_TYPE
    fields = headers.without(reply.headers, frozenset({"content-type"}))
    return replace(reply, headers=(*fields, ("Content-Type", kind)), body=jsonp(body, callback) if callback else body)


_OF_A_BODY = frozenset({"content-type", "etag", "last-modified", "cache-control", "pragma", "expires"})

_UNCACHED = (
    ("Cache-Control", "private, no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
    ("Expires", "Sat, 01 Jan 2000 00:00:00 GMT"),
)


_SPELLING = {
    name.lower(): name
    for name in (
        "Access-Control-Allow-Origin",
        "Cache-Control",
        "Content-Type",
        "ETag",
        "Expires",
        "Facebook-API-Version",
        "Location",
        "Pragma",
        "Strict-Transport-Security",
        "Vary",
        "WWW-Authenticate",
        "X-Ad-Account-Usage",
        "X-App-Usage",
        "X-Business-Use-Case-Usage",
        "X-FB-Ads-Insights-Throttle",
        "X-Page-Usage",
    )
}
"""How Graph spells names inside a batch, where clients compare them as they stand; on a direct reply it may not."""


def _spelled(name: str) -> str:
    return _SPELLING.get(name.lower(), name)


def _script_type(name: str, value: str) -> str:
    is_json = name.lower() == "content-type" and headers.media_type(value) == "application/json"
    return headers.SCRIPT_TYPE if is_json else value
