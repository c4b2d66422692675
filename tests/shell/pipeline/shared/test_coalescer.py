"""Many identical reads while writes of other replicas may be unknown: none joins a call that began before it came."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("redis")

from proxy.core.model import Mode, Reply, Request
from proxy.core.quota.ledger import RequestCost
from proxy.shell.pipeline.shared.coalescer import SharedCoalescer

READ = Request("graph.facebook.com", "v25.0", "/1", "")


class OutOfReach:
    """The shared store while its log cannot be read."""

    budget_s = 0.05
    ends_at = 0.0

    async def catch_up(self, _within_s: float) -> bool:
        return False


OUT_OF_REACH: Any = OutOfReach()


class Slow:
    """A next layer whose calls end when they are let go."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Event] = []

    async def __call__(self, _request: Request, _cost: RequestCost | None) -> Reply:
        self.calls.append(asyncio.Event())
        number = len(self.calls)
        await self.calls[-1].wait()
        return Reply(200, (), str(number).encode())


async def turns() -> None:
    """Let everything that can go on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_many_identical_reads_make_two_calls_in_a_row() -> None:
    """The first read makes a call; all that come meanwhile share the call that begins when the first is over."""
    slow = Slow()
    layer = SharedCoalescer(
        slow, lambda _read: "key", lambda _read: (), is_certain=lambda _read: False, shared=OUT_OF_REACH
    )
    first = asyncio.create_task(layer(READ))
    await turns()
    crowd = [asyncio.create_task(layer(READ)) for _ in range(5)]
    await turns()
    assert len(slow.calls) == 1
    slow.calls[0].set()
    await turns()
    assert len(slow.calls) == 2
    late = asyncio.create_task(layer(READ))
    await turns()
    slow.calls[1].set()
    heard = await asyncio.gather(*crowd)
    assert [each.body for each in heard] == [b"2"] * 5
    assert [each.mode for each in heard].count(Mode.COALESCED) == 4
    await turns()
    slow.calls[2].set()
    assert (await late).body == b"3"
    assert (await first).body == b"1"


async def test_where_all_writes_are_known_a_read_joins_a_call_in_flight() -> None:
    """As in one process."""
    slow = Slow()
    layer = SharedCoalescer(
        slow, lambda _read: "key", lambda _read: (), is_certain=lambda _read: True, shared=OUT_OF_REACH
    )
    both = [asyncio.create_task(layer(READ)) for _ in range(2)]
    await turns()
    slow.calls[0].set()
    assert [each.body for each in await asyncio.gather(*both)] == [b"1", b"1"]
