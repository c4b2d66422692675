"""Many spellings of one read are one entry and one question; reads that differ stay apart."""

from __future__ import annotations

import asyncio

import pytest

from tests.journeys.conftest import MakeGate, MakeScene, MakeTwins
from tests.wires import calling

CANON = "/v25.0/111?fields=id,name"
FEED = "/v25.0/111/feed?fields=id,message&limit=2"

SAME = [
    pytest.param("/v25.0/111?fields=id", "/v25.0/111/?fields=id", id="slash at the end"),
    pytest.param(FEED, "/v25.0/111/feed?limit=2&fields=id,message", id="order of parameters"),
    pytest.param(CANON, "/v25.0/111?fields=id%2Cname", id="escaped comma"),
    pytest.param(CANON, "/v25.0/111?fields=id%2cname", id="escaped in small letters"),
    pytest.param(CANON, "/v25.0/%31%31%31?fields=id,name", id="escaped without need"),
    pytest.param(CANON, "/v25.0/111?fields=name,id", id="order of fields"),
    pytest.param(
        "/111?fields=id,feed.limit(2){id,message},name",
        "/111?fields=name,feed.limit(2)%7Bid,message%7D,id",
        id="order of fields around braces",
    ),
    pytest.param("/111?fields=[%22id%22,%22name%22]", '/111?fields=["name","id"]', id="order in a JSON list"),
    pytest.param(CANON, f"{CANON}&fields=id,name", id="the same parameter twice"),
    pytest.param(CANON, "/v25.0/111?fields=name,id&fields=id,name", id="the same parameter twice, spelt differently"),
    pytest.param("/111?fields=id&x=a+b", "/111?fields=id&x=a%20b", id="plus for a space"),
    pytest.param("/111?fields=id&x=%C3%A6", "/111?fields=id&x=%c3%a6", id="escaped letters"),
]
DIFFERENT = [
    pytest.param(CANON, "/v24.0/111?fields=id,name", id="version"),
    pytest.param("/v19.0/111?fields=id,name", "/111?fields=id,name", id="version left out"),
    pytest.param("/111/feed?limit=1&limit=2", "/111/feed?limit=2&limit=1", id="the last of two limits wins"),
    pytest.param("/111?fields=feed{id,message}", "/111?fields=feed{message,id}", id="order inside braces"),
    pytest.param("/111?fields=id,name", "/111?fields=id,name,", id="another text"),
    pytest.param("/111?fields=id&x=A", "/111?fields=id&x=a", id="capitals"),
    pytest.param("/111?fields[]=id&fields[]=name", "/111?fields[]=name&fields[]=id", id="order in an array"),
    pytest.param("/111", "/112", id="object"),
]


@pytest.mark.parametrize("one, other", SAME)
async def test_two_spellings_are_one_question(scene: MakeScene, one: str, other: str) -> None:
    """Programs that spell a read differently share what is held, and Graph sees one spelling and so gives one ETag."""
    here = await scene()
    first, second = await here.say(one, token="ann"), await here.say(other, token="ann")
    assert first.cache == "fwd=uri-miss; stored"
    assert second.cache == "fwd=stale; fwd-status=304"
    assert second.body == first.body
    assert len({slot["relative_url"] for slot in here.asked}) == 1


@pytest.mark.parametrize("one, other", DIFFERENT)
async def test_two_questions_are_two_entries(twins: MakeTwins, one: str, other: str) -> None:
    """Reads that may have different answers are never taken for each other."""
    both = await twins(settings={"cache": {"fresh_s": 3600}, "paging": {"rewrite": False}})
    for path in (one, other):
        heard = await both.alike(path, token="ann")
        assert heard.cache == "fwd=uri-miss; stored"


