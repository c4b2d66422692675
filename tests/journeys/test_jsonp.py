"""JSONP is dressed here: Graph is asked plainly, the plain body is held, the wrapper is ours."""

from __future__ import annotations

import pytest

from tests.journeys.conftest import MakeScene, MakeTwins

READ = "/v25.0/111?fields=id,name"


@pytest.mark.parametrize("callback", ["cb", "app.got", "cb[0]", "$_.a1[12].b", "_jsonp"])
async def test_a_callback_gets_what_graph_would_hand_it(twins: MakeTwins, callback: str) -> None:
    """A page with a script tag gets the same script, of the same type, as from Graph, new and confirmed."""
    both = await twins()
    for _time in range(2):
        heard = await both.alike(f"{READ}&callback={callback}", token="ann")
        assert heard.body.startswith(f"/**/ {callback}({{".encode())
        assert heard.headers["Content-Type"] == "text/javascript; charset=UTF-8"


async def test_the_plain_body_is_what_is_held(scene: MakeScene) -> None:
    """Pages with callbacks and programs without share one entry and one call to Graph, which sees no callback."""
    here = await scene()
    plain = await here.say(READ, token="ann")
    for callback in ("one", "two"):
        heard = await here.say(f"{READ}&callback={callback}", token="ann")
        assert heard.cache == "fwd=stale; fwd-status=304"
        assert heard.body == f"/**/ {callback}(".encode() + plain.body + b");"
    assert (await here.say(READ, token="ann")).body == plain.body
    assert len({slot["relative_url"] for slot in here.asked}) == 1
    assert "callback" not in here.asked[0]["relative_url"]


@pytest.mark.parametrize("path", ["/v25.0/404111?callback=cb", "/v25.0/111?fields=nope&callback=cb"])
async def test_an_error_is_handed_to_the_callback(twins: MakeTwins, path: str) -> None:
    """A page hears of an error through its callback, as from Graph."""
    both = await twins()
    heard = await both.alike(path, token="ann")
    assert heard.body.startswith(b'/**/ cb({"error":')


@pytest.mark.parametrize(
    "callback",
    [
        "alert(1)",
        "a;b",
        "1a",
        "a-b",
        "a..b",
        "a.",
        ".a",
        "a[b]",
        "a[]",
        "a%20b",
        "%3Cscript%3E",
        "a%0A",
        "%C3%A6",
        "a'",
        "a%00",
    ],
)
async def test_a_callback_that_is_no_function_is_refused(scene: MakeScene, callback: str) -> None:
    """Nobody gets a script of their own choosing from us: the refusal is a 400 in Graph's shape."""
    here = await scene()
    heard = await here.say(f"{READ}&callback={callback}", token="ann")
    assert (heard.status, heard.headers["Content-Type"]) == (400, "application/json; charset=UTF-8")
    assert heard.json["error"]["message"].startswith("graph-sidecar: callback must be")
    assert heard.json["error"]["code"] == 100
    assert here.asked == []


async def test_an_empty_callback_is_none(twins: MakeTwins) -> None:
    """`callback=` asks for plain JSON."""
    both = await twins()
    assert (await both.alike(f"{READ}&callback=", token="ann")).json["id"] == "111"


async def test_links_in_a_script_lead_back_too(scene: MakeScene) -> None:
    """A page that follows links gets them pointed at the sidecar."""
    here = await scene()
    heard = await here.say("/v25.0/111/feed?callback=cb", token="ann")
    assert here.front.url.replace("/", "\\/").encode() in heard.body
    assert b"graph.facebook.com" not in heard.body
