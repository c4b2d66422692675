"""A whole reply on its way out."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from aiohttp.streams import EMPTY_PAYLOAD

from proxy.core.model import Reply
from proxy.shell.http.response import respond
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


def _request(line: Line) -> SimpleNamespace:
    full = SimpleNamespace(writing_paused=True)
    whole = {"content": EMPTY_PAYLOAD, "keep_alive": True, "method": "GET", "version": (1, 1)}
    return SimpleNamespace(transport=line, writer=line, protocol=full, **whole)


async def test_a_large_answer_is_written_as_it_is_taken() -> None:
    """Of a body of 10 MB no more is in the connection's hands than a piece that was not taken yet."""
    line = Line()
    body = bytes(10 * 2**20)
    answering = asyncio.ensure_future(respond(Reply(200, (), body)).prepare(_request(line)))  # type: ignore[arg-type]
    await turns()
    assert len(line.written) < 2**18
    line.empty.set()
    await answering
    assert line.written.endswith(b"\r\n\r\n" + body)


async def test_nothing_follows_for_a_caller_who_does_not_read() -> None:
    """The next message of a connection is not looked at before this answer has been taken: answers do not pile up."""
    line = Line()
    request = _request(line)
    answering = asyncio.ensure_future(respond(Reply(200, (), b"{}")).prepare(request))  # type: ignore[arg-type]
    await turns()
    assert (line.written.endswith(b"\r\n\r\n{}"), answering.done()) == (True, False)
    line.empty.set()
    await answering
