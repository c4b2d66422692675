"""Answers each message: as a plain read, as a client's batch, or by passing it through to Graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from msgspec.structs import replace

from proxy.core.client_batch.parse import Unresolved, may_hold_batch, read_call, with_operations
from proxy.core.client_batch.split import fits_in_one_call
from proxy.core.http import cdn_loop, errors
from proxy.core.memory.budget import Budget
from proxy.core.model import Credential, Headers, Reply
from proxy.core.observe.access_log import PassedMessage
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.ledger import RequestCost, calls_avoided, was_counted_unread
from proxy.core.reply import render
from proxy.core.reply.link_origin import LinkOrigin, link_origin
from proxy.core.routing import normal_form
from proxy.core.routing.classify import Bypass, Read, classify, credential
from proxy.core.routing.connect_policy import misdirection
from proxy.core.routing.hosts import GraphHosts, Head
from proxy.core.routing.rules import RuleBook
from proxy.shell import Announce, Announced, OnWrite, no_announcement
from proxy.shell.downstream.client_batch import ClientBatches
from proxy.shell.downstream.read import ReadHandler
from proxy.shell.http import request_body
from proxy.shell.http.forms import read_form
from proxy.shell.http.protocol import Connection
from proxy.shell.http.response import respond
from proxy.shell.intercept.connect import local_address, tls_server_name
from proxy.shell.observe.faults import log_fault
from proxy.shell.pipeline.comparer import Comparer
from proxy.shell.pipeline.limiter_bypass import LimiterBypass
from proxy.shell.upstream.client import LOOP
from proxy.shell.upstream.passthrough import Passthrough


@dataclass(slots=True)
class DownstreamHandler:
    """The handler of the listener: every path belongs to Graph."""

    reader: ReadHandler
    passthrough: Passthrough
    client_batches: ClientBatches
    hosts: GraphHosts
    rules: RuleBook
    rewrite_links: bool
    loop_guard: cdn_loop.LoopGuard
    on_write: OnWrite
    limiter_bypass: LimiterBypass
    bodies: Budget  # of all that are being read
    comparer: Comparer | None = None
    announce: Announce = no_announcement

    async def handle(self, message: web.BaseRequest) -> web.StreamResponse:
        """Answer one message of an application; raises only when its caller has gone."""
        name = tls_server_name(message)
        head = Head(message.method, message.raw_path, _fields(message, name))
        tracer = self.reader.telemetry.tracer
        if tracer is None:
            return await self._answer_or_fail(message, head, name)
        with tracer.message(head.headers):
            return await self._answer_or_fail(message, head, name)

    async def _answer_or_fail(self, message: web.BaseRequest, head: Head, name: str) -> web.StreamResponse:
        try:
            self._check(message, head, name)
            return await self._answer(message, head)
        except errors.SidecarError as error:
            return self._failed(error)
        except Exception as fault:  # noqa: BLE001 - the fault is logged without its text, which may hold a token
            log_fault(fault)
            return self._failed(errors.Fault(f"a fault of its own ({type(fault).__name__})"))

    def _check(self, message: web.BaseRequest, head: Head, name: str) -> None:
        """Raises SidecarError if the request comes from the sidecar itself or is for another host."""
        if self.loop_guard.is_back(head.headers.get("cdn-loop", "")):
            raise errors.Looping(f"{LOOP}: look at upstream.origin, upstream.nameservers and upstream.address")
        if wrong := misdirection(head, name, self.hosts, local_address(message)):
            raise wrong

    async def _answer(self, message: web.BaseRequest, head: Head) -> web.StreamResponse:
        with self.bodies.share() as share:
            buffered, is_whole = await request_body.peek(message, head, share)
            return await self._answer_to(message, head, buffered, buffered if is_whole else None)

    async def _answer_to(
        self, message: web.BaseRequest, head: Head, buffered: bytes, whole: bytes | None
    ) -> web.StreamResponse:
        """Answer *message*, of whose body *buffered* has been read; *whole* is the body if all of it was."""
        try:
            is_large = isinstance(message.protocol, Connection) and message.protocol.take_large()
            if not is_large and (reply := await self._answer_batch(message, head, whole)):
                return respond(reply)
            found = classify(head, whole, self.hosts, self.rules)
            if is_large:
                found = Bypass("large", writes=False)
            if isinstance(found, Read):
                reply = await self.reader.answer(found, self._link_origin(message, head))
                if self.comparer is not None:
                    self.comparer.offer(head, self.hosts.of(head), found, reply)
                return respond(reply)
        except errors.Large:  # Graph has an answer: the read is sent again, and streamed
            found = Bypass("large", writes=False)
        written = await request_body.written_objects(head, whole) if found.writes else ()
        return await self._pass(message, head, found, buffered, written)

    async def _answer_batch(self, message: web.BaseRequest, head: Head, body: bytes | None) -> Reply | None:
        """Return the answer to a batch of the application's own; None if the message is no readable batch."""
        if body is None or not may_hold_batch(head):
            return None
        form = await read_form(body, head.headers)
        if form is None:
            return None
        call, link_origin = read_call(head, form.parameters, self.hosts), self._link_origin(message, head)
        if call is None:
            return None
        if reply := await self.client_batches.answer_prepared(call, link_origin):
            return reply
        try:
            envelope = with_operations(call)
        except Unresolved as error:
            return None if fits_in_one_call(error.of) else render.bare(errors.batch_refused(str(error)))
        return None if envelope is None else await self.client_batches.answer(envelope, form.files, link_origin)

    async def _pass(
        self, message: web.BaseRequest, head: Head, found: Bypass, buffered: bytes, written: tuple[str, ...]
    ) -> web.StreamResponse:
        target, named, telemetry = normal_form.read_target(head.target), credential(head), self.reader.telemetry
        began, cost = self.reader.clock(), self.reader.message_cost(target, named)
        cost.correct_asked(max(cost.asked, await request_body.count_operations(head, buffered)))
        passage = PassedMessage(
            head.method, self.hosts.of(head), target.version, target.path, target.query, found.reason, found.writes
        )
        who = named if isinstance(named, Credential) else None
        is_known = who is not None or (named is None and not message.body_exists)  # or its body may hold a token

        announced = await self.announce(written, who) if found.writes else Announced()

        def answered(status: int, fields: Headers) -> None:
            if found.writes:
                self.on_write(written, who, answered=bool(status))
                if not status:
                    announced.lost()
            if is_known:
                subject = QuotaSubject(self.reader.keys.fingerprint(who), target.path, target.query)
                self.reader.quota.on_usage(subject, fields, self.reader.now())

        try:
            if found.writes or not is_known or head.method == "OPTIONS":  # a preflight asks Graph for nothing
                response = await self._stream(
                    message, head, found, buffered, cost=cost, on_response=answered, announced=announced
                )
            else:
                with self.limiter_bypass.passing(who, target.path, target.query) as passing:
                    response = await self._stream(message, head, found, buffered, cost=cost, on_response=answered)
                    passing.on_response(response.status)
        except errors.Throttled as throttled:
            return self._refused(throttled.reply, passage, cost)
        except errors.SidecarError as error:
            return self._unanswered(error, found, target.path, cost)
        telemetry.passed(passage, cost, response.status, self.reader.clock() - began)
        return response

    async def _stream(
        self,
        message: web.BaseRequest,
        head: Head,
        found: Bypass,
        buffered: bytes,
        *,
        cost: RequestCost,
        on_response: Callable[[int, Headers], None],
        announced: Announced | None = None,
    ) -> web.StreamResponse:
        def on_response_head(status: int, fields: Headers) -> None:
            sending.answered([was_counted_unread(status, cost.asked) and head.method != "OPTIONS"])
            on_response(status, fields)

        with self.reader.telemetry.stream(cost) as sending:
            return await self.passthrough.stream(
                message,
                host=self.hosts.of(head),
                target=normal_form.origin_form(head.target),
                buffered=buffered,
                extra=render.passthrough_status(found.reason, writes=found.writes),
                on_sent=sending.left,
                on_response=on_response_head,
                before_reply=announced.answered if announced is not None and found.writes else None,
                link_origin=self._link_origin(message, head),
            )

    def _refused(self, reply: Reply, passage: PassedMessage, cost: RequestCost) -> web.StreamResponse:
        """Answer a read that is not sent with Graph's *reply* about its limit."""
        cost.avoid(calls_avoided(reply, cost.unsent))
        self.reader.telemetry.passed(passage, cost, reply.status, 0.0, refusal=reply)
        return respond(render.bare(reply))

    def _unanswered(
        self, error: errors.SidecarError, found: Bypass, path: str, cost: RequestCost
    ) -> web.StreamResponse:
        """Answer a message that Graph did not answer; a write that was sent may have happened."""
        self.reader.telemetry.failed(error, path, cost)
        reply = errors.reply_of(errors.unsure(error) if found.writes and error.has_left else error)
        status_fields = render.passthrough_status(found.reason, writes=found.writes, trouble=reply.detail)
        return respond(replace(reply, headers=(*reply.headers, *status_fields)))

    def _failed(self, error: errors.SidecarError) -> web.StreamResponse:
        self.reader.telemetry.failed(error)
        return respond(render.bare(errors.reply_of(error)))

    def _link_origin(self, message: web.BaseRequest, head: Head) -> LinkOrigin:
        """Return the origin to which paging links in the reply to *message* lead."""
        return link_origin(head, message.scheme, self.hosts, rewrites=self.rewrite_links)


def _fields(message: web.BaseRequest, name: str) -> dict[str, str]:
    """Return header fields by lower-case name, repeated ones joined by commas (RFC 9110 section 5.3).

    An HTTP/1.0 request may lack Host; inside TLS the server *name* of the handshake stands for it.
    """
    fields: dict[str, str] = {}
    for spelled, value in message.headers.items():
        key = spelled.lower()
        fields[key] = f"{fields[key]}, {value}" if key in fields else value
    if name:
        fields.setdefault("host", name)
    return fields
