"""Identical requests in flight share one call; each caller leaves or fails by itself."""

from __future__ import annotations

import asyncio
import gc

import pytest
from msgspec.structs import replace

from proxy.core.http.errors import Late
from proxy.core.model import CacheDirectives, Mode, Request
from proxy.shell.pipeline.coalescer import Coalescer
from tests.shell.fakes import Onward, ask, later, told, turns


def path_of(request: Request) -> str:
    """The key of a flight in these tests."""
    return request.path


def names_of(request: Request) -> tuple[str, ...]:
    """What a flight reads: the object in its path."""
    first = request.path[1:].partition("/")[0]
    return (first,) if first else ()


async def test_identical_requests_in_flight_share_one_call() -> None:
    """A hundred callers with one request cost one call, and each has the whole reply."""
    answer = later()
    onward = Onward(answer)
    coalescer = Coalescer(onward, path_of, names_of)
    waiting = [asyncio.ensure_future(coalescer(ask())) for _ in range(100)]
    await turns()
    answer.set_result(told(b"the answer"))
    replies = await asyncio.gather(*waiting)
    assert len(onward.asked) == 1
    assert {reply.body for reply in replies} == {b"the answer"}
    assert [reply.mode for reply in replies] == [Mode.MISS] + [Mode.COALESCED] * 99
    assert replies[1].joined is Mode.MISS


async def test_callers_who_share_what_was_held_share_no_call() -> None:
    """Where Graph was not asked, each reply is one that was held, as it would be had the callers come one by one."""
    answer = later()
    coalescer = Coalescer(Onward(answer), path_of, names_of)
    waiting = [asyncio.ensure_future(coalescer(ask())) for _ in range(2)]
    await turns()
    answer.set_result(replace(told(), mode=Mode.REUSED, age=1.0, ttl=9.0))
    assert [reply.mode for reply in await asyncio.gather(*waiting)] == [Mode.REUSED] * 2


async def test_different_requests_make_calls_of_their_own() -> None:
    """Each has the reply to its own request."""
    onward = Onward(lambda request: told(request.path.encode()))
    coalescer = Coalescer(onward, path_of, names_of)
    replies = await asyncio.gather(coalescer(ask("/1")), coalescer(ask("/2")))
    assert [reply.body for reply in replies] == [b"/1", b"/2"]


async def test_no_request_joins_a_flight_that_is_over() -> None:
    """A reply is shared only while it is on its way; after that only the cache may answer with it."""
    onward = Onward()
    coalescer = Coalescer(onward, path_of, names_of)
    assert [(await coalescer(ask())).mode for _ in range(2)] == [Mode.MISS, Mode.MISS]
    assert len(onward.asked) == 2


@pytest.mark.parametrize(
    "wishes", [CacheDirectives(no_cache=True), CacheDirectives(no_store=True), CacheDirectives(only_if_cached=True)]
)
async def test_no_cache_no_store_and_only_if_cached_share_no_call(wishes: CacheDirectives) -> None:
    """Such a read joins no flight, and no read joins its call."""
    answers = [later() for _ in range(3)]
    left = iter(answers)
    onward = Onward(lambda _request: next(left))
    coalescer = Coalescer(onward, path_of, names_of)
    plain, special = ask(), replace(ask(), directives=wishes)
    waiting = [asyncio.ensure_future(coalescer(request)) for request in (plain, special, special)]
    await turns()
    assert len(onward.asked) == 3
    for answer in answers:
        answer.set_result(told())
    assert {reply.mode for reply in await asyncio.gather(*waiting)} == {Mode.MISS}


async def test_a_failure_reaches_all_who_wait_and_no_later_request() -> None:
    """The next request makes a new call."""
    answer = later()
    onward = Onward(answer)
    coalescer = Coalescer(onward, path_of, names_of)
    waiting = [asyncio.ensure_future(coalescer(ask())) for _ in range(3)]
    await turns()
    answer.set_exception(Late("too late"))
    assert all(isinstance(each, Late) for each in await asyncio.gather(*waiting, return_exceptions=True))
    onward.answer = told(b"now")
    assert (await coalescer(ask())).body == b"now"


@pytest.mark.parametrize("leaver", [0, 1])
async def test_a_caller_that_leaves_does_not_end_the_flight_of_the_others(leaver: int) -> None:
    """It may be the first caller or one that has joined."""
    answer = later()
    onward = Onward(answer)
    coalescer = Coalescer(onward, path_of, names_of)
    waiting = [asyncio.ensure_future(coalescer(ask())) for _ in range(2)]
    await turns()
    waiting[leaver].cancel()
    await turns()
    answer.set_result(told(b"still here"))
    assert (await waiting[1 - leaver]).body == b"still here"
    assert len(onward.asked) == 1


async def test_a_flight_ends_when_its_last_caller_leaves() -> None:
    """The call is cancelled, and the next request makes a new one."""
    answer = later()
    onward = Onward(answer)
    coalescer = Coalescer(onward, path_of, names_of)
    waiting = [asyncio.ensure_future(coalescer(ask())) for _ in range(2)]
    await turns()
    for caller in waiting:
        caller.cancel()
    await turns()
    assert answer.cancelled()
    onward.answer = told(b"new")
    assert (await coalescer(ask())).body == b"new"


async def test_no_request_joins_a_flight_that_is_being_cancelled() -> None:
    """The cancellation of other callers does not reach it."""
    onward = Onward(later())
    coalescer = Coalescer(onward, path_of, names_of)
    first = asyncio.ensure_future(coalescer(ask()))
    await turns()
    first.cancel()
    await turns(1)
    onward.answer = told(b"mine")
    assert (await coalescer(ask())).body == b"mine"


async def test_a_failure_after_the_last_caller_left_is_no_warning_of_asyncio() -> None:
    """The event loop would log that the exception was never retrieved."""
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    async def stubborn(_request: Request) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Late("ended otherwise") from None

    coalescer = Coalescer(stubborn, path_of, names_of)  # type: ignore[arg-type]
    caller = asyncio.ensure_future(coalescer(ask()))
    await turns()
    caller.cancel()
    await turns()
    del caller
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize(
    "flying,touched,asked_anew",
    [
        ("/111", ["111"], True),
        ("/111/feed", ["111"], True),
        ("/111", ["222"], False),
        ("/111", [], True),
        ("/", ["222"], True),
    ],
)
async def test_a_write_closes_the_flights_it_may_have_changed(
    flying: str, touched: list[str], *, asked_anew: bool
) -> None:
    """Who reads after a write never joins a read that was sent before it; those who did get their answer."""
    answer = later()
    onward = Onward(answer)
    coalescer = Coalescer(onward, path_of, names_of)
    before = asyncio.ensure_future(coalescer(ask(flying)))
    await turns()
    coalescer.close(touched)
    onward.answer = told(b"after")
    after = asyncio.ensure_future(coalescer(ask(flying)))
    await turns()
    answer.set_result(told(b"before"))
    assert (await before).body == b"before"
    assert (await after).body == (b"after" if asked_anew else b"before")
