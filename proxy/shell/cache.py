"""Asks `caching` before and after Graph is asked; loads and keeps the entry in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from proxy.core import caching
from proxy.core.errors import NotHeld, SidecarError
from proxy.core.keys import Keys
from proxy.core.messages import Entry, Held, Reply, Request
from proxy.core.normal import nodes
from proxy.core.rules import Rule
from proxy.core.touching import Touches
from proxy.shell import Layer


class Store(Protocol):
    """What the cache needs of a store; none of it raises."""

    def hot(self, key: bytes) -> Entry | None:
        """The entry, if it is in memory."""

    def held(self, key: bytes) -> Held | None:
        """What is known of the entry without reading the disk."""

    async def load(self, key: bytes, token: str) -> Entry | None:
        """The entry, if it is there and opens under *token*."""

    def keep(self, key: bytes, token: str, entry: Entry, *, write: bool = True) -> None:
        """Hold *entry*; on disk too, behind the reply, if *write*."""


class _Found:
    """What is held under one key: its validator known now, its body perhaps still on its way from the disk."""

    def __init__(
        self, held: Held | None, entry: Entry | None, loading: asyncio.Task[Entry | None] | None = None
    ) -> None:
        self.held = held
        self._entry = entry
        self._loading = loading

    async def entry(self) -> Entry | None:
        return await self._loading if self._loading is not None else self._entry


class Cache:
    """A layer: serves what is held where the rules allow, else asks onward with its validator."""

    def __init__(
        self,
        onward: Layer,
        *,
        store: Store,
        keys: Keys,
        rule: Callable[[Request], Rule],
        touches: Touches,
        clock: Callable[[], float],
    ) -> None:
        """Hold replies of *onward* in *store*; *clock* gives epoch seconds."""
        self._onward = onward
        self._store = store
        self._keys = keys
        self._rule = rule
        self._touches = touches
        self._clock = clock
        self._behind: dict[bytes, asyncio.Task[Reply]] = {}

    async def __call__(self, request: Request) -> Reply:
        """Answer *request*. Raises NotHeld, and what the next layer raises."""
        key, terms = self._keys.entry(request), self._terms(request)
        found = await self._find(key, request) if terms.rule.cache else _Found(None, None)
        plan = caching.plan(request, found.held, terms, self._clock())
        if isinstance(plan, caching.Refuse):
            raise NotHeld("only-if-cached, and nothing fresh is held")
        if isinstance(plan, caching.Ask):
            return await self._ask(request.asking(plan.validator), key, terms, found)
        entry = await found.entry()
        if entry is None:
            return await self._ask(request, key, terms, _Found(None, None))
        if plan.behind:
            self._ask_behind(request.asking(caching.validator_for(entry.held, request)), key, terms, entry)
        return caching.reuse(entry, terms.rule, self._clock(), behind=plan.behind)

    async def close(self) -> None:
        """End the revalidations that nobody waits for."""
        for task in self._behind.values():
            task.cancel()
        await asyncio.gather(*self._behind.values(), return_exceptions=True)

    def _terms(self, request: Request) -> caching.Terms:
        touched = self._touches.last(nodes(request.path, request.query))
        return caching.Terms(self._rule(request), self._keys.proof(request.credential), touched)

    async def _find(self, key: bytes, request: Request) -> _Found:
        """A validator that is known leaves at once, while its body is read from the disk."""
        if entry := self._store.hot(key):
            return _Found(entry.held, entry)
        loading = self._store.load(key, _token(request))
        if held := self._store.held(key):
            return _Found(held, None, asyncio.ensure_future(loading))
        entry = await loading
        return _Found(entry.held if entry else None, entry)

    async def _ask(self, request: Request, key: bytes, terms: caching.Terms, found: _Found) -> Reply:
        asked = self._clock()
        try:
            answer = await self._onward(request)
        except SidecarError:
            if (entry := await found.entry()) and caching.may_cover(entry.held, request.wishes, terms, self._clock()):
                return caching.cover(entry, terms.rule, self._clock())
            raise
        settled = caching.settle(request, await found.entry(), answer, terms, asked)
        if settled is None:
            return await self._ask(request.asking(""), key, terms, _Found(None, None))
        if settled.keep is not None:
            self._store.keep(key, _token(request), settled.keep, write=settled.write)
        return settled.reply

    def _ask_behind(self, request: Request, key: bytes, terms: caching.Terms, entry: Entry) -> None:
        """Ask for the next caller; one such question at a time is enough, and its failure is nobody's."""
        if key not in self._behind:
            task = self._behind[key] = asyncio.ensure_future(self._ask(request, key, terms, _Found(entry.held, entry)))
            task.add_done_callback(lambda done: self._landed(key, done))

    def _landed(self, key: bytes, done: asyncio.Task[Reply]) -> None:
        del self._behind[key]
        if not done.cancelled():
            done.exception()


def _token(request: Request) -> str:
    return request.credential.token if request.credential else ""
