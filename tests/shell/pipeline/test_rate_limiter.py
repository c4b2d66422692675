"""Which reads wait, leave or are refused near a limit; the next layer and the clock are fakes."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from proxy.core.cache.key import Keys
from proxy.core.http.errors import Cut, Throttled
from proxy.core.model import Credential, Reply
from proxy.core.quota.bucket import Stages
from proxy.core.quota.limiter import Limiter
from proxy.shell.pipeline.rate_limiter import RateLimiter
from tests.shell.fakes import JSON, Clock, Onward, ask, later, told, turns

REFUSED = Reply(403, (JSON,), json.dumps({"error": {"message": "(#4)", "code": 4}}).encode())
AN_HOUR = Stages(longest_wait_s=3600)


class Witness:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.stops: list[str] = []

    def paced(self, seconds: float, pool: str) -> None:
        self.waits.append(pool)

    def stopped(self, pool: str) -> None:
        self.stops.append(pool)


class Stand:
    """A rate limiter between fakes."""

    def __init__(self, onward: Onward | None = None, stages: Stages = AN_HOUR) -> None:
        self.onward, self.clock, self.observer = onward or Onward(), Clock(), Witness()
        self.quota = Limiter(stages)
        self.limiter = RateLimiter(
            self.onward, quota=self.quota, keys=Keys(bytes(32)), observer=self.observer, now=self.clock
        )

    def use(self, percent: int) -> None:
        """Graph tells how much the app has used."""
        self.limiter.on_reply(Credential("token-a"), usage(percent))


def usage(percent: int) -> Reply:
    """A reply that tells it."""
    return replace(told(), headers=(JSON, ("X-App-Usage", json.dumps({"call_count": percent}))))


async def patient(here: Stand, path: str = "/2") -> asyncio.Task[Reply]:
    """A read that waits its turn, after another took the turn that was free."""
    await here.limiter(ask("/1", priority=7))
    waiting = asyncio.ensure_future(here.limiter(ask(path, priority=7)))
    await turns()
    assert not waiting.done()
    return waiting


async def test_far_from_a_limit_reads_of_any_priority_pass() -> None:
    """None of them waits."""
    here = Stand()
    here.use(50)
    for priority in (0, 7):
        await here.limiter(ask(priority=priority))
    assert (len(here.onward.asked), here.observer.waits) == (2, [])


async def test_an_urgent_read_overtakes_those_that_wait() -> None:
    """Near the limit only low-priority reads wait."""
    here = Stand()
    here.use(90)
    waiting = await patient(here)
    await here.limiter(ask("/3", priority=4))
    assert [request.path for request in here.onward.asked] == ["/1", "/3"]
    waiting.cancel()


async def test_a_read_that_waits_is_sent_when_an_urgent_one_joins_it() -> None:
    """Other reads go on waiting."""
    here = Stand()
    here.use(90)
    waiting = await patient(here)
    other = asyncio.ensure_future(here.limiter(ask("/5", priority=7)))
    here.limiter.promote(ask("/9"))
    await turns()
    assert not waiting.done()
    here.limiter.promote(ask("/2"))
    assert (await waiting).status == 200
    assert not other.done()
    assert here.observer.waits == ["app"]
    other.cancel()


async def test_a_read_that_waits_is_sent_when_the_limit_is_calm_again() -> None:
    """The time that was computed before no longer holds."""
    here = Stand()
    here.use(90)
    waiting = await patient(here)
    here.use(20)
    assert (await waiting).status == 200


async def line(here: Stand, length: int) -> list[asyncio.Task[Reply]]:
    """So many reads that wait, in the order of their paths from /10 on."""
    here.use(90)
    waiting = [await patient(here, "/10")]
    waiting += [asyncio.ensure_future(here.limiter(ask(f"/{10 + n}", priority=7))) for n in range(1, length)]
    await turns()
    return waiting


async def test_a_queue_is_released_step_by_step() -> None:
    """One read is sent, and two more with each reply, so that usage is known before all have left."""
    here = Stand()
    waiting = await line(here, 7)
    answers = {f"/{10 + number}": later() for number in range(7)}
    here.onward.answer = lambda request: answers[request.path]
    before = len(here.onward.asked)
    here.use(20)
    left = []
    for path in ("/10", "/11", "/12"):
        await turns()
        left.append([request.path for request in here.onward.asked[before:]])
        answers[path].set_result(told())
    await turns()
    left.append([request.path for request in here.onward.asked[before:]])
    assert left == [
        ["/10"],
        ["/10", "/11", "/12"],
        ["/10", "/11", "/12", "/13", "/14"],
        ["/10", "/11", "/12", "/13", "/14", "/15", "/16"],
    ]
    for answer in answers.values():
        if not answer.done():
            answer.set_result(told())
    await asyncio.gather(*waiting)


async def test_a_caller_that_leaves_the_queue_holds_no_other_back() -> None:
    """The next read takes its place."""
    here = Stand(stages=Stages(longest_wait_s=3600, spare_pct=70))
    waiting = await line(here, 3)
    here.use(69)
    waiting[0].cancel()
    replies = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(reply).__name__ for reply in replies] == ["CancelledError", "Reply", "Reply"]


async def test_no_read_waits_longer_than_the_longest_wait() -> None:
    """Then it is sent, whatever the limit says."""
    here = Stand(stages=Stages(longest_wait_s=0.01))
    here.use(99)
    replies = await asyncio.gather(*(here.limiter(ask(f"/{number}", priority=7)) for number in range(5)))
    assert [reply.status for reply in replies] == [200] * 5


async def test_reads_that_wait_are_refused_when_the_limit_is_reached() -> None:
    """As those are that come later."""
    here = Stand()
    here.use(90)
    waiting = await patient(here)
    here.limiter.on_reply(Credential("token-a"), REFUSED)
    with pytest.raises(Throttled) as throttled:
        await waiting
    assert throttled.value.reply.status == 403
    assert here.observer.stops == ["app"]


async def test_one_probe_is_sent_and_other_reads_are_refused() -> None:
    """Until the reply to the probe has come; a good one ends the stop."""
    answer = later()
    here = Stand(Onward(REFUSED))
    assert await here.limiter(ask("/1")) is REFUSED
    with pytest.raises(Throttled):
        await here.limiter(ask("/2"))
    here.clock.now += 30
    here.onward.answer = answer
    probe = asyncio.ensure_future(here.limiter(ask("/3")))
    await turns()
    with pytest.raises(Throttled):
        await here.limiter(ask("/4"))
    answer.set_result(told())
    assert (await probe).status == 200
    here.onward.answer = None
    assert (await here.limiter(ask("/4"))).status == 200
    assert [request.path for request in here.onward.asked] == ["/1", "/3", "/4"]


async def test_a_probe_whose_caller_left_is_replaced_at_once() -> None:
    """The next read is a probe without a pause."""
    here = Stand(Onward(REFUSED))
    await here.limiter(ask("/1"))
    here.clock.now += 30
    here.onward.answer = later()
    probe = asyncio.ensure_future(here.limiter(ask("/3")))
    await turns()
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    here.onward.answer = None
    assert (await here.limiter(ask("/4"))).status == 200


async def test_a_probe_that_breaks_off_is_replaced_after_a_pause() -> None:
    """A failed connection says nothing about the limit."""
    here = Stand(Onward(REFUSED))
    await here.limiter(ask("/1"))
    here.clock.now += 30
    here.onward.answer = Cut("gone")
    with pytest.raises(Cut):
        await here.limiter(ask("/3"))
    here.onward.answer = None
    with pytest.raises(Throttled):
        await here.limiter(ask("/4"))
    here.clock.now += 30
    assert (await here.limiter(ask("/4"))).status == 200
