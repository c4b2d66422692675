"""One plain read, from the request to the reply as its caller gets it: asked, counted, dressed."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from proxy.core import dressing, errors, normal
from proxy.core.keys import Keys
from proxy.core.messages import Channel, Reply
from proxy.core.quota import Usage
from proxy.core.reading import Read
from proxy.shell import Layer
from proxy.shell.telemetry import Telemetry

_log = logging.getLogger("graph_sidecar.server")


@dataclass(frozen=True, slots=True)
class Reader:
    """What stands between a caller and the stack; the same for a GET and for a read inside a batch."""

    stack: Layer
    last_resort: Layer  # Graph itself, should the stack have a fault
    keys: Keys
    usage: Usage
    telemetry: Telemetry
    now: Callable[[], float]
    clock: Callable[[], float]

    async def answer(self, read: Read, way_in: dressing.WayIn) -> Reply:
        """The dressed reply to *read*; an error of ours is a reply, too."""
        began = self.clock()
        return self.dress(read, await self.ask(read), way_in, self.clock() - began)

    def dress(self, read: Read, reply: Reply, way_in: dressing.WayIn, seconds: float) -> Reply:
        """*reply* as the caller of *read* gets it, counted."""
        request, now = read.request, self.now()
        fingerprint = self.keys.fingerprint(request.credential)
        node = next(iter(normal.nodes(request.path, request.query)), "")
        if reply.upstream_s is not None:
            self.usage.note(fingerprint, node, reply.headers, now)
        self.telemetry.replied(request, reply, fingerprint, seconds)
        return dressing.dress(read, reply, way_in, self.usage.newest(fingerprint, node, now))

    async def ask(self, read: Read) -> Reply:
        """The reply to *read* as it is shared and held, an error of ours included."""
        try:
            try:
                return await self.stack(read.request)
            except errors.SidecarError:
                raise
            except Exception as fault:  # noqa: BLE001 - trouble here makes a reply slower, never an error
                tell(fault)
                return await self.last_resort(replace(read.request, channel=Channel.DIRECT, validator=""))
        except errors.SidecarError as error:
            return errors.reply_of(error)


def tell(fault: Exception) -> None:
    """Log a fault of ours: where it happened, without the values, for they may hold a token."""
    frames = traceback.extract_tb(fault.__traceback__)
    where = "".join(f"\n  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    _log.error("a fault of the sidecar's own: %s%s", type(fault).__name__, where)
