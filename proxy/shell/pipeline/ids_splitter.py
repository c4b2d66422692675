"""Splits `?ids=` reads by id: Graph counts each id as a call, so only ids without a held reply are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.core.graph.errors import is_trouble
from proxy.core.merge import ids_split
from proxy.core.model import ANSWERED_NOW, Reply, Request
from proxy.core.quota.ledger import RequestCost
from proxy.core.routing.rules import Rule
from proxy.shell.pipeline.merger import Merger


class IdsSplitter:
    """A pipeline layer that answers `?ids=` reads id by id where a rule allows each to be stored."""

    def __init__(self, onward: Merger, rule: Callable[[Request], Rule], now: Callable[[], float]) -> None:
        """Ask *onward*, which also stores the part of each id; *now* gives epoch seconds."""
        self._onward = onward
        self._rule = rule
        self._now = now

    async def __call__(self, request: Request, cost: RequestCost | None = None) -> Reply:
        """Answer *request*. Raises what the next layer raises."""
        parts = ids_split.reads_by_id(request) if "ids=" in request.query else None
        if parts is None or not all(ids_split.may_be_held(part, self._rule(part)) for part in parts.values()):
            return await self._onward(request, cost)
        looked = await asyncio.gather(*(self._onward.answer_held(part, cost) for part in parts.values()))
        held = {each: reply for each, reply in zip(parts, looked, strict=True) if reply is not None}
        missing = {each: part for each, part in parts.items() if each not in held}
        if not missing:
            return ids_split.join_replies(parts, held, {})
        asked_at = self._now()
        answer = await self._onward(ids_split.with_ids(request, missing) if held else request, cost)
        found = ids_split.split_reply(answer, missing)
        if found is None:
            is_final = not held or is_trouble(answer)  # else only Graph knows what is wrong with the whole request
            return answer if is_final else await self._onward(request, cost)
        if answer.mode in ANSWERED_NOW:
            for each, part in missing.items():
                await self._onward.learn(part, found[each], asked_at)
        return ids_split.join_replies(parts, held, found) if held else answer
