"""Twins in flight share one answer; nobody's leaving or failing is anybody else's."""

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


async def test_twins_share_one_call() -> None:
    """A hundred callers with one question cost one call, and each has the whole answer."""
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


async def test_others_have_flights_of_their_own() -> None:
    """Different questions are never answered by one answer."""
    onward = Onward(lambda request: told(request.path.encode()))
    coalescer = Coalescer(onward, path_of, names_of)
    replies = await asyncio.gather(coalescer(ask("/1")), coalescer(ask("/2")))
    assert [reply.body for reply in replies] == [b"/1", b"/2"]


async def test_a_flight_that_landed_is_joined_by_nobody() -> None:
    """An answer is shared only while it is on its way: afterwards it is the cache's business."""
    onward = Onward()
    coalescer = Coalescer(onward, path_of, names_of)
    assert [(await coalescer(ask())).mode for _ in range(2)] == [Mode.MISS, Mode.MISS]
    assert len(onward.asked) == 2


@pytest.mark.parametrize(
    "wishes", [CacheDirectives(no_cache=True), CacheDirectives(no_store=True), CacheDirectives(only_if_cached=True)]
)
async def test_who_wants_graphs_own_word_shares_with_nobody(wishes: CacheDirectives) -> None:
    """A read with `no-cache` or the like neither joins a flight nor lend theirs."""
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


async def test_a_failure_is_told_to_all_and_kept_for_nobody() -> None:
    """All who waited for a call that failed hear of it; whoever asks next gets a new call."""
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
async def test_who_leaves_takes_nobody_along(leaver: int) -> None:
    """The one who asked first may leave as well as the one who joined: the other gets the answer."""
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


async def test_a_flight_ends_when_nobody_waits() -> None:
    """A call that nobody waits for any more is given up, and a newcomer gets one of its own."""
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


async def test_a_newcomer_does_not_join_a_flight_that_was_given_up() -> None:
    """Between giving up and ending there is a moment; who comes then is not told of somebody else's leaving."""
    onward = Onward(later())
    coalescer = Coalescer(onward, path_of, names_of)
    first = asyncio.ensure_future(coalescer(ask()))
    await turns()
    first.cancel()
    await turns(1)
    onward.answer = told(b"mine")
    assert (await coalescer(ask())).body == b"mine"


async def test_a_failure_that_everybody_left_is_not_reported_as_forgotten() -> None:
    """The log of a healthy sidecar holds no complaint of the event loop's about a caller that hung up."""
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
