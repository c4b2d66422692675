"""Batches whose operations refer to each other, resolved by Graph or by the sidecar: both give the same replies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.journeys.conftest import MakeAsk, MakeScene, MakeSidecar, MakeTwins
from tests.journeys.operating import (
    Item,
    alike,
    assert_alike,
    batch,
    bodies,
    body,
    changes,
    codes,
    gets,
    named,
    posts,
    slots,
    written,
)
from tests.journeys.talking import Heard

Troubles = dict[str, dict[str, Any]]
SPEAK = {"omit_response_on_success": False}
CONFIRMED = "graph-sidecar; fwd=stale; fwd-status=304"
LARGE = {"batch_limit": 1000}
"""A Graph that takes in one call the batches that the sidecar has to split: its replies are the reference."""


def called(name: str, url: str, **more: Any) -> Item:
    """Returns a read with a name."""
    return {"method": "GET", "relative_url": url, "name": name, **more}


def created(name: str, number: int = 0, **more: Any) -> Item:
    """Returns a write with a name."""
    item = {"method": "POST", "relative_url": "act_1/campaigns", "body": f"name=campaign {number}", "name": name}
    return {**item, **more}


LIST = called("list", "act_1/campaigns?limit=3&fields=id,name")
MADE = created("made")

CHAINS: dict[str, list[Item]] = {
    "ids": [LIST, *gets("?ids={result=list:$.data.*.id}&fields=id,name")],
    "encoded": [LIST, *gets("?ids=%7Bresult%3Dlist%3A%24.data.%2A.id%7D&fields=id")],
    "anywhere below": [LIST, *gets("?ids={result=list:$.data..id}&fields=id")],
    "one of them": [LIST, *gets("{result=list:$.data.0.id}?fields=name")],
    "some of them": [LIST, *gets("?ids={result=list:$.data[0:2].id}"), *gets("?ids={result=list:$.data[0:199:1].id}")],
    "several in one": [
        called("a", "1?fields=id"),
        called("b", "2?fields=id"),
        *gets("?ids={result=a:$.id},{result=b:$.id}&fields=id", "{result=a:$.id}?fields=id&x={result=b:$.id}"),
    ],
    "nothing is found": [LIST, *gets("?ids={result=list:$.nothing}", "{result=list:$.data.99.id}")],
    "no path": [LIST, *gets("?ids={result=list:$.data[?(@.id)]}", "1")],
    "a link": [LIST, *gets("{result=list:$.paging.next}")],
    "a name with spaces": [called("My Søn & co", "1?fields=id"), *gets("{result=My Søn & co:$.id}?fields=name")],
    "an odd value": [
        *posts("1", body="name=a%26b%3Dc d/é"),
        called("it", "1?fields=id,name"),
        {"method": "POST", "relative_url": "2/feed", "body": "message={result=it:$.name}&all={result=it:$}"},
    ],
    "three deep": [
        LIST,
        called("first", "{result=list:$.data.0.id}/ads?limit=2&fields=id"),
        *gets("?ids={result=first:$.data.*.id}&fields=id"),
    ],
    "all speak": [{**LIST, **SPEAK}, *gets("?ids={result=list:$.data.*.id}")],
    "told so in text": [{**LIST, "omit_response_on_success": "false"}, *gets("?ids={result=list:$.data.*.id}")],
    "told to be quiet": [{**LIST, "omit_response_on_success": True}, *gets("1")],
    "only waits": [called("a", "1?fields=id"), {**gets("2?fields=id")[0], "depends_on": "a"}],
    "waits for several": [called("a", "1"), called("b", "2"), {**gets("3")[0], "depends_on": ["a", "b"]}],
    "a write and its object": [MADE, *gets("{result=made:$.id}?fields=id,name")],
    "a write that speaks": [{**MADE, **SPEAK}, *gets("{result=made:$.id}?fields=id,name")],
    "a write on a write": [MADE, {"method": "POST", "relative_url": "{result=made:$.id}", "body": "name=again"}],
    "a write with two bodies": [
        MADE,
        created("second", 2),
        {"method": "POST", "relative_url": "1/feed", "body": "m={result=made:$.id}&n=%7Bresult%3Dsecond%3A%24.id%7D"},
        *gets("{result=second:$.id}?fields=name"),
    ],
    "a write that waits": [called("a", "1"), {**posts("2/feed")[0], "depends_on": "a"}],
    "a failed parent": [called("a", "err1"), *gets("{result=a:$.id}", "2")],
    "a failed parent of a write": [called("a", "err1"), {**posts("2/feed")[0], "depends_on": "a"}, *gets("2")],
    "a failed line": [called("a", "err1"), called("b", "{result=a:$.id}"), *gets("{result=b:$.id}", "1")],
    "a failed write": [{**created("a"), "relative_url": "err1"}, *gets("{result=a:$.id}", "2")],
    "a picture of it": [LIST, *gets("1/picture?redirect=0&x={result=list:$.data.0.id}")],
    "its picture": [called("a", "1?fields=id"), *gets("{result=a:$.id}/picture")],
    "one name twice": [called("a", "1?fields=id"), called("a", "2?fields=id"), *gets("{result=a:$.id}?fields=id")],
    "a name that nobody uses": [called("a", "1"), *gets("2")],
    "depends on a picture": [called("a", "1/picture?redirect=0"), {**gets("2")[0], "depends_on": "a"}],
    "waits for a redirect": [called("a", "1/picture"), {**gets("2")[0], "depends_on": "a"}],
    "its own token": [called("a", "me?access_token=bob&fields=id"), *gets("{result=a:$.id}?fields=id,viewer")],
}


@pytest.mark.parametrize("items", CHAINS.values(), ids=CHAINS)
async def test_references(twins: MakeTwins, items: list[Item]) -> None:
    """Whether Graph or the sidecar resolves a reference, slots and side effects are Graph's, also the second time."""
    both = await twins()
    for _time in range(3):
        await alike(both, items)
    assert written(both.behind) == written(both.alone)


