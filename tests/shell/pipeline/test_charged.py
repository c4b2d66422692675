"""Whose cost record a call to Graph goes with, layer by layer."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from proxy.core.batch.response import BatchFailure
from proxy.core.model import Channel, Mode
from proxy.core.quota.ledger import Ledger, RequestCost
from proxy.shell.pipeline.coalescer import Coalescer
from tests.shell.fakes import Onward, ask, entry, later, told, turns
from tests.shell.pipeline.test_batcher import FakeUpstream, batcher
from tests.shell.pipeline.test_cache import FakeStore, cache
from tests.shell.pipeline.test_ids_splitter import Fake
from tests.shell.pipeline.test_ids_splitter import layer as splitter
from tests.shell.pipeline.test_ids_splitter import read as read_ids
from tests.shell.pipeline.test_merger import FakeCache, merger, read


def record(app: str) -> RequestCost:
    """The cost record of one request of *app*."""
    return Ledger().open(1, app=app)


async def test_a_shared_call_is_charged_to_the_caller_who_began_it() -> None:
    """Even if that caller has gone."""
    answer, first, second = later(), record("first"), record("second")
    onward = Onward(answer)
    coalescer = Coalescer(onward, lambda _read: 1, lambda _read: ())
    leaver, stayer = (asyncio.ensure_future(coalescer(ask(), cost)) for cost in (first, second))
    await turns()
    leaver.cancel()
    answer.set_result(told())
    assert (await stayer).mode is Mode.COALESCED
    assert onward.charged == [first]


async def test_a_merged_read_is_charged_to_its_first_caller_and_reads_alone_to_each() -> None:
    """After a refusal each read is sent alone, for its own caller."""
    first, second, third = record("first"), record("second"), record("third")
    onward = FakeCache()
    layer = merger(onward)
    await asyncio.gather(layer(read("a"), first), layer(read("bad"), second), layer(read("b"), third))
    assert onward.queries == ["a,b,bad", "a", "bad", "b"]
    assert onward.charged == [first, first, second, third]


async def test_ids_that_are_not_held_are_charged_to_the_caller() -> None:
    """The read of the ids that are left is the caller's."""
    cost, onward = record("first"), Fake()
    onward.held["/1"] = replace(told(), mode=Mode.REUSED, ttl=5.0)
    await splitter(onward)(read_ids("1,2"), cost)
    assert (onward.ids, onward.charged) == (["2"], [cost])


async def test_what_is_asked_again_is_charged_to_the_same_caller() -> None:
    """A 304 that confirms nothing costs its caller a second call."""
    cost = record("first")
    answers = iter((told(status=304, body=b""), told()))
    onward = Onward(lambda _request: next(answers))
    await cache(onward, FakeStore(disk=None, known=entry().meta))(ask(), cost)
    assert onward.charged == [cost, cost]


async def test_a_revalidation_in_the_background_is_charged_to_no_caller() -> None:
    """It counts for the caller's application, with a cost record of its own."""
    cost, onward = record("app"), Onward()
    await cache(onward, FakeStore(entry(asked=985.0)), fresh_s=10, stale_while_revalidate_s=60)(ask(), cost)
    await turns()
    (charged,) = onward.charged
    assert charged is not None
    assert charged is not cost
    assert charged.app == cost.app


async def test_each_slot_of_a_batch_is_charged_to_its_own_caller() -> None:
    """A read whose batch was cut off is sent again, which costs its caller a second call; so does one sent alone."""
    costs = [record(name) for name in "abc"]
    cut = iter([BatchFailure.CUT])
    layer = batcher(FakeUpstream(lambda flight: next(cut, None) if "/1" in flight.paths else None), slots=2)
    reads = ask("/0"), ask("/1"), replace(ask("/2"), channel=Channel.DIRECT)
    await asyncio.gather(*(layer(read, cost) for read, cost in zip(reads, costs, strict=True)))
    assert [cost.sent for cost in costs] == [2, 2, 1]
