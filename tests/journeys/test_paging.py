"""Links to further pages lead back through the sidecar, and nothing else of a body changes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.journeys.conftest import MakeScene, MakeTwins
from tests.journeys.talking import Scene, Twins

FEED = "/v25.0/111/feed?fields=id,message&limit=7"
NESTED = "/v25.0/me?fields=accounts.limit(2){feed.limit(3){id},id},id"
GRAPH = b"https:\\/\\/graph.facebook.com"


def escaped(url: str) -> bytes:
    """*url* as Graph writes it in JSON."""
    return url.replace("/", "\\/").encode()


def links(value: Any) -> list[str]:
    """Every `next` and `previous` of every `paging` in *value*."""
    if isinstance(value, list):
        return [link for each in value for link in links(each)]
    if not isinstance(value, dict):
        return []
    paging = value.get("paging", {})
    own = [paging[name] for name in ("next", "previous") if name in paging] if isinstance(paging, dict) else []
    return own + [link for each in value.values() for link in links(each)]


async def test_following_the_links_stays_on_the_sidecar(scene: MakeScene) -> None:
    """A program that follows `paging.next` to the end, and back, reads every page through the sidecar."""
    here = await scene(edge_length=20)
    seen, pages = await walk(here, FEED + "&access_token=ann", "next")
    assert (len(seen), len(set(seen)), len(pages)) == (20, 20, 3)
    back, _ = await walk(here, pages[-1], "previous")
    assert set(back) == set(seen)
    assert len(here.asked) == 6
    assert all("#" in slot["relative_url"] for slot in here.asked)


async def walk(here: Scene, url: str, way: str) -> tuple[list[str], list[str]]:
    """The ids of all pages from *url* on, and the addresses of the pages."""
    ids, pages = [], []
    while url:
        pages.append(url)
        heard = await here.say(url)
        assert heard.cache
        ids += [each["id"] for each in heard.json["data"]]
        url = heard.json["paging"].get(way, "")
    return ids, pages


async def test_a_second_walk_is_revalidated(scene: MakeScene) -> None:
    """Pages that were reached by links are held and confirmed as any other read."""
    here = await scene(edge_length=20)
    await walk(here, FEED + "&access_token=ann", "next")
    await walk(here, FEED + "&access_token=ann", "next")
    assert here.graph.ledger.not_modified["batch"] == 3


@pytest.mark.parametrize("path", [FEED, NESTED, "/v25.0/111/feed?fields=id&limit=2&pretty=1"])
async def test_nothing_but_the_origin_of_the_links_changes(twins: MakeTwins, path: str) -> None:
    """The body is Graph's byte for byte, escaped slashes included, but for the scheme and host of the paging links."""
    both = await twins(edge_length=20)
    for cache in ("fwd=uri-miss; stored", "fwd=stale; fwd-status=304"):
        direct, through = await both.both(path, token="ann")
        assert GRAPH in direct.body
        assert through.body == direct.body.replace(GRAPH, escaped(both.front.url))
        assert through.cache == cache


async def test_links_of_nested_edges_lead_back_too(scene: MakeScene) -> None:
    """An edge inside a field has its own links; those are followed through the sidecar as well."""
    here = await scene(edge_length=20)
    found = links((await here.say(NESTED, token="ann")).json)
    assert len(found) == 3
    assert all(link.startswith(f"{here.front.url}/v25.0/") for link in found)
    assert [(await here.say(link)).status for link in found] == [200] * 3


async def test_the_token_stays_in_the_links(scene: MakeScene) -> None:
    """A client that follows a link sends nothing but the link: its token is in it, as Graph wrote it."""
    here = await scene()
    (link,) = links((await here.say(FEED, headers={"Authorization": "Bearer ann"})).json)
    assert "access_token=ann" in link
    assert (await here.say(link)).status == 200


async def test_links_may_be_left_alone(twins: MakeTwins) -> None:
    """With `paging.rewrite = false` the body is Graph's to the last byte."""
    both = await twins(settings={"paging": {"rewrite": False}})
    direct, through = await both.both(FEED, token="ann")
    assert GRAPH in direct.body
    assert through.body == direct.body


async def test_links_lead_back_the_way_the_caller_came(scene: MakeScene) -> None:
    """A caller that reaches the sidecar by a name of its own gets links with that name; what is held has none."""
    here = await scene({"cache": {"fresh_s": 3600}})
    for host in ("sidecar.internal:8080", "[::1]:8080", here.front.url.removeprefix("http://")):
        (link,) = links((await here.say(FEED, token="ann", headers={"Host": host})).json)
        assert link.startswith(f"http://{host}/v25.0/111/feed?")
    assert len(here.asked) == 1


@pytest.mark.parametrize("host", ["evil\\u0022.example", "a b", "x/y", ""])
async def test_a_strange_host_gets_into_no_link(scene: MakeScene, host: str) -> None:
    """What is no host name is not written into a body."""
    here = await scene()
    (link,) = links((await here.say(FEED, token="ann", headers={"Host": host})).json)
    assert link.startswith("https://graph.facebook.com/")


async def test_a_caller_that_names_graph_itself_keeps_its_links(twins: MakeTwins) -> None:
    """Where calls to graph.facebook.com are led to the sidecar by the network, links come back by themselves."""
    both = await twins()
    direct, through = await both.both(FEED, token="ann", headers={"Host": "graph.facebook.com"})
    assert through.body == direct.body


async def test_links_to_other_places_are_left_alone(twins: MakeTwins) -> None:
    """A link that does not lead to Graph is the caller's to follow."""
    both = await twins(link_origin="https://elsewhere.example")
    direct, through = await both.both(FEED, token="ann")
    assert b"elsewhere.example" in direct.body
    assert through.body == direct.body


TRAPS = [
    "https://graph.facebook.com/v25.0/111",
    '"paging":{"next":"https://graph.facebook.com/x"}',
    {"next": "https://graph.facebook.com/x"},
    {"paging": {"cursors": {"next": "https://graph.facebook.com/x"}}},
    {"paging": {"next": ["https://graph.facebook.com/x"], "previous": None}},
    {"paging": {"other": "https://graph.facebook.com/x", "a": '}"next":"https://graph.facebook.com/"'}},
    {"paging": {"next": "https://graph.facebook.com.evil.example/x"}},
]


@pytest.mark.parametrize("value", TRAPS)
async def test_text_that_looks_like_a_link_is_left_alone(twins: MakeTwins, value: Any) -> None:
    """What users wrote is theirs: only links of paging objects are touched."""
    both = await twins()
    for graph in (both.alone, both.behind):
        graph.world.touch("111", {"message": value, "name": value})
    direct, through = await both.both("/v25.0/111?fields=id,message,name", token="ann")
    assert through.body == direct.body
    assert b"graph.facebook.com" in through.body


async def test_links_and_traps_in_one_body(twins: MakeTwins) -> None:
    """Quotes and braces in a text beside a link do not lead astray."""
    both: Twins = await twins()
    for graph in (both.alone, both.behind):
        graph.world.touch("111_12050000", {"message": 'a"}{\\" "paging":{"next":"https://graph.facebook.com/x"}'})
    direct, through = await both.both(FEED, token="ann")
    assert direct.body.count(GRAPH) == 2
    real = re.compile(rb'("next":")https:\\/\\/graph\.facebook\.com(?=\\/v25)')
    assert through.body == real.sub(rb"\1" + escaped(both.front.url).replace(b"\\", b"\\\\"), direct.body)
