"""Requests, replies, a clock, and a next layer that answers as told: what a layer needs to stand alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.core.model import Channel, Credential, Entry, EntryMeta, Reply, Request
from proxy.core.quota.ledger import RequestCost

JSON = ("Content-Type", "application/json; charset=UTF-8")
Answer = Reply | BaseException | asyncio.Future[Reply]


def ask(path: str = "/111", token: str = "token-a", **fields: Any) -> Request:
    """A read of *path* by *token*; an empty token asks as nobody."""
    given: dict[str, Any] = {"host": "graph.test", "version": "v25.0", "path": path, "query": "fields=id"}
    who = {"credential": Credential(token)} if token else {"channel": Channel.DIRECT}
    return Request(**(given | who | fields))


def told(body: bytes = b'{"id":"111"}', status: int = 200, etag: str = '"e1"', **fields: Any) -> Reply:
    """A reply of Graph's."""
    return Reply(status, (JSON, ("ETag", etag)) if etag else (JSON,), body, **fields)


def entry(body: bytes = b'{"id":"111"}', etag: str = '"e1"', *, asked: float = 0.0, channel: str = "batch") -> Entry:
    """What the store holds of such a reply, asked for at *asked*."""
    held = EntryMeta(etag, channel, asked, may_be_fresh=True, proofs=(b"",))
    return Entry(held, f"Content-Type: {JSON[1]}\r\nETag: {etag}".encode(), body)


class Clock:
    """Time that moves when told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Onward:
    """The next layer: notes what it was asked, and answers by *answer*, at once or when its future is set.

    *charged* are the cost records that came with the reads.
    """

    def __init__(self, answer: Callable[[Request], Answer] | Answer | None = None) -> None:
        self.asked: list[Request] = []
        self.charged: list[RequestCost | None] = []
        self.answer = answer

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        self.asked.append(request)
        self.charged.append(cost)
        answer = self.answer(request) if callable(self.answer) else self.answer or told()
        if isinstance(answer, BaseException):
            raise answer
        return await answer if isinstance(answer, asyncio.Future) else answer


def later() -> asyncio.Future[Reply]:
    """A reply that comes when the test sets it."""
    return asyncio.get_running_loop().create_future()


async def turns(count: int = 5) -> None:
    """Let everything that is ready run, and what that makes ready."""
    for _ in range(count):
        await asyncio.sleep(0)