@pytest.mark.parametrize("items", CHAINS.values(), ids=CHAINS)
async def test_references_across_parts(twins: MakeTwins, items: list[Item]) -> None:
    """A batch of more than fifty is split; references to an earlier part are filled in as if it were one call."""
    both = await twins(**LARGE)
    found: list[Any] = []
    between = [*posts(*(f"{5000 + number}/feed" for number in range(20))), *gets(*map(str, range(300, 327)))]
    spread = [each for item in items for each in (item, *between, *gets("1"))]
    for _time in range(2):
        found = await alike(both, spread)
    assert len(found) == len(items) * 49
    assert max(both.behind.ledger.slots) <= 50
    assert written(both.behind) == written(both.alone)


@pytest.mark.parametrize("speaking", [{}, SPEAK], ids=["quiet", "speaking"])
async def test_a_long_line(twins: MakeTwins, speaking: dict[str, Any]) -> None:
    """A chain of 130 operations runs in order through three parts, and each write is sent once."""
    both = await twins(**LARGE)
    items: list[Item] = [{**created("w0"), **speaking}]
    for number in range(1, 130):
        text = f"name=campaign {number}&of={{result=w{number - 1}:$.id}}"
        items.append({**created(f"w{number}"), "body": text, **speaking})
    found = await alike(both, items)
    assert codes(found)[-1] == 200
    assert both.behind.ledger.slots == [50, 50, 30]
    assert written(both.behind) == 130


@pytest.mark.parametrize("failure", ["null", "960"])
async def test_what_stands_for_a_failed_parent(twins: MakeTwins, failure: str) -> None:
    """An operation that depends on a failure gets Graph's answer to that; across parts it is null."""
    both = await twins(dependent_failure=failure)
    items = CHAINS["a failed line"]
    await alike(both, items)
    spread = [*items[:1], *posts(*["9/feed"] * 50), *items[1:]]
    found = await slots(both.through, spread)
    assert (found[0]["code"], found[51], found[52], found[53]["code"]) == (400, None, None, 200)


async def test_a_part_of_which_nothing_is_left(twins: MakeTwins) -> None:
    """If all operations of a part depend on a failure, nothing is sent to Graph, and every slot is null."""
    both = await twins(**LARGE)
    items = [called("a", "err1"), *posts(*["9/feed"] * 49), *gets(*["{result=a:$.id}"] * 30)]
    await alike(both, items)
    assert both.behind.ledger.slots == [50]


