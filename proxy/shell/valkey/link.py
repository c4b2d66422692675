"""One connection to the shared store, used by one task: commands leave in one piece, and their replies come in order.

Replies belong to commands by their order alone, so each caller's commands are followed by an ECHO of bytes that were
never sent before. If one of those echoes is not in its place, a reply was lost or came twice: then no reply of the
piece is used, and the connection ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
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
Credentials = Callable[[], tuple[str, str]]
"""The user and the password of now, "" for none. Raises OSError or ValueError where a file cannot be read."""


class Away(Exception):  # noqa: N818 - no fault of ours: where the store is
    """The shared store gave no answer; the text says why."""


@contextmanager
def understood() -> Iterator[None]:
    """Raises Away where replies that are read within are of another form than the commands' own."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError):
        raise Away("its replies are no answers to what was asked") from None


@dataclass(frozen=True, slots=True)
class Dialer:
    """What connects to one store."""

    location: Location
    credentials: Credentials
    ca_file: str = ""

    async def dial(self) -> Link:
        """A link that is open. Raises Away."""
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
        except (RedisError, OSError) as error:
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
        self._early: asyncio.Task[bool] | None = None  # reads the reply to what was sent before the next piece
        self._news: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Connect, and show who we are. Raises what the library raises."""
        try:
            await self._connection.connect()
        except BaseException:
            await self.close()
            raise

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to *commands*, an error of the store's as a ResponseError among them. Raises Away."""
        return [reply for (reply,) in await self.exchange_all([(command,) for command in commands])]

    async def exchange_all(self, groups: Sequence[Sequence[Command]]) -> list[list[Any]]:
        """The same for the commands of several callers: the replies of each *group*. Raises Away."""
        nonce = random_bytes.take(8)
        echoes = [b"%b%d" % (nonce, number) for number in range(len(groups))]
        packed: list[Command] = []
        for group, echo in zip(groups, echoes, strict=True):
            packed.extend(group)
            packed.append((b"ECHO", echo))
        try:
            await self._send(*packed)
            if self._early is not None:
                has_come, self._early = await self._early, None
                if not has_come:
                    raise Away("its replies are out of step")
            replies = [[await self._reply() for _ in range(len(group) + 1)] for group in groups]
        except BaseException as error:
            await self.close()
            if isinstance(error, RedisError | OSError):
                raise Away(_text(error)) from None
            raise
        if [each.pop() for each in replies] != echoes or any(_holds(each, nonce) for each in replies):
            await self.close()
            raise Away("its replies are out of step")
        return replies

    async def await_news(self, command: Command, seconds: float) -> None:
        """Send *command*, which the store answers when there are records; return then, after *seconds*, or when woken.

        The reply itself is dropped; the next piece may leave before it has come.
        """
        loop = asyncio.get_running_loop()
        news = self._news = loop.create_future()
        echo = random_bytes.take(8)
        try:
            await self._send(command, (b"ECHO", echo))
        except (RedisError, OSError) as error:
            await self.close()
            raise Away(_text(error)) from None
        self._early = asyncio.ensure_future(self._has_come(echo))
        self._early.add_done_callback(self._on_early)
        timer = loop.call_later(seconds, self.wake)
        try:
            await news
        finally:
            timer.cancel()

    def wake(self) -> None:
        """Let `await_news` return."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _has_come(self, echo: bytes) -> bool:
        """Read one reply and the echo behind it; return whether that is *echo*."""
        await self._reply()
        return bool(await self._reply() == echo)

    def _on_early(self, done: asyncio.Task[bool]) -> None:
        if not done.cancelled():
            done.exception()  # looked at: who closes the link does not ask
        self.wake()

    async def _send(self, *commands: Command) -> None:
        packed = b"".join([_pack(command) for command in commands])
        await self._connection.send_packed_command(packed, check_health=False)

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response(disable_decoding=True)
        except ResponseError as error:
            return error

    async def close(self) -> None:
        """Close the connection at once."""
        if self._early is not None:
            self._early.cancel()
        await self._connection.disconnect(nowait=True)


def _holds(replies: list[Any], nonce: bytes) -> bool:
    """Return whether an echo stands in the place of a reply: the reply was lost, and the echo came twice."""
    return any(isinstance(reply, bytes) and reply.startswith(nonce) for reply in replies)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
