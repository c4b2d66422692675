"""What a caller's own Cache-Control asks for, it gets: younger or older than the rules have it, or nothing kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.journeys.conftest import Clock, MakeScene
from tests.journeys.talking import Heard, Scene

READ = "/v25.0/111?fields=id,name"
FRESH: dict[str, Any] = {"cache": {"fresh_s": 60}}
CHECKED = "fwd=stale; fwd-status=304"


async def say(here: Scene, control: str = "", path: str = READ, **fields: str) -> Heard:
    """Ann reads with a Cache-Control of her own."""
    given = {"Cache-Control": control, **fields} if control else fields
    return await here.say(path, token="ann", headers=given)


CASES = [
    # Cache-Control, age, how the reply came about
    ("", 59, "hit; ttl=0"),
    ("", 60, CHECKED),
    ("max-age=30", 29, "hit; ttl=30"),
    ("max-age=30", 30, CHECKED),
    ("max-age=3600", 60, CHECKED),
    ("max-age=0", 0, CHECKED),
    ("max-age=nonsense", 1, CHECKED),
    ("min-fresh=30", 29, "hit; ttl=30"),
    ("min-fresh=30", 31, CHECKED),
    ("min-fresh=30, max-age=20", 21, CHECKED),
    ("max-stale", 86_400, "hit; ttl=-86341; detail=max-stale"),
    ("max-stale=30", 89, "hit; ttl=-30; detail=max-stale"),
    ("max-stale=30", 91, CHECKED),
    ("max-stale=3600, max-age=90", 89, "hit; ttl=-30; detail=max-stale"),
    ("max-stale=3600, max-age=90", 91, CHECKED),
    ("no-cache", 1, "fwd=request; fwd-status=304"),
    ("no-cache, max-stale", 1, "fwd=request; fwd-status=304"),
    ("no-store", 1, "fwd=request; fwd-status=200"),
    ("only-if-cached", 30, "hit; ttl=29"),
    ("only-if-cached, max-stale=30", 89, "hit; ttl=-30; detail=max-stale"),
]


@pytest.mark.parametrize("control, age, expected", CASES)
async def test_how_old_an_answer_may_be(
    scene: MakeScene, clock: Clock, control: str, age: float, expected: str
) -> None:
    """Each directive of RFC 9111 section 5.2.1, on a rule of 60 seconds."""
    here = await scene(FRESH)
    await here.say(READ, token="ann")
    clock.ahead += age
    heard = await say(here, control)
    assert heard.status == 200
    seconds = heard.cache.partition("ttl=")[2].partition(";")[0]
    if not seconds:
        assert heard.cache == expected
        assert "Age" not in heard.headers
        return
    # The machine is as slow as it likes: what has passed since is in both numbers.
    passed = int(heard.headers["Age"]) - age
    assert passed in range(5)
    wanted = int(expected.partition("ttl=")[2].partition(";")[0])
    assert int(seconds) + passed - wanted in {0, 1, -1}
    assert heard.cache.replace(f"ttl={seconds}", "") == expected.replace(f"ttl={wanted}", "")
    assert "Warning" not in heard.headers


async def test_only_if_cached_never_asks(scene: MakeScene, clock: Clock) -> None:
    """Where nothing that is held will do, a caller who wants no call gets 504, and Graph hears nothing."""
    here = await scene(FRESH)
    for _time in range(2):
        heard = await say(here, "only-if-cached")
        assert (heard.status, heard.json["error"]["type"]) == (504, "GraphSidecarException")
        clock.ahead += 61
    assert here.graph.ledger.counted_calls == 0
    await here.say(READ, token="ann")
    clock.ahead += 61
    assert (await say(here, "only-if-cached")).status == 504
    assert here.graph.ledger.counted_calls == 1


async def test_no_store_keeps_nothing(scene: MakeScene) -> None:
    """What a caller wants kept out is not there for the next one either."""
    here = await scene(FRESH)
    await say(here, "no-store")
    assert (await here.say(READ, token="ann")).cache == "fwd=uri-miss; stored"


async def test_a_caller_may_take_what_no_rule_allows(scene: MakeScene, clock: Clock) -> None:
    """As delivered nothing is fresh; a caller owns its token, and says for itself how old an answer it takes."""
    here = await scene()
    await here.say(READ, token="ann")
    clock.ahead += 5
    assert (await say(here, "max-stale=30")).cache.endswith("detail=max-stale")
    assert (await here.say(READ, token="ann")).cache == CHECKED
    assert (await here.say(READ, token="bob", headers={"Cache-Control": "max-stale"})).cache == "fwd=uri-miss; stored"


async def test_not_even_a_caller_may_take_what_was_written_to(scene: MakeScene) -> None:
    """What was changed through the sidecar, is not final, or was refused is asked for, whatever a caller would take."""
    here = await scene(FRESH)
    await here.say(READ, token="ann")
    await here.say("/v25.0/111", method="POST", data={"name": "new"}, token="eve")
    assert (await say(here, "max-stale")).json["name"] == "new"
    here.graph.world.touch("111", {"is_completed": False})
    poll = "/v25.0/111?fields=id,is_completed"
    await say(here, "max-stale", poll)
    assert (await say(here, "max-stale", poll)).cache == CHECKED


@pytest.mark.parametrize("control, covered", [("stale-if-error=60", True), ("stale-if-error=5", False), ("", False)])
async def test_a_caller_may_take_an_old_answer_for_trouble(
    scene: MakeScene, clock: Clock, control: str, *, covered: bool
) -> None:
    """RFC 5861 section 4, in a request: within these seconds an old answer is better than Graph's trouble."""
    here = await scene()
    old = await here.say(READ, token="ann")
    clock.ahead += 10
    for fault in ({"kind": "unavailable"}, {"kind": "cut"}, {"kind": "refused", "code": 4}):
        here.graph.faults.clear()
        here.graph.faults.add(fault)
        heard = await say(here, control)
        assert (heard.body == old.body) is covered
        assert heard.cache.endswith("detail=stale-if-error") is covered