FORWARD: list[Item] = [*gets("1"), *gets("{result=later:$.id}"), called("later", "2")]


@pytest.mark.parametrize("filling", [0, 100], ids=["few", "many"])
@pytest.mark.parametrize(
    "items",
    [
        FORWARD,
        gets("{result=nobody:$.id}"),
        [called("me", "{result=me:$.id}")],
        [{**gets("1")[0], "depends_on": ["x"]}],
    ],
    ids=["forward", "to nobody", "to itself", "waits for nobody"],
)
async def test_who_refers_to_what_does_not_stand_before(twins: MakeTwins, items: list[Item], filling: int) -> None:
    """The whole batch is refused in Graph's exact words, however large it is, and none of it is performed."""
    both = await twins(**LARGE)
    whole = [*posts(*["9/feed"] * filling), *items]
    direct, through = await batch(both.direct, whole), await batch(both.through, whole)
    assert_alike(both, direct, through)
    assert "cannot depend on an  unresolved request with  name" in through.json["error"]["message"]
    assert through.status == 400
    assert written(both.behind) == 0


# --- chains of reads are revalidated ----------------------------------------------------------------------------------


async def test_a_chain_again(scene: MakeScene) -> None:
    """A chain of reads that is repeated costs headers only: parents are revalidated, and resolved from the entries."""
    here = await scene(body_bytes=2000)
    items = [{**LIST, **SPEAK}, called("one", "{result=list:$.data.0.id}"), *gets("?ids={result=list:$.data.*.id}")]
    items.append(gets("{result=one:$.id}/ads?limit=2")[0])
    first = await slots(here.caller, items)
    cold = here.graph.ledger.bytes_out
    await slots(here.caller, items)  # what Graph resolved the first time is asked by its own name now
    moved = here.graph.ledger.bytes_out
    third = await batch(here.caller, items)
    assert bodies(third.json) == bodies(first)
    assert {named(slot)["cache-status"] for slot in third.json if slot} == {CONFIRMED}
    assert here.graph.ledger.bytes_out - moved < cold / 2
    assert [slot["headers"] for slot in here.asked[-4:]] == [["if-none-match"]] * 4
    assert "{result" not in str(here.asked[-4:])


async def test_a_chain_that_changed(scene: MakeScene) -> None:
    """A chain uses the present answer of its parent, not the stored one."""
    here = await scene()
    items = [called("page", "111?fields=name"), *gets("222?fields=id&for={result=page:$.name}")]
    await slots(here.caller, items)
    here.graph.world.touch("111", {"name": "other"})
    await slots(here.caller, items)
    assert "for=other" in here.asked[-1]["relative_url"]


async def test_a_chain_whose_token_is_refused_now(twins: MakeTwins) -> None:
    """A token that Graph refuses ends a batch of chains like any other batch, whatever is stored for that token."""
    both = await twins()
    await alike(both, LINE)
    await alike(both, LINE)
    for graph in (both.alone, both.behind):
        graph.settings.update({"refused_tokens": ["ann"]})
    direct, through = await batch(both.direct, LINE), await batch(both.through, LINE)
    assert_alike(both, direct, through)
    assert through.json["error"]["code"] == 190


async def test_a_chain_of_other_tokens(twins: MakeTwins) -> None:
    """A chain with its own tokens is still under the top-level token: Graph sees that token each time."""
    both = await twins()
    items = [called("a", "me?access_token=bob&fields=id"), *gets("{result=a:$.id}?access_token=bob&fields=id")]
    await alike(both, items)
    await alike(both, items)
    for graph in (both.alone, both.behind):
        graph.settings.update({"refused_on_top": ["ann"]})
    direct, through = await batch(both.direct, items), await batch(both.through, items)
    assert_alike(both, direct, through)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("speaking", [{}, SPEAK], ids=["quiet", "speaking"])
async def test_a_parent_with_a_validator_of_its_own(twins: MakeTwins, *, known: bool, speaking: dict[str, Any]) -> None:
    """Operations that refer to one that Graph answers 304 get what Graph makes of that."""
    both = await twins()
    (first,) = await slots(both.through, gets("1?fields=id"))
    tag = named(first)["etag"] if known else '"other"'
    parent = called("a", "1?fields=id", headers=[f"If-None-Match: {tag}"], **speaking)
    for _time in range(2):
        await alike(both, [parent, *gets("{result=a:$.id}?fields=name", "2")])


