"""Does. One file per layer of the stack; each is an async callable that holds the next."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from proxy.core.model import Credential, Reply, Request

Layer = Callable[[Request], Awaitable[Reply]]


class Wrote(Protocol):
    """Who is told of writes."""

    def __call__(self, nodes: tuple[str, ...], who: Credential | None, *, answered: bool) -> None:
        """A write to *nodes*, () for any, with the token of *who*; one that was not *answered* may be done yet."""
