"""Answers one plain read: asks the pipeline, counts, and renders the reply for its caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from proxy.core.cache.key import Keys
from proxy.core.client_batch.operation import Envelope, Operation, credential_and_target
from proxy.core.http import errors
from proxy.core.model import Channel, Credential, Headers, Reply, Request
from proxy.core.quota.descriptors import QuotaSubject
from proxy.core.quota.ledger import RequestCost, was_counted
from proxy.core.quota.limiter import Limiter
from proxy.core.reply import render
from proxy.core.reply.link_origin import LinkOrigin
from proxy.core.routing import normal_form
from proxy.core.routing.classify import Read
from proxy.core.routing.nodes import calls_of
from proxy.shell import Layer
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.faults import log_fault
from proxy.shell.upstream.http1 import OnSent


@dataclass(frozen=True, slots=True)
class ReadHandler:
    """Answers plain reads through the pipeline; a GET and a read inside a batch alike."""

    pipeline: Layer
    last_resort: Callable[[Request, OnSent], Awaitable[Reply]]  # asks Graph directly after a fault in the pipeline
    keys: Keys
    quota: Limiter
    telemetry: Counters
    now: Callable[[], float]
    clock: Callable[[], float]

    async def answer(self, read: Read, link_origin: LinkOrigin) -> Reply:
        """Return the rendered reply to *read*; errors of the sidecar are replies too. Raises Large."""
        began, cost = self.clock(), self.cost(read.request)
        return self.render(read, await self.ask(read, cost), cost, link_origin, self.clock() - began)

    def cost(self, request: Request) -> RequestCost:
        """Open the cost record of *request*."""
        return self.telemetry.asked(request.path, request.query, self.keys.fingerprint(request.credential))

    def message_cost(self, target: normal_form.Target, who: Credential | str | None) -> RequestCost:
        """Open the cost record of a passed-through message."""
        fingerprint = b"" if isinstance(who, str) else self.keys.fingerprint(who)
        return self.telemetry.asked(target.path, target.query, fingerprint)

    def operation_cost(self, operation: Operation, envelope: Envelope) -> RequestCost:
        """Open the cost record of one *operation* of a client batch."""
        who, path, query = credential_and_target(operation.relative_url, operation.body, envelope)
        return self.telemetry.asked(path, query, self.keys.fingerprint(who))

    def render(self, read: Read, reply: Reply, cost: RequestCost, link_origin: LinkOrigin, seconds: float) -> Reply:
        """Return *reply* as the caller of *read* gets it, counted and charged to *cost*."""
        request, now = read.request, self.now()
        fingerprint = self.keys.fingerprint(request.credential)
        subject = QuotaSubject(fingerprint, request.path, request.query)
        rendered = render.render(read, reply, link_origin, self.quota.newest_usage(subject, now))
        self.telemetry.replied(request, reply, cost, seconds, rendered)
        return rendered

    def usage_of(self, credential: Credential) -> Headers:
        """Return the newest usage header fields of *credential*, whatever it reads."""
        return self.quota.newest_usage(QuotaSubject(self.keys.fingerprint(credential), "/", ""), self.now())

    async def ask(self, read: Read, cost: RequestCost, *, after_refusal: bool = False) -> Reply:
        """Return the shared or held reply to *read*, charged to *cost*, or an error as a reply. Raises Large.

        With *after_refusal* the caller has been refused for a limit and is let through. A caller refused now is noted.
        """
        request = read.request
        subject = QuotaSubject(self.keys.fingerprint(request.credential), request.path, request.query)
        request = (
            replace(request, after_refusal=True) if after_refusal else self.quota.mark_after_refusal(request, subject)
        )
        reply = await self._ask(request, cost)
        self.quota.on_delivered_reply(subject, reply, self.now())
        return reply

    async def _ask(self, request: Request, cost: RequestCost) -> Reply:
        try:
            try:
                return await self.pipeline(request, cost)
            except errors.SidecarError:
                raise
            except Exception as fault:  # noqa: BLE001 - a fault of ours makes a reply slower, never an error
                log_fault(fault)
                return await self._ask_graph(replace(request, channel=Channel.DIRECT, validator=""), cost)
        except errors.Large:
            raise
        except errors.SidecarError as error:
            return errors.reply_of(error)

    async def _ask_graph(self, request: Request, cost: RequestCost) -> Reply:
        with self.telemetry.single(cost, calls_of(request.query)) as sending:
            reply = await self.last_resort(request, sending.left)
            sending.answered([was_counted(reply)])
        return reply
