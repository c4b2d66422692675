"""One read for many, between a faked cache and callers of the test's."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from typing import cast

import pytest
from msgspec.structs import replace

from proxy.core.batch.window import Limits
from proxy.core.cache.key import Keys
from proxy.core.http.errors import Cut, Late, Overloaded
from proxy.core.model import Mode, Reply, Request
from proxy.core.quota.ledger import RequestCost
from proxy.core.routing.rules import Rule
from proxy.shell.pipeline.merger import Merger
from tests.shell.fakes import Answer, Clock, Onward, ask, later, told, turns


class FakeCache(Onward):
    """The next layer, and what it holds by query."""

    def __init__(self, answer: Callable[[Request], Answer] | Answer | None = None) -> None:
        super().__init__(answer or told_all)
        self.held: dict[str, Reply] = {}
        self.stale: dict[str, Reply] = {}

    async def learn(self, request: Request, answer: Reply, asked: float) -> None:
        self.held[request.query] = answer

    async def cover(self, request: Request) -> Reply | None:
        return self.stale.get(request.query)

    async def answer_held(self, request: Request, cost: RequestCost | None) -> Reply | None:
        return self.held.get(request.query)

    @property
    def queries(self) -> list[str]:
        return [request.query.removeprefix("fields=") for request in self.asked]


def told_all(request: Request) -> Reply:
    """What Graph says: every field's value is its name."""
    names = request.query.removeprefix("fields=").split(",")
    if "bad" in names:
        return told(b'{"error":{"code":100}}', 400, etag="")
    return told(json.dumps({name: name for name in names} | {"id": "1"}).encode())


def merger(
    cache: FakeCache, clock: Clock | None = None, *, limits: Limits | None = None, **rule: float | bool
) -> Merger:
    """A merger with one rule for everything."""
    return Merger(
        cache,
        keys=Keys(bytes(32)),
        tags_of=lambda request: (request.path[1:],),
        rule=lambda _request: Rule(**{"merge": True, **rule}),  # type: ignore[arg-type]
        limits=limits or Limits(window_s=0),
        clock=clock or Clock(),
    )


def read(*names: str, path: str = "/111") -> Request:
    """A read of so many fields."""
    return ask(path, query=f"fields={','.join(names)}")


async def test_a_turn_of_the_loop_is_one_read() -> None:
    """What comes in one turn leaves as one; the first is told how it came about, the others whom they joined."""
    cache = FakeCache()
    layer = merger(cache)
    replies = await asyncio.gather(layer(read("a")), layer(read("b", "c")), layer(read("a", "b")))
    assert cache.queries == ["a,b,c"]
    assert [json.loads(reply.body) for reply in replies] == [
        {"a": "a", "id": "1"}, {"b": "b", "c": "c", "id": "1"}, {"a": "a", "b": "b", "id": "1"},
    ]  # fmt: skip
    assert [(reply.mode, reply.joined, reply.detail) for reply in replies] == [
        (Mode.MISS, None, ""), (Mode.COALESCED, Mode.MISS, "merged"), (Mode.COALESCED, Mode.MISS, "merged"),
    ]  # fmt: skip
    assert [reply.header("etag") for reply in replies] == [None] * 3


async def test_limits_may_change() -> None:
    """A window that a reload sets holds for the next read that waits for company."""
    cache, limits = FakeCache(), Limits(window_s=0)
    layer = merger(cache, limits=limits)
    await layer(read("a"))
    limits.replace(Limits(window_s=0, queue=1))
    with pytest.raises(Overloaded):
        await asyncio.gather(layer(read("b")), layer(read("c")))


async def test_a_union_of_another_rule_is_not_asked() -> None:
    """Rules may go by fields: each is held by its own rule, so what is asked together is of one rule."""
    narrow, wide = Rule(merge=True), Rule(merge=True, fresh_s=60)
    cache = FakeCache()
    layer = Merger(
        cache,
        keys=Keys(bytes(32)),
        tags_of=lambda request: (request.path[1:],),
        rule=lambda request: wide if "," in request.query else narrow,
        limits=Limits(window_s=0),
        clock=Clock(),
    )
    await asyncio.gather(layer(read("a")), layer(read("b")))
    assert cache.queries == ["a", "b"]


async def test_objects_do_not_wait_for_each_other() -> None:
    """Only reads of one thing are company."""
    cache = FakeCache()
    layer = merger(cache)
    await asyncio.gather(layer(read("a")), layer(read("b", path="/222")))
    assert cache.queries == ["a", "b"]


