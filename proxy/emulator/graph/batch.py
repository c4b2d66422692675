"""A root batch: up to fifty operations in one call (developers.facebook.com, "Batch Requests")."""

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
from proxy.emulator.language.json_style import written
from proxy.emulator.language.operations import Operation, call_of, operations, targets
from proxy.emulator.language.query import falsy, truthy

Slot = Reply | None

_SHAPES: dict[str, Callable[[Headers], Any]] = {
    "objects": lambda told: [{"name": name, "value": value} for name, value in told],
    "strings": lambda told: [f"{name}: {value}" for name, value in told],
    "map": dict,
}
"""How header fields stand in a slot."""


def is_batch(call: Call) -> bool:
    """Tell whether the call is a batch: any POST with a `batch` parameter, whatever its path."""
    return call.method == "POST" and "batch" in call.params


def run(graph: Graph, call: Call) -> Reply:
    """Answer a batch, one slot for each operation in their order."""
    try:
        _admit(graph, call)
        asked = operations(call.params["batch"], graph.settings.config.batch_limit)
        graph.ledger.packed(len(asked))
        if not graph.settings.config.slots_count:
            graph.count(call)
        _beware_of_poison(graph, asked)
    except GraphError as error:
        if graph.settings.config.unperformed_count:
            count(graph, call)
        return graph.refusal(call, error)
    slots = _Run(graph, call).slots(asked)
    usage = () if graph.settings.config.usage_place == "items" else graph.quota.headers(call)
    return reply_of([_described(slot, call, graph.settings.config) for slot in slots], call, usage)


def count(graph: Graph, call: Call) -> None:
    """Count every operation of a batch that is not performed, as far as it can be read."""
    with contextlib.suppress(GraphError):
        for operation in operations(call.params["batch"], graph.settings.config.batch_limit):
            _count(graph, operation, call)


def _count(graph: Graph, operation: Operation, call: Call) -> None:
    with contextlib.suppress(GraphError, ValueError):
        graph.count(call_of(operation, call, {}, graph.settings.config))


def reply_of(slots: list[Any], call: Call, usage: Iterable[tuple[str, str]] = ()) -> Reply:
    """The outer reply around *slots*."""
    text = render.wrapped(written(slots, pretty=truthy(call.params.get("pretty"))), call.params)
    kind = headers.content_type("single", script=render.is_script(call.params))
    return Reply(200, headers.of_outer(call.version, list(usage), kind), text)


def _admit(graph: Graph, call: Call) -> None:
    """Raise without a good top-level token: it is needed even when every operation has its own."""
    if call.token is not None:
        credentials.check_top(call.token, call.params, graph.settings.config)
    elif not call.params.get("batch_app_id"):
        raise token_required()


def _beware_of_poison(graph: Graph, asked: list[Operation]) -> None:
    """Fail the whole batch if one operation is about an object that spoils batches."""
    config = graph.settings.config
    if (
        config.batch_poison_ids
        and config.batch_poison == "whole"
        and any(
            node_id in config.batch_poison_ids for operation in asked for node_id in targets(operation.relative_url)
        )
    ):
        raise unknown_error()


class _Run:
    """The state of a batch while its operations are performed one after another."""

    def __init__(self, graph: Graph, call: Call) -> None:
        self.graph = graph
        self.call = call
        self.results: dict[str, Any] = {}
        self.done: set[str] = set()

    def slots(self, asked: list[Operation]) -> list[Slot]:
        """Perform all; then empty the slots that are only there for others."""
        wanted = {parent for operation in asked for parent in operation.parents}
        slots = [self.perform(operation) for operation in asked]
        return [
            None if slot and slot.status < 400 and operation.keeps_quiet and operation.name in wanted else slot
            for operation, slot in zip(asked, slots, strict=True)
        ]

    def perform(self, operation: Operation) -> Slot:
        """Perform one operation, unless one that it needs has failed."""
        if not all(parent in self.done for parent in operation.parents):
            return self.orphaned(operation)
        reply = self.answered(operation)
        if operation.name is not None and reply is not None and reply.status == 200:
            self.done.add(operation.name)
            self.results[operation.name] = json.loads(reply.body, strict=False) if reply.body else None
        return reply

    def answered(self, operation: Operation) -> Slot:
        """Build the operation's call and perform it."""
        try:
            return self.graph.perform(self.built(operation))
        except GraphError as error:
            return self.graph.refusal(self.as_slot(operation), error)
        except ValueError as error:
            return self.graph.refusal(self.as_slot(operation), bad_parameter(str(error)))

    def built(self, operation: Operation) -> Call:
        """Read the operation as a call of its own."""
        call = call_of(operation, self.call, self.results, self.graph.settings.config)
        if is_batch(call):
            raise batch_error("A batch request cannot hold another batch request")
        call.channel = "batch"
        call.files = self.attached(operation)
        return call

    def attached(self, operation: Operation) -> dict[str, Upload]:
        """The files that the operation refers to."""
        missing = [name for name in operation.files if name not in self.call.files]
        if missing:
            raise bad_parameter(f"File {missing[0]} has not been attached")
        return {name: self.call.files[name] for name in operation.files}

    def orphaned(self, operation: Operation) -> Slot:
        """What stands in the slot of an operation whose parent failed."""
        if self.graph.settings.config.unperformed_count:
            _count(self.graph, operation, self.call)
        if self.graph.settings.config.dependent_failure == "null":
            return None
        return self.graph.refusal(self.as_slot(operation), aborted())

    def as_slot(self, operation: Operation) -> Call:
        """A call that stands for an operation which never became one."""
        call = self.call
        return Call(operation.method, call.version, (), {}, call.token, {}, "batch")


def _described(slot: Slot, call: Call, config: Config) -> dict[str, Any] | None:
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
