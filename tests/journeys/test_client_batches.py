"""Batches of applications, in every shape: they get Graph's replies, with fewer calls."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from proxy.emulator import proof_of
from proxy.emulator.objects.values import user_of
from tests.journeys.conftest import MakeGate, MakeScene, MakeTwins
from tests.journeys.operating import (
    GRAPH,
    Item,
    alike,
    assert_alike,
    batch,
    bodies,
    body,
    changes,
    codes,
    gets,
    multipart,
    named,
    posts,
    slots,
    written,
)
from tests.journeys.talking import Heard, asked
from tests.wires import said

FRESH: dict[str, Any] = {"cache": {"fresh_s": 3600}}
ONE_AT_A_TIME = {"upstream": {"connections": 1}}
READS = gets("111?fields=id,name", "act_1/campaigns?limit=2", "?ids=1,2&fields=id", "err1")
MIXED: list[Item] = [*READS[:2], *posts("111/feed"), *READS[2:]]
CONFIRMED = "graph-sidecar; fwd=stale; fwd-status=304"


def taken(heard: Heard) -> bool:
    """Whether the sidecar itself split the batch; if not, it passed through."""
    return "detail=batch" in heard.headers["Cache-Status"]


def statuses(heard: Heard) -> list[str]:
    """Returns the mode of each slot, "" for slots that Graph filled in the batch's own call."""
    return [named(slot).get("cache-status", "") for slot in heard.json]


# --- any batch is taken -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/v25.0", "/v25.0/", "/me", "/v25.0/me", "/123", "/v25.0/123/"])
@pytest.mark.parametrize("items", [READS, MIXED], ids=["reads", "mixed"])
async def test_wherever_it_is_posted(twins: MakeTwins, path: str, items: list[Item]) -> None:
    """A batch may be posted to the root, a version, or any object."""
    both = await twins()
    for _time in range(2):
        await alike(both, items, path=path)
    assert taken(await batch(both.through, items, path=path))


def shapes(items: list[Item]) -> dict[str, dict[str, Any]]:
    """Returns one batch in every form that clients write, as arguments of `say`."""
    text, form = json.dumps(items), {"access_token": "ann", "batch": json.dumps(items)}
    whole = urlencode(form).encode()
    as_form, as_json = "application/x-www-form-urlencoded", "application/json"
    loose = text.replace("'", "\\'").replace('"', "'").replace("}", ",}")
    return {
        "form": {"data": form},
        "query": {"path": f"/v25.0/?{whole.decode()}"},
        "token in the query": {"path": "/v25.0/?access_token=ann", "data": {"batch": text}},
        "token in a header": {"headers": {"Authorization": "Bearer ann"}, "data": {"batch": text}},
        "multipart": {"data": multipart(form, {})},
        "JSON, an array": {"data": json.dumps({**form, "batch": items}), "headers": {"Content-Type": as_json}},
        "JSON, a string": {"data": json.dumps(form), "headers": {"Content-Type": f"{as_json}; charset=utf-8"}},
        "gzip": {"data": gzip.compress(whole), "headers": {"Content-Type": as_form, "Content-Encoding": "gzip"}},
        "gzip of JSON": {
            "data": gzip.compress(json.dumps({**form, "batch": items}).encode()),
            "headers": {"Content-Type": as_json, "Content-Encoding": "gzip"},
        },
        "loose": {"data": {**form, "batch": f"[ {loose[1:-1]}, ]"}},
    }


@pytest.mark.parametrize("shape", shapes([]))
@pytest.mark.parametrize("items", [READS, MIXED], ids=["reads", "mixed"])
async def test_however_it_is_written(twins: MakeTwins, shape: str, items: list[Item]) -> None:
    """Form, query, multipart, JSON, compressed, without a type, or loose JSON: it is the same batch."""
    both = await twins()
    for _time in range(2):
        direct, through = [  # each with a shape of its own, for a multipart form can be sent once
            await ask.say(method="POST", **{"path": "/v25.0/", **shapes(items)[shape]})
            for ask in (both.direct, both.through)
        ]
        assert direct.status == 200
        assert_alike(both, direct, through)
        assert taken(through)


@pytest.mark.parametrize("items", [READS, MIXED], ids=["reads", "mixed"])
async def test_a_form_that_nobody_calls_one(twins: MakeTwins, items: list[Item]) -> None:
    """A form without a Content-Type is understood, as it is by Graph."""
    both = await twins()
    form = urlencode({"access_token": "ann", "batch": json.dumps(items)})
    lines = ("POST /v25.0/ HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(form)}", "", form)
    answers = [await said(url, "\r\n".join(lines)) for url in (both.alone.url, both.front.url)]
    direct, through = [json.loads(answer.partition(b"\r\n\r\n")[2]) for answer in answers]
    assert (codes(through), bodies(through)[0]) == (codes(direct), bodies(direct)[0])
    assert b"detail=batch" in answers[1]
    assert changes(both.behind) == changes(both.alone)


