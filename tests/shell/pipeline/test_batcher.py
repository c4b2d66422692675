"""When reads leave together, and that each comes back with its own reply: the batcher alone, Graph faked."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.core.batch.response import BatchFailure
from proxy.core.batch.window import Limits
from proxy.core.http.errors import Cut, Draining, Late, Overloaded, Unreachable
from proxy.core.model import Channel, Credential, Headers, Reply, Request
from proxy.core.quota.ledger import GroupPayer, Payer
from proxy.shell.observe.counted_call import CountedCall
from proxy.shell.observe.counters import Counters
from proxy.shell.pipeline.batch_queue import MOST_IDLE, BatchCall, BatchQueue, BatchQueues, PendingRead
from proxy.shell.pipeline.batcher import Batcher
from proxy.shell.upstream.fair_share import Places
from proxy.shell.upstream.plain_exchange import Taker
from tests.shell.fakes import JSON, Clock, ask, told, turns

Answer = Reply | BatchFailure | BaseException


class Flight:
    """One batch in the air, which lands when the test says so."""

    def __init__(self, requests: Sequence[Request], top: Credential) -> None:
        self.requests = tuple(requests)
        self.top = top
        self.answer: asyncio.Future[Reply | BatchFailure] = asyncio.get_running_loop().create_future()

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def land(self, answer: Answer | None = None) -> None:
        if isinstance(answer, BaseException):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer or array(*(slot(request.path) for request in self.requests)))


class FakeUpstream:
    """A Graph whose batches land by hand, or at once with what *lands* says; calls of their own are answered."""

    def __init__(self, lands: Callable[[Flight], Answer | None] | None = None) -> None:
        self.flights: list[Flight] = []
        self.singles: list[Request] = []
        self.single_trouble: dict[str, Exception] = {}
        self._lands = lands
        self.asked = asyncio.Event()

    async def batch(
        self, requests: Sequence[Request], top: Credential, left: Callable[[], None], parts: Sequence[bytes] = ()
    ) -> Reply | BatchFailure:
        left()
        flight = Flight(requests, top)
        self.flights.append(flight)
        self.asked.set()
        if self._lands:
            flight.land(self._lands(flight))
        return await flight.answer

    async def single(self, request: Request, left: Callable[[], None]) -> Reply:
        left()
        self.singles.append(request)
        if trouble := self.single_trouble.get(request.path):
            raise trouble
        return told(f"alone {request.path}".encode())


class FakeObserver(Counters):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__(Clock(), Clock())
        self.told: list[tuple[object, ...]] = []

    def batch(
        self, loads: Sequence[tuple[Payer | None, int]], lane: str = "", groups: Sequence[GroupPayer] = ()
    ) -> CountedCall:
        self.told.append(("batch", len(loads)))
        return super().batch(loads, lane, groups)

    def single(self, cost: Payer | None, calls: int) -> CountedCall:
        self.told.append(("single",))
        return super().single(cost, calls)

    def asked_again(self, slots: int, cause: str) -> None:
        self.told.append(("again", slots, cause))


def slot(body: str, code: int = 200) -> dict[str, object]:
    """One slot of Graph's array."""
    return {"code": code, "headers": [{"name": JSON[0], "value": "text/javascript"}], "body": body}


def array(*slots: object) -> Reply:
    """Graph's reply to a batch."""
    return Reply(200, (JSON,), json.dumps(slots).encode(), upstream_s=0.08)


def refusal(code: int, status: int = 400) -> Reply:
    """A batch refused as a whole."""
    return Reply(status, (JSON,), json.dumps({"error": {"code": code, "message": "no"}}).encode())


def batcher(
    upstream: FakeUpstream,
    observer: FakeObserver | None = None,
    clock: Clock | None = None,
    connections: int = 64,
    **limits: object,
) -> Batcher:
    """A batcher that waits long for queue unless told otherwise."""
    given, clock = Limits(**({"window_s": 3600.0} | limits)), clock or Clock()  # type: ignore[arg-type]
    return Batcher(upstream, given, observer or FakeObserver(), clock, Places(connections, given, clock))


