"""What a page in a browser needs (Fetch standard): to read any answer, batches and errors too, and to ask first."""

from __future__ import annotations

from typing import Any

import pytest

from tests.journeys.conftest import MakeScene, MakeTwins
from tests.journeys.operating import Item, batch, gets, posts
from tests.journeys.talking import Heard
from tests.wires import said

ANYONE = "Access-Control-Allow-Origin"
AROUND = (ANYONE, "Facebook-API-Version", "Vary", "Strict-Transport-Security", "Cache-Control", "Expires", "Pragma")
TRACE = ("x-fb-trace-id", "x-fb-request-id", "x-fb-rev", "x-fb-debug")
FRESH: dict[str, Any] = {"cache": {"fresh_s": 3600}}


def around(heard: Heard) -> dict[str, str | None]:
    """What stands around the slots."""
    return {name: heard.headers.get(name) for name in AROUND}


@pytest.mark.parametrize(
    "items",
    [gets("1", "2"), [*gets("1"), *posts("1/feed")], posts("1/feed"), gets("1", "no/1/2"), gets(*map(str, range(60)))],
    ids=["reads", "mixed", "a write", "one is wrong", "many"],
)  # fmt: skip
@pytest.mark.parametrize("top", [{}, {"callback": "app.got"}, {"include_headers": "false"}], ids=["", "jsonp", "bare"])
async def test_the_reply_to_a_batch_can_be_read(twins: MakeTwins, items: list[Item], top: dict[str, str]) -> None:
    """Around the slots stands what Graph says there, cold and warm."""
    both = await twins(batch_limit=100)
    for time in ("cold", "warm"):
        direct, through = await batch(both.direct, items, **top), await batch(both.through, items, **top)
        assert around(through) == around(direct), time
        assert all(name in through.headers for name in TRACE), time


async def test_a_batch_that_is_answered_from_here(twins: MakeTwins) -> None:
    """Where no call is made at all, the reply can be read as well, and tells the version that served it."""
    both = await twins(FRESH)
    await batch(both.through, gets("1", "2"))
    direct, through = await batch(both.direct, gets("1", "2")), await batch(both.through, gets("1", "2"))
    assert len(both.behind.ledger.slots) == 1
    assert around(through) == around(direct)


async def test_operations_of_other_versions(twins: MakeTwins) -> None:
    """The version around the slots is that of the call, and never that of an operation."""
    both = await twins()
    heard = await batch(both.through, gets("v20.0/1", "v21.0/2"))
    assert heard.headers.get("Facebook-API-Version") in {None, "v25.0"}
    heard = await batch(both.through, gets("v20.0/1", "2"))
    assert heard.headers["Facebook-API-Version"] == "v25.0"


@pytest.mark.parametrize("place", ["items", "outer"])
async def test_usage_around_the_slots(twins: MakeTwins, place: str) -> None:
    """It stands there if Graph has it there, with a call of the batch's own and without."""
    both = await twins(usage_place=place, budget=1000)
    for items in (gets("1", "2"), [*gets("3"), *posts("1/feed")]):
        direct, through = await batch(both.direct, items), await batch(both.through, items)
        assert through.headers.getall("X-App-Usage", []) == direct.headers.getall("X-App-Usage", [])


async def test_refusals_can_be_read(twins: MakeTwins) -> None:
    """Graph's refusal of a whole batch, and the throttle of a read."""
    both = await twins(refused_tokens=("ann",))
    for items in (gets("1"), posts("1/feed")):
        direct, through = await batch(both.direct, items), await batch(both.through, items)
        assert (through.status, through.headers[ANYONE]) == (direct.status, direct.headers[ANYONE]) == (400, "*")


async def test_errors_of_ours_can_be_read(scene: MakeScene) -> None:
    """An error of the sidecar's own is one that the page can read: of a read, a write, a batch, of what is none."""
    here = await scene({"upstream": {"origin": "http://127.0.0.1:9"}})
    for heard in (
        await here.say("/v25.0/1", token="ann"),
        await here.say("/v25.0/1/feed", method="POST", token="ann", data=b"message=x"),
        await batch(here.caller, gets("1")),
        await batch(here.caller, posts("1/feed")),
        await here.say("/v25.0/1?callback=1", token="ann"),
        await here.say("/v25.0/1", token="ann", headers={"Cache-Control": "only-if-cached"}),
    ):
        assert heard.json["error"]["type"] == "GraphSidecarException"
        assert heard.headers[ANYONE] == "*"
    for start in ("GET / HTTP/9.9", "GET / HTTP/1.1\r\nTransfer-Encoding: gzip", "G{T / HTTP/1.1"):
        answer = await said(here.front.url, f"{start}\r\nHost: x\r\n\r\n")
        assert b"access-control-allow-origin: *" in answer.lower(), start


async def test_the_admin_listener_is_read_by_no_page(scene: MakeScene) -> None:
    """What the sidecar tells of itself, its errors included, is not for pages of others."""
    here = await scene()
    for path in ("/stats", "/nothing", "/purge"):
        assert ANYONE not in (await here.say(f"{here.front.admin_url}{path}")).headers


PREFLIGHTS = [
    "/v25.0/1", "/v25.0/1?access_token=ann", "/", "/v25.0/?batch=[]", "/v25.0/1?method=delete&access_token=ann",
    "/v25.0/1?access_token=ann&access_token=bob", "/v25.0/upload:MTph==?sig=x", "/v25.0/1/picture",
    "/v25.0/1?callback=1", "/v25.0/act_1/insights?access_token=ann",
]  # fmt: skip


@pytest.mark.parametrize("path", PREFLIGHTS)
async def test_a_browser_asks_before_it_sends(twins: MakeTwins, path: str) -> None:
    """A preflight is Graph's to answer, whatever the request will be; it changes nothing, and counts for nothing."""
    both = await twins(FRESH)
    await both.through.say("/v25.0/1", token="ann")
    fields = {"Origin": "https://app.example", "Access-Control-Request-Method": "DELETE",
              "Access-Control-Request-Headers": "content-type, x-anything"}  # fmt: skip
    direct, through = await both.both(path, method="OPTIONS", headers=fields)
    allowed = [name for name in direct.headers if name.lower().startswith("access-control-")]
    assert (through.status, through.body) == (direct.status, direct.body) == (200, b"")
    assert {name: through.headers[name] for name in allowed} == {name: direct.headers[name] for name in allowed}
    assert len(allowed) == 4
    assert (await both.through.say("/v25.0/1", token="ann")).cache.startswith("hit")
    assert both.behind.ledger.counted_calls == 1


async def test_a_preflight_while_calls_are_refused(scene: MakeScene) -> None:
    """A limit of Graph's holds no preflight back: the page shall read the throttle itself."""
    here = await scene(budget=1)
    for _time in range(3):
        assert (await here.say("/v25.0/1", token="ann")).status in {200, 400}
    fields = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert (await here.say("/v25.0/1", method="OPTIONS", token="ann", headers=fields)).status == 200
    assert (await here.say("/v25.0/2", token="ann")).headers[ANYONE] == "*"
