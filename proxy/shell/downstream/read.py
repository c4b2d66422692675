"""One plain read, from the request to the reply as its caller gets it: asked, counted, rendered."""

from __future__ import annotations

import logging
import traceback
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
from proxy.core.routing import target as routing_target
from proxy.core.routing.classify import Read
from proxy.core.routing.target import calls_of
from proxy.shell import Layer
from proxy.shell.observe.counters import Counters
from proxy.shell.pipeline import cost_context
from proxy.shell.upstream.http1 import OnSent

_log = logging.getLogger("graph_sidecar.server")


@dataclass(frozen=True, slots=True)
class ReadHandler:
    """What stands between a caller and the stack; the same for a GET and for a read inside a batch."""

    stack: Layer
    last_resort: Callable[[Request, OnSent], Awaitable[Reply]]  # Graph itself, should the stack have a fault
    keys: Keys
    quota: Limiter
    telemetry: Counters
    now: Callable[[], float]
    clock: Callable[[], float]

    async def answer(self, read: Read, link_origin: render.LinkOrigin) -> Reply:
        """The rendered reply to *read*; an error of ours is a reply, too. Raises Large."""
        began, cost = self.clock(), self.cost(read.request)
        return self.render(read, await self.ask(read, cost), cost, link_origin, self.clock() - began)

    def cost(self, request: Request) -> RequestCost:
        """The cost of the caller of *request*."""
        return self.telemetry.asked(request.path, request.query, self.keys.fingerprint(request.credential))

    def message_cost(self, target: routing_target.Target, who: Credential | str | None) -> RequestCost:
        """The cost of a message that passes through; of one that names nobody, or two, on no application's line."""
        fingerprint = b"" if isinstance(who, str) else self.keys.fingerprint(who)
        return self.telemetry.asked(target.path, target.query, fingerprint)

    def operation_cost(self, operation: Operation, envelope: Envelope) -> RequestCost:
        """The cost of one *operation* of the application's own batch."""
        who, path, query = credential_and_target(operation.relative_url, operation.body, envelope)
        return self.telemetry.asked(path, query, self.keys.fingerprint(who))

    def render(
        self, read: Read, reply: Reply, cost: RequestCost, link_origin: render.LinkOrigin, seconds: float
    ) -> Reply:
        """*reply* as the caller of *read* gets it, counted and on its *cost*."""
        request, now = read.request, self.now()
        fingerprint = self.keys.fingerprint(request.credential)
        subject = QuotaSubject(fingerprint, request.path, request.query)
        rendered = render.render(read, reply, link_origin, self.quota.newest_usage(subject, now))
        self.telemetry.replied(request, reply, cost, seconds, rendered)
        return rendered

    def usage_of(self, credential: Credential) -> Headers:
        """What is known now of the usage of *credential*, whatever it reads."""
        return self.quota.newest_usage(QuotaSubject(self.keys.fingerprint(credential), "/", ""), self.now())

    async def ask(self, read: Read, cost: RequestCost, *, after_refusal: bool = False) -> Reply:
        """The reply to *read*, charged to *cost*, as it is shared and held; an error of ours included. Raises Large.

        A caller that *after_refusal* after a refusal for a limit is let through, and whoever is refused now may return.
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
                with cost_context.charged_to(cost):
                    return await self.stack(request)
            except errors.SidecarError:
                raise
            except Exception as fault:  # noqa: BLE001 - trouble here makes a reply slower, never an error
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


def log_fault(fault: Exception) -> None:
    """Log a fault of ours: where it happened, without the values, for they may hold a token."""
    frames = traceback.extract_tb(fault.__traceback__)
    where = "".join(f"\n  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    _log.error("a fault of the sidecar's own: %s%s", type(fault).__name__, where)