@pytest.mark.parametrize(
    "item",
    [
        {"method": "get", "relative_url": "1"},
        {"relative_url": "/1"},
        {"method": "GET", "relative_url": "1/?"},
        {"method": "GET", "relative_url": "/v24.0/1?fields=id%2Cname"},
        {"method": "GET", "relative_url": "v2.0/1?fields=name,id&fields=id"},
        {"method": "GET", "relative_url": "act_1/insights?time_range={'since':'2024-01-01', 'until':'2024-01-02'}"},
        {"method": "GET", "relative_url": "?ids=1,2"},
        {"method": "GET", "relative_url": "me?fields=id"},
        {"method": "GET", "relative_url": "1?locale=da_DK", "body": ""},
        {"method": "GET", "relative_url": "1", "body": "fields=name"},
        {"method": "GET", "relative_url": "1?debug=all&metadata=1&pretty=1"},
        {"method": "GET", "relative_url": "1?fields=id", "headers": ["Accept-Language: fr"]},
        {"method": "GET", "relative_url": "nonsense/1/2/3"},
        {"method": "GET", "relative_url": ""},
        {"method": "GET"},
        {"method": "GET", "relative_url": "https://graph.facebook.com/v25.0/1?fields=id"},
        {"method": "GET", "relative_url": "1?callback=x"},
        {"method": "GET", "relative_url": "1", "unknown": {"a": [1]}},
        {"method": "put", "relative_url": "1", "body": "name=x"},
        {"method": "Delete", "relative_url": "1"},
        {"method": "POST", "relative_url": "1?method=delete"},
        {"method": "GET", "relative_url": "1?method=delete"},
        {"method": "GET", "relative_url": "1", "body": "method=delete"},
        {"method": "POST", "relative_url": "", "body": "batch=[{}]"},
        {"method": "GET", "relative_url": "?batch=[]"},
        {"method": "POST", "relative_url": "1/feed", "body": {"message": "an object"}},
        {"method": "GET", "relative_url": 1},
        {"method": "GET", "relative_url": "act_1/campaigns?limit=1&summary=true", "name": "nobody refers to this"},
        {"method": "GET", "relative_url": "1\ud83d\ude00/x?y=\u00f8"},
    ],
    ids=lambda item: json.dumps(item)[:60],
)
async def test_whatever_an_operation_looks_like(twins: MakeTwins, item: Item) -> None:
    """An operation in any spelling has the same effect and reply as at Graph, the first time and again."""
    both = await twins()
    for _time in range(2):
        await alike(both, [item, *gets("2")])
    assert written(both.behind) == written(both.alone)


@pytest.mark.parametrize(
    "headers",
    [
        lambda tag: [f"If-None-Match: {tag}"],
        lambda tag: [{"name": "If-None-Match", "value": tag}],
        lambda tag: {"if-none-match": tag},
    ],
    ids=["strings", "objects", "map"],
)
@pytest.mark.parametrize("beside", [[], posts("9/feed")], ids=["reads", "beside a write"])
async def test_304_is_for_who_asked(twins: MakeTwins, headers: Callable[[str], Any], beside: list[Item]) -> None:
    """An operation with its own validator gets 304 and no body; the others get their bodies from entries."""
    both = await twins()
    (first,) = await slots(both.through, gets("1"))
    conditional = {**gets("1")[0], "headers": headers(named(first)["etag"])}
    found = await alike(both, [conditional, *gets("1"), *beside])
    assert codes(found)[:2] == [304, 200]
    assert found[0]["body"] is None
    assert found[1]["body"] == first["body"]
    other = {**gets("1")[0], "headers": headers('"other"')}
    assert codes(await alike(both, [other, *beside]))[0] == 200


async def test_what_the_call_asks_of_a_cache_is_asked_for_each_item(scene: MakeScene) -> None:
    """`Cache-Control` on the call applies to every operation that has none of its own."""
    here = await scene({"cache": {"fresh_s": 3600}})
    await slots(here.caller, gets("111"))
    form = {"batch": json.dumps(gets("111", "222")), "access_token": "ann"}
    for wish, expected in {"no-store": "fwd=request", "no-cache": "fwd=request", "max-age=60": "hit"}.items():
        heard = await here.caller.say("/v25.0/", method="POST", data=form, headers={"Cache-Control": wish})
        told = {field["name"]: field["value"] for field in heard.json[0]["headers"]}
        assert told["Cache-Status"].startswith(f"graph-sidecar; {expected}"), wish


async def test_reads_that_are_wanted_only_if_held_fail_one_by_one(scene: MakeScene) -> None:
    """A batch of `only-if-cached` reads without entries is an array of 504 slots, not an error."""
    here = await scene()
    items = [{**item, "headers": ["Cache-Control: only-if-cached"]} for item in gets("111", "222")]
    assert [slot["code"] for slot in await slots(here.caller, items)] == [504, 504]