def start(layer: Batcher, *requests: Request) -> list[asyncio.Future[Reply]]:
    """A caller for each of *requests*, all in one turn of the loop."""
    return [asyncio.ensure_future(layer(request)) for request in requests]


def reads(count: int, **fields: object) -> list[Request]:
    """So many different reads."""
    return [ask(f"/{number}", **fields) for number in range(count)]  # type: ignore[arg-type]


# --- when a batch leaves


async def test_a_lone_read_leaves_at_once() -> None:
    """With nothing in flight a read leaves at the end of the loop's turn, however long the window is."""
    upstream = FakeUpstream()
    (caller,) = start(batcher(upstream), ask())
    await turns()
    assert upstream.flights[0].paths == ["/111"]
    upstream.flights[0].land()
    assert (await caller).body == b"/111"


async def test_reads_of_one_turn_leave_together() -> None:
    """They share one call, and each gets its own reply."""
    upstream = FakeUpstream()
    callers = start(batcher(upstream), *reads(20))
    await turns()
    assert [len(flight.requests) for flight in upstream.flights] == [20]
    upstream.flights[0].land()
    assert [reply.body for reply in await asyncio.gather(*callers)] == [f"/{n}".encode() for n in range(20)]


async def test_a_full_batch_leaves_at_once_and_the_rest_when_a_call_ends() -> None:
    """While a call is in flight reads gather; a full batch does not wait for its end."""
    upstream = FakeUpstream()
    layer = batcher(upstream, slots=2)
    callers = start(layer, *reads(5))
    await turns()
    assert [flight.paths for flight in upstream.flights] == [["/0", "/1"], ["/2", "/3"]]
    assert layer.queued == 1
    upstream.flights[0].land()
    upstream.flights[1].land()
    await turns(10)
    assert upstream.flights[2].paths == ["/4"]
    upstream.flights[2].land()
    assert len(await asyncio.gather(*callers)) == 5


async def test_a_full_batch_leaves_however_often_others_end() -> None:
    """It leaves at the end of the loop's turn, even if another one ends in each turn."""
    loop, clock = asyncio.get_running_loop(), itertools.count()
    limits, calls = Limits(slots=2), list[BatchCall]()
    queues = BatchQueues(limits, calls.append, lambda: float(next(clock)))
    for first, second in zip(reads(20), reads(20), strict=True):
        if len(calls) > 5:
            loop.call_soon(calls.pop(0).end)
        for read in (first, second):
            queues.enqueue("group", PendingRead(read, loop.create_future(), None, 1e9))
        await turns(1)
        assert not queues.queued


async def test_while_a_call_is_in_flight_a_read_waits_for_the_window_at_most() -> None:
    """It does not wait as long as Graph takes."""
    upstream, loop = FakeUpstream(), asyncio.get_running_loop()
    limits = Limits(window_s=0.001)
    layer = Batcher(upstream, limits, FakeObserver(), loop.time, Places(64, limits, loop.time))
    callers = start(layer, ask("/1"))
    await turns()
    upstream.asked.clear()
    callers += start(layer, ask("/2"))
    await turns()
    await upstream.asked.wait()
    assert [flight.paths for flight in upstream.flights] == [["/1"], ["/2"]]
    for flight in upstream.flights:
        flight.land()
    second = (await asyncio.gather(*callers))[1]
    assert second.window_s is not None
    assert second.window_s >= 0.001


async def test_no_more_batches_are_in_flight_than_connections() -> None:
    """Full batches included."""
    upstream = FakeUpstream()
    layer = batcher(upstream, slots=1, connections=4)
    callers = start(layer, *reads(4))
    await turns()
    assert (len(upstream.flights), layer.queued) == (2, 2)  # the others are left to other tokens and kinds of call
    upstream.flights[0].land()
    await turns(10)
    assert (len(upstream.flights), layer.queued) == (3, 1)
    upstream.flights[1].land()
    await turns(10)
    assert (len(upstream.flights), layer.queued) == (4, 0)
    for flight in upstream.flights[2:]:
        flight.land()
    await asyncio.gather(*callers)


