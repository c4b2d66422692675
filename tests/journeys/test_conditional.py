"""What a caller's own conditions and wishes do: HEAD, If-None-Match and Cache-Control."""

from __future__ import annotations

import asyncio

import pytest

from tests.journeys.conftest import MakeGate, MakeScene, MakeTwins
from tests.journeys.talking import Heard, Scene

READ = "/v25.0/111?fields=id,name"
FRESH = {"cache": {"fresh_s": 3600}}
CONFIRMED = "fwd=stale; fwd-status=304"


async def wishing(here: Scene, control: str, *, token: str = "ann", name: str = "Cache-Control") -> Heard:
    """Read with the caller's own wish."""
    return await here.say(READ, token=token, headers={name: control})


# --- HEAD


async def test_head_is_a_read_without_its_body(twins: MakeTwins) -> None:
    """HEAD answers with GET's fields, its Content-Length among them, and warms what a GET then confirms."""
    both = await twins()
    await both.alike(READ, method="HEAD", token="ann")
    heard = await both.alike(READ, method="HEAD", token="ann")
    assert (heard.status, heard.body, heard.cache) == (200, b"", CONFIRMED)
    got = await both.alike(READ, token="ann")
    assert got.cache == CONFIRMED
    assert heard.headers["Content-Length"] == str(len(got.body))
    assert (heard.etag, heard.headers["Content-Type"]) == (got.etag, got.headers["Content-Type"])


async def test_head_of_an_error(twins: MakeTwins) -> None:
    """HEAD tells the status of an error and no more."""
    both = await twins()
    assert (await both.alike("/v25.0/404111", method="HEAD", token="ann")).status == 400


# --- If-None-Match


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"a,b", W/"c" , W/{}', "*", " {} "], ids=str.strip)
@pytest.mark.parametrize("settings", [{}, FRESH], ids=["confirmed", "fresh"])
async def test_a_caller_that_has_the_body_is_told_so(scene: MakeScene, form: str, settings: dict[str, object]) -> None:
    """A caller with a cache of its own gets 304, the ETag and no body, whichever way it writes its tags."""
    here = await scene(settings)
    first = await here.say(READ, token="ann")
    heard = await here.say(READ, token="ann", headers={"If-None-Match": form.format(first.etag)})
    assert (heard.status, heard.body, heard.etag) == (304, b"", first.etag)
    assert "Content-Encoding" not in heard.headers
    assert heard.cache


@pytest.mark.parametrize("tags", ['"other"', 'W/"other", "x"', "other", ""])
async def test_a_caller_with_another_body_gets_this_one(scene: MakeScene, tags: str) -> None:
    """Tags that are not of this body are answered 200 with it."""
    here = await scene()
    first = await here.say(READ, token="ann")
    heard = await here.say(READ, token="ann", headers={"If-None-Match": tags})
    assert (heard.status, heard.body) == (200, first.body)


async def test_a_callers_tag_is_of_use_where_nothing_is_held(scene: MakeScene) -> None:
    """A caller with a warm cache before a cold sidecar is told 304, and the sidecar is warm from then on."""
    here = await scene()
    tag = (await here.say(READ, token="ann", headers={"Cache-Control": "no-store"})).etag
    heard = await here.say(READ, token="ann", headers={"If-None-Match": tag})
    assert (heard.status, heard.cache) == (304, "fwd=uri-miss; stored")
    assert (await here.say(READ, token="ann")).cache == CONFIRMED


async def test_a_changed_body_reaches_a_caller_with_the_old_tag(scene: MakeScene) -> None:
    """Once the object has changed, the old tag is answered 200 with the new body and tag."""
    here = await scene()
    old = await here.say(READ, token="ann")
    here.graph.world.touch("111")
    new = await here.say(READ, token="ann", headers={"If-None-Match": old.etag})
    assert new.status == 200
    assert new.etag != old.etag


async def test_callers_in_one_flight_are_each_told_by_their_own_tag(scene: MakeScene, gate: MakeGate) -> None:
    """Who has the body and who has not may share a call: one gets 304, the other the body."""
    here = await scene()
    first = await here.say(READ, token="ann")
    shut = gate(here.graph)
    tagged = {"If-None-Match": first.etag}
    callers = await here.caller.start(here.say(READ, token="ann", headers=tagged), here.say(READ, token="ann"))
    shut.open()
    heard = await asyncio.gather(*callers)
    assert [(each.status, each.body) for each in heard] == [(304, b""), (200, first.body)]
    assert here.slots == [1, 1]


async def test_an_error_is_never_a_304(scene: MakeScene) -> None:
    """A condition does not hide an error."""
    here = await scene()
    assert (await here.say("/v25.0/404111", token="ann", headers={"If-None-Match": "*"})).status == 400


