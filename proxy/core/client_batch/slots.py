"""Writes the reply to an application's batch: its slots as Graph writes them, and the fields around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.core.batch import response as batch_response
from proxy.core.client_batch.operation import Envelope
from proxy.core.graph import lax_json, paging
from proxy.core.graph.errors import read_error
from proxy.core.graph.jsonp import jsonp
from proxy.core.http import headers
from proxy.core.http.errors import BadRequest, reply_of
from proxy.core.memory.memo import memo
from proxy.core.model import Headers, Reply

ClientSlot = dict[str, Any] | bytes | None
"""A slot, null, or a slot as JSON already."""


def slot(reply: Reply, *, include_headers: bool) -> dict[str, Any]:
    """Returns *reply* as a slot, as Graph writes it: the body a string, null on 304, JSON typed text/javascript.

    A redirect has no body (a slot seen by arsduo/koala).
    """
    slot_dict: dict[str, Any] = {"code": reply.status}
    if include_headers:
        slot_dict["headers"] = shown_fields(reply.headers)
    if reply.body or not headers.is_redirect(reply.status):
        slot_dict["body"] = None if reply.status == 304 else reply.body.decode("utf-8", "replace")
    return slot_dict


def shown_fields(fields: Headers) -> list[dict[str, str]]:
    """Returns those of the header *fields* of a reply that its slot has, as Graph writes them."""
    return [
        {"name": _graph_spelling(name), "value": _script_type(name, value)}
        for name, value in headers.without(fields, headers.NOT_IN_CLIENT_SLOTS)
    ]


def slot_as_received(
    slot_dict: Mapping[str, Any], links: Callable[[bytes], bytes], *, include_headers: bool
) -> dict[str, Any]:
    """Returns a slot of Graph's with *links* applied to its body."""
    kept = {name: value for name, value in slot_dict.items() if include_headers or name != "headers"}
    if isinstance(body := kept.get("body"), str):
        kept["body"] = links(paging.as_asked_alone(lax_json.text(body))).decode()
    return kept


def bad_path(path: str) -> dict[str, Any]:
    """Returns the slot of an operation whose reference has an invalid *path*."""
    reply = reply_of(BadRequest(f"{path} is no JSONPath that can be followed"))
    return slot(reply, include_headers=True)


def is_unanswered(slot_dict: object) -> bool:
    """Returns whether a slot is worth a retry: null, aborted with its batch, or an error on Graph's side."""
    if not isinstance(slot_dict, dict):
        return True
    status, error = slot_dict.get("code"), read_error(str(slot_dict.get("body")).encode("utf-8", "replace"))
    return batch_response.is_worth_a_retry(status if isinstance(status, int) else 0, error)


def is_refusal(answer: Reply, envelope: Envelope) -> bool:
    """Returns whether *answer* is Graph's own refusal of the batch as a whole."""
    is_error = answer.status >= 400 or dict(envelope.extra).get("suppress_http_code")
    return bool(is_error) and answer.status < 500 and read_error(answer.body) is not None


def is_success(slot_dict: object) -> bool:
    """Returns whether references to this slot can be filled in: its code is 200."""
    return isinstance(slot_dict, dict) and slot_dict.get("code") == 200


def is_quiet(slot_dict: object) -> bool:
    """Returns whether this slot may be omitted under `omit_response_on_success`: its code is below 400."""
    return isinstance(slot_dict, dict) and isinstance(code := slot_dict.get("code"), int) and code < 400


def outer(slots: Sequence[ClientSlot] | bytes, callback: str, given: Headers) -> Reply:
    """Returns the reply to a batch with *slots*, or a JSON array of them; *given* are the fields of Graph's own."""
    body = slots if isinstance(slots, bytes) else _array(slots)
    fields = (*_fields_of_outer(given), *_UNCACHED)
    named = {name.lower() for name, _ in fields}
    fields = fields if "access-control-allow-origin" in named else (*fields, ("Access-Control-Allow-Origin", "*"))
    if callback:
        return Reply(200, (("Content-Type", headers.SCRIPT_TYPE), *fields), jsonp(body, callback))
    return Reply(200, (("Content-Type", headers.JSON_TYPE), *fields), body)


def _fields_of_outer(given: Headers) -> Headers:
    """Returns those of the *given* fields of Graph's own reply that the reply to the application has."""
    names = tuple([name.lower() for name, _ in given])
    if "connection" in names:  # which names others that are left out
        return headers.without(headers.for_caller(given), headers.NOT_AROUND_CLIENT_BATCH)
    return tuple([given[at] for at in _kept(names)])


@memo()
def _kept(names: tuple[str, ...]) -> tuple[int, ...]:
    """Returns which of the fields with these *names* the reply to the application has."""
    fields = tuple([(name, str(at)) for at, name in enumerate(names)])
    kept = headers.without(headers.for_caller(fields), headers.NOT_AROUND_CLIENT_BATCH)
    return tuple([int(at) for _, at in kept])


def _array(slots: Sequence[ClientSlot]) -> bytes:
    """Returns *slots* as JSON."""
    return b"[%b]" % b",".join([slot if isinstance(slot, bytes) else _encoded(slot) for slot in slots])


def _encoded(slot: ClientSlot) -> bytes:
    try:
        return msgspec.json.encode(slot)
    except UnicodeEncodeError:
        return lax_json.encode(slot)


def fields_around_batch(reply: Reply, *, same_version: bool) -> Headers:
    """Returns the fields of a reply to one read that a batch reply has too; the version only if it is the same."""
    names = headers.OF_ANY_REPLY | headers.TRACE | ({"facebook-api-version"} if same_version else frozenset())
    return headers.pick(reply.headers, names)


def refused_batch(reply: Reply, callback: str) -> Reply:
    """Returns *reply*, the refusal of one operation, as Graph's refusal of the batch: the error alone."""
    if read_error(reply.body) is None:
        is_array = bool(callback) and reply.body.lstrip().startswith(b"[")
        return replace(reply, body=jsonp(reply.body, callback)) if is_array else reply
    found = lax_json.decode(reply.body)
    body = lax_json.encode({"error": found["error"]} if "error" in found else found)
    kind = headers.SCRIPT_TYPE if callback else headers.JSON_TYPE
    fields = headers.without(reply.headers, frozenset({"content-type"}))
    return replace(reply, headers=(*fields, ("Content-Type", kind)), body=jsonp(body, callback) if callback else body)


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
"""Graph's spelling of field names inside a batch, where clients compare them case by case."""


def _graph_spelling(name: str) -> str:
    return _SPELLING.get(name.lower(), name)


def _script_type(name: str, value: str) -> str:
    is_json = name.lower() == "content-type" and headers.media_type(value) == "application/json"
    return headers.SCRIPT_TYPE if is_json else value
