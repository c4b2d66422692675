"""One connection to the shared store, used by one task: commands leave in one piece, and their replies come in order.

Replies belong to commands by their order alone, so each caller's commands are followed by an ECHO of bytes that were
never sent before. If one of those echoes is not in its place, a reply was lost or came twice: then no reply of the
piece is used, and the connection ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from proxy.core.shared.location import Location
from proxy.shell.valkey import random_bytes

Command = tuple[bytes | str | int, ...]
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub knows one argument
_BROKEN = (RedisError, OSError, RuntimeError)
"""What tells that a connection has ended: uvloop raises RuntimeError where a transport is closed already."""

Credentials = Callable[[], tuple[str, str]]
"""The user and the password of now, "" for none. Raises OSError or ValueError where a file cannot be read."""


class Away(Exception):  # noqa: N818 - no fault of ours: where the store is
    """The shared store gave no answer; the text says why."""


@contextmanager
def understood() -> Iterator[None]:
    """Raise Away if the replies parsed inside the context are not of the form that the commands return."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError):
        raise Away("its replies are no answers to what was asked") from None


@dataclass(frozen=True, slots=True)
class Dialer:
    """Opens connections to one store."""

    location: Location
    credentials: Credentials
    ca_file: str = ""

    async def dial(self) -> Link:
        """Return an open link. Raises Away."""
        try:
            user, password = self.credentials()
        except (OSError, ValueError) as error:
            raise Away(f"its user or password cannot be read: {error}") from None
        try:
            kind, where = await self._place()
            connection = kind(
                **where,
                db=self.location.database,
                username=user or None,
                password=password or None,
                protocol=2,
                driver_info=None,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=None,  # the client sets a timeout for the whole visit
                socket_connect_timeout=None,
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
            )
            link = Link(connection)
            await link.open()
        except AuthenticationError as error:
            raise Away(f"it refuses user and password: {error}") from None
        except _BROKEN as error:
            raise Away(_text(error)) from None
        return link

    async def _place(self) -> tuple[Any, dict[str, Any]]:
        where = self.location
        if where.path:
            return UnixDomainSocketConnection, {"path": where.path}
        host, port = await self._primary() if where.name else where.hosts[0]
        if not where.tls:
            return Connection, {"host": host, "port": port}
        return SSLConnection, {"host": host, "port": port, "ssl_ca_certs": self.ca_file or None}

    async def _primary(self) -> tuple[str, int]:
        """Returns the address of the primary, as the Sentinels give it."""
        options: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0), "socket_timeout": 1.0}
        if self.location.tls:
            options |= {"ssl": True, "ssl_ca_certs": self.ca_file or None}
        make: Any = Sentinel
        sentinel = make(self.location.hosts, sentinel_kwargs=options)
        try:
            host, port = await sentinel.discover_master(self.location.name)
        finally:
            for each in sentinel.sentinels:
                await each.aclose()
        return str(host), int(port)


class Link:
    """One open connection."""

    def __init__(self, connection: Any) -> None:
        """Use *connection*, which is used for nothing else."""
        self._connection = connection

    async def open(self) -> None:
        """Connect and log in. Raises what the library raises."""
        try:
            await self._connection.connect()
        except BaseException:
            await self.close()
            raise

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to *commands*; an error of the store's is a ResponseError among them. Raises Away."""
        return [reply for (reply,) in await self.exchange_all([(command,) for command in commands])]

    async def exchange_all(self, groups: Sequence[Sequence[Command]]) -> list[list[Any]]:
        """Return the replies to the commands of several callers, those of each *group* together. Raises Away."""
        nonce = random_bytes.take(8)
        echoes = [b"%b%d" % (nonce, number) for number in range(len(groups))]
        packed: list[Command] = []
        for group, echo in zip(groups, echoes, strict=True):
            packed.extend(group)
            packed.append((b"ECHO", echo))
        try:
            await self.send(pack(packed))
            replies = [[await self.reply() for _ in range(len(group) + 1)] for group in groups]
        except BaseException:
            await self.close()
            raise
        if [each.pop() for each in replies] != echoes or any(holds(each, nonce) for each in replies):
            await self.close()
            raise Away("its replies are out of step")
        return replies

    async def send(self, message: bytes) -> None:
        """Send commands that are packed already; their replies are read one by one with `reply`. Raises Away.

        The library would open another connection where this one has ended, perhaps to another server.
        """
        if not self._connection.is_connected:
            raise Away("the connection was closed")
        try:
            await self._connection.send_packed_command(message, check_health=False)
        except _BROKEN as error:
            await self.close()
            raise Away(_text(error)) from None

    async def reply(self) -> Any:
        """Return the next reply, an error of the store's as a ResponseError. Raises Away."""
        try:
            return await self._connection.read_response(disable_decoding=True)
        except ResponseError as error:
            return error
        except _BROKEN as error:
            await self.close()
            raise Away(_text(error)) from None

    async def close(self) -> None:
        """Close the connection at once."""
        await self._connection.disconnect(nowait=True)


def pack(commands: Iterable[Command]) -> bytes:
    """Return *commands* as they are sent."""
    return b"".join([_pack(command) for command in commands])


def holds(replies: list[Any], nonce: bytes) -> bool:
    """Return whether an echo stands in the place of a reply: the reply was lost, and the echo came twice."""
    return any(isinstance(reply, bytes) and reply.startswith(nonce) for reply in replies)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
