"""Does. One file per layer of the stack; each is an async callable that holds the next."""

from collections.abc import Awaitable, Callable

from proxy.core.messages import Reply, Request

Layer = Callable[[Request], Awaitable[Reply]]
