"""One operation from call to reply: counted, admitted, answered, dressed.

A slot of a batch takes the same way as a call of its own; only its headers and its ETag differ.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from proxy.emulator.config import Config, Settings
from proxy.emulator.graph import credentials
from proxy.emulator.graph.faults import Fault, Faults, Target
from proxy.emulator.graph.ledger import Ledger
from proxy.emulator.graph.quota import Quota
from proxy.emulator.graph.reads import Export, Reads, Redirect
from proxy.emulator.graph.writes import Writes
from proxy.emulator.language import headers, render
from proxy.emulator.language.calls import Call, Headers, Reply, Upload, listed
from proxy.emulator.language.errors import (
    GraphError,
    aborted,
    bad_parameter,
    throttled,
    unknown_error,
    unreadable,
    unsupported,
)
from proxy.emulator.language.fields import check_repeated
from proxy.emulator.language.query import truthy
from proxy.emulator.objects.async_jobs import Later
from proxy.emulator.objects.async_views import LaterViews
from proxy.emulator.objects.async_writes import LaterWrites
from proxy.emulator.objects.insights import Jobs
from proxy.emulator.objects.nodes import Nodes
from proxy.emulator.objects.world import World


class Graph:
    """Answers operations."""

    def __init__(
        self, settings: Settings, world: World, ledger: Ledger, faults: Faults, clock: Callable[[], float]
    ) -> None:
        """Answer from *world*, note in *ledger*, and let *faults* strike."""
        self.settings = settings
        self.ledger = ledger
        self.faults = faults
        self.quota = Quota(settings, clock)
        self.jobs = Jobs(settings, clock, world.fresh)
        self.later = Later(settings, clock, self.carry_out)
        self._nodes = nodes = Nodes(world, self.jobs, LaterViews(self.later), clock)
        self._world = world
        self._reads = Reads(nodes, settings)
        self._writes = Writes(world, nodes, self.jobs, self.later, LaterWrites(self.later, world, settings, clock))
        self.uploads = self._writes.sessions
        self._dice = random.Random(settings.config.seed)

    def perform(self, call: Call) -> Reply | None:
        """Answer one call; None is a slot that was left empty."""
        fault = self._struck_by(call)
        try:
            if fault is None or fault.counts is not False:
                self.count(call)
            if fault and fault.kind == "null":
                return None
            if fault and fault.kind == "throttled":
                self.ledger.throttled_calls += _cost(call)
            reply = self._good(call, self._admitted(call, None if fault and fault.kind == "odd" else fault))
            return odd_of(reply, fault.message or HALF) if fault and fault.kind == "odd" else reply
        except GraphError as error:
            return None if fault and fault.kind == "null" else self.refusal(call, error)

    def count(self, call: Call) -> None:
        """Count the call against its limits, performed or not; one too many raises."""
        calls = self._counted(call)
        self.ledger.counted(call, calls)
        self._spend(call, calls)

    def _counted(self, call: Call) -> int:
        """How many calls *call* counts as here; the batch around a slot may have counted for it."""
        config = self.settings.config
        if call.channel == "batch" and not config.slots_count:
            return 0
        return _cost(call) if config.ids_count else 1

    def _spend(self, call: Call, calls: int) -> None:
        try:
            self.quota.spend(call, calls)
        except GraphError:
            self.ledger.throttled_calls += calls
            raise

    def carry_out(self, call: Call) -> Any:
        """Do a write that was asked for earlier, and counted with the call that asked; one that fails raises."""
        if call.method == "GET":
            raise unsupported(call.method)
        if call.params.get("adset_id"):
            self._nodes.existing(str(call.params["adset_id"]))
        return self._admitted(call, self._drawn("async", call))

    def _admitted(self, call: Call, fault: Fault | None) -> Any:
        """Answer a call whose token is good, unless the fault says otherwise."""
        credentials.check(call, self.settings.config)
        if fault and fault.kind != "original_response":
            raise aborted(fault.status or 500) if fault.kind == "aborted" else error_of(fault)
        answer = self._answer(call)
        if fault:
            raise unreadable(answer, fault.message, code=fault.code or 100, status=fault.status or 400)
        return answer

    def refusal(self, call: Call, error: GraphError) -> Reply:
        """The reply that says *error*."""
        text = render.text_of(error.envelope(self.trace()[:23]), call, self.settings.config)
        script = render.is_script(call.params)
        said = headers.of_error(
            call.version, self._usage(call), headers.content_type(call.channel, script=script), error.challenge()
        )
        if error.retry_after_s:
            said.append(("Retry-After", str(error.retry_after_s)))
        quiet = call.channel == "single" and truthy(call.params.get("suppress_http_code"))
        return Reply(200 if quiet else error.status, said, text)

    def trace(self) -> str:
        """A mark that no other reply has."""
        return f"{self._dice.getrandbits(172):043x}"

    def _answer(self, call: Call) -> Any:
        if self.uploads.is_about(call):
            return self.uploads.answer(call)
        if call.channel == "single" and any(name.startswith("_fb_") for name in call.params):
            raise bad_parameter("The signature of this link is of another call")
        if self.settings.config.refuse_repeated_fields:
            check_repeated(call.params.get("fields"))
        if call.flood:
            return self._kept(call, call.flood)
        return self._reads.answer(call) if call.method == "GET" else self._writes.answer(call)

    def _kept(self, call: Call, flood: Upload) -> dict[str, Any]:
        """Answer an upload with what arrived, so that the sender can compare."""
        self.ledger.floods += 1
        self._world.note(call.method, "/" + "/".join(call.path), {"sha256": flood.sha256})
        made = self._world.fresh("1206", call.path, flood.sha256)
        return {"id": made, "bytes": flood.size, "sha256": flood.sha256}

    def _good(self, call: Call, answer: Any) -> Reply:
        if isinstance(answer, Redirect):
            return Reply(302, [*self._headers(call, None), ("Location", answer.location)], None)
        if isinstance(answer, Export):
            return Reply(200, [("Content-Type", "application/octet-stream")], None, answer.size)
        config = self.settings.config
        text = render.text_of(answer, call, config)
        if call.method != "GET":
            return Reply(200, self._headers(call, None), text)
        etag = render.etag_of(text, call, config)
        if config.not_modified_places in ("both", call.channel) and render.is_known(etag, call):
            return self._not_modified(call, etag, config)
        return Reply(200, self._headers(call, etag if config.etag_places in ("both", call.channel) else None), text)

    def _not_modified(self, call: Call, etag: str, config: Config) -> Reply:
        self.ledger.not_modified[call.channel] += 1
        if not config.not_modified_counts:
            calls = self._counted(call)
            self.ledger.counted(call, -calls)
            self.quota.give_back(call, calls)
        kind = headers.content_type(call.channel, script=render.is_script(call.params))
        repeated = etag if config.etag_on_304 else None
        return Reply(304, headers.of_not_modified(self._usage(call), kind, repeated), None)

    def _usage(self, call: Call) -> Headers:
        """What the reply to *call* tells of usage; a slot may leave that to the batch's own reply."""
        hides = call.channel == "batch" and self.settings.config.usage_place == "outer"
        return [] if hides else self.quota.headers(call)

    def _headers(self, call: Call, etag: str | None) -> Headers:
        config = self.settings.config
        kind = headers.content_type(call.channel, script=render.is_script(call.params))
        cookie = config.set_cookie and call.channel == "batch"
        found = headers.of_success(call.version, self._usage(call), kind, etag, cookie=cookie)
        return headers.few(found) if call.channel == "batch" and config.batch_fields == "few" else found

    def _struck_by(self, call: Call) -> Fault | None:
        if call.channel == "batch" and self._is_poison(call):
            return Fault("null")
        return self._drawn(call.channel, call)

    def _drawn(self, where: str, call: Call) -> Fault | None:
        if not self.faults.active:
            return None
        fault = self.faults.draw("slot", Target(where, call.method, ("/".join(call.path),), call.ids()))
        self.ledger.faults += fault is not None
        return fault

    def _is_poison(self, call: Call) -> bool:
        config = self.settings.config
        poison = config.batch_poison_ids if config.batch_poison == "null" else ()
        return bool(poison) and any(node_id in poison for node_id in call.ids())


def _cost(call: Call) -> int:
    """How many calls this is: each id of `ids=` is one (developers.facebook.com, "Rate Limits")."""
    ids = call.params.get("ids")
    return max(1, len(listed(ids))) if ids else 1


def error_of(fault: Fault) -> GraphError:
    """The error that a fault describes; a code of the limits brings its own words."""
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


HALF = "\\ud83d"
"""Half an emoji, as Graph escapes it."""


def odd_of(reply: Reply, text: str) -> Reply:
    """*reply* with a member more, in whose value *text* stands as it is."""
    if not reply.body or not reply.body.startswith("{"):
        return reply
    return replace(reply, body=f'{{"odd":"cut {text} here",{reply.body[1:]}')