async def test_letters_in_a_target_may_come_in_pieces(scene: MakeScene) -> None:
    """A long target with letters that are no ASCII is read like a short one, wherever a network cuts it."""
    here = await scene()
    asked = "GET /v25.0/111?fields=id&x=ø&access_token=ann HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    at = asked.index("ø".encode())
    async with calling(here.front.url) as wire:
        for cut in (at - 20, at, at + 1, at + 2, asked.index(b"\n"), asked.index(b"\n") + 3, len(asked)):
            await wire.send(asked[:cut])
            await here.caller.settle()
            await wire.send(asked[cut:])
            assert (await wire.message()).status == 200, cut
    assert ["%C3%B8" in slot["relative_url"] for slot in here.asked] == [True] * 7


async def test_the_version_is_sent_as_it_was_asked(scene: MakeScene) -> None:
    """Versions ride together, each in its own slot; a call without one stays without."""
    here = await scene({"upstream": {"connections": 1}})
    heard = await here.crowd("/v25.0/111", "/v22.0/111", "/111", token="ann")
    assert {each.headers["Facebook-API-Version"] for each in heard} == {"v25.0", "v22.0", "v19.0"}
    assert {slot["relative_url"].partition("111")[0] for slot in here.asked} == {"v25.0/", "v22.0/", ""}


async def test_the_callers_language_is_kept_apart(twins: MakeTwins) -> None:
    """A caller who reads Danish does not get what was fetched for one who reads English, fresh as it may be."""
    both = await twins(settings={"cache": {"fresh_s": 3600}})
    path = "/v25.0/111?fields=category"
    heard = [await both.alike(path, token="ann", headers={"Accept-Language": each}) for each in ("da", "en", "da")]
    assert [each.json["category"] for each in heard] == ["Fællesskab", "Community", "Fællesskab"]
    assert heard[2].cache.startswith("hit")


async def test_languages_do_not_ride_together(scene: MakeScene, gate: MakeGate) -> None:
    """A batch is asked in one language: each caller gets its own even when all ask at once."""
    here = await scene({"upstream": {"connections": 1}})
    shut = gate(here.graph)
    paths = [f"/v25.0/{number}?fields=category" for number in range(100, 106)]
    callers = await here.caller.start(
        *(here.say(path, token="ann", headers={"Accept-Language": "da-DK,da;q=0.9"}) for path in paths),
        *(here.say(path, token="ann", headers={"Accept-Language": "de"}) for path in paths),
        *(here.say(path, token="ann") for path in paths),
    )
    shut.open()
    heard = await asyncio.gather(*callers)
    assert [each.json["category"] for each in heard] == ["Fællesskab"] * 6 + ["Gemeinschaft"] * 6 + ["Community"] * 6
    assert sum(here.slots) == 18
    for call in here.graph.ledger.requests:
        assert len({slot["relative_url"] for slot in call["slots"]}) == len(call["slots"])


async def test_the_callers_program_makes_no_difference(scene: MakeScene) -> None:
    """One User-Agent goes to Graph whoever asks, so that two programs share ETags and what is held."""
    here = await scene()
    first = await here.say(CANON, token="ann", headers={"User-Agent": "Mozilla/5.0 (X11)"})
    second = await here.say(CANON, token="ann", headers={"User-Agent": "ruby"})
    await here.say("/v25.0/111/picture", token="ann", headers={"User-Agent": "Mozilla/5.0 (X11)"})
    assert second.cache == "fwd=stale; fwd-status=304"
    assert first.body == second.body
    assert set(here.graph.ledger.user_agents) == {"graph-sidecar"}


async def test_the_user_agent_is_the_operators(scene: MakeScene) -> None:
    """A team may name its own User-Agent to Graph, in batches, single reads and what passes through."""
    here = await scene({"upstream": {"user_agent": "ads-team"}}, public_ids=("111",))
    await here.say("/111", token="ann")
    await here.say("/111")
    await here.say("/111", method="POST", token="ann", data={"name": "new"})
    assert set(here.graph.ledger.user_agents) == {"ads-team"}