async def test_bodies_go_on_byte_for_byte(scene: MakeScene) -> None:
    """Graph reads what the client wrote in `body`, escaped or not."""
    here = await scene()
    texts = ["name=My Søn & co&status=PAUSED", "message=x+y%26&z=%F0%9F%98%80", 'a={"b":"c d"}&&e', "%zz=%", "raw"]
    await slots(here.caller, [{"method": "POST", "relative_url": "1/feed", "body": text} for text in texts])
    assert [slot["body"] for slot in here.asked] == texts


async def test_bodies_may_be_long(twins: MakeTwins) -> None:
    """A batch of megabytes is served like any other."""
    both = await twins()
    await alike(both, posts("1/feed", "2/feed", body=f"message={'x' * 2**20}"))


FILES = {
    "one": ("cat.gif", b"GIF89a" + bytes(range(256)) * 800),
    "two": ("dog.jpg", b"\r\n--b\r\n" * 2**18),
    "x": ("x", b""),
}


@pytest.mark.parametrize(
    "given",
    [
        ["one", "two", "one"],
        ["one,two", "one", "two , one"],
        [{"File0": "one"}, {"File0": "two", "File1": "one"}, "one"],
        ["one", "missing", "two"],
    ],
    ids=["strings", "lists", "objects", "one is missing"],
)
async def test_files_and_who_uses_them(twins: MakeTwins, given: list[Any]) -> None:
    """Files reach Graph with their bytes and names; each operation gets its own, and one file may serve several."""
    both = await twins()
    items = [
        {"method": "POST", "relative_url": "act_1/adimages", "attached_files": names, "body": f"n={at}"}
        for at, names in enumerate(given)
    ]
    form = {"access_token": "ann", "batch": json.dumps([*items, *gets("1")])}
    direct = await both.direct.say("/v25.0/", method="POST", data=multipart(form, FILES))
    through = await both.through.say("/v25.0/", method="POST", data=multipart(form, FILES))
    assert_alike(both, direct, through)
    assert taken(through)
    assert written(both.behind) == written(both.alone) == len(items) - ("missing" in given)
    assert any("files" in write["values"] for write in changes(both.behind)["writes"])


async def test_files_and_more_operations_than_graph_takes(twins: MakeTwins) -> None:
    """130 operations with files, as Meta's Python SDK sends them: each file is sent with its operation."""
    both = await twins(batch_limit=1000)
    items = [
        {
            "method": "POST",
            "relative_url": "act_1/adimages",
            "attached_files": ("one", "two")[at % 2],
            "body": f"n={at}",
        }
        if at % 3
        else {"method": "GET", "relative_url": f"{at}?fields=id"}
        for at in range(1, 131)
    ]
    form = {"access_token": "ann", "batch": json.dumps(items), "include_headers": "true"}
    small = {"one": ("cat.gif", b"GIF89a"), "two": ("dog.jpg", b"\xff\xd8")}
    direct = await both.direct.say("/v25.0/", method="POST", data=multipart(form, small))
    through = await both.through.say("/v25.0/", method="POST", data=multipart(form, small))
    assert_alike(both, direct, through)
    assert both.behind.ledger.slots == [50, 50, 30]
    assert written(both.behind) == written(both.alone)


async def test_files_too_large_to_hold_stream_through(twins: MakeTwins) -> None:
    """A batch with more files than are buffered here passes through unchanged."""
    both = await twins()
    big = {"one": ("big.mp4", bytes(9 * 2**20))}
    items = [{"method": "POST", "relative_url": "act_1/adimages", "attached_files": "one"}, *gets("1")]
    form = {"access_token": "ann", "batch": json.dumps(items)}
    direct = await both.direct.say("/v25.0/", method="POST", data=multipart(form, big))
    through = await both.through.say("/v25.0/", method="POST", data=multipart(form, big))
    assert_alike(both, direct, through)
    assert not taken(through)


@pytest.mark.parametrize("value", ["false", "0", "true", "1", ""])
@pytest.mark.parametrize("items", [READS, MIXED], ids=["reads", "mixed"])
async def test_header_fields_are_left_out_for_who_does_not_want_them(
    twins: MakeTwins, value: str, items: list[Item]
) -> None:
    """`include_headers=false` removes the fields from every slot, and entries are revalidated nevertheless."""
    both = await twins()
    await alike(both, items, include_headers=value)
    found = await alike(both, items, include_headers=value)
    assert all(("headers" in slot) is (value in {"true", "1"}) for slot in found)
    assert both.behind.ledger.not_modified["batch"] == 3


@pytest.mark.parametrize("items", [READS, MIXED, gets("1") * 51], ids=["reads", "mixed", "many"])
async def test_jsonp(twins: MakeTwins, items: list[Item]) -> None:
    """A batch with a callback is answered as a call of it."""
    both = await twins(batch_limit=100)
    direct = await batch(both.direct, items, callback="app.got")
    through = await batch(both.through, items, callback="app.got")
    assert through.body.startswith(b"/**/ app.got([")
    assert_alike(both, direct, through)


