"""Does what core decided: sockets, files, tasks, logs. A pipeline layer is an async callable that holds the next.

A layer is given a read, and the cost record of the caller that pays for the calls to Graph: where callers share a call,
that is the caller for whom the call was begun, whoever else waits for it and even if that caller has gone.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from proxy.core.model import Credential, Reply, Request
from proxy.core.quota.ledger import RequestCost

Layer = Callable[[Request, RequestCost | None], Awaitable[Reply]]
"""Answers a read; the calls that it makes are charged to the cost record, if there is one."""


class OnWrite(Protocol):
    """Called after each write."""

    def __call__(self, nodes: tuple[str, ...], who: Credential | None, *, answered: bool) -> None:
        """Take a write to *nodes* (() if unknown) by *who*; if Graph has not *answered*, it may still happen."""


class Announced:
    """An open write. This class does nothing; in a replica that shares, the other replicas learn of the write's end."""

    async def answered(self) -> None:
        """Take that Graph has answered the write; return when its caller may get the answer."""

    def lost(self) -> None:
        """Take that there is no answer: the write may still happen."""


class Announce(Protocol):
    """Called before each write is sent."""

    async def __call__(self, nodes: tuple[str, ...], who: Credential | None) -> Announced:
        """Take a write to *nodes* (() if unknown) by *who*, and return when it may be sent."""


async def no_announcement(nodes: tuple[str, ...], who: Credential | None) -> Announced:  # noqa: ARG001
    """Announce nothing: this replica shares with no other."""
    return Announced()
