"""Answers of a fast path on a connection: bounded like all others while nobody takes them."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from proxy.shell.http.listener import Listener
from proxy.shell.http.protocol import Connection
from proxy.shell.http.timeouts import Timeouts

LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 8_000_000
ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Large:
    """A fast path that answers everything with much."""

    def answer_again(self, _connection: Connection, _data: bytes) -> bool:
        """Leave it to `take`."""
        return False

    def take(self, connection: Connection, data: bytes) -> bool:
        """Answer."""
        assert data == ASK
        connection.answer(LARGE)
        return True


async def refuse(_message: web.BaseRequest) -> web.StreamResponse:
    """No message comes as far as here."""
    raise AssertionError


async def test_an_answer_that_is_not_taken_counts_as_waiting_until_it_is() -> None:
    """It is part of what listener.buffer_mb bounds; when it has been taken, or its caller has left, it is no more."""
    loop, listener = asyncio.get_running_loop(), Listener(refuse, timeouts=Timeouts(), fast_path=Large())
    server = await loop.create_server(listener, "127.0.0.1", 0)
    outbox = listener._sweeper.outbox
    for reads in (True, False):
        with socket.socket() as caller:
            caller.setblocking(False)
            await loop.sock_connect(caller, server.sockets[0].getsockname())
            await loop.sock_sendall(caller, ASK)
            while not outbox.bytes:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
            assert outbox.bytes == len(LARGE)
            left = len(LARGE) if reads else 0
            while left:
                left -= len(await loop.sock_recv(caller, 2**16))
        while outbox.bytes:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    server.close()
    await listener.shutdown(0)


class Again:
    """A fast path that answers everything as a hit in memory."""

    message = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    """What it sends."""

    def __init__(self) -> None:
        """Nothing was asked."""
        self.asked: list[bytes] = []
        self.now = 0.0

    def answer_again(self, connection: Connection, data: bytes) -> bool:
        """Answer."""
        self.asked.append(data)
        connection.send(self.message, self.now)
        return True

    def take(self, _connection: Connection, _data: bytes) -> bool:
        """No message comes as far as here."""
        raise AssertionError


async def test_a_connection_rests_from_its_last_hit_on() -> None:
    """Its time for the next message begins anew with each hit, though no timer is set for each."""
    fast_path, loop = Again(), asyncio.get_running_loop()
    listener = Listener(refuse, timeouts=Timeouts(idle_s=100), fast_path=fast_path)
    server = await loop.create_server(listener, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    begun = loop.time()
    for after_s in (0.0, 60.0, 170.0):  # the last one comes in the time that the one before has left
        fast_path.now = begun + after_s
        writer.write(ASK)
        await reader.readexactly(len(Again.message))
    (connection,) = listener.connections
    assert isinstance(connection, Connection)
    connection._process_keepalive()
    timer = connection._keepalive_handle
    assert isinstance(timer, asyncio.TimerHandle)
    assert not writer.transport.is_closing()
    assert timer.when() == begun + 270.0
    assert fast_path.asked == [ASK] * 3
    writer.close()
    server.close()
    await listener.shutdown(0)


async def test_no_hit_is_answered_once_the_connection_ends() -> None:
    """What comes behind the beginning of the end is not even looked at."""
    fast_path, loop = Again(), asyncio.get_running_loop()
    listener = Listener(refuse, timeouts=Timeouts(), fast_path=fast_path)
    server = await loop.create_server(listener, "127.0.0.1", 0)
    for end in (Connection.close, Connection.force_close):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(ASK)
        await reader.readexactly(len(Again.message))
        connection = listener.connections[-1]
        assert isinstance(connection, Connection)
        end(connection)
        connection.data_received(ASK)
        writer.close()
    assert fast_path.asked == [ASK] * 2
    server.close()
    await listener.shutdown(0)