@pytest.mark.parametrize(
    "other,by_token,calls",
    [
        (ask("/2", token="token-b"), False, 1),
        (ask("/2", token="token-b"), True, 2),
        (ask("/2"), True, 1),
        (ask("/2", host="other.test"), False, 2),
        (ask("/2", language="de"), False, 2),
    ],
)
async def test_which_reads_share_a_batch(other: Request, calls: int, *, by_token: bool) -> None:
    """Reads share a call only where host, version and language are the same, and the token too if so set."""
    upstream = FakeUpstream(lambda _flight: None)
    await asyncio.gather(*start(batcher(upstream, by_token=by_token), ask("/1"), other))
    assert len(upstream.flights) == calls


async def test_a_slow_route_delays_no_quick_read() -> None:
    """Reads of a slow route leave in a call of their own."""
    upstream = FakeUpstream()
    layer = batcher(upstream)
    slow, *quick = start(layer, ask("/act_1/insights"), ask("/1"), ask("/2"))
    await turns()
    assert sorted(flight.paths for flight in upstream.flights) == [["/1", "/2"], ["/act_1/insights"]]
    next(flight for flight in upstream.flights if len(flight.requests) == 2).land()
    assert [reply.lane for reply in await asyncio.gather(*quick)] == ["quick", "quick"]
    assert not slow.done()
    (more,) = start(layer, ask("/3"))  # behind nothing of its lane, so at once
    await turns()
    assert upstream.flights[-1].paths == ["/3"]
    upstream.flights[-1].land()
    assert (await more).body == b"/3"
    next(flight for flight in upstream.flights if flight.paths == ["/act_1/insights"]).land()
    assert (await slow).lane == "trial"


async def test_without_lanes_all_routes_share_batches() -> None:
    """No reply names a lane."""
    upstream = FakeUpstream(lambda _flight: None)
    replies = await asyncio.gather(*start(batcher(upstream, lanes=False), ask("/act_1/insights"), ask("/1")))
    assert (len(upstream.flights), {reply.lane for reply in replies}) == (1, {""})


async def test_a_call_that_takes_long_parts_its_route_from_the_others_while_it_is_under_way() -> None:
    """An edge that nobody has listed holds up edges that are as new as it is once, and nobody who comes later."""
    upstream, loop = FakeUpstream(), asyncio.get_running_loop()
    limits = Limits(window_s=3600)
    layer = Batcher(upstream, limits, FakeObserver(), loop.time, Places(64, limits, loop.time))
    node, *first = start(layer, ask("/1"), ask("/2/feed"), ask("/2/oddities"))
    await turns()
    assert sorted(flight.paths for flight in upstream.flights) == [["/1"], ["/2/feed", "/2/oddities"]]
    new = next(flight for flight in upstream.flights if len(flight.requests) == 2)
    next(flight for flight in upstream.flights if flight is not new).land()
    assert (await node).lane == "quick"
    upstream.asked.clear()
    (held,) = start(layer, ask("/3/feed"))
    await upstream.asked.wait()  # it waits behind the call until that is late
    later = start(layer, ask("/4/feed"), ask("/5/oddities"))
    await turns()
    assert {len(flight.requests) for flight in upstream.flights[2:]} == {1}
    for flight in upstream.flights[2:]:
        flight.land()
    await asyncio.gather(held, *later)
    assert not any(caller.done() for caller in first)
    new.land()
    await asyncio.gather(*first)


