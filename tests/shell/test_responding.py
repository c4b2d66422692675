"""A whole reply on its way out."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from proxy.core.messages import Reply
from proxy.shell.responding import respond
from tests.shell.fakes import turns


class Line:
    """A caller's connection, that is full until the test empties it."""

    def __init__(self) -> None:
        self.written = b""
        self.output_size = 0
        self.empty = asyncio.Event()

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None:
        await self.empty.wait()


async def test_nothing_follows_for_a_caller_who_does_not_read() -> None:
    """The next message of a connection is not looked at before this answer has been taken: answers do not pile up."""
    line = Line()
    request = SimpleNamespace(transport=line, writer=line, keep_alive=True, method="GET", version=(1, 1))
    answering = asyncio.ensure_future(respond(Reply(200, (), b"{}")).prepare(request))  # type: ignore[arg-type]
    await turns()
    assert (line.written.endswith(b"\r\n\r\n{}"), answering.done()) == (True, False)
    line.empty.set()
    await answering
