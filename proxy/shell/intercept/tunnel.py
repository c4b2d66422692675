"""A blind tunnel: copies bytes between two connections, as fast as the slower side takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class TunnelEnd(asyncio.Protocol):
    """One side of a tunnel: bytes received here are written on the other side; a half-close is passed on too."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start a side that is not joined to another yet."""
        self._clock = clock
        self.other: TunnelEnd | None = None
        self.transport: asyncio.Transport | None = None
        self.has_ended = False
        self.received_at = clock()
        """When bytes were last received on this side."""
        self.closed = asyncio.get_running_loop().create_future()
        """Done when this side is closed."""

    @property
    def last_active_at(self) -> float:
        """When bytes were last received on either side."""
        return max(self.received_at, self.other.received_at if self.other is not None else 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read nothing until the other side is joined."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()

    def join(self, other: TunnelEnd, first: bytes) -> None:
        """Copy bytes to and from *other*, beginning with *first*, which was already read."""
        self.other, other.other = other, self
        if first:
            other.write(first)
        for end in (self, other):
            if end.open is None:
                end.connection_lost(None)
            else:
                end.open.resume_reading()

    @property
    def open(self) -> asyncio.Transport | None:
        """The connection while it can be used."""
        return None if self.transport is None or self.transport.is_closing() else self.transport

    def data_received(self, data: bytes) -> None:
        """Write *data* on the other side."""
        self.received_at = self._clock()
        if self.other is not None:
            self.other.write(data)

    def eof_received(self) -> bool:
        """Half-close the other side; the opposite direction stays open."""
        self.has_ended = True
        other = self.other
        if other is None or other.has_ended:
            self.close()
        elif other.open is not None:
            other.open.write_eof()
        return True

    def pause_writing(self) -> None:
        """Stop reading on the other side while this side's buffer is full."""
        if self.other is not None and self.other.open is not None:
            self.other.open.pause_reading()

    def resume_writing(self) -> None:
        """Read on the other side again."""
        if self.other is not None and self.other.open is not None:
            self.other.open.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side after its buffer is written; at once if this side was lost by an error."""
        self.transport = None
        if not self.closed.done():
            self.closed.set_result(None)
        if self.other is not None and self.other.transport is not None:
            if exc is None:
                self.other.transport.close()
            else:
                self.other.transport.abort()

    def write(self, data: bytes) -> None:
        """Write *data* on this side."""
        if self.open is not None:
            self.open.write(data)

    def close(self) -> None:
        """Close both sides after their buffers are written."""
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                end.transport.close()

    def abort(self) -> None:
        """Close both sides now."""
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                end.transport.abort()