async def test_a_read_of_the_direct_channel_is_sent_alone() -> None:
    """It never waits for a batch."""
    upstream, observer = FakeUpstream(), FakeObserver()
    request = replace(ask(), channel=Channel.DIRECT)
    assert (await batcher(upstream, observer)(request)).body == b"alone /111"
    assert (upstream.singles, upstream.flights, observer.told) == ([request], [], [("single",)])


async def test_a_reply_says_how_long_it_waited() -> None:
    """In the queue, and for Graph."""
    upstream, clock = FakeUpstream(), Clock()
    layer = batcher(upstream, clock=clock, connections=1)
    first = start(layer, ask("/1"))
    await turns()
    second = start(layer, ask("/2"))
    await turns()
    clock.now += 3
    upstream.flights[0].land()
    await turns(10)
    upstream.flights[1].land()
    reply = (await asyncio.gather(*first, *second))[1]
    assert (reply.window_s, reply.upstream_s) == (3.0, 0.08)


# --- who waits and who leaves


async def test_a_read_is_refused_when_the_queue_is_full() -> None:
    """Reads that wait already are answered."""
    upstream = FakeUpstream()
    layer = batcher(upstream, queue=2, connections=1)
    callers = start(layer, ask("/0"))
    await turns()
    callers += start(layer, ask("/1"), ask("/2"))
    await turns()
    with pytest.raises(Overloaded, match="2 requests wait"):
        await layer(ask("/3"))
    upstream.flights[0].land()
    await turns(10)
    upstream.flights[1].land()
    assert [reply.body for reply in await asyncio.gather(*callers)] == [b"/0", b"/1", b"/2"]


async def test_large_replies_of_a_batch_are_handed_out_in_turns() -> None:
    """Every caller's task goes through its own body: of large ones a few are woken in one turn of the loop."""
    upstream = FakeUpstream()
    layer = batcher(upstream, window_s=0.0)
    callers = start(layer, *(ask(f"/{at}") for at in range(8)))
    await upstream.asked.wait()
    upstream.flights[0].land(array(*(slot(str(at) * 100_000) for at in range(8))))
    done = [0]
    while done[-1] < len(callers):
        await asyncio.sleep(0)
        done.append(sum(caller.done() for caller in callers))
    assert max(after - before for before, after in itertools.pairwise(done)) <= 2
    assert [(await caller).body for caller in callers] == [str(at).encode() * 100_000 for at in range(8)]


class CountedWaiting(PendingRead):
    """A read in a queue that counts how often it is compared with another."""

    compared = 0
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        type(self).compared += 1
        return self is other


async def test_a_read_is_refused_at_once_if_the_queue_of_its_token_stands_still() -> None:
    """Reads are answered in their order all the same."""
    upstream, clock = FakeUpstream(), Clock()
    layer = batcher(upstream, clock=clock, connections=1, queue_s=2.0, window_s=0.0)
    callers = start(layer, ask("/0"))
    await turns()
    callers += start(layer, ask("/1"))
    await turns()
    clock.now += 0.4
    callers += start(layer, ask("/2"))
    await turns()
    clock.now += 0.2
    with pytest.raises(Overloaded, match=r"wait for 0\.6 s"):
        await layer(ask("/3"))
    upstream.flights[0].land()
    await turns(10)
    assert upstream.flights[1].paths == ["/1", "/2"]
    callers += start(layer, ask("/4"))
    await turns()
    upstream.flights[1].land()
    await turns(10)
    upstream.flights[2].land()
    assert [reply.body for reply in await asyncio.gather(*callers)] == [b"/0", b"/1", b"/2", b"/4"]


async def test_a_read_that_waits_too_long_for_a_connection_is_refused() -> None:
    """A later read is let in again."""
    loop, limits = asyncio.get_running_loop(), Limits(window_s=0.0, queue_s=0.05)
    upstream = FakeUpstream()
    layer = Batcher(upstream, limits, FakeObserver(), loop.time, Places(1, limits, loop.time))
    first = start(layer, ask("/0"))
    await turns()
    with pytest.raises(Overloaded, match=r"within 0\.05 s"):
        await layer(ask("/1"))
    upstream.flights[0].land()
    await asyncio.gather(*first)
    last = start(layer, ask("/2"))
    await turns()
    upstream.flights[1].land()
    assert [reply.body for reply in await asyncio.gather(*last)] == [b"/2"]


