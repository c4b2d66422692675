"""Faults of whole HTTP replies: replies that replace an answer, and damage done to an answer."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from proxy.emulator.graph import batch
from proxy.emulator.graph.faults import Fault
from proxy.emulator.graph.graph import Graph, error_from
from proxy.emulator.language import headers
from proxy.emulator.language.calls import Call, Reply
from proxy.emulator.language.errors import GraphError, batch_error, token_refused, unavailable, unknown_error
from proxy.emulator.language.json_style import to_json

_FIRST_BODY = re.compile(r'"body":\s*"\{')
_HTML = """<!DOCTYPE html>
<html lang="en" id="facebook"><head><title>Facebook | Error</title><meta charset="utf-8"></head>
<body><h1>Sorry, something went wrong.</h1>
<p>We're working on it and we'll get it fixed as soon as we can.</p></body></html>
"""


def replacement_reply(fault: Fault, graph: Graph, call: Call) -> Reply:
    """The reply that *fault* gives in place of an answer; the call is not performed."""
    _count(fault, graph, call)
    plain = _PLAIN_REPLIES.get(fault.kind)
    if plain:
        status, kind, text = plain
        return Reply(fault.status or status, [("Content-Type", kind)], fault.message or text)
    return graph.error_reply(call, _ERRORS[fault.kind](fault)) if fault.kind in _ERRORS else _in_200(fault, graph, call)


def _count(fault: Fault, graph: Graph, call: Call) -> None:
    """Count a call that was not performed if *fault* says so; a refused token of a direct call counts by default."""
    is_batch = batch.is_batch(call)
    if fault.counts or (fault.counts is None and fault.kind == "refused" and not is_batch):
        if is_batch:
            batch.count_unperformed(graph, call)
        else:
            with contextlib.suppress(GraphError):
                graph.count(call)


def spoil_reply(fault: Fault, reply: Reply) -> Reply:
    """*reply* damaged by *fault*; only a batch has slots to lose."""
    if fault.kind == "odd_bytes":
        return replace(reply, body=_with_odd_bytes(reply.body or "", fault.message or "\udcff"))
    if fault.kind not in ("short", "long") or not reply.body or not reply.body.startswith("["):
        return reply
    slots: list[Any] = json.loads(reply.body)
    changed = _shortened(slots, fault) if fault.kind == "short" else slots + [None] * fault.slots
    return replace(reply, body=to_json(changed))


def _with_odd_bytes(body: str, text: str) -> str:
    """*body* with *text* as it is in a new member: of the first slot of a batch, or of the one object."""
    found = _FIRST_BODY.search(body) if body.startswith("[") else None
    if found is None:
        return f'{{"odd":"cut {text} here",{body[1:]}' if body.startswith("{") else body
    return f'{body[: found.end()]}\\"odd\\":\\"cut {text} here\\",{body[found.end() :]}'


def _shortened(slots: list[Any], fault: Fault) -> list[Any]:
    first = {"head": 0, "middle": max(0, (len(slots) - fault.slots) // 2), "tail": max(0, len(slots) - fault.slots)}
    start = first[fault.place]
    return slots[:start] + slots[start + fault.slots :]


def _in_200(fault: Fault, graph: Graph, call: Call) -> Reply:
    """An error with status 200."""
    error = error_from(fault)
    kind = headers.content_type("single", script=False)
    usage = graph.quota.headers(call)
    text = to_json(error.envelope(graph.trace()[:23]))
    return Reply(fault.status or 200, headers.of_success(call.version, usage, kind, None, cookie=False), text)


def _refused(fault: Fault) -> GraphError:
    if fault.code in (0, 190):
        error = token_refused(fault.subcode or 463)
        error.status = fault.status or 400
        return error
    error = error_from(fault)
    error.status = fault.status or 400
    return error


def _with_status(make: Callable[[], GraphError]) -> Callable[[Fault], GraphError]:
    def made(fault: Fault) -> GraphError:
        error = make()
        error.status = fault.status or error.status
        return error

    return made


_PLAIN_REPLIES = {
    "html": (502, "text/html; charset=utf-8", _HTML),
    "text": (200, "text/plain; charset=utf-8", "Service Unavailable"),
    "empty": (200, headers.JSON, ""),
    "cut": (200, headers.JSON, ""),
}
_ERRORS: dict[str, Callable[[Fault], GraphError]] = {
    "refused": _refused,
    "unknown": _with_status(unknown_error),
    "unavailable": _with_status(unavailable),
    "batch_exception": lambda fault: batch_error(fault.message or "The batch could not be processed"),
}
