"""What is a plain read, whatever it looks like, and what goes straight through to Graph."""

from __future__ import annotations

from typing import Any

import pytest

from tests.journeys.conftest import MakeScene, MakeTwins

READ = "/v25.0/111?fields=id,name"
BYPASSED = [
    pytest.param("/v25.0/oauth/access_token?grant_type=fb_exchange_token&fb_exchange_token=x", {}, id="oauth"),
    pytest.param("/debug_token?input_token=bob", {}, id="debug_token"),
    pytest.param("/v25.0/debug_token?input_token=bob", {}, id="debug_token with a version"),
    pytest.param("/v25.0/111/picture", {}, id="picture"),
    pytest.param("/v25.0/me/picture?redirect=0", {}, id="picture as JSON"),
    pytest.param(READ, {"Range": "bytes=0-9"}, id="Range"),
    pytest.param(READ, {"If-Range": '"x"', "Range": "bytes=0-9"}, id="If-Range"),
    pytest.param(READ, {"If-Match": '"x"'}, id="If-Match"),
    pytest.param(READ, {"Accept": "text/event-stream"}, id="a stream"),
]


@pytest.mark.parametrize("path, said", BYPASSED)
async def test_some_reads_are_never_batched_nor_held(twins: MakeTwins, path: str, said: dict[str, str]) -> None:
    """Secrets, images and parts of bodies go to Graph as they were asked, each time, even where all else is fresh."""
    both = await twins(settings={"cache": {"fresh_s": 3600}})
    for _time in range(2):
        heard = await both.alike(path, token="ann", headers=said)
        assert heard.cache.startswith("fwd=bypass; detail=")
    assert both.behind.ledger.batches == 0
    assert both.behind.ledger.http_calls == 2
    assert both.behind.ledger.requests[0]["target"] == both.alone.ledger.requests[0]["target"]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b" {}\n", b""])
async def test_a_read_with_an_empty_body_is_a_read(scene: MakeScene, body: bytes) -> None:
    """Meta's Node SDK sends `{}` with every GET: its reads are batched and revalidated like anybody's."""
    here = await scene()
    said: dict[str, Any] = {"token": "ann", "data": body, "headers": {"Content-Type": "application/json"}}
    first, second = await here.say(READ, **said), await here.say(READ, **said)
    assert second.cache == "fwd=stale; fwd-status=304"
    assert first.body == second.body
    assert here.slots == [1, 1]


@pytest.mark.parametrize("body", [b"fields=id", b'{"fields":"id"}', b" " * 70_000])
async def test_a_read_whose_body_says_something_goes_through(twins: MakeTwins, body: bytes) -> None:
    """Parameters in the body of a GET are Graph's to read: such a request is passed on whole and not held."""
    both = await twins()
    kind = "application/json" if body[:1] == b"{" else "application/x-www-form-urlencoded"
    heard = await both.alike("/v25.0/111", token="ann", data=body, headers={"Content-Type": kind})
    assert "fwd=" in heard.cache
    assert "stored" not in heard.cache
    assert both.behind.ledger.batches == 0


@pytest.mark.parametrize("spelling", ["method=delete", "method=DELETE", "method=get&method=delete"])
async def test_a_get_that_deletes_is_a_write(twins: MakeTwins, spelling: str) -> None:
    """`GET ?method=delete` deletes: it is sent once, in a call of its own, and what was fresh is asked for again."""
    both = await twins(settings={"cache": {"fresh_s": 3600}})
    await both.alike(READ, token="ann")
    done = await both.alike(f"/v25.0/111?{spelling}", token="ann")
    assert done.json == {"success": True}
    assert done.cache == "fwd=method"
    assert both.behind.ledger.writes == both.alone.ledger.writes
    assert (await both.alike(READ, token="ann")).status == 400


async def test_a_get_that_says_it_is_one_is_a_read(scene: MakeScene) -> None:
    """`method=get` says nothing new: the read shares what is held with its plain spelling."""
    here = await scene()
    await here.say(READ, token="ann")
    assert (await here.say(f"{READ}&method=get", token="ann")).cache == "fwd=stale; fwd-status=304"


async def test_a_post_that_says_get_is_passed_on(twins: MakeTwins) -> None:
    """A POST with `method=get`, as some SDKs send long reads, gets what Graph answers and is not held."""
    both = await twins()
    heard = await both.alike("/v25.0/111", method="POST", data={"method": "get", "fields": "id", "access_token": "ann"})
    assert heard.json == {"id": "111"}
    assert both.behind.ledger.batches == 0


@pytest.mark.parametrize("path", ["/v25.0//111", "/v25.0/../111", "/v25.0/111?access.token=bob&fields=id"])
async def test_what_is_spelt_oddly_is_left_to_graph(scene: MakeScene, path: str) -> None:
    """A path or name that Graph may read in another way than we do is passed on as it stands."""
    here = await scene()
    heard = await here.say(path, token="ann")
    assert heard.cache.startswith("fwd=")
    assert "stored" not in heard.cache
    assert here.slots == []
