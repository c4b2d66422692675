"""Thousands of callers leave at the same moment: each turn of the event loop takes leave of a few."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

from aiohttp import web

from proxy.shell.downstream.fast_flights import FastFlights
from proxy.shell.downstream.waiting_caller import WaitingCaller
from proxy.shell.http.listener import Listener
from proxy.shell.http.protocol import Connection
from proxy.shell.http.timeouts import DEPARTURES, Timeouts

CALLERS = 3 * DEPARTURES


class Waiting:
    """A fast path whose callers wait for ever."""

    def __init__(self) -> None:
        """Wait for nobody yet."""
        self.waits = self.left = 0

    def answer_again(self, _connection: Connection, _data: bytes) -> bool:
        """Know no head."""
        return False

    def take(self, connection: Connection, _data: bytes) -> bool:
        """Let the caller wait."""
        self.waits += 1
        connection.wait_for(self)
        return True

    def leave(self) -> None:
        """Count a caller that has hung up."""
        self.left += 1


async def unasked(_message: web.BaseRequest) -> web.StreamResponse:
    """No message comes as far as here."""
    raise AssertionError


async def test_a_crowd_leaves_in_several_turns() -> None:
    """No turn takes leave of more than a few, and all are gone in the end."""
    waiting, most = Waiting(), 0
    listener = Listener(unasked, timeouts=Timeouts(), fast_path=waiting)
    server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0, backlog=CALLERS)
    with ExitStack() as stack:
        at = server.sockets[0].getsockname()
        callers = [stack.enter_context(socket.create_connection(at)) for _ in range(CALLERS)]
        for caller in callers:
            caller.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while waiting.waits < CALLERS:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    while listener.connections:
        before = waiting.left
        await asyncio.sleep(0)
        most = max(most, waiting.left - before)
    assert waiting.left == CALLERS
    assert most <= 2 * DEPARTURES  # one turn's worth before this task's own step, and one behind it
    server.close()
    await listener.shutdown(0)


class Compared(WaitingCaller):
    """A caller that counts how often it is compared with another."""

    comparisons = 0
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        """Count."""
        Compared.comparisons += 1
        return self is other


class Flight:
    """As much of a flight as its callers' leaving needs."""

    def __init__(self, flights: FastFlights) -> None:
        """Have no callers."""
        self.flights, self.read, self.callers = flights, self, dict[WaitingCaller, None]()
        self.flight = "key"


class Left:
    """Counts who leaves a flight."""

    count = 0

    def leave(self, _key: object, _flight: object) -> None:
        """Count."""
        self.count += 1


def test_who_leaves_a_crowd_of_twins_is_not_searched_for() -> None:
    """The last of thousands that wait for one reply is found without a look at the others."""
    flights = FastFlights.__new__(FastFlights)
    flights.callers, flights.coalescer = set(), Left()  # type: ignore[assignment]
    flight = Flight(flights)
    crowd = [Compared(flight, None, 0.0, False, connection=None, head=b"") for _ in range(500)]  # type: ignore[arg-type]
    flight.callers.update(dict.fromkeys(crowd))
    flights.callers.update(crowd)
    for caller in reversed(crowd):
        caller.leave()
    assert not flight.callers
    assert flights.coalescer.count == len(crowd)  # type: ignore[attr-defined]
    assert Compared.comparisons < 10