async def test_a_call_ends_when_all_its_callers_have_left() -> None:
    """Its connection is free at once; the call is counted."""
    upstream, observer = FakeUpstream(), FakeObserver()
    layer = batcher(upstream, observer, connections=1)
    leavers = start(layer, ask("/0"), ask("/1"))
    await turns()
    (stayer,) = start(layer, ask("/2", token="token-b"))
    await turns()
    leavers[0].cancel()
    await turns(10)
    assert len(upstream.flights) == 1
    leavers[1].cancel()
    await turns(10)
    assert upstream.flights[0].answer.cancelled()
    assert upstream.flights[1].paths == ["/2"]
    upstream.flights[1].land()
    assert (await stayer).body == b"/2"
    assert observer.ledger.uncertain == 2


async def test_a_caller_leaves_a_long_queue_without_a_search() -> None:
    """The reads before and behind the one that leaves are not looked at, so a crowd can leave at once."""

    def fly(_call: BatchCall) -> None:
        raise AssertionError("no read is due")

    queue = BatchQueue(Limits(window_s=3600.0, slots=1000), fly, Clock(), lambda _queue: None)
    loop = asyncio.get_running_loop()
    crowd = [CountedWaiting(ask(f"/{at}"), loop.create_future(), None, 0.0) for at in range(500)]
    for waiting in crowd:
        queue.add(waiting)
    for waiting in [*crowd[1::2], *reversed(crowd[::2])]:
        waiting.reply.cancel()
        queue.give_up(waiting)
    assert queue.queued == 0
    assert CountedWaiting.compared <= len(crowd)
    queue.close()


async def test_a_caller_that_leaves_the_queue_costs_no_call() -> None:
    """Its read is not sent."""
    upstream = FakeUpstream()
    layer = batcher(upstream, connections=1)
    first = start(layer, ask("/0"))
    await turns()
    leaver, stayer = start(layer, ask("/1"), ask("/2"))
    await turns()
    leaver.cancel()
    await turns()
    assert layer.queued == 1
    upstream.flights[0].land()
    await turns(10)
    assert upstream.flights[1].paths == ["/2"]
    upstream.flights[1].land()
    assert (await stayer).body == b"/2"
    await asyncio.gather(*first)


async def test_a_caller_that_leaves_a_call_takes_no_other_along() -> None:
    """The other reads of the batch get their answers from the same call."""
    upstream = FakeUpstream()
    leaver, stayer = start(batcher(upstream), ask("/1"), ask("/2"))
    await turns()
    leaver.cancel()
    await turns()
    upstream.flights[0].land()
    assert (await stayer).body == b"/2"
    assert (len(upstream.flights), upstream.singles) == (1, [])


async def test_a_read_without_a_caller_is_not_sent_again() -> None:
    """Its slot was null, and its caller has gone."""
    upstream = FakeUpstream()
    leaver, stayer = start(batcher(upstream), ask("/1"), ask("/2"))
    await turns()
    leaver.cancel()
    await turns()
    upstream.flights[0].land(BatchFailure.CUT)
    await turns()
    assert [flight.paths for flight in upstream.flights[1:]] == [["/2"]]
    upstream.flights[1].land(BatchFailure.CUT)
    assert (await stayer).body == b"alone /2"
    assert [request.path for request in upstream.singles] == ["/2"]


async def test_closing_fails_reads_in_queues_and_in_calls() -> None:
    """With an error that says that the sidecar stops."""
    upstream = FakeUpstream()
    layer = batcher(upstream, slots=2, connections=1)
    callers = start(layer, *reads(5))
    await turns()
    await layer.close()
    told_to = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(each) for each in told_to] == [Cut, Cut, Draining, Draining, Draining]
    assert upstream.flights[0].answer.cancelled()
    assert (len(upstream.flights), layer.queued) == (1, 0)