async def test_a_chain_that_ends_in_a_refused_picture(scene: MakeScene) -> None:
    """Graph's refusal of the last read of a chain is in that slot; the reads before it are answered."""
    here = await scene()
    items = [called("a", "1?fields=id", **SPEAK), *gets("{result=a:$.id}/picture")]
    assert codes(await slots(here.caller, items)) == [200, 302]
    here.graph.faults.add({"kind": "batch_exception", "where": "batch", "path": "*/picture"})
    assert codes(await slots(here.caller, items)) == [200, 400]


async def test_a_chain_with_a_step_of_nought(twins: MakeTwins) -> None:
    """A path that turns out to be invalid when it is followed is a 400 in its slot, here as at Graph."""
    both = await twins(**LARGE)
    items = [LIST, *gets("?ids={result=list:$.data[::0].id}", "1")]
    for spread in (items, items, [LIST, *posts(*["9/feed"] * 50), *items[1:]]):
        direct, through = await slots(both.direct, spread), await slots(both.through, spread)
        assert codes(direct) == codes(through)
        assert codes(through)[-2:] == [400, 200]


async def test_a_chain_whose_parent_fails_now(twins: MakeTwins) -> None:
    """A parent that was stored and is refused now shows its error, and no operation uses the stored answer."""
    both = await twins()
    items = [called("page", "111?fields=id"), *gets("{result=page:$.id}?fields=name")]
    await alike(both, items)
    for graph in (both.alone, both.behind):
        graph.world.delete("111")
    assert codes(await alike(both, items)) == [400, None]


# --- what Graph leaves out --------------------------------------------------------------------------------------------

TROUBLE: Troubles = {
    "null": {"kind": "null"},
    "960": {"kind": "aborted"},
    "960 as 400": {"kind": "aborted", "status": 400},
}
LINE: list[Item] = [
    called("list", "act_1/campaigns?limit=2&fields=id", **SPEAK),
    called("first", "{result=list:$.data.0.id}?fields=id,name", **SPEAK),
    *gets("{result=first:$.id}/ads?limit=1&fields=id"),
    *gets("77?fields=id"),
]
BESIDE = {"reads alone": [], "beside a write": posts("9/feed")}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
@pytest.mark.parametrize("times", [1, 2, 3, 4])
async def test_reads_that_graph_left_out(
    twins: MakeTwins, trouble: dict[str, Any], times: int, beside: list[Item]
) -> None:
    """A read whose slot is null or aborted is sent again, with its references resolved, and then looks as usual."""
    both = await twins()
    both.behind.faults.add({"where": "batch", "method": "GET", "count": times, **trouble})
    await alike(both, [*LINE, *beside])
    assert written(both.behind) == len(beside)


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
async def test_a_dependant_that_graph_left_out(twins: MakeTwins, trouble: dict[str, Any]) -> None:
    """A dependent operation is sent again alone, with its parents' answers; their writes are not repeated."""
    both = await twins()
    both.behind.faults.add({"where": "batch", "path": "1*", "method": "GET", "count": 1, **trouble})
    found = await alike(both, [{**MADE, **SPEAK}, *gets("{result=made:$.id}?fields=id,name")])
    assert body(found[1])["id"] == body(found[0])["id"]
    assert written(both.behind) == 1


@pytest.mark.parametrize("url", ["{result=made:$.id}/picture", "?ids={result=made:$[?(@.id)]}"])
async def test_a_dependant_that_nobody_here_can_ask(twins: MakeTwins, url: str) -> None:
    """A dependent operation that is no plain read, or has an unknown path, stays null if Graph left it null."""
    both = await twins()
    both.trouble({"where": "batch", "kind": "null", "method": "GET", "count": 1})
    assert codes(await alike(both, [{**MADE, **SPEAK}, *gets(url, "7?fields=id")])) in (
        [200, None, 200],
        [200, 400, None],
    )


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
async def test_writes_that_graph_left_out(twins: MakeTwins, trouble: dict[str, Any]) -> None:
    """A write whose slot is null or aborted gets an error that says so, and is never sent again."""
    both = await twins()
    both.trouble({"where": "batch", "method": "POST", "count": 1, **trouble})
    items = [{**MADE, **SPEAK}, *gets("{result=made:$.id}"), created("other", 2), *gets("7?fields=id")]
    found = await alike(both, items)
    assert codes(found)[1:] == [None, 200, 200]
    assert written(both.behind) == 2


