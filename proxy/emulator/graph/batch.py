"""Answers a batch: up to fifty operations in one call (developers.facebook.com, "Batch Requests")."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from proxy.emulator.config import Config
from proxy.emulator.graph import credentials
from proxy.emulator.graph.graph import Graph
from proxy.emulator.language import headers, render
from proxy.emulator.language.calls import Call, Headers, Reply, Upload
from proxy.emulator.language.errors import (
    GraphError,
    aborted,
    bad_parameter,
    batch_error,
    token_required,
    unknown_error,
)
from proxy.emulator.language.json_style import to_json
from proxy.emulator.language.operations import Operation, object_ids, operation_call, parse_operations
from proxy.emulator.language.query import falsy, truthy

Slot = Reply | None

_SHAPES: dict[str, Callable[[Headers], Any]] = {
    "objects": lambda told: [{"name": name, "value": value} for name, value in told],
    "strings": lambda told: [f"{name}: {value}" for name, value in told],
    "map": dict,
}
"""How header fields stand in a slot."""


def is_batch(call: Call) -> bool:
    """Returns whether the call is a batch: any POST with a `batch` parameter, whatever its path."""
    return call.method == "POST" and "batch" in call.params


def answer_batch(graph: Graph, call: Call) -> Reply:
    """Answer a batch, one slot for each operation in their order."""
    try:
        _admit(graph, call)
        asked = parse_operations(call.params["batch"], graph.settings.config.batch_limit)
        graph.ledger.record_batch(len(asked))
        if not graph.settings.config.slots_count:
            graph.count(call)
        _check_poison(graph, asked)
    except GraphError as error:
        if graph.settings.config.unperformed_count:
            count_unperformed(graph, call)
        return graph.error_reply(call, error)
    slots = _BatchRun(graph, call).slots(asked)
    usage = () if graph.settings.config.usage_place == "items" else graph.quota.headers(call)
    return outer_reply([_slot_json(slot, call, graph.settings.config) for slot in slots], call, usage)


def count_unperformed(graph: Graph, call: Call) -> None:
    """Count every operation of a batch that is not performed, as far as it can be read."""
    with contextlib.suppress(GraphError):
        for operation in parse_operations(call.params["batch"], graph.settings.config.batch_limit):
            _count(graph, operation, call)


def _count(graph: Graph, operation: Operation, call: Call) -> None:
    with contextlib.suppress(GraphError, ValueError):
        graph.count(operation_call(operation, call, {}, graph.settings.config))


def outer_reply(slots: list[Any], call: Call, usage: Iterable[tuple[str, str]] = ()) -> Reply:
    """The outer reply around *slots*."""
    text = render.wrap_jsonp(to_json(slots, pretty=truthy(call.params.get("pretty"))), call.params)
    kind = headers.content_type("single", script=render.is_jsonp(call.params))
    return Reply(200, headers.of_outer(call.version, list(usage), kind), text)


def _admit(graph: Graph, call: Call) -> None:
    """Raise without a good top-level token: it is needed even when every operation has its own."""
    if call.token is not None:
        credentials.check_top(call.token, call.params, graph.settings.config)
    elif not call.params.get("batch_app_id"):
        raise token_required()


def _check_poison(graph: Graph, parsed: list[Operation]) -> None:
    """Raise if one operation is about an object that fails whole batches."""
    config = graph.settings.config
    if (
        config.batch_poison_ids
        and config.batch_poison == "whole"
        and any(
            node_id in config.batch_poison_ids for operation in parsed for node_id in object_ids(operation.relative_url)
        )
    ):
        raise unknown_error()


class _BatchRun:
    """Performs the operations of one batch in order, and keeps their results for references."""

    def __init__(self, graph: Graph, call: Call) -> None:
        self.graph = graph
        self.call = call
        self.results: dict[str, Any] = {}
        self.done: set[str] = set()

    def slots(self, parsed: list[Operation]) -> list[Slot]:
        """Perform all; then empty the slots that are only there for others."""
        wanted = {parent for operation in parsed for parent in operation.parents}
        slots = [self.perform(operation) for operation in parsed]
        return [
            None if slot and slot.status < 400 and operation.omits_response and operation.name in wanted else slot
            for operation, slot in zip(parsed, slots, strict=True)
        ]

    def perform(self, operation: Operation) -> Slot:
        """Perform one operation, unless an operation that it depends on has failed."""
        if not all(parent in self.done for parent in operation.parents):
            return self.after_failed_parent(operation)
        reply = self.answer(operation)
        if operation.name is not None and reply is not None and reply.status == 200:
            self.done.add(operation.name)
            self.results[operation.name] = json.loads(reply.body, strict=False) if reply.body else None
        return reply

    def answer(self, operation: Operation) -> Slot:
        """Build the operation's call and perform it."""
        try:
            return self.graph.perform(self.build_call(operation))
        except GraphError as error:
            return self.graph.error_reply(self.placeholder_call(operation), error)
        except ValueError as error:
            return self.graph.error_reply(self.placeholder_call(operation), bad_parameter(str(error)))

    def build_call(self, operation: Operation) -> Call:
        """Read the operation as a call of its own."""
        call = operation_call(operation, self.call, self.results, self.graph.settings.config)
        if is_batch(call):
            raise batch_error("A batch request cannot hold another batch request")
        call.channel = "batch"
        call.files = self.attached_files(operation)
        return call

    def attached_files(self, operation: Operation) -> dict[str, Upload]:
        """The files that the operation refers to."""
        missing = [name for name in operation.files if name not in self.call.files]
        if missing:
            raise bad_parameter(f"File {missing[0]} has not been attached")
        return {name: self.call.files[name] for name in operation.files}

    def after_failed_parent(self, operation: Operation) -> Slot:
        """The slot of an operation whose parent failed."""
        if self.graph.settings.config.unperformed_count:
            _count(self.graph, operation, self.call)
        if self.graph.settings.config.dependent_failure == "null":
            return None
        return self.graph.error_reply(self.placeholder_call(operation), aborted())

    def placeholder_call(self, operation: Operation) -> Call:
        """A call that stands for an operation which never became one."""
        call = self.call
        return Call(operation.method, call.version, (), {}, call.token, {}, "batch")


def _slot_json(slot: Slot, call: Call, config: Config) -> dict[str, Any] | None:
    """A slot as JSON; a redirect has no body at all, a 304 an empty one."""
    if slot is None:
        return None
    found: dict[str, Any] = {"code": slot.status}
    if not falsy(call.params.get("include_headers")):
        told = slot.headers[::-1] if config.slot_header_order == "reversed" else slot.headers
        found["headers"] = _SHAPES[config.slot_headers](told)
    if slot.status != 302:
        found["body"] = slot.body
    return found