async def test_nothing_is_remembered_of_a_group_that_is_done() -> None:
    """Memory does not grow with the tokens and languages that have passed by."""
    layer = batcher(FakeUpstream(lambda _flight: None), by_token=True)
    for number in range(MOST_IDLE + 9):
        await layer(ask(token=f"token-{number}"))
    await turns(10)
    assert len(layer._queues._queues) == len(layer._queues._kept) == MOST_IDLE


# --- without a task


class Started:
    """A batch that left without a task, whose answer comes when the test says so."""

    def __init__(self, taker: Taker) -> None:
        self.taker = taker
        self.other: asyncio.Future[Reply | BatchFailure] = asyncio.get_running_loop().create_future()
        self.is_closed = False
        self.whole = Reply(200, (), b"")

    def take(self, whole: Reply) -> None:
        self.whole = whole
        self.taker.take(whole.headers, whole.body)

    def reply(self, _fields: Headers, _body: bytes) -> Reply:
        return self.whole

    async def answer(self) -> Reply | BatchFailure:
        return await self.other

    def close(self) -> None:
        self.is_closed = True


def starting(upstream: FakeUpstream, observer: FakeObserver | None = None) -> tuple[Batcher, list[Started]]:
    """A batcher whose batches leave without a task, and those that left."""
    limits, clock, started = Limits(window_s=3600.0), Clock(), list[Started]()

    def start_batch(_first: Request, _top: Credential, _parts: Sequence[bytes], taker: Taker) -> Any:
        started.append(batch := Started(taker))
        return batch

    places = Places(64, limits, clock)
    return Batcher(upstream, limits, observer or FakeObserver(), clock, places, start=start_batch), started


async def test_a_batch_that_left_without_a_task_is_answered() -> None:
    """Each read gets its slot, and a read without one is asked for again by a task."""
    upstream, observer = FakeUpstream(), FakeObserver()
    layer, started = starting(upstream, observer)
    callers = start(layer, *reads(3))
    await turns()
    assert (observer.in_flight, upstream.flights) == (1, [])
    started[0].take(array(slot("a"), None, slot("c")))
    await turns()
    assert [(await caller).body for caller in (callers[0], callers[2])] == [b"a", b"c"]
    assert (await callers[1]).body == b"alone /1"
    assert observer.told == [("batch", 3), ("again", 1, "slot"), ("single",)]
    await turns()
    assert (observer.in_flight, layer.queued) == (0, 0)


async def test_an_answer_that_is_not_plain_is_read_by_a_task() -> None:
    """The reads wait for it as for any other, and share what becomes of it."""
    upstream, observer = FakeUpstream(), FakeObserver()
    layer, started = starting(upstream, observer)
    callers = start(layer, *reads(2))
    await turns()
    started[0].taker.read_on()
    await turns()
    started[0].other.set_exception(Late("no answer"))
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(each) for each in found] == [Late, Late]
    await turns()
    assert (observer.in_flight, observer.ledger.uncertain, started[0].is_closed) == (0, 2, True)


@pytest.mark.parametrize("then", ["nothing", "a task"])
async def test_a_batch_without_a_task_ends_with_its_last_caller(then: str) -> None:
    """Its connection is closed when nobody waits any more, perhaps before a task that was to read on has begun."""
    upstream, observer = FakeUpstream(), FakeObserver()
    layer, started = starting(upstream, observer)
    callers = start(layer, *reads(2))
    await turns()
    callers[0].cancel()
    await turns()
    assert not started[0].is_closed
    if then == "a task":
        started[0].taker.read_on()
    callers[1].cancel()
    await turns()
    assert (started[0].is_closed, observer.in_flight, observer.ledger.uncertain) == (True, 0, 2)
    assert all(queue.is_idle for queue in layer._queues._queues.values())