async def test_a_caller_may_refuse_an_old_answer_for_trouble(scene: MakeScene) -> None:
    """`stale-if-error=0` wants Graph's own word, trouble or not, whatever the rule would give."""
    here = await scene({"cache": {"stale_if_error_s": 3600}})
    await here.say(READ, token="ann")
    here.graph.faults.add({"kind": "unavailable"})
    assert (await here.say(READ, token="ann")).status == 200
    assert (await say(here, "stale-if-error=0")).status == 503


async def test_an_old_answer_is_nobody_elses(scene: MakeScene, clock: Clock) -> None:
    """Who takes only fresh answers never shares the flight of one who takes old ones."""
    here = await scene()
    await here.say(READ, token="ann")
    clock.ahead += 10
    mine, hers = await asyncio.gather(say(here, "max-stale"), here.say(READ, token="ann"))
    assert mine.cache.endswith("detail=max-stale")
    assert hers.cache == CHECKED


@pytest.mark.parametrize("stamp", ["oe={:08X}", "ext={:d}"])
async def test_signed_links_end_freshness(scene: MakeScene, clock: Clock, stamp: str) -> None:
    """A body whose links end before the rule says is fresh until they do, and no longer: the earlier counts."""
    here = await scene({"cache": {"fresh_s": 3600, "stale_while_revalidate_s": 3600}})
    link = "https://scontent.xx.fbcdn.net/v/1.jpg?_nc_cat=1&" + stamp.format(int(clock()) + 600)
    here.graph.world.touch("111", {"full_picture": link})
    path = "/v25.0/111?fields=id,full_picture"
    await here.say(path, token="ann")
    assert 590 <= int((await here.say(path, token="ann")).cache.removeprefix("hit; ttl=")) <= 600
    clock.ahead += 601
    assert (await here.say(path, token="ann")).cache == CHECKED
    assert (await here.say(path, token="ann")).cache == CHECKED


async def test_a_timed_proof_is_always_asked(scene: MakeScene) -> None:
    """A proof with an `appsecret_time` is for Graph to check, each time; one without is reused once it was checked."""
    here = await scene(FRESH)
    for extra, expected in (
        ("&appsecret_proof=ab&appsecret_time=1", CHECKED),
        ("&appsecret_proof=ab", "hit; ttl=59"),
    ):
        await here.say(READ + extra, token="ann")
        assert (await here.say(READ + extra, token="ann")).cache == expected