@pytest.mark.parametrize("items", [READS, MIXED], ids=["reads", "mixed"])
@pytest.mark.parametrize(
    "top", [{"sdk": "ios"}, {"format": "json", "sdk": "ios"}, {"streamable_json_response": "1"}, {"format": "xml"}]
)
async def test_what_is_said_on_top_and_not_known_here_is_passed_on(
    twins: MakeTwins, items: list[Item], top: dict[str, str]
) -> None:
    """A batch with unknown parameters passes through to Graph unchanged."""
    both = await twins()
    heard = await batch(both.through, items, **top)
    assert_alike(both, await batch(both.direct, items, **top), heard)
    assert not taken(heard)
    assert both.behind.ledger.slots == [len(items)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "1",
        "null",
        "nonsense",
        "[1]",
        "[[]]",
        '[{"relative_url":"1"},7]',
        '[{"relative_url":"1"',
        "[" * 5000,
        '[{"relative_url":"{result=f:$.id}"}]',
        '[{"relative_url":"1"},{"relative_url":"1","depends_on":"later"},{"relative_url":"1","name":"later"}]',
        json.dumps([{"relative_url": "", "method": "POST", "body": "batch=[]"}]),
    ],
    ids=lambda text: text[:40],
)
async def test_what_is_wrong_with_a_batch_is_told_by_graph(twins: MakeTwins, text: str) -> None:
    """A batch of unknown shape gets Graph's own message and status."""
    both = await twins()
    assert_alike(both, await batch(both.direct, text), await batch(both.through, text))


@pytest.mark.parametrize("top", [{}, {"batch_app_id": "999"}])
async def test_a_batch_without_a_token(twins: MakeTwins, top: dict[str, str]) -> None:
    """Without a top-level token Graph's answer is passed on, even if each operation has its own."""
    both = await twins()
    items = gets("1?access_token=ann", "2?access_token=bob")
    direct, through = (
        await batch(both.direct, items, token="", **top),
        await batch(both.through, items, token="", **top),
    )
    assert direct.status == (200 if top else 400)
    assert_alike(both, direct, through)


async def test_bytes_that_are_no_text(twins: MakeTwins) -> None:
    """A batch that is no UTF-8 is passed to Graph."""
    both = await twins()
    raw = b"access_token=ann&batch=" + urlencode({"": '[{"relative_url":"1/\xff"}]'}, encoding="latin-1")[1:].encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    direct, through = [await ask.say("/", method="POST", data=raw, headers=form) for ask in (both.direct, both.through)]
    assert_alike(both, direct, through)