async def test_without_a_rule_nothing_waits() -> None:
    """The next layer is asked at once, whatever else is."""
    cache = FakeCache()
    layer = merger(cache, merge=False)
    await asyncio.gather(layer(read("a")), layer(read("b")))
    assert cache.queries == ["a", "b"]


async def test_who_asks_for_no_more_gets_on() -> None:
    """A read joins one in the air that asks for all it wants; who asked for just that keeps the ETag."""
    answer = later()
    cache = FakeCache(answer)
    layer = merger(cache)
    wide = asyncio.ensure_future(layer(read("a", "b")))
    await turns()
    narrow = asyncio.ensure_future(layer(read("a")))
    await turns()
    answer.set_result(told_all(read("a", "b")))
    first, second = await asyncio.gather(wide, narrow)
    assert (len(cache.asked), first.header("etag"), second.header("etag")) == (1, '"e1"', None)
    assert (second.mode, json.loads(second.body)) == (Mode.COALESCED, {"a": "a", "id": "1"})


async def test_nobody_waits_behind_a_read_of_lower_priority() -> None:
    """Who has time gets on any flight; who has none gets on no flight that may be held back."""
    answers: dict[str, asyncio.Future[Reply]] = {}
    cache = FakeCache(lambda request: answers.setdefault(request.query, later()))
    layer = merger(cache)
    patient, urgent = (replace(read("a", "b"), priority=priority) for priority in (6, 2))
    waiting = [asyncio.ensure_future(layer(patient))]
    await turns()
    waiting += [asyncio.ensure_future(layer(replace(urgent, query="fields=a")))]
    await turns()
    waiting += [asyncio.ensure_future(layer(replace(patient, query=query))) for query in ("fields=a", "fields=b")]
    await turns()
    assert cache.queries == ["a,b", "a"]
    for query, answer in answers.items():
        answer.set_result(told_all(ask(query=query)))
    replies = await asyncio.gather(*waiting)
    assert [reply.mode for reply in replies] == [Mode.MISS, Mode.MISS, Mode.COALESCED, Mode.COALESCED]


@pytest.mark.parametrize("touched, asks", [(("111",), 2), ((), 2), (("222",), 1)])
async def test_a_write_closes_flights(touched: tuple[str, ...], asks: int) -> None:
    """After a write to the object, or to nobody knows what, no read gets on a flight from before it."""
    answer = later()
    cache = FakeCache(answer)
    layer = merger(cache)
    wide = asyncio.ensure_future(layer(read("a", "b")))
    await turns()
    layer.close_flights(touched)
    narrow = asyncio.ensure_future(layer(read("a")))
    await turns()
    assert len(cache.asked) == asks
    answer.set_result(told_all(read("a", "b")))
    await wide
    await asyncio.wait([narrow])


async def test_what_is_late_is_asked_of_nobody_again() -> None:
    """Graph may be at work on it yet: what is held for one of them answers that one, and the others are told."""
    late = Late("no reply")
    cache = FakeCache(lambda _request: late)
    cache.stale["fields=b"] = told_all(read("b"))
    layer = merger(cache)
    replies = await asyncio.gather(layer(read("a")), layer(read("b")), layer(read("c")), return_exceptions=True)
    assert cache.queries == ["a,b,c"]
    assert (replies[0], replies[2]) == (late, late)
    assert isinstance(replies[1], Reply)
    assert replies[1].body == cache.stale["fields=b"].body


async def test_trouble_is_taken_apart() -> None:
    """Where all cannot be answered at once, each is asked alone, and only its own trouble is its own."""
    trouble = Cut("cut")
    cache = FakeCache(lambda request: trouble if "b" in request.query else told_all(request))
    layer = merger(cache)
    replies = await asyncio.gather(layer(read("a")), layer(read("b")), return_exceptions=True)
    assert cache.queries == ["a,b", "a", "b"]
    assert isinstance(replies[0], Reply)
    assert replies[1] is trouble