async def test_head_may_carry_tags(scene: MakeScene) -> None:
    """HEAD with the current tag is 304 as GET is."""
    here = await scene()
    tag = (await here.say(READ, token="ann")).etag
    assert (await here.say(READ, token="ann", method="HEAD", headers={"If-None-Match": tag})).status == 304


# --- Cache-Control


@pytest.mark.parametrize(
    "name, control",
    [("Cache-Control", "no-cache"), ("Cache-Control", "max-age=60, No-Cache"), ("Pragma", "no-cache"),
     ("Cache-Control", "max-age=0")],
)  # fmt: skip
async def test_a_caller_may_insist_on_asking_graph(scene: MakeScene, name: str, control: str) -> None:
    """A caller that must know now is answered by Graph even where the rules call the body fresh; unchanged is 304."""
    here = await scene(FRESH)
    first = await here.say(READ, token="ann")
    heard = await wishing(here, control, name=name)
    assert heard.body == first.body
    assert "fwd-status=304" in heard.cache
    here.graph.world.touch("111")
    assert (await wishing(here, control, name=name)).body != first.body


async def test_pragma_counts_only_without_cache_control(scene: MakeScene) -> None:
    """Cache-Control, where there is one, is what holds (RFC 9111 section 5.4)."""
    here = await scene(FRESH)
    await here.say(READ, token="ann")
    heard = await here.say(READ, token="ann", headers={"Pragma": "no-cache", "Cache-Control": "max-age=600"})
    assert heard.cache.startswith("hit")


@pytest.mark.parametrize("control", ["no-cache", "no-store"])
async def test_who_insists_joins_no_flight(scene: MakeScene, gate: MakeGate, control: str) -> None:
    """A flight that left before the caller asked may tell of before: who insists gets a call of its own."""
    here = await scene()
    shut = gate(here.graph)
    flying = await here.caller.start(here.say(READ, token="ann"))
    await shut.has(1)
    here.graph.world.touch("111")
    insisting = await here.caller.start(wishing(here, control))
    await shut.has(2)
    shut.open()
    before, now = await asyncio.gather(*flying, *insisting)
    assert before.json["name"] != now.json["name"]
    assert now.json["name"].endswith("· 1")


async def test_a_caller_may_have_nothing_kept(scene: MakeScene) -> None:
    """`no-store`: Graph is asked without a tag, and neither memory nor disk keeps anything of it."""
    here = await scene(FRESH)
    for _time in range(2):
        heard = await wishing(here, "no-store")
        assert (heard.status, heard.cache) == (200, "fwd=request")
    assert [slot["headers"] for slot in here.asked] == [[], []]
    store = (await here.stats())["store"]
    assert (store["memory_entries"], store["disk_entries"], store["writes"]) == (0, 0, 0)
    assert (await here.say(READ, token="ann")).cache == "fwd=uri-miss; stored"


async def test_a_caller_may_take_only_what_is_held(scene: MakeScene) -> None:
    """`only-if-cached` never costs a call: what is fresh is served, all else is a 504 in Graph's shape."""
    here = await scene(FRESH)
    nothing = await wishing(here, "only-if-cached")
    assert nothing.status == 504
    assert nothing.json["error"]["message"].startswith("graph-sidecar: ")
    assert nothing.json["error"]["is_transient"] is False
    first = await here.say(READ, token="ann")
    held = await wishing(here, "only-if-cached")
    assert (held.status, held.body) == (200, first.body)
    assert held.cache.startswith("hit; ttl=")
    assert len(here.asked) == 1


async def test_what_is_stale_is_not_taken_unasked(scene: MakeScene) -> None:
    """By default nothing is fresh, so `only-if-cached` is refused even where something is held."""
    here = await scene()
    await here.say(READ, token="ann")
    assert (await wishing(here, "only-if-cached")).status == 504


async def test_a_caller_may_want_it_fresher_never_older(scene: MakeScene) -> None:
    """`max-age` shortens what the rules allow and does not lengthen it."""
    here = await scene({"rules": [{"path": "/111", "fresh_s": 3600}]})
    await here.say(READ, token="ann")
    assert (await wishing(here, "max-age=600")).cache.startswith("hit; ttl=")
    for _time in range(2):
        heard = await here.say("/v25.0/222", token="ann", headers={"Cache-Control": "max-age=600"})
        assert heard.cache.startswith("fwd=")


@pytest.mark.parametrize("control", ["max-age=x", "max-age=-1", "no-cache=field", ",,", "max-age", 'max-age="600"'])
async def test_a_wish_that_makes_no_sense_breaks_nothing(scene: MakeScene, control: str) -> None:
    """Odd Cache-Control from old clients is answered all the same."""
    here = await scene(FRESH)
    await here.say(READ, token="ann")
    assert (await wishing(here, control)).status == 200
