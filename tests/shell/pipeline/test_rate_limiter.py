"""Who waits, who goes and who is sent back: the governor before a faked Graph, on a clock of the test's."""

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
    """A governor and everything around it."""

    def __init__(self, onward: Onward | None = None, stages: Stages = AN_HOUR) -> None:
        self.onward, self.clock, self.observer = onward or Onward(), Clock(), Witness()
        self.quota = Limiter(stages)
        self.governor = RateLimiter(
            self.onward, quota=self.quota, keys=Keys(bytes(32)), observer=self.observer, now=self.clock
        )

    def use(self, percent: int) -> None:
        """Graph tells how much the app has used."""
        self.governor.on_reply(Credential("token-a"), usage(percent))


def usage(percent: int) -> Reply:
    """A reply that tells it."""
    return replace(told(), headers=(JSON, ("X-App-Usage", json.dumps({"call_count": percent}))))


async def patient(here: Stand, path: str = "/2") -> asyncio.Task[Reply]:
    """A read that waits its turn, after another took the turn that was free."""
    await here.governor(ask("/1", priority=7))
    waiting = asyncio.ensure_future(here.governor(ask(path, priority=7)))
    await turns()
    assert not waiting.done()
    return waiting


async def test_calm_reads_pass() -> None:
    """Whatever their priority."""
    here = Stand()
    here.use(50)
    for priority in (0, 7):
        await here.governor(ask(priority=priority))
    assert (len(here.onward.asked), here.observer.waits) == (2, [])


async def test_a_read_in_a_hurry_passes_those_that_wait() -> None:
    """Near the limit those that have time wait, the others do not."""
    here = Stand()
    here.use(90)
    waiting = await patient(here)
    await here.governor(ask("/3", priority=4))
    assert [request.path for request in here.onward.asked] == ["/1", "/3"]
    waiting.cancel()


async def test_who_waits_goes_when_urged() -> None:
    """A twin in a hurry takes along the read that waits, and no other."""
    here = Stand()
    here.use(90)
    waiting = await patient(here)
    other = asyncio.ensure_future(here.governor(ask("/5", priority=7)))
    here.governor.promote(ask("/9"))
    await turns()
    assert not waiting.done()
    here.governor.promote(ask("/2"))
    assert (await waiting).status == 200
    assert not other.done()
    assert here.observer.waits == ["app"]
    other.cancel()


async def test_who_waits_goes_when_there_is_room_again() -> None:
    """The time that was named does not hold once Graph tells that all is calm."""
    here = Stand()
    here.use(90)
    waiting = await patient(here)
    here.use(20)
    assert (await waiting).status == 200


async def line(here: Stand, length: int) -> list[asyncio.Task[Reply]]:
    """So many reads that wait, in the order of their paths from /10 on."""
    here.use(90)
    waiting = [await patient(here, "/10")]
    waiting += [asyncio.ensure_future(here.governor(ask(f"/{10 + n}", priority=7))) for n in range(1, length)]
    await turns()
    return waiting


async def test_a_line_that_has_room_again_does_not_stampede() -> None:
    """One goes, and two more with each answer, so that news of what they cost comes before the rest has left."""
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


async def test_the_next_in_line_goes_when_the_first_has_left() -> None:
    """A caller that hangs up holds nobody back."""
    here = Stand(stages=Stages(longest_wait_s=3600, spare_pct=70))
    waiting = await line(here, 3)
    here.use(69)
    waiting[0].cancel()
    replies = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(reply).__name__ for reply in replies] == ["CancelledError", "Reply", "Reply"]


async def test_nobody_waits_longer_than_the_longest_wait() -> None:
    """Then a read goes, whatever is left."""
    here = Stand(stages=Stages(longest_wait_s=0.01))
    here.use(99)
    replies = await asyncio.gather(*(here.governor(ask(f"/{number}", priority=7)) for number in range(5)))
    assert [reply.status for reply in replies] == [200] * 5


async def test_who_waits_is_told_when_the_limit_is_reached() -> None:
    """It has not left, and so gets the refusal as those that come later."""
    here = Stand()
    here.use(90)
    waiting = await patient(here)
    here.governor.on_reply(Credential("token-a"), REFUSED)
    with pytest.raises(Throttled) as throttled:
        await waiting
    assert throttled.value.reply.status == 403
    assert here.observer.stops == ["app"]


async def test_one_probe_goes_and_the_others_are_told() -> None:
    """Until the probe has come back nobody else is asked; its answer opens the way."""
    answer = later()
    here = Stand(Onward(REFUSED))
    assert await here.governor(ask("/1")) is REFUSED
    with pytest.raises(Throttled):
        await here.governor(ask("/2"))
    here.clock.now += 30
    here.onward.answer = answer
    probe = asyncio.ensure_future(here.governor(ask("/3")))
    await turns()
    with pytest.raises(Throttled):
        await here.governor(ask("/4"))
    answer.set_result(told())
    assert (await probe).status == 200
    here.onward.answer = None
    assert (await here.governor(ask("/4"))).status == 200
    assert [request.path for request in here.onward.asked] == ["/1", "/3", "/4"]


async def test_a_probe_whose_caller_left_is_replaced_at_once() -> None:
    """Nobody else has to wait for an answer that nobody hears."""
    here = Stand(Onward(REFUSED))
    await here.governor(ask("/1"))
    here.clock.now += 30
    here.onward.answer = later()
    probe = asyncio.ensure_future(here.governor(ask("/3")))
    await turns()
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    here.onward.answer = None
    assert (await here.governor(ask("/4"))).status == 200


async def test_a_probe_that_breaks_off_is_replaced_later() -> None:
    """Trouble on the way says nothing of the limit."""
    here = Stand(Onward(REFUSED))
    await here.governor(ask("/1"))
    here.clock.now += 30
    here.onward.answer = Cut("gone")
    with pytest.raises(Cut):
        await here.governor(ask("/3"))
    here.onward.answer = None
    with pytest.raises(Throttled):
        await here.governor(ask("/4"))
    here.clock.now += 30
    assert (await here.governor(ask("/4"))).status == 200