async def test_a_fault_behind_the_departure_leaves_nobody_waiting() -> None:
    """What has left already is closed, and each read fails with the fault, after which its caller asks anew."""

    class Broken(FakeObserver):
        def batch(self, *_args: Any, **_named: Any) -> CountedCall:
            raise ZeroDivisionError

    layer, started = starting(FakeUpstream(), Broken())
    found = await asyncio.gather(*start(layer, *reads(2)), return_exceptions=True)
    assert [type(each) for each in found] == [ZeroDivisionError] * 2
    assert started[0].is_closed
    assert layer._places.shares.free == layer._places.shares.count


async def test_close_ends_a_batch_without_a_task() -> None:
    """Who still waits is told."""
    layer, started = starting(FakeUpstream())
    callers = start(layer, *reads(2))
    await turns()
    await layer.close()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(each) for each in found] == [Cut, Cut]
    assert started[0].is_closed


# --- what becomes of a batch


async def test_null_and_missing_slots_are_asked_again() -> None:
    """A slot without an answer costs its own read another call, in a smaller batch first, then alone."""
    observer = FakeObserver()

    def lands(flight: Flight) -> Reply:
        return array(*(None if request.path in {"/1", "/2"} else slot(request.path) for request in flight.requests))

    upstream = FakeUpstream(lands)
    replies = await asyncio.gather(*start(batcher(upstream, observer), *reads(4)))
    assert [reply.body for reply in replies] == [b"/0", b"alone /1", b"alone /2", b"/3"]
    assert [flight.paths for flight in upstream.flights] == [["/0", "/1", "/2", "/3"], ["/1", "/2"]]
    assert ("again", 2, "slot") in observer.told


async def test_a_read_asked_alone_carries_no_validator_of_a_batch() -> None:
    """An ETag that was given for a slot says nothing of a call of its own."""
    upstream = FakeUpstream(lambda flight: array(*(None for _ in flight.requests)))
    await batcher(upstream)(ask().with_validator('"e1"'))
    assert [(request.channel, request.validator) for request in upstream.singles] == [(Channel.DIRECT, "")]


async def test_a_read_that_fails_alone_fails_no_other() -> None:
    """The other reads of the batch have their answers."""
    upstream = FakeUpstream(lambda _flight: BatchFailure.CUT)
    upstream.single_trouble["/1"] = Late("Graph did not answer in time")
    good, bad = await asyncio.gather(*start(batcher(upstream), ask("/0"), ask("/1")), return_exceptions=True)
    assert isinstance(good, Reply)
    assert isinstance(bad, Late)


async def test_a_refused_token_is_replaced_on_top_and_rests() -> None:
    """A token that Graph refuses on top is not used there for a minute, and then may be again."""
    clock = Clock()

    def lands(flight: Flight) -> Reply | None:
        return refusal(190) if flight.top.token == "bad" else None

    upstream = FakeUpstream(lands)
    layer = batcher(upstream, clock=clock)
    pair = [ask("/1", token="bad"), ask("/2", token="good")]
    for later_by, tops in ((0, ["bad", "good"]), (59, ["good"]), (2, ["bad", "good"])):
        clock.now += later_by
        upstream.flights.clear()
        replies = await asyncio.gather(*start(layer, *pair))
        assert [reply.body for reply in replies] == [b"/1", b"/2"]
        assert [flight.top.token for flight in upstream.flights] == tops


async def test_with_no_token_left_for_the_top_each_goes_alone() -> None:
    """A lone token that is refused on top gets Graph's own word on each of its reads."""
    upstream = FakeUpstream(lambda _flight: refusal(190))
    layer = batcher(upstream)
    for _ in range(2):
        replies = await asyncio.gather(*start(layer, ask("/1"), ask("/2")))
        assert [reply.body for reply in replies] == [b"alone /1", b"alone /2"]
    assert len(upstream.flights) == 1  # the second time it was known


