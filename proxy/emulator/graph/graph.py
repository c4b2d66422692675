"""Performs one operation: counts it, checks its credentials, answers it, renders the reply.

A slot of a batch goes through the same steps as a direct call; only its headers and its ETag differ.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from proxy.emulator.config import Config, LiveConfig
from proxy.emulator.graph import credentials
from proxy.emulator.graph.faults import Fault, Faults, Target
from proxy.emulator.graph.ledger import Ledger
from proxy.emulator.graph.quota import Quota
from proxy.emulator.graph.reads import Export, Reads, Redirect
from proxy.emulator.graph.writes import Writes
from proxy.emulator.language import headers, render
from proxy.emulator.language.calls import Call, Headers, Reply, Upload, to_list
from proxy.emulator.language.errors import (
    GraphError,
    aborted,
    bad_parameter,
    throttled,
    unknown_error,
    unsupported,
    write_done_read_failed,
)
from proxy.emulator.language.fields import check_repeated
from proxy.emulator.language.query import truthy
from proxy.emulator.objects.async_jobs import AsyncJobs
from proxy.emulator.objects.async_views import AsyncViews
from proxy.emulator.objects.async_writes import AsyncWrites
from proxy.emulator.objects.insights import ReportRuns
from proxy.emulator.objects.nodes import Nodes
from proxy.emulator.objects.world import World


class Graph:
    """Answers operations."""

    def __init__(
        self, settings: LiveConfig, world: World, ledger: Ledger, faults: Faults, clock: Callable[[], float]
    ) -> None:
        """Answer from *world*, record calls in *ledger*, and apply *faults*."""
        self.settings = settings
        self.ledger = ledger
        self.faults = faults
        self.quota = Quota(settings, clock)
        self.report_runs = ReportRuns(settings, clock, world.new_id)
        self.async_jobs = AsyncJobs(settings, clock, self.perform_deferred)
        self._nodes = nodes = Nodes(world, self.report_runs, AsyncViews(self.async_jobs), clock)
        self._world = world
        self._reads = Reads(nodes, settings)
        self._writes = Writes(
            world, nodes, self.report_runs, self.async_jobs, AsyncWrites(self.async_jobs, world, settings, clock)
        )
        self.uploads = self._writes.sessions
        self._random = random.Random(settings.config.seed)

    def perform(self, call: Call) -> Reply | None:
        """The reply to one call; None for a slot that stays empty."""
        fault = self._fault_for(call)
        try:
            if fault is None or fault.counts is not False:
                self.count(call)
            if fault and fault.kind == "null":
                return None
            if fault and fault.kind == "throttled":
                self.ledger.throttled_calls += _calls_counted(call)
            reply = self._success_reply(
                call, self._answer_admitted(call, None if fault and fault.kind == "odd" else fault)
            )
            return with_odd_member(reply, fault.message or HALF_EMOJI) if fault and fault.kind == "odd" else reply
        except GraphError as error:
            return None if fault and fault.kind == "null" else self.error_reply(call, error)

    def count(self, call: Call) -> None:
        """Count the call against its limits, performed or not. Raises GraphError if a limit is exceeded."""
        calls = self._counted(call)
        self.ledger.record_call(call, calls)
        self._spend(call, calls)

    def _counted(self, call: Call) -> int:
        """How many calls *call* counts as here; the batch around a slot may have counted for it."""
        config = self.settings.config
        if call.channel == "batch" and not config.slots_count:
            return 0
        return _calls_counted(call) if config.ids_count else 1

    def _spend(self, call: Call, calls: int) -> None:
        try:
            self.quota.spend(call, calls)
        except GraphError:
            self.ledger.throttled_calls += calls
            raise

    def perform_deferred(self, call: Call) -> Any:
        """Perform a deferred write, which was counted with the call that started it. Raises GraphError."""
        if call.method == "GET":
            raise unsupported(call.method)
        if call.params.get("adset_id"):
            self._nodes.existing(str(call.params["adset_id"]))
        return self._answer_admitted(call, self._draw_fault("async", call))

    def _answer_admitted(self, call: Call, fault: Fault | None) -> Any:
        """The answer to *call*. Raises GraphError for bad credentials and for *fault*."""
        credentials.check(call, self.settings.config)
        if fault and fault.kind != "original_response":
            raise aborted(fault.status or 500) if fault.kind == "aborted" else error_from(fault)
        answer = self._answer(call)
        if fault:
            raise write_done_read_failed(answer, fault.message, code=fault.code or 100, status=fault.status or 400)
        return answer

    def error_reply(self, call: Call, error: GraphError) -> Reply:
        """The reply with *error*."""
        text = render.render_body(error.envelope(self.trace()[:23]), call, self.settings.config)
        script = render.is_jsonp(call.params)
        said = headers.of_error(
            call.version, self._usage(call), headers.content_type(call.channel, script=script), error.challenge()
        )
        if error.retry_after_s:
            said.append(("Retry-After", str(error.retry_after_s)))
        quiet = call.channel == "single" and truthy(call.params.get("suppress_http_code"))
        return Reply(200 if quiet else error.status, said, text)

    def trace(self) -> str:
        """A trace id that no other reply has."""
        return f"{self._random.getrandbits(172):043x}"

    def _answer(self, call: Call) -> Any:
        if self.uploads.is_about(call):
            return self.uploads.answer(call)
        if call.channel == "single" and any(name.startswith("_fb_") for name in call.params):
            raise bad_parameter("The signature of this link is of another call")
        if self.settings.config.refuse_repeated_fields:
            check_repeated(call.params.get("fields"))
        if call.opaque:
            return self._accept_opaque(call, call.opaque)
        return self._reads.answer(call) if call.method == "GET" else self._writes.answer(call)

    def _accept_opaque(self, call: Call, body: Upload) -> dict[str, Any]:
        """The answer to an upload: its size and hash, so that the sender can compare them."""
        self.ledger.floods += 1
        self._world.record_write(call.method, "/" + "/".join(call.path), {"sha256": body.sha256})
        made = self._world.new_id("1206", call.path, body.sha256)
        return {"id": made, "bytes": body.size, "sha256": body.sha256}

    def _success_reply(self, call: Call, answer: Any) -> Reply:
        if isinstance(answer, Redirect):
            return Reply(302, [*self._headers(call, None), ("Location", answer.location)], None)
        if isinstance(answer, Export):
            return Reply(200, [("Content-Type", "application/octet-stream")], None, answer.size)
        config = self.settings.config
        text = render.render_body(answer, call, config)
        if call.method != "GET":
            return Reply(200, self._headers(call, None), text)
        etag = render.etag_of(text, call, config)
        if config.not_modified_places in ("both", call.channel) and render.matches_if_none_match(etag, call):
            return self._not_modified(call, etag, config)
        return Reply(200, self._headers(call, etag if config.etag_places in ("both", call.channel) else None), text)

    def _not_modified(self, call: Call, etag: str, config: Config) -> Reply:
        self.ledger.not_modified[call.channel] += 1
        if not config.not_modified_counts:
            calls = self._counted(call)
            self.ledger.record_call(call, -calls)
            self.quota.give_back(call, calls)
        kind = headers.content_type(call.channel, script=render.is_jsonp(call.params))
        repeated = etag if config.etag_on_304 else None
        return Reply(304, headers.of_not_modified(self._usage(call), kind, repeated), None)

    def _usage(self, call: Call) -> Headers:
        """The usage headers of the reply to *call*; a slot has none if the outer reply has them."""
        hides = call.channel == "batch" and self.settings.config.usage_place == "outer"
        return [] if hides else self.quota.headers(call)

    def _headers(self, call: Call, etag: str | None) -> Headers:
        config = self.settings.config
        kind = headers.content_type(call.channel, script=render.is_jsonp(call.params))
        cookie = config.set_cookie and call.channel == "batch"
        found = headers.of_success(call.version, self._usage(call), kind, etag, cookie=cookie)
        return (
            headers.without_outer_fields(found) if call.channel == "batch" and config.batch_fields == "few" else found
        )

    def _fault_for(self, call: Call) -> Fault | None:
        if call.channel == "batch" and self._is_poison(call):
            return Fault("null")
        return self._draw_fault(call.channel, call)

    def _draw_fault(self, where: str, call: Call) -> Fault | None:
        if not self.faults.active:
            return None
        fault = self.faults.draw("slot", Target(where, call.method, ("/".join(call.path),), call.ids()))
        self.ledger.faults += fault is not None
        return fault

    def _is_poison(self, call: Call) -> bool:
        config = self.settings.config
        poison = config.batch_poison_ids if config.batch_poison == "null" else ()
        return bool(poison) and any(node_id in poison for node_id in call.ids())


def _calls_counted(call: Call) -> int:
    """How many calls *call* counts as: each id of `ids=` is one (developers.facebook.com, "Rate Limits")."""
    ids = call.params.get("ids")
    return max(1, len(to_list(ids))) if ids else 1


def error_from(fault: Fault) -> GraphError:
    """The error that a fault describes; a throttle code has its own message."""
    if fault.kind == "throttled":
        return throttled(fault.code or 4, fault.status or 400, fault.subcode, retry_after_s=fault.retry_after_s)
    code, status = fault.code or 1, fault.status or 500
    if fault.message:
        return GraphError(fault.message, code=code, status=status, subcode=fault.subcode or None, shape=fault.shape)
    if code == 1:
        error = unknown_error()
        error.status = status
        return error
    return throttled(code, status, fault.subcode)


HALF_EMOJI = "\\ud83d"
"""Half an emoji, as Graph escapes it."""


def with_odd_member(reply: Reply, text: str) -> Reply:
    """*reply* with one more member, whose value has *text* unescaped."""
    if not reply.body or not reply.body.startswith("{"):
        return reply
    return replace(reply, body=f'{{"odd":"cut {text} here",{reply.body[1:]}')