@pytest.mark.parametrize(
    "raw, fields",
    [
        (b"{", {"Content-Type": "application/json"}),
        (b"[" * 100_000, {"Content-Type": "application/json"}),
        (b"\0", {"Content-Type": "application/octet-stream"}),
        (b"--b\r\n\r\nnameless\r\n--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}),
    ],
)
async def test_a_body_that_is_no_form(twins: MakeTwins, raw: bytes, fields: dict[str, str]) -> None:
    """A body that cannot be read here is passed on unchanged."""
    both = await twins()
    direct = await both.direct.say("/?access_token=ann", method="POST", data=raw, headers=fields)
    through = await both.through.say("/?access_token=ann", method="POST", data=raw, headers=fields)
    assert_alike(both, direct, through)
    assert not taken(through)


async def test_a_body_that_unpacks_to_more_than_is_looked_into(twins: MakeTwins) -> None:
    """A small body that unpacks to a large one is passed on packed: it neither fills memory nor is lost."""
    both = await twins()
    form = urlencode({"access_token": "ann", "batch": json.dumps(READS), "padding": "x" * 9 * 2**20}).encode()
    fields = {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}
    direct = await both.direct.say("/", method="POST", data=gzip.compress(form), headers=fields)
    through = await both.through.say("/", method="POST", data=gzip.compress(form), headers=fields)
    assert (direct.status, through.status) == (through.status, direct.status)
    assert_alike(both, direct, through)


async def test_a_post_that_is_no_batch(twins: MakeTwins) -> None:
    """A write to an object, to which a batch could be posted as well, stays a write."""
    both = await twins()
    for data in (
        {"access_token": "ann", "name": "x"},
        None,
        {"access_token": "ann", "batch": "[]", "method": "delete"},
    ):
        path = "/v25.0/123?access_token=ann"
        direct, through = [await ask.say(path, method="POST", data=data) for ask in (both.direct, both.through)]
        assert_alike(both, direct, through)
        assert not taken(through)


# --- reads that nobody refers to --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [51, 130, 400])
async def test_as_many_reads_as_you_like(twins: MakeTwins, count: int) -> None:
    """A batch with any number of reads works: slots in order, in as few calls as Graph allows."""
    both = await twins(batch_limit=1000)
    items = gets(*(f"{1000 + number}?fields=id,viewer" for number in range(count)))
    found = await alike(both, items)
    assert [each["id"] for each in bodies(found)] == [str(1000 + number) for number in range(count)]
    assert sum(both.behind.ledger.slots) == count
    assert max(both.behind.ledger.slots) == 50
    assert len(both.behind.ledger.slots) < 2 * -(-count // 50)


async def test_many_reads_are_asked_side_by_side(scene: MakeScene, gate: MakeGate) -> None:
    """The parts of a large batch are sent at the same time: it takes about as long as one of them."""
    here = await scene()
    shut = gate(here.graph)
    (large,) = await here.caller.start(batch(here.caller, gets(*map(str, range(1000, 1400)))))
    await shut.has(8)
    shut.open()
    assert codes((await large).json) == [200] * 400


@pytest.mark.parametrize(
    "trouble", [{"kind": "null"}, {"kind": "aborted"}, {"kind": "short"}, {"kind": "html"}, {"kind": "cut"}]
)
@pytest.mark.parametrize("count", [1, None])
async def test_reads_that_graph_left_out(twins: MakeTwins, trouble: dict[str, Any], count: int | None) -> None:
    """Whatever happens to their calls, reads are answered as if nothing had happened."""
    both = await twins()
    both.behind.faults.add({"where": "batch", "count": count, **trouble})
    assert None not in await alike(both, READS)


async def test_unchanged_reads_move_few_bytes(scene: MakeScene) -> None:
    """The same batch of fifty, sent again, moves at most 15 % of its first bytes, and gives the same bodies."""
    here = await scene(body_bytes=4096)
    items = gets(*(str(1000 + number) for number in range(50)))
    first = await slots(here.caller, items)
    cold = here.graph.ledger.bytes_out
    second = await slots(here.caller, items)
    assert here.graph.ledger.bytes_out - cold <= 0.15 * cold
    assert [slot["body"] for slot in second] == [slot["body"] for slot in first]
    assert here.graph.ledger.not_modified["batch"] == 50


async def test_what_changed_is_seen(scene: MakeScene) -> None:
    """When a batch is repeated, changed bodies come from Graph, the others from entries."""
    here = await scene()
    items = gets("111?fields=name", "112?fields=name")
    (before, _), ours = bodies(await slots(here.caller, items)), "changed"
    here.graph.world.touch("111", {"name": ours})
    heard = await batch(here.caller, items)
    assert before["name"] != ours
    assert bodies(heard.json)[0]["name"] == ours
    assert [status == CONFIRMED for status in statuses(heard)] == [False, True]


async def test_fresh_reads_cost_no_call(scene: MakeScene) -> None:
    """Where a rule allows it, a batch of reads is answered without asking Graph at all."""
    here = await scene(FRESH)
    first = await slots(here.caller, READS[:3])
    calls = here.graph.ledger.http_calls
    second = await slots(here.caller, READS[:3])
    assert bodies(second) == bodies(first)
    assert here.graph.ledger.http_calls == calls


async def test_a_batch_and_a_get_share_what_is_held(scene: MakeScene) -> None:
    """An entry that a batch made is revalidated for a GET with the same token, and the other way round."""
    here = await scene()
    await slots(here.caller, gets("111?fields=id"), token="ann")
    heard = await here.say("/v25.0/111?fields=id", token="ann")
    assert heard.cache == "fwd=stale; fwd-status=304"
    await here.say("/v25.0/112?fields=id", token="ann")
    assert statuses(await batch(here.caller, gets("112?fields=id"))) == [CONFIRMED]


async def test_polls_collapse_with_those_of_others(scene: MakeScene, gate: MakeGate) -> None:
    """Fifty reads of one object in a batch, and other callers' GETs of it, are one call to Graph."""
    here = await scene()
    shut = gate(here.graph)
    first = await here.caller.start(here.say("/v25.0/1209111?fields=id", token="ann"))
    await shut.has(1)
    others = await here.caller.start(
        batch(here.caller, gets("1209111?fields=id") * 50), here.say("/v25.0/1209111?fields=id", token="ann")
    )
    shut.open()
    lone, many, other = [(await each) for each in (*first, *others)]
    assert bodies(many.json) == [lone.json] * 50
    assert other.json == lone.json
    assert here.slots == [1]


async def test_batches_of_strangers_leave_together(scene: MakeScene, gate: MakeGate) -> None:
    """Reads of several small batches share one call, each with its own token."""
    here = await scene(ONE_AT_A_TIME)
    shut = gate(here.graph)
    first = await here.caller.start(here.say("/1", token="ann"))
    await shut.has(1)
    users = ["ann", "bob", "eve"]
    rest = await here.caller.start(
        *(batch(here.caller, gets("me?fields=id", "2?fields=viewer"), token=user) for user in users)
    )
    await here.queue_of(6)
    shut.open()
    await asyncio.gather(*first)
    heard = await asyncio.gather(*rest)
    assert here.slots == [1, 6]
    assert [[each.get("viewer") or each["id"] for each in bodies(one.json)] for one in heard] == [
        [user_of(user)] * 2 for user in users
    ]


@pytest.mark.parametrize("before", [0, 1, 2], ids=["first seen", "held", "confirmed before"])
@pytest.mark.parametrize("sizes, calls", [((20, 30), [50]), ((50, 10), [50, 10]), ((30, 30), [50, 10])])
async def test_a_batch_fills_its_calls_with_the_reads_of_others(
    scene: MakeScene, gate: MakeGate, before: int, sizes: tuple[int, int], calls: list[int]
) -> None:
    """Its reads leave together where they fit, in two calls where they do not, and no other caller waits in vain."""
    size, singles = sizes
    here = await scene(ONE_AT_A_TIME)
    nodes = [str(1201 + number) for number in range(size)]
    for _ in range(before):
        await batch(here.caller, gets(*nodes))
    shut, earlier = gate(here.graph), len(here.slots)
    first = await here.caller.start(here.say("/1", token="ann"))
    await shut.has(1)
    (asked,) = await here.caller.start(batch(here.caller, gets(*nodes)))
    await here.queue_of(size)
    others = await here.caller.start(*[here.say(f"/v25.0/{7000 + at}", token="ben") for at in range(singles)])
    await here.queue_of(size + singles)
    shut.open()
    await asyncio.gather(*first)
    assert [json.loads(slot["body"])["id"] for slot in (await asked).json] == nodes
    assert [heard.status for heard in await asyncio.gather(*others)] == [200] * singles
    assert here.slots[earlier + 1 :] == calls


async def test_pictures_never_ride_with_strangers(twins: MakeTwins) -> None:
    """An operation that is no plain read is sent unchanged in the batch's own call; the others are served as usual."""
    both = await twins()
    items = gets("1/picture", "2?fields=id", "3/picture?redirect=0", "4/export?bytes=3")[:3]
    await alike(both, items)
    found = await alike(both, items)
    assert codes(found) == [302, 200, 200]
    assert "location" in named(found[0])
    assert both.behind.ledger.not_modified["batch"] == 1
    alone = [call for call in both.behind.ledger.requests if len(call["slots"]) == 2]
    assert [[slot["relative_url"] for slot in call["slots"]] for call in alone] == [
        ["1/picture", "3/picture?redirect=0"]
    ] * 2


# --- batches with writes ----------------------------------------------------------------------------------------------


async def test_reads_beside_a_write_are_confirmed(twins: MakeTwins) -> None:
    """In a batch with writes, reads have validators and their slots are filled; each write is sent each time."""
    both = await twins()
    items = [*gets("111?fields=id,name"), *posts("222/feed"), *gets("333?fields=id")]
    await alike(both, items)
    heard = await batch(both.through, items)
    assert [status == CONFIRMED for status in statuses(heard)] == [True, False, True]
    assert both.behind.ledger.not_modified["batch"] == 2
    assert both.behind.ledger.slots == [3, 3]
    assert written(both.behind) == 2


@pytest.mark.parametrize("settings", [{}, FRESH], ids=["usual", "fresh"])
async def test_a_read_after_a_write_of_the_same_batch(scene: MakeScene, settings: dict[str, Any]) -> None:
    """A read sees the write before it in the same batch, however fresh the old entry was."""
    here = await scene(settings)
    read = gets("111?fields=name")
    (before,) = bodies(await slots(here.caller, read))
    found = await slots(here.caller, [*read, *posts("111", body="name=new"), *read])
    assert [each.get("name") for each in bodies(found)] == [before["name"], None, "new"]
    assert bodies(await slots(here.caller, read)) == [{**before, "name": "new"}]


async def test_a_throttled_read_after_a_write_of_the_same_batch(twins: MakeTwins) -> None:
    """A stale entry for a read that Graph refuses is never older than the write before it."""
    both = await twins({"cache": {"stale_if_error_s": 3600}})
    await slots(both.through, gets("111?fields=name"))
    both.trouble({"kind": "error", "code": 17, "status": 400, "where": "batch", "method": "GET"})
    await alike(both, [*posts("111", body="name=new"), *gets("111?fields=name")])


@pytest.mark.parametrize(
    "item",
    [
        *posts("111", body="name=new"),
        {"method": "POST", "relative_url": "111?name=new"},
        {"method": "GET", "relative_url": "111?method=post&name=new"},
        {"method": "GET", "relative_url": "111", "body": "method=post&name=new"},
        {"method": "POST", "relative_url": "", "body": "id=111&name=new"},
        {"method": "POST", "relative_url": "{result=a:$.id}", "body": "name=new"},
        {"method": "GET", "relative_url": "{result=a:$.id}?method=post&name=new"},
    ],
    ids=lambda item: f"{item['method']} {item['relative_url']} {item.get('body', '')}",
)
async def test_a_write_in_a_batch_ends_freshness(scene: MakeScene, item: Item) -> None:
    """A write of a batch, in any spelling, is seen by every caller's next read."""
    here = await scene(FRESH)
    before = await here.say("/v25.0/111?fields=name", token="bob")
    naming = [{"method": "GET", "relative_url": "111?fields=id", "name": "a"}]
    for _time in range(2):
        assert codes(await slots(here.caller, [*naming, item]))[1] == 200
    after = await here.say("/v25.0/111?fields=name", token="bob")
    assert (before.json["name"] == "new", after.json["name"]) == (False, "new")


async def test_a_write_in_a_batch_ends_flights(scene: MakeScene, gate: MakeGate) -> None:
    """A read after a batch with a write joins no flight from before it."""
    here = await scene()
    read = here.say("/v25.0/111?fields=name", token="ann")
    shut = gate(here.graph)
    shut.holds = lambda request: here.graph.ledger.http_calls == 1
    (early,) = await here.caller.start(read)
    await shut.has(1)
    await slots(here.caller, posts("111", body="name=new"))
    assert (await here.say("/v25.0/111?fields=name", token="ann")).json["name"] == "new"
    shut.open()
    assert (await early).json["name"] != "new"


# --- the answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [READS, MIXED], ids=["reads", "mixed"])
async def test_usage_stands_in_the_slots(twins: MakeTwins, items: list[Item]) -> None:
    """Programs slow down by the usage headers in slots: they are there, and current, also in revalidated slots."""
    both = await twins(budget=1000)
    told = []
    for _time in range(2):
        found = await alike(both, items) if items is MIXED else (await batch(both.through, items)).json
        told.append([json.loads(named(slot)["x-app-usage"])["call_count"] for slot in found])
    assert max(told[0]) <= min(told[1])


@pytest.mark.parametrize("beside", [[], posts("9/feed")], ids=["reads", "beside a write"])
async def test_links_lead_back_here(scene: MakeScene, beside: list[Item]) -> None:
    """Paging links in slots' bodies point at the sidecar, nested ones too, and can be followed."""
    here = await scene()
    items = [*gets("act_1/campaigns?limit=2&fields=id,ads.limit(1){id}"), *beside]
    pages = [bodies(await slots(here.caller, items))[0] for _time in range(2)]
    for page in pages:
        assert page["paging"]["next"].startswith(here.front.url)
        assert page["data"][0]["ads"]["paging"]["next"].startswith(here.front.url)
    follow = await here.say(pages[1]["paging"]["next"])
    assert (follow.status, len(follow.json["data"])) == (200, 2)


async def test_links_inside_what_graph_told(scene: MakeScene) -> None:
    """Links of an operation that was sent unchanged point at the sidecar too."""
    here = await scene()
    items = [{"method": "GET", "relative_url": "act_1/campaigns?limit=2", "unknown": 1}]
    (page,) = bodies(await slots(here.caller, items))
    assert page["paging"]["next"].startswith(here.front.url)


async def test_links_may_be_left_alone(scene: MakeScene) -> None:
    """With `paging.rewrite = false` links stay as Graph writes them."""
    here = await scene({"paging": {"rewrite": False}})
    items = [*gets("act_1/campaigns?limit=2"), {"relative_url": "act_1/campaigns?limit=2", "unknown": 1}]
    for page in bodies(await slots(here.caller, items)):
        assert page["paging"]["next"].startswith(GRAPH)


@pytest.mark.parametrize("path", ["/", "/v24.0/", "/me"])
@pytest.mark.parametrize("beside", [[], posts("9/feed")], ids=["reads", "beside a write"])
async def test_versions(twins: MakeTwins, path: str, beside: list[Item]) -> None:
    """The call's version applies to operations without their own, and every slot names the version that served it."""
    both = await twins()
    items = [*gets("1", "v23.0/1", "/v25.0/1?fields=id", "v2.0/1"), *beside]
    found = [named(slot)["facebook-api-version"] for slot in await alike(both, items, path=path)]
    assert found[:4] == ["v24.0" if "v24" in path else "v19.0", "v23.0", "v25.0", "v19.0"]


# --- tokens -----------------------------------------------------------------------------------------------------------

SECRET = "app-secret"
OWN = gets("me?fields=id&access_token=bob", "me?fields=id", "2?fields=viewer&access_token=eve")


def proven(token: str) -> str:
    """Returns a token with its proof, as a query has them."""
    return f"access_token={token}&appsecret_proof={proof_of(SECRET, token)}"


@pytest.mark.parametrize("beside", [[], posts("9/feed?access_token=bob")], ids=["reads", "beside a write"])
async def test_each_with_its_own_token(twins: MakeTwins, beside: list[Item]) -> None:
    """An operation's own token takes the place of the top-level token, which is for the others."""
    both = await twins()
    for _time in range(2):
        found = bodies(await alike(both, [*OWN, *beside]))
        assert (found[0]["id"], found[1]["id"]) == (user_of("bob"), user_of("ann"))
        assert found[2]["viewer"] == user_of("eve")
    assert both.behind.ledger.tokens == both.alone.ledger.tokens


async def test_nobody_reads_by_anothers_token(scene: MakeScene) -> None:
    """An entry that an operation fetched with its own token is served for that token only."""
    here = await scene(FRESH)
    await slots(here.caller, OWN)
    calls = here.graph.ledger.counted_calls
    await slots(here.caller, gets("me?fields=id"), token="bob")  # whose it is
    assert here.graph.ledger.counted_calls == calls
    assert bodies(await slots(here.caller, gets("2?fields=viewer"), token="ann")) != bodies(
        await slots(here.caller, gets("2?fields=viewer"), token="eve")
    )


@pytest.mark.parametrize("beside", [[], posts("9/feed")], ids=["reads", "beside a write"])
@pytest.mark.parametrize(
    "top, items, codes_of",
    [
        ("bad", gets("1", "2"), None),
        ("bad", OWN, None),
        ("bad", gets("1?access_token=ann"), None),
        ("ann", gets("1?access_token=bad", "2"), [400, 200]),
        ("ann", gets("1?access_token=bad"), [400]),
    ],
)
async def test_a_refused_token(
    twins: MakeTwins, top: str, items: list[Item], codes_of: list[int] | None, beside: list[Item]
) -> None:
    """A refused top-level token ends the batch with 190; a refused token of an operation ends that operation."""
    both, whole = await twins(refused_tokens=("bad",)), [*items, *beside]
    assert_alike(both, await batch(both.direct, whole, token=top), await batch(both.through, whole, token=top))
    direct, through = await batch(both.direct, whole, token=top), await batch(both.through, whole, token=top)
    assert_alike(both, direct, through)
    if codes_of is None:
        assert (through.status, through.json["error"]["code"]) == (400, 190)
        assert written(both.behind) == 0
    else:
        assert codes(through.json)[: len(codes_of)] == codes_of


@pytest.mark.parametrize("beside", [[], posts("9/feed")], ids=["reads", "beside a write"])
@pytest.mark.parametrize("proof", ["good", "wrong", "none"])
@pytest.mark.parametrize("strict", [True, False])
async def test_proofs(twins: MakeTwins, *, proof: str, strict: bool, beside: list[Item]) -> None:
    """A top-level proof is for the top-level token; an operation with its own token has its own proof."""
    both = await twins(app_secret=SECRET, require_proof=strict)
    items = [
        *gets("1?fields=id", f"2?{proven('bob')}", "3?access_token=eve", "4?access_token=eve&appsecret_proof=00"),
        *beside,
    ]
    top = {"good": {"appsecret_proof": proof_of(SECRET, "ann")}, "wrong": {"appsecret_proof": "00"}, "none": {}}[proof]
    assert_alike(both, await batch(both.direct, items, **top), await batch(both.through, items, **top))
    direct, through = await batch(both.direct, items, **top), await batch(both.through, items, **top)
    assert_alike(both, direct, through)
    assert (through.status == 400) is (proof == "wrong" or (proof == "none" and strict))


# --- a caller that leaves ---------------------------------------------------------------------------------------------


async def test_who_leaves_takes_nobody_along(scene: MakeScene, gate: MakeGate) -> None:
    """When the caller of a batch disconnects, other callers of the same reads get their answers."""
    here = await scene(ONE_AT_A_TIME)
    shut = gate(here.graph)
    first = await here.caller.start(here.say("/1", token="ann"))
    await shut.has(1)
    (leaving,) = await here.caller.start(batch(here.caller, gets("111?fields=id", "222?fields=id")))
    (staying,) = await here.caller.start(here.say("/v25.0/111?fields=id", token="ann"))
    await here.queue_of(2)
    await here.leave(leaving)
    await here.queue_of(1)
    shut.open()
    await asyncio.gather(*first)
    assert (await staying).json["id"] == "111"
    assert "222" not in str(here.asked)


async def test_who_leaves_a_batch_that_writes(scene: MakeScene, gate: MakeGate) -> None:
    """A write whose caller has left was sent once and may have happened, so it ends freshness."""
    here = await scene(FRESH)
    await here.say("/v25.0/111?fields=name", token="ann")
    shut = gate(here.graph)
    (leaving,) = await here.caller.start(batch(here.caller, posts("111", body="name=new")))
    await shut.has(1)
    await here.leave(leaving)
    shut.open()
    assert (await here.say("/v25.0/111?fields=name", token="ann")).json["name"] == "new"
    assert written(here.graph) == 1
    assert asked(here.graph)[1]["body"] == "name=new&number=0"


async def test_what_is_counted(scene: MakeScene) -> None:
    """The sidecar counts the batches of applications, and their operations."""
    here = await scene()
    await slots(here.caller, READS)
    await slots(here.caller, MIXED)
    told = await here.stats()
    assert told["client_batches"] == {"batches": 2, "operations": len(READS) + len(MIXED)}
    assert body((await slots(here.caller, READS))[0])["id"] == "111"


async def test_a_batch_of_more_operations_than_are_taken_is_refused(scene: MakeScene) -> None:
    """However short its operations are, and although all are plain reads."""
    here = await scene()
    heard = await batch(here.caller, json.dumps(gets(*["1"] * 1001), separators=(",", ":")))
    assert (heard.status, here.slots) == (400, [])
    assert "batch holds 1001 operations; at most 1000 are taken" in heard.json["error"]["message"]
