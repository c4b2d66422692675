"""Does. One file per layer of the stack; each is an async callable that holds the next."""

from collections.abc import Awaitable, Callable

from proxy.core.messages import Credential, Reply, Request

Layer = Callable[[Request], Awaitable[Reply]]

Wrote = Callable[[tuple[str, ...], Credential | None], None]
"""Told of a write: the objects that it named, () for any, and with whose token."""
