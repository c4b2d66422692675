"""What the shared store replies: whatever comes, a visit ends with an answer, or with the store being away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any
from unittest import mock

import hiredis
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError

from proxy.core.cache.encryption import Sealer
from proxy.core.shared import lease as leases
from proxy.core.shared import records
from proxy.core.shared.lease import Lease, Leases
from proxy.core.shared.location import Location
from proxy.core.shared.store_clock import StoreClock
from proxy.core.shared.wire import Position, Wire
from proxy.shell.valkey.client import Client
from proxy.shell.valkey.entries import Entries
from proxy.shell.valkey.events import Events
from proxy.shell.valkey.fleet import Fleet
from proxy.shell.valkey.leases import Flights, Joined
from proxy.shell.valkey.limits import SharedLimits
from proxy.shell.valkey.link import Away, Dialer, Link
from tests.fuzz.targets.target import Target

MASTER = bytes(32)
WIRE = Wire(MASTER)
REPLICA, FLIGHT, TOKEN, NONCE = b"replica1", b"f" * 32, "token", bytes(12)


class Script:
    """A connection to a store whose replies were written beforehand; an ECHO is answered rightly."""

    is_connected = True

    def __init__(self, data: bytes) -> None:
        self._reader = hiredis.Reader(replyError=ResponseError)
        self._reader.feed(data)
        self._commands = hiredis.Reader()
        self._asked: deque[Any] = deque()

    async def send_packed_command(self, packed: bytes, *, check_health: bool) -> None:
        """Take commands."""
        self._commands.feed(packed)
        while (command := self._commands.gets()) is not False:
            self._asked.append(command)

    async def read_response(self, *, disable_decoding: bool) -> Any:
        """The reply to the next command: to ECHO its own argument, else what the script has next."""
        command = self._asked.popleft()
        if command[0] == b"ECHO":
            return command[1]
        try:
            reply = self._reader.gets()
        except hiredis.ProtocolError as error:
            raise StoreConnectionError(str(error)) from None
        if reply is False:
            raise StoreConnectionError("the end of the script")
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def disconnect(self, *, nowait: bool) -> None:
        """End."""


def store_replies(data: bytes) -> None:
    """The same replies to each of the things that a replica asks: none raises but Away."""
    asyncio.run(_ask_everything(data))


async def _ask_everything(data: bytes) -> None:
    fleet = Fleet(Dialer(Location((("store", 1),)), lambda: ("", "")), WIRE, 1.0, goes_by_clock=False)
    events = Events(fleet.dialer, fleet.client, WIRE, REPLICA, 60.0, lambda: True)
    await _ended(fleet._greet(Link(Script(data))))
    await _ended(events._follow(Link(Script(data))))
    await _visits(fleet.client, data, fleet._beat())
    events.publish_later(records.Refused(b"who"))
    await _visits(fleet.client, data, events._write())
    entries = Entries(fleet.client, WIRE.names, Sealer(MASTER), StoreClock(), 2**18)
    await _visits(fleet.client, data, entries.load(b"k" * 32, TOKEN, 1000.0, 1000.0, 1.0))
    flights = Flights(fleet.client, WIRE, Leases(MASTER), REPLICA, 10.0)
    await _visits(
        fleet.client, data, flights.lead_or_join(flights.lease_request(FLIGHT, TOKEN, b"", has_time=False), 1.0)
    )
    cold = flights.lead_or_join(flights.look_request(FLIGHT, TOKEN, b"entry", has_time=False), 1.0)
    await _visits(fleet.client, data, cold)
    joined = Joined(FLIGHT, TOKEN, Lease(b"replica2", b"12345678"), b"packed")
    flights._joined.add(joined)
    await _visits(fleet.client, data, flights._poll())
    limits = SharedLimits(fleet.client, WIRE.names, REPLICA, lambda: 2)
    await _visits(fleet.client, data, limits.may_probe(("a", "b"), 1.0))
    await _visits(fleet.client, data, limits.ticket("a", 1.0))


async def _visits(client: Client, data: bytes, visit: Coroutine[Any, Any, Any]) -> None:
    """Let *visit* ask the store through *client*."""
    client._link = Link(Script(data))
    serving = asyncio.ensure_future(client._serve())
    try:
        await _ended(visit)
    finally:
        serving.cancel()
        await asyncio.wait([serving])
    assert serving.cancelled() or serving.exception() is None


async def _ended(visit: Coroutine[Any, Any, Any]) -> None:
    try:
        async with asyncio.timeout(5):
            await visit
    except Away:
        pass


def sealed_records(data: bytes) -> None:
    """What another replica with the same secret wrote, or somebody else: it is what it says, or nothing."""
    for sealed in (data, WIRE.box.close("", data, WIRE.names.log, NONCE)):
        records.unseal_record(sealed, WIRE.box, WIRE.names)
    made = Leases(MASTER)
    lease = Lease(REPLICA, b"12345678")
    assert made.unpack(made.pack(lease, FLIGHT), FLIGHT) == lease
    assert made.unpack(data, FLIGHT) is None
    for sealed in (data, WIRE.box.close(TOKEN, data, b"outcome" + FLIGHT, NONCE)):
        leases.unseal_outcome(sealed, WIRE.box, TOKEN, FLIGHT, lease)
    Position.unpack(data)


def log_of_the_fleet(data: bytes) -> None:
    """Records that another replica wrote into the log, applied here with all their effects."""
    with mock.patch("proxy.shell.valkey.events.asyncio.get_running_loop"):
        events = Events(mock.Mock(), mock.Mock(), WIRE, REPLICA, 60.0, lambda: True)
        sealed = WIRE.box.close("", data, WIRE.names.log, NONCE)
        entry = b"*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\nd\r\n$%d\r\n%b\r\n" % (len(sealed), sealed)
        reader = hiredis.Reader()
        reader.feed(b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n" + entry)
        from proxy.shell.valkey.events import _lines

        events._apply(list(_lines(reader.gets())))


TARGETS = {
    "store_replies": Target.of(store_replies),
    "sealed_records": Target.of(sealed_records),
    "log_of_the_fleet": Target.of(log_of_the_fleet),
}
