"""A read that a replica forwards to Graph, and the flight that it leads for the other replicas."""

from __future__ import annotations

from typing import Any

from proxy.core.model import Entry, Mode, Reply
from proxy.core.shared.wire import Position
from proxy.shell.pipeline.cache import ForwardedRead
from proxy.shell.valkey.leases import Led


class SharedFlight:
    """The outcome of a flight that this replica leads."""

    def __init__(self, led: Led, etag: str) -> None:
        self.led = led
        self.shared_etag = etag  # of what the shared store holds already
        self.answer: Reply | None = None
        self.mode = Mode.MISS
        self.entry: Entry | None = None
        self.value = b""


class SharedForwardedRead(ForwardedRead, frozen=True):
    """A forwarded read, the position up to which the log was read before, and the time by the store's clock."""

    position: Position = Position(b"\0" * 16, (0, 0))  # type: ignore[arg-type]
    shared_asked: float = 0.0
    flight: Any = None  # SharedFlight, of the read that leads one