@pytest.mark.parametrize("trouble", [BatchFailure.CUT, refusal(1, 500), Reply(200, (), b""), array(slot("/0"))])
async def test_a_batch_that_fails_is_split(trouble: Answer) -> None:
    """Each read is answered: in halves, then alone, and never more often."""
    upstream = FakeUpstream(lambda _flight: trouble)
    replies = await asyncio.gather(*start(batcher(upstream), *reads(4)))
    assert [reply.body for reply in replies] == [f"alone /{n}".encode() for n in range(4)]
    assert [flight.paths for flight in upstream.flights] == [["/0", "/1", "/2", "/3"], ["/0", "/1"], ["/2", "/3"]]


async def test_without_a_connection_all_reads_of_a_batch_fail_at_once() -> None:
    """They are not tried one by one."""
    upstream = FakeUpstream(lambda _flight: Unreachable("no connection to Graph"))
    told_to = await asyncio.gather(*start(batcher(upstream), *reads(3)), return_exceptions=True)
    assert all(isinstance(each, Unreachable) for each in told_to)
    assert (len(upstream.flights), upstream.singles) == (1, [])


async def test_a_fault_of_ours_reaches_every_caller() -> None:
    """Each caller's handler then asks Graph alone."""
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    upstream = FakeUpstream(lambda _flight: ZeroDivisionError())
    told_to = await asyncio.gather(*start(batcher(upstream), *reads(2)), return_exceptions=True)
    assert [type(each) for each in told_to] == [ZeroDivisionError] * 2
    await turns()
    upstream.flights.clear()
    gc.collect()
    assert complaints == []  # asyncio would log the values in it, which may be tokens


async def test_every_call_is_observed() -> None:
    """Batches with their slots, and single calls: `/stats` counts them."""
    observer = FakeObserver()
    upstream = FakeUpstream(lambda _flight: BatchFailure.CUT)
    await asyncio.gather(*start(batcher(upstream, observer), ask("/1"), ask("/2")))
    halves = [("batch", 1), ("again", 1, "cut"), ("batch", 1), ("again", 1, "cut"), ("single",), ("single",)]
    assert observer.told == [("batch", 2), ("again", 2, "cut"), *halves]
    assert (observer.ledger.counted, observer.ledger.uncertain, observer.in_flight) == (0, 6, 0)


async def test_only_answered_slots_are_counted_for_certain() -> None:
    """A null slot is uncertain, and so is one that was sent again and answered with no JSON."""
    observer = FakeObserver()
    answer = array(slot("/1"), None, slot('{"error":{"code":100}}', 400))
    await asyncio.gather(*start(batcher(FakeUpstream(lambda _: answer), observer), ask("/1"), ask("/2"), ask("/3")))
    assert (observer.ledger.counted, observer.ledger.uncertain) == (2, 2)


async def test_usage_in_a_batchs_own_reply_is_learned() -> None:
    """For the token on top, and for the object if all slots read one; a call that was cut off says nothing."""
    heard: list[tuple[str, int, str]] = []

    def answer(flight: Flight) -> Answer:
        if "/3" in flight.paths:
            return BatchFailure.CUT
        fields = () if "/4" in flight.paths else (("X-App-Usage", '{"call_count":1}'),)
        return replace(array(*map(slot, flight.paths)), headers=(JSON, *fields))

    def note(top: Credential, reply: Reply, path: str) -> None:
        heard.append((top.token, reply.status, path))

    limits, clock = Limits(), Clock()
    upstream = FakeUpstream(answer)
    layer = Batcher(upstream, limits, FakeObserver(), clock, Places(64, limits, clock), on_reply=note)
    for asked in ((ask("/1"), ask("/1", query="fields=name")), (ask("/3"),), (ask("/4"),), (ask("/1"), ask("/2"))):
        await asyncio.gather(*start(layer, *asked))
    assert heard == [("token-a", 200, "/1"), ("token-a", 200, "/")]