async def test_a_refusal_is_taken_apart_and_remembered() -> None:
    """The bad one alone is told so, and asked for alone from then on, until it may have become good."""
    cache, clock = FakeCache(), Clock()
    layer = merger(cache, clock)
    for asked in (["a,bad,c", "a", "bad", "c"], ["a,c", "bad"]):
        cache.asked.clear()
        replies = await asyncio.gather(layer(read("a")), layer(read("bad")), layer(read("c")))
        assert [reply.status for reply in replies] == [200, 400, 200]
        assert cache.queries == asked
    clock.now += 300
    cache.asked.clear()
    await asyncio.gather(layer(read("a")), layer(read("bad")))
    assert cache.queries[0] == "a,bad"


async def test_what_is_not_understood_is_asked_apart() -> None:
    """A body with something in it that nobody asked for is nobody's."""
    cache = FakeCache(lambda request: told(b'{"whose":1}'))
    layer = merger(cache)
    replies = await asyncio.gather(layer(read("a")), layer(read("b")))
    assert cache.queries == ["a,b", "a", "b"]
    assert [reply.mode for reply in replies] == [Mode.MISS] * 2


async def test_a_fault_of_ours_leaves_nobody_hanging() -> None:
    """What the next layer should never raise reaches everybody, who then turn to Graph itself."""
    cache = FakeCache(lambda _request: cast("Reply", RuntimeError("ours")))
    layer = merger(cache)
    replies = await asyncio.gather(layer(read("a")), layer(read("b")), return_exceptions=True)
    assert [type(reply) for reply in replies] == [RuntimeError] * 2


async def test_a_flight_ends_early_only_if_all_leave() -> None:
    """It belongs to none of those aboard; nothing is left of it."""
    answer = later()
    cache = FakeCache(answer)
    layer = merger(cache)
    waiting = [asyncio.ensure_future(layer(read(name))) for name in "ab"]
    await turns()
    waiting[0].cancel()
    await turns()
    assert not answer.cancelled()
    waiting[1].cancel()
    await turns(10)
    assert answer.cancelled()
    gc.collect()
    assert layer._in_flight == {}
    assert all(queue.is_idle for queue in layer._queues._queues.values())


async def test_what_nobody_paid_for_is_not_merged() -> None:
    """If the next layer had the whole without asking, each is told just that."""
    whole = replace(told_all(read("a", "b")), mode=Mode.REUSED, ttl=5.0)
    layer = merger(FakeCache(whole))
    replies = await asyncio.gather(layer(read("a")), layer(read("b")))
    assert [(reply.mode, reply.detail) for reply in replies] == [(Mode.REUSED, "")] * 2


async def test_closing_ends_what_waits() -> None:
    """After a drain nobody waits; whoever does all the same is told."""
    answer = later()
    layer = merger(FakeCache(answer))
    waiting = asyncio.ensure_future(layer(read("a")))
    await turns()
    await layer.close()
    with pytest.raises(Cut):
        await waiting


# --- held for more


async def test_what_is_held_for_more() -> None:
    """Where answers are kept, the widest that was asked answers whoever asks for less."""
    cache = FakeCache()
    layer = merger(cache, fresh_s=60)
    await layer(read("a", "b"))
    whole = told_all(read("a", "b"))
    for mode, detail in ((Mode.REUSED, "superset"), (Mode.STALE, "stale-while-revalidate")):
        told_detail = "" if mode is Mode.REUSED else detail
        cache.held["fields=a,b"] = replace(whole, mode=mode, ttl=1.0, detail=told_detail)
        reply = await layer(read("a"))
        assert (reply.mode, reply.detail, reply.body) == (mode, detail, b'{"a":"a","id":"1"}')
    assert cache.queries == ["a,b"]


async def test_what_is_held_for_just_this_comes_first() -> None:
    """A fresh entry of one's own keeps its ETag."""
    cache = FakeCache()
    layer = merger(cache, fresh_s=60)
    await layer(read("a", "b"))
    own = cache.held["fields=a"] = replace(told(), mode=Mode.REUSED, ttl=1.0)
    cache.held["fields=a,b"] = replace(told_all(read("a", "b")), mode=Mode.REUSED, ttl=1.0)
    assert await layer(read("a")) is own


async def test_what_is_asked_widens_only_where_it_is_kept() -> None:
    """One after the other: with freshness they come to ask one thing, without it each asks its own."""
    for fresh_s, asked in ((60, ["a", "a,b", "a,b,c"]), (0, ["a", "b", "c"])):
        cache = FakeCache()
        layer = merger(cache, fresh_s=fresh_s)
        for name in "abc":
            await layer(read(name))
        assert cache.queries == asked
