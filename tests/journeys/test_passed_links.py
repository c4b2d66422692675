"""Paging links in replies that pass through lead back to the sidecar, too, as far as that can be done."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.journeys.conftest import MakeAsk, MakeScene, MakeScripted, MakeTwins
from tests.journeys.operating import GRAPH, batch, body, gets
from tests.journeys.talking import Heard
from tests.wires import Listener, Wire, said

FEED = "/v25.0/1/feed?limit=2&fields=id"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PASSED: dict[str, dict[str, Any]] = {
    "POST with method": {"path": f"{FEED}&method=get", "method": "POST", "token": "ann"},
    "POST with method in a form": {
        "path": FEED, "method": "POST", "token": "ann", "data": b"method=get&x=1",
        "headers": FORM,
    },
    "two tokens": {"path": f"{FEED}&access_token=ann&access_token=ann2"},
    "a body": {"path": FEED, "token": "ann", "data": b"limit=2", "headers": FORM},
    "odd names": {"path": f"{FEED}&access[token=1", "token": "ann"},
    "JSONP": {"path": f"{FEED}&method=get&callback=cb", "method": "POST", "token": "ann"},
    "gzip": {
        "path": f"{FEED}&method=get", "method": "POST", "token": "ann", "headers": {"Accept-Encoding": "gzip, br"},
    },
}  # fmt: skip


def links(text: str) -> list[str]:
    """The links in the text of a page."""
    found = json.loads(text[text.index("{") : text.rindex("}") + 1])["paging"]
    return [found[name] for name in ("next", "previous") if name in found]


@pytest.mark.parametrize("how", PASSED)
async def test_links_of_what_passes(twins: MakeTwins, how: str) -> None:
    """Whatever kept a request from being a plain read: the next page is asked here, and nothing else is changed."""
    both = await twins(compress=True)
    direct, through = await both.both(**PASSED[how])
    assert through.cache.startswith(("fwd=bypass", "fwd=method"))
    (theirs,), (ours,) = links(direct.body.decode()), links(through.body.decode())
    assert ours == theirs.replace(GRAPH, both.front.url)
    assert (
        through.body.replace(both.front.url.replace("/", "\\/").encode(), GRAPH.replace("/", "\\/").encode())
        == direct.body
    )
    assert (through.status, through.told, through.etag) == (direct.status, direct.told, direct.etag)
    assert (await both.through.say(ours)).status == 200


@pytest.mark.parametrize(
    "top", [{"sdk": "ios"}, {"sdk": "ios", "callback": "cb"}, {"batch_app_id": "9"}], ids=json.dumps
)
async def test_links_of_a_batch_that_passes(twins: MakeTwins, top: dict[str, str]) -> None:
    """A batch in terms that are not known here is as it was, but for the links in its slots."""
    both = await twins(batch_links="marked")
    items = gets("1/feed?limit=2&fields=id", "?ids=1,2&fields=id,feed.limit(1){id}", "3", "err1")
    direct, through = await batch(both.direct, items, **top), await batch(both.through, items, **top)

    def slots(heard: Heard) -> Any:
        text = heard.body.decode()
        return json.loads(text[text.index("[") : text.rindex("]") + 1])

    assert "detail=batch" not in through.headers["Cache-Status"]
    for theirs, ours in zip(slots(direct), slots(through), strict=True):
        assert ours["code"] == theirs["code"]
        assert GRAPH not in ours["body"].replace("\\/", "/")
    link = urlsplit(body(slots(through)[0])["paging"]["next"])
    assert "_fb_" not in link.query
    assert (await both.through.say(f"{link.path}?{link.query}")).status == 200


async def test_links_stay_where_they_lead_back_by_themselves(scene: MakeScene, ask: MakeAsk) -> None:
    """With `paging.rewrite = false`, or for a caller who came by Graph's own name, no byte is changed."""
    here = await scene({"paging": {"rewrite": False}})
    assert links((await here.say(**PASSED["POST with method"])).body.decode())[0].startswith(GRAPH)
    there = await scene()
    caller = await ask(there.front.url)
    named = {"Host": "graph.facebook.com"}
    assert links((await caller.say(**PASSED["POST with method"], headers=named)).body.decode())[0].startswith(GRAPH)


PAGE = json.dumps({"data": ["x" * 50], "paging": {"next": f"{GRAPH}/v25.0/1/feed?after=x"}}).encode()
LONG = json.dumps({"data": ["x" * 2**20], "paging": {"next": f"{GRAPH}/v25.0/1/feed?after=x"}}).encode()
JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    "fields, packed, is_changed",
    [
        ((JSON,), lambda raw: raw, True),
        ((JSON, "Content-Encoding: gzip"), gzip.compress, True),
        ((JSON, "Content-Encoding: deflate"), zlib.compress, True),
        ((JSON, "Content-Encoding: br"), lambda raw: raw, False),
        ((JSON, "Content-Encoding: gzip"), lambda raw: raw, False),
        ((JSON, "Content-Encoding: gzip"), lambda raw: gzip.compress(raw)[:-9], False),
        (("Content-Type: text/csv",), lambda raw: raw, False),
        ((), lambda raw: raw, False),
    ],
    ids=["plain", "gzip", "deflate", "brotli", "no gzip", "half of gzip", "CSV", "untyped"],
)
async def test_what_can_be_read_here(
    scripted: MakeScripted, fields: tuple[str, ...], packed: Callable[[bytes], bytes], *, is_changed: bool
) -> None:
    """What is no JSON, or in a coding that cannot be undone here, goes on byte for byte."""
    for page, is_short in ((PAGE, True), (LONG, False)):
        if not is_short and packed(page) != page:
            continue  # a long page of one letter is short when it is compressed
        sent = packed(page)

        async def serve(wire: Wire, _at: Listener, sent: bytes = sent) -> None:
            await wire.message()
            head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(sent)}", *fields, "", ""])
            await wire.send(head, sent)

        _graph, front = await scripted(serve)
        heard = await _raw(front.url, "/v25.0/1?access_token=a&access_token=b")
        if is_changed and is_short:
            assert json.loads(heard)["paging"]["next"].startswith(front.url)
        else:
            assert heard == sent


async def _raw(url: str, path: str) -> bytes:
    """The body of an answer as it came."""
    answer = await said(url, f"GET {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nConnection: close\r\n\r\n")
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    return rest


async def test_a_part_of_a_page_is_as_graph_cut_it(twins: MakeTwins) -> None:
    """What was asked for by Range and came as a part is not looked into; a whole page that came instead is."""
    both = await twins()
    direct, through = await both.both(FEED, token="ann", headers={"Range": "bytes=0-9999"})
    assert direct.status == through.status == 200
    assert links(through.body.decode())[0].startswith(both.front.url)
