from __future__ import annotations

import asyncio

import pytest

from proxy.core.memory.budget import SMALL, Budget
from proxy.shell.upstream import reply_turns
from proxy.shell.upstream.reply_turns import ReplyTurns

PIECE = SMALL // 2


async def read(turns: ReplyTurns, size: int, peaks: list[int]) -> bool:
    """Whether a reply of *size* could be read whole, piece by piece as it comes."""
    with turns.share() as share:
        for _piece in range(size // PIECE):
            if not await turns.grow(share, PIECE):
                return False
            peaks.append(turns.budget.used)
            await asyncio.sleep(0)
    return True


async def test_a_hundred_replies_at_once_are_read_within_the_budget() -> None:
    """All of them whole, one after the other where they do not fit; a small part each may always have."""
    turns, peaks = ReplyTurns(Budget(20 * SMALL)), list[int]()
    assert all(await asyncio.gather(*(read(turns, 4 * SMALL, peaks) for _ in range(100))))
    assert max(peaks) <= (20 + 100) * SMALL
    assert turns.budget.used == 0


async def test_a_reply_that_is_larger_than_half_of_all_is_told_at_once() -> None:
    """It is streamed to its caller, and so waits for nobody."""
    turns = ReplyTurns(Budget(20 * SMALL))
    with turns.share() as other:
        assert await turns.grow(other, 9 * SMALL)
        assert not await asyncio.wait_for(read(turns, 11 * SMALL, []), 1)


async def test_those_that_wait_are_read_one_after_the_other() -> None:
    """Where none has room, one is read to its end while the others hold what they have."""
    turns, grown = ReplyTurns(Budget(12 * SMALL)), list[str]()

    async def take(name: str, done: asyncio.Event) -> None:
        with turns.share() as share:
            share.take(4 * SMALL)
            for _piece in range(2):
                assert await turns.grow(share, PIECE)
                grown.append(name)
            await done.wait()

    ends = {name: asyncio.Event() for name in "abc"}
    callers = [asyncio.ensure_future(take(name, done)) for name, done in ends.items()]
    await asyncio.sleep(0.01)
    assert "".join(grown) == "aabb"  # there was room for the first, and it was the turn of the second
    ends["b"].set()
    await callers[1]
    await asyncio.sleep(0.01)
    assert "".join(grown) == "aabbcc"
    for done in ends.values():
        done.set()
    await asyncio.gather(*callers)
    assert turns.budget.used == 0


async def test_nobody_waits_long_for_a_graph_that_is_slow_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the reply counts as too large for now."""
    monkeypatch.setattr(reply_turns, "LONGEST_S", 0.01)
    turns = ReplyTurns(Budget(12 * SMALL))
    with turns.share() as slow, turns.share() as late:
        slow.take(5 * SMALL)
        late.take(5 * SMALL)
        assert await turns.grow(slow, SMALL)
        assert not await turns.grow(late, SMALL)
