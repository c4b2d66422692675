"""Reads of one object that differ in their fields are merged; the cache below is a fake."""

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


async def test_reads_of_one_turn_of_the_event_loop_are_merged() -> None:
    """The reply of the first caller has its own mode; the others say which call they joined."""
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


async def test_new_limits_hold_for_the_next_read() -> None:
    """A reload may set another window or queue."""
    cache, limits = FakeCache(), Limits(window_s=0)
    layer = merger(cache, limits=limits)
    await layer(read("a"))
    limits.replace(Limits(window_s=0, queue=1))
    with pytest.raises(Overloaded):
        await asyncio.gather(layer(read("b")), layer(read("c")))


async def test_reads_are_not_merged_if_the_merged_read_has_another_rule() -> None:
    """Rules may name fields, and each entry is stored by the rule of its read."""
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


async def test_reads_of_different_objects_are_not_merged() -> None:
    """They wait in queues of their own."""
    cache = FakeCache()
    layer = merger(cache)
    await asyncio.gather(layer(read("a")), layer(read("b", path="/222")))
    assert cache.queries == ["a", "b"]


async def test_without_merge_in_the_rule_no_read_waits() -> None:
    """The next layer is asked at once."""
    cache = FakeCache()
    layer = merger(cache, merge=False)
    await asyncio.gather(layer(read("a")), layer(read("b")))
    assert cache.queries == ["a", "b"]


async def test_a_read_joins_one_in_flight_that_has_all_its_fields() -> None:
    """A read of exactly these fields keeps the ETag."""
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


async def test_no_read_joins_one_of_lower_priority() -> None:
    """A low-priority read joins any flight; the others join none that the rate limiter may hold back."""
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
async def test_no_read_joins_a_flight_from_before_a_write(touched: tuple[str, ...], asks: int) -> None:
    """The write was to the object of the flight, or to an unknown one."""
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


async def test_a_merged_read_that_is_late_is_not_sent_again() -> None:
    """Graph may still work on it: a caller gets its own entry where a rule allows that, else the error."""
    late = Late("no reply")
    cache = FakeCache(lambda _request: late)
    cache.stale["fields=b"] = told_all(read("b"))
    layer = merger(cache)
    replies = await asyncio.gather(layer(read("a")), layer(read("b")), layer(read("c")), return_exceptions=True)
    assert cache.queries == ["a,b,c"]
    assert (replies[0], replies[2]) == (late, late)
    assert isinstance(replies[1], Reply)
    assert replies[1].body == cache.stale["fields=b"].body


async def test_after_a_failure_each_read_is_sent_alone() -> None:
    """Only the caller whose own read fails gets an error."""
    trouble = Cut("cut")
    cache = FakeCache(lambda request: trouble if "b" in request.query else told_all(request))
    layer = merger(cache)
    replies = await asyncio.gather(layer(read("a")), layer(read("b")), return_exceptions=True)
    assert cache.queries == ["a,b", "a", "b"]
    assert isinstance(replies[0], Reply)
    assert replies[1] is trouble


async def test_a_refused_field_is_not_merged_again_for_a_while() -> None:
    """Only its own caller gets the error, and the field is asked alone until the time is over."""
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


async def test_a_body_with_a_field_that_no_caller_requested_is_not_shared() -> None:
    """Each read is sent alone."""
    cache = FakeCache(lambda request: told(b'{"whose":1}'))
    layer = merger(cache)
    replies = await asyncio.gather(layer(read("a")), layer(read("b")))
    assert cache.queries == ["a,b", "a", "b"]
    assert [reply.mode for reply in replies] == [Mode.MISS] * 2


async def test_a_fault_in_the_next_layer_reaches_every_caller() -> None:
    """Each caller's handler then asks Graph directly."""
    cache = FakeCache(lambda _request: cast("Reply", RuntimeError("ours")))
    layer = merger(cache)
    replies = await asyncio.gather(layer(read("a")), layer(read("b")), return_exceptions=True)
    assert [type(reply) for reply in replies] == [RuntimeError] * 2


async def test_a_merged_read_is_cancelled_only_when_all_callers_have_left() -> None:
    """Nothing of it is left in memory."""
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


async def test_a_merged_read_that_an_entry_answers_is_reused_for_each_caller() -> None:
    """No call was made, so none was shared."""
    whole = replace(told_all(read("a", "b")), mode=Mode.REUSED, ttl=5.0)
    layer = merger(FakeCache(whole))
    replies = await asyncio.gather(layer(read("a")), layer(read("b")))
    assert [(reply.mode, reply.detail) for reply in replies] == [(Mode.REUSED, "")] * 2


async def test_closing_fails_the_reads_that_wait() -> None:
    """After a drain no caller should wait; one that does gets an error."""
    answer = later()
    layer = merger(FakeCache(answer))
    waiting = asyncio.ensure_future(layer(read("a")))
    await turns()
    await layer.close()
    with pytest.raises(Cut):
        await waiting


# --- held for more


async def test_an_entry_with_more_fields_answers_a_read_of_fewer() -> None:
    """The reply is the projection of the entry."""
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


async def test_the_entry_of_exactly_these_fields_comes_first() -> None:
    """Its reply keeps the ETag."""
    cache = FakeCache()
    layer = merger(cache, fresh_s=60)
    await layer(read("a", "b"))
    own = cache.held["fields=a"] = replace(told(), mode=Mode.REUSED, ttl=1.0)
    cache.held["fields=a,b"] = replace(told_all(read("a", "b")), mode=Mode.REUSED, ttl=1.0)
    assert await layer(read("a")) is own


async def test_reads_are_widened_only_where_entries_may_be_fresh() -> None:
    """With freshness later reads ask for all fields that were wanted before; without it each asks for its own."""
    for fresh_s, asked in ((60, ["a", "a,b", "a,b,c"]), (0, ["a", "b", "c"])):
        cache = FakeCache()
        layer = merger(cache, fresh_s=fresh_s)
        for name in "abc":
            await layer(read(name))
        assert cache.queries == asked
