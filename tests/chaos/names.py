"""A name server that knows one address for every name, or none, or does not answer."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast


class NameServer(asyncio.DatagramProtocol):
    """What it says can be changed at any time."""

    def __init__(self) -> None:
        """Know 127.0.0.1."""
        self.address: str | None = "127.0.0.1"
        """None: there is no such name."""
        self.is_silent = False
        self.late_s = 0.0
        self.asked = 0
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer A, and other questions with nothing (RFC 1035 section 4.1)."""
        self.asked += 1
        if self.is_silent:
            return
        end = data.index(0, 12) + 5
        is_a = struct.unpack("!H", data[end - 4 : end - 2]) == (1,) and self.address is not None
        flags = 0x8180 if self.address is not None else 0x8183
        head = data[:2] + struct.pack("!HHHHH", flags, 1, int(is_a), 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4)
        answer = record + ipaddress.IPv4Address(self.address).packed if is_a and self.address else b""
        reply = head + data[12:end] + answer
        asyncio.get_running_loop().call_later(self.late_s, self._transport.sendto, reply, addr)


@asynccontextmanager
async def naming() -> AsyncIterator[NameServer]:
    """A name server on a free port."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(NameServer, ("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