@pytest.mark.parametrize("place", ["head", "middle", "tail"])
@pytest.mark.parametrize("kind", ["short", "long"])
async def test_an_array_of_another_length(twins: MakeTwins, kind: str, place: str) -> None:
    """Of an array of another length nobody knows whose slots they are: reads are asked again, writes are not.

    Nor is the slot of a write null, for that is what clients send again.
    """
    both = await twins()
    items = [*gets("1?fields=id", "2?fields=id"), *posts("3/feed"), *LINE]
    whole = await slots(both.direct, items)
    both.behind.faults.add({"kind": kind, "place": place, "where": "batch", "count": 1})
    found = await slots(both.through, items)
    assert len(found) == len(items)
    assert (found[2]["code"], bodies(found)[2]["error"]["is_transient"]) == (502, False)
    assert bodies(found)[:2] == bodies(whole)[:2]
    assert bodies(found)[-1] == bodies(whole)[-1]
    assert written(both.behind) == 1
    assert changes(both.behind) == changes(both.alone)


# --- a batch that fails as a whole ------------------------------------------------------------------------------------

REFUSALS: Troubles = {
    "190": {"kind": "refused"},
    "190 as 401": {"kind": "refused", "status": 401},
    "throttled": {"kind": "refused", "code": 4},
    "GraphBatchException": {"kind": "batch_exception"},
}
WRECKS: Troubles = {
    "500": {"kind": "unknown"},
    "503": {"kind": "unavailable"},
    "HTML 502": {"kind": "html"},
    "HTML 200": {"kind": "html", "status": 200},
    "text": {"kind": "text"},
    "empty": {"kind": "empty"},
    "error in 200": {"kind": "error_in_200"},
}
CUTS: Troubles = {"cut": {"kind": "cut"}, "lost": {"kind": "lost"}, "cut in the middle": {"kind": "cut_middle"}}
ANSWERS: Troubles = {**REFUSALS, **WRECKS}
ACCIDENTS: Troubles = {**WRECKS, **CUTS}
EVERY_TROUBLE: Troubles = {**ANSWERS, **CUTS}
WRITING = [*gets("1?fields=id"), {**MADE, **SPEAK}, *gets("{result=made:$.id}?fields=name")]


UNSPARING = {"quota": {"enabled": False}}
"""tests/journeys/test_quota.py tests what follows a refusal for a limit."""


@pytest.mark.parametrize("trouble", ANSWERS.values(), ids=ANSWERS)
async def test_a_batch_that_writes_and_is_not_answered(twins: MakeTwins, trouble: dict[str, Any]) -> None:
    """Graph's answer to a whole batch with writes is passed on: no part of it is sent again."""
    both = await twins(UNSPARING)
    both.trouble({"where": "batch", "count": 1, **trouble})
    direct, through = await batch(both.direct, WRITING), await batch(both.through, WRITING)
    assert through.status == direct.status
    assert same_words(direct, through)
    assert both.behind.ledger.http_calls == 1
    assert changes(both.behind) == changes(both.alone)
    await alike(both, WRITING)


@pytest.mark.parametrize("trouble", CUTS.values(), ids=CUTS)
async def test_a_batch_that_writes_and_is_cut(scene: MakeScene, trouble: dict[str, Any]) -> None:
    """If the connection ends, a batch with writes may have been performed: it is not sent again."""
    here = await scene({"cache": {"fresh_s": 3600}})
    read = await here.say("/v25.0/1?fields=name", token="ann")
    here.graph.faults.add({"where": "batch", "count": 1, **trouble})
    heard = await batch(here.caller, [*WRITING, *posts("1", body="name=new")])
    assert heard.status == 502
    assert heard.json["error"]["message"].startswith("graph-sidecar:")
    assert here.graph.ledger.http_calls == 2
    assert written(here.graph) == (0 if trouble["kind"] == "cut" else 2)
    after = await here.say("/v25.0/1?fields=name", token="ann")  # it may have been: nothing is fresh any more
    assert (after.json == read.json) is (trouble["kind"] == "cut")


