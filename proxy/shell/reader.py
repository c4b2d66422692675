"""One plain read, from the request to the reply as its caller gets it: asked, counted, dressed."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from proxy.core import dressing, errors, normal
from proxy.core.draws import Asker
from proxy.core.keys import Keys
from proxy.core.ledger import Bill, calls_of, was_counted
from proxy.core.messages import Channel, Credential, Headers, Reply, Request
from proxy.core.operations import Envelope, Operation, asked_by
from proxy.core.quota import Quota
from proxy.core.reading import Read
from proxy.shell import Layer, bills
from proxy.shell.telemetry import Telemetry
from proxy.shell.upstream import Left

_log = logging.getLogger("graph_sidecar.server")


@dataclass(frozen=True, slots=True)
class Reader:
    """What stands between a caller and the stack; the same for a GET and for a read inside a batch."""

    stack: Layer
    last_resort: Callable[[Request, Left], Awaitable[Reply]]  # Graph itself, should the stack have a fault
    keys: Keys
    quota: Quota
    telemetry: Telemetry
    now: Callable[[], float]
    clock: Callable[[], float]

    async def answer(self, read: Read, way_in: dressing.WayIn) -> Reply:
        """The dressed reply to *read*; an error of ours is a reply, too. Raises Large."""
        began, bill = self.clock(), self.bill(read.request)
        return self.dress(read, await self.ask(read, bill), bill, way_in, self.clock() - began)

    def bill(self, request: Request) -> Bill:
        """The bill of the caller of *request*."""
        return self.telemetry.asked(request.path, request.query, self.keys.fingerprint(request.credential))

    def message_bill(self, target: normal.Target, who: Credential | str | None) -> Bill:
        """The bill of a message that passes through; of one that names nobody, or two, on no application's line."""
        fingerprint = b"" if isinstance(who, str) else self.keys.fingerprint(who)
        return self.telemetry.asked(target.path, target.query, fingerprint)

    def operation_bill(self, operation: Operation, envelope: Envelope) -> Bill:
        """The bill of one *operation* of the application's own batch."""
        who, path, query = asked_by(operation.relative_url, operation.body, envelope)
        return self.telemetry.asked(path, query, self.keys.fingerprint(who))

    def dress(self, read: Read, reply: Reply, bill: Bill, way_in: dressing.WayIn, seconds: float) -> Reply:
        """*reply* as the caller of *read* gets it, counted and on its *bill*."""
        request, now = read.request, self.now()
        fingerprint = self.keys.fingerprint(request.credential)
        asker = Asker(fingerprint, request.path, request.query)
        dressed = dressing.dress(read, reply, way_in, self.quota.newest(asker, now))
        self.telemetry.replied(request, reply, bill, seconds, dressed)
        return dressed

    def usage_of(self, credential: Credential) -> Headers:
        """What is known now of the usage of *credential*, whatever it reads."""
        return self.quota.newest(Asker(self.keys.fingerprint(credential), "/", ""), self.now())

    async def ask(self, read: Read, bill: Bill, *, returns: bool = False) -> Reply:
        """The reply to *read*, charged to *bill*, as it is shared and held; an error of ours included. Raises Large.

        A caller that *returns* after a refusal for a limit is let through, and whoever is refused now may return.
        """
        request = read.request
        asker = Asker(self.keys.fingerprint(request.credential), request.path, request.query)
        request = replace(request, returns=True) if returns else self.quota.returning(request, asker)
        reply = await self._ask(request, bill)
        self.quota.answered(asker, reply, self.now())
        return reply

    async def _ask(self, request: Request, bill: Bill) -> Reply:
        try:
            try:
                with bills.charged_to(bill):
                    return await self.stack(request)
            except errors.SidecarError:
                raise
            except Exception as fault:  # noqa: BLE001 - trouble here makes a reply slower, never an error
                tell(fault)
                return await self._ask_graph(replace(request, channel=Channel.DIRECT, validator=""), bill)
        except errors.Large:
            raise
        except errors.SidecarError as error:
            return errors.reply_of(error)

    async def _ask_graph(self, request: Request, bill: Bill) -> Reply:
        with self.telemetry.single(bill, calls_of(request.query)) as sending:
            reply = await self.last_resort(request, sending.left)
            sending.answered([was_counted(reply)])
        return reply


def tell(fault: Exception) -> None:
    """Log a fault of ours: where it happened, without the values, for they may hold a token."""
    frames = traceback.extract_tb(fault.__traceback__)
    where = "".join(f"\n  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    _log.error("a fault of the sidecar's own: %s%s", type(fault).__name__, where)
