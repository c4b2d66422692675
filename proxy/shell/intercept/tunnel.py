"""A blind tunnel: two connections whose bytes pass from one to the other, as fast as the slower side takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class End(asyncio.Protocol):
    """One side of a tunnel. What comes in goes out on the other side; a half that is closed closes one half there."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """A side that is not joined to another yet."""
        self._clock = clock
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None
        self.has_ended = False
        self.moved = clock()
        """When something last came in."""
        self.gone = asyncio.get_running_loop().create_future()
        """Done when this side is closed."""

    @property
    def last_moved(self) -> float:
        """When something last came in on either side."""
        return max(self.moved, self.other.moved if self.other is not None else 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be silent until there is another side to speak to."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()

    def join(self, other: End, first: bytes) -> None:
        """Pass on to *other*, and it to us, beginning with what came in *first*."""
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
        """Pass it on."""
        self.moved = self._clock()
        if self.other is not None:
            self.other.write(data)

    def eof_received(self) -> bool:
        """Pass on that no more comes; the other half stays open."""
        self.has_ended = True
        other = self.other
        if other is None or other.has_ended:
            self.close()
        elif other.open is not None:
            other.open.write_eof()
        return True

    def pause_writing(self) -> None:
        """This side takes no more for now, so the other one gives none."""
        if self.other is not None and self.other.open is not None:
            self.other.open.pause_reading()

    def resume_writing(self) -> None:
        """This side takes more again."""
        if self.other is not None and self.other.open is not None:
            self.other.open.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side ends with this one, when it has written what it holds; at once where this one broke."""
        self.transport = None
        if not self.gone.done():
            self.gone.set_result(None)
        if self.other is not None and self.other.transport is not None:
            if exc is None:
                self.other.transport.close()
            else:
                self.other.transport.abort()

    def write(self, data: bytes) -> None:
        """Say *data* on this side."""
        if self.open is not None:
            self.open.write(data)

    def close(self) -> None:
        """End both sides, when they have written what they hold."""
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                end.transport.close()

    def abort(self) -> None:
        """End both sides now."""
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                end.transport.abort()