IMPATIENT = {"upstream": {"connect_timeout_s": 1, "reply_timeout_s": 1}}
SLOW = {"kind": "delay", "where": "batch", "ms": 5000, "count": 1}


async def test_a_batch_that_writes_and_is_late(scene: MakeScene) -> None:
    """A batch with writes that gets no answer in time gets an error that says so, and is not sent again."""
    here = await scene(IMPATIENT, faults=(json.dumps(SLOW),))
    heard = await batch(here.caller, WRITING)
    assert (heard.status, heard.json["error"]["is_transient"]) == (504, False)
    assert here.graph.ledger.http_calls == 1


async def test_a_chain_that_is_late(scene: MakeScene) -> None:
    """A chain of reads without an answer in time gets an error; it is not repeated here, but the client may do so."""
    here = await scene(IMPATIENT, faults=(json.dumps(SLOW),))
    heard = await batch(here.caller, LINE)
    assert (heard.status, heard.json["error"]["is_transient"]) == (504, True)
    assert here.graph.ledger.http_calls == 1


@pytest.mark.parametrize("trouble", ACCIDENTS.values(), ids=ACCIDENTS)
async def test_a_batch_that_reads_and_is_not_answered(twins: MakeTwins, trouble: dict[str, Any]) -> None:
    """A batch of reads, also of chains, is answered whatever happens to its call: the reads may be sent again."""
    both = await twins()
    both.behind.faults.add({"where": "batch", "count": 1, **trouble})
    for items in (LINE, gets("1?fields=id", "2?fields=id"), gets("1/picture", "3?fields=id")[1:]):
        found = await alike(both, items)
        assert None not in found


@pytest.mark.parametrize("trouble", REFUSALS.values(), ids=REFUSALS)
async def test_a_chain_that_is_refused(twins: MakeTwins, trouble: dict[str, Any]) -> None:
    """Graph's refusal of a batch is passed on as it is."""
    both = await twins(UNSPARING)
    both.trouble({"where": "batch", "count": 1, **trouble})
    direct, through = await batch(both.direct, LINE), await batch(both.through, LINE)
    assert_alike(both, direct, through)
    await alike(both, LINE)


@pytest.mark.parametrize("trouble", EVERY_TROUBLE.values(), ids=EVERY_TROUBLE)
async def test_trouble_with_a_later_part(scene: MakeScene, trouble: dict[str, Any]) -> None:
    """The slots of the first part of a split batch are kept, whatever happens to the second; no write is repeated."""
    here = await scene()
    here.graph.faults.add({"where": "batch", "after": 1, "count": 1, **trouble})
    items = [*posts(*["9/feed"] * 50), *posts(*["8/feed"] * 10), *gets("7?fields=id")]
    found = await slots(here.caller, items)
    assert len(found) == 61
    assert codes(found)[:50] == [200] * 50
    assert all(
        slot is None or slot["code"] != 200 or "error" in slot["body"] or "{" not in slot["body"]
        for slot in found[50:60]
    )
    assert here.graph.ledger.http_calls in {2, 3}
    assert written(here.graph) == (60 if trouble["kind"] in {"lost", "cut_middle"} else 50)


@pytest.mark.parametrize(
    "items", [LINE, WRITING, gets("1", "2"), gets("1/picture")], ids=["chain", "writes", "reads", "picture"]
)
async def test_graph_out_of_reach(sidecar: MakeSidecar, ask: MakeAsk, items: list[Item]) -> None:
    """If Graph cannot be reached, the whole batch gets the sidecar's own error, in Graph's shape."""
    front = await sidecar("http://127.0.0.1:9")
    heard = await batch(await ask(front.url), items)
    assert heard.status == 502
    assert heard.json["error"]["is_transient"] is True


def same_words(direct: Heard, through: Heard) -> bool:
    """Returns whether two replies say the same."""
    try:
        said = [json.loads(each.body) for each in (direct, through)]
    except ValueError:
        return direct.body == through.body
    for each in said:
        each["error"].pop("fbtrace_id")
    return bool(said[0] == said[1])
