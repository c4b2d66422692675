"""Does. One file per layer of the stack; each is an async callable that holds the next."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from proxy.core.model import Credential, Reply, Request

Layer = Callable[[Request], Awaitable[Reply]]


class Wrote(Protocol):
    """Who is told of writes."""

    def __call__(self, nodes: tuple[str, ...], who: Credential | None, *, answered: bool) -> None:
        """A write to *nodes*, () for any, with the token of *who*; one that was not *answered* may be done yet."""


class Announced:
    """A write that is on its way. Here there is nobody to tell of it; where replicas share, they are told."""

    async def answered(self) -> None:
        """Graph has answered the write; returns when its caller may hear the answer."""

    def lost(self) -> None:
        """There was no answer: the write may be done yet."""


class Announce(Protocol):
    """Who is told of writes before they leave."""

    async def __call__(self, nodes: tuple[str, ...], who: Credential | None) -> Announced:
        """A write to *nodes*, () for any, with the token of *who*, is about to leave."""


async def announce_to_nobody(nodes: tuple[str, ...], who: Credential | None) -> Announced:  # noqa: ARG001
    """One process has nobody to tell."""
    return Announced()
