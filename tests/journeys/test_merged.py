"""One call for many fields: merged reads, and answers from larger entries, each as Graph would answer it alone."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from proxy import emulator
from proxy.app import sidecar
from tests.journeys.conftest import Clock, MakeGate, MakeScene, MakeTwins, SidecarSettings
from tests.journeys.talking import Ask, Heard, Scene, Twins

MERGE: dict[str, Any] = {"merge": {"enabled": True}, "batch": {"window_ms": 100}}
FRESH: dict[str, Any] = {**MERGE, "cache": {"fresh_s": 3600}}
NOW = 1_790_000_000.0


def ordered(heard: Heard) -> Any:
    """Returns the JSON of a reply with the order of its keys; parts that differ in any two replies are left out."""
    found = json.loads(heard.body, object_pairs_hook=lambda pairs: pairs)
    return [pair for pair in found if pair[0] != "error"], heard.json.get("error", {}).get("code")


def plain(heard: Heard) -> Any:
    """Returns the same without the order of keys."""
    return {name: value for name, value in heard.json.items() if name != "error"}, ordered(heard)[1]


def read(path: str, *names: str, **more: str) -> str:
    """Returns the target that reads *names* of *path*, in the sidecar's normal form."""
    query = {**more, "fields": ",".join(sorted(names))}
    return f"/v25.0{path}?" + "&".join(f"{name}={query[name]}" for name in sorted(query))


# --- the judge: what is told is what Graph would tell

NAMES = ("id", "name", "status", "link", "message", "from", "objective", "created_time", "email")
ODD = ("no_such_field", "spend_cap", "adsets", "viewer")  # refused by all, empty, an edge, who asks
PATHS = ("/111", "/1201000000007", "/act_1", "/act_1/campaigns", "/111/feed", "/me", "/me/accounts", "/111/insights",
         "/404001", "/act_1/adsets")  # fmt: skip
SELECTIONS = st.sets(st.sampled_from(NAMES + NAMES + ODD), min_size=1, max_size=4).map(
    lambda names: tuple(sorted(names))
)
MORE = st.sampled_from([{}, {}, {"limit": "2"}, {"limit": "3", "summary": "1"}, {"date_format": "U"}, {"limit": "x"}])


Judge = Callable[[int], tuple[Twins, Callable[[Any], Any]]]


@pytest.fixture
def judge(sidecar_settings: SidecarSettings) -> Iterator[Judge]:
    """Twins whose clocks stand still, and a runner for coroutines on their loop; answers stay fresh for a time."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        lifetimes = AsyncExitStack()

        async def made(fresh_s: int) -> Twins:
            alone, behind = [
                await lifetimes.enter_async_context(emulator.running(emulator.Config(), clock=lambda: NOW))
                for _ in range(2)
            ]
            held = {"disk_mb": 0, "fresh_s": fresh_s}
            ours = sidecar_settings(behind.url, merge=MERGE["merge"], cache=held, paging={"rewrite": False})
            front = await lifetimes.enter_async_context(sidecar.sidecar(ours))
            asks = [await lifetimes.enter_async_context(Ask(url)) for url in (alone.url, front.url)]
            return Twins(alone, behind, front, *asks)

        yield lambda fresh_s: (runner.run(made(fresh_s)), runner.run)
        runner.run(lifetimes.aclose())


@pytest.mark.parametrize(
    "order, fresh_s, ways", [("asked", 0, {"merged"}), ("own", 0, {"merged"}), ("asked", 3600, {"merged", "superset"})]
)
def test_each_is_told_what_graph_would_tell(judge: Judge, order: str, fresh_s: int, ways: set[str]) -> None:
    """Whatever is asked together or held for more, each body is Graph's own for its fields: the order of keys, links.

    Where Graph has an order of its own, the place of an `id` that only others asked for may differ.
    """
    here, run = judge(fresh_s)
    for graph in (here.alone, here.behind):
        graph.settings.update({"field_order": order})
    seen, taken = ordered if order == "asked" else plain, set()

    @given(st.sampled_from(PATHS), st.lists(SELECTIONS, min_size=2, max_size=6), MORE)
    def same(path: str, selections: list[tuple[str, ...]], more: dict[str, str]) -> None:
        reads = [read(path, *names, **more) for names in selections]
        direct, through = run(said(here.direct, *reads)), run(said(here.through, *reads))
        for theirs, ours in zip(direct, through, strict=True):
            taken.add(ours.cache.partition("detail=")[2])
            assert ours.status == theirs.status
            assert seen(ours) == seen(theirs)

    same()
    assert taken >= ways


async def said(ask: Ask, *reads: str) -> list[Heard]:
    """Returns the replies to concurrent *reads*, and then to each alone."""
    crowd = await asyncio.gather(*(ask.say(each, token="ann") for each in reads))
    return crowd + [await ask.say(each, token="ann") for each in reads]


@pytest.mark.parametrize("path", ["/111?", "/act_1/campaigns?limit=2&", "/?ids=111,222&"])
async def test_each_is_told_in_its_own_order(twins: MakeTwins, path: str) -> None:
    """Alone, joined, from the cache, or as a part of more fields: the fields are in this caller's order."""
    here = await twins({**FRESH, "paging": {"rewrite": False}})
    orders = ("status,name,id", "name,status,id", "name,id", "status,id,name", "status,name")
    reads = [f"/v25.0{path}fields={order}" for order in orders]
    direct, through = await said(here.direct, *reads), await said(here.through, *reads)
    for theirs, ours in zip(direct, through, strict=True):
        rows = [told.json.get("data", told.json) for told in (theirs, ours)]
        assert json.dumps(rows[1]) == json.dumps(rows[0])
    assert here.behind.ledger.counted_calls < here.alone.ledger.counted_calls


# --- in one window

NAME, STATUS, LINK = (read("/111", name) for name in ("name", "status", "link"))


def fields_asked(here: Scene) -> list[str]:
    """Returns the fields of all reads that Graph got."""
    reads = [slot for slot in here.asked if "relative_url" in slot]
    return [slot["relative_url"].partition("fields=")[2].partition("&")[0] for slot in reads]


async def crowd(here: Scene, shut: Any, *paths: str) -> list[Heard]:
    """Returns the replies to *paths* that wait while another read of the same node is in flight."""
    first = await here.caller.start(here.say(read("/111", "about"), token="ann"))
    await shut.has(1)
    others = await here.caller.start(*(here.say(path, token="ann") for path in paths))
    await shut.has(2)
    shut.open()
    return (await asyncio.gather(*first, *others))[1:]


async def test_reads_in_one_window_are_one_call(scene: MakeScene, gate: MakeGate) -> None:
    """Reads of one node that differ in their fields become one slot with all fields; each caller gets its own part."""
    here = await scene(MERGE)
    heard = await crowd(here, gate(here.graph), NAME, STATUS, LINK)
    assert fields_asked(here) == ["about", "link,name,status"]
    assert [list(each.json) for each in heard] == [["name", "id"], ["status", "id"], ["link", "id"]]
    assert [each.cache for each in heard] == [
        "fwd=uri-miss; stored",
        *["fwd=uri-miss; stored; collapsed; detail=merged"] * 2,
    ]
    assert [each.etag for each in heard] == [""] * 3


async def test_as_delivered_each_is_asked_for_itself(scene: MakeScene, gate: MakeGate) -> None:
    """Merging is off by default: no read depends on another."""
    here = await scene()
    heard = await crowd(here, gate(here.graph), NAME, STATUS, LINK)
    assert sorted(fields_asked(here)) == ["about", "link", "name", "status"]
    assert all(each.etag for each in heard)


async def test_a_rule_says_what_is_merged(scene: MakeScene, gate: MakeGate) -> None:
    """`merge` of a rule beats `merge.enabled`, either way."""
    here = await scene({**MERGE, "rules": [{"path": "/111", "merge": False}]})
    await crowd(here, gate(here.graph), NAME, STATUS)
    assert len(here.asked) == 3
    here = await scene({"batch": MERGE["batch"], "rules": [{"path": "/111", "merge": True}]})
    await crowd(here, gate(here.graph), NAME, STATUS)
    assert len(here.asked) == 2


async def test_a_lone_read_is_as_it_ever_was(scene: MakeScene) -> None:
    """A read with nothing to merge is sent unchanged: its ETag is Graph's, and it is revalidated."""
    here = await scene(MERGE)
    first = await here.say(NAME, token="ann")
    assert (first.cache, bool(first.etag)) == ("fwd=uri-miss; stored", True)
    assert (await here.say(NAME, token="ann")).cache == "fwd=stale; fwd-status=304"
    assert (await here.say(STATUS, token="ann")).cache == "fwd=uri-miss; stored"
    assert fields_asked(here) == ["name", "name", "status"]


async def test_what_was_asked_together_is_revalidated_together(scene: MakeScene, gate: MakeGate) -> None:
    """The next round asks for the same merged fields, whichever read comes first: one call, one ETag, no body."""
    here = await scene(MERGE)
    await crowd(here, gate(here.graph), NAME, STATUS, LINK)
    heard = await here.crowd(LINK, NAME, STATUS, token="ann")
    assert fields_asked(here)[2:] == ["link,name,status"]
    assert sorted(each.cache for each in heard) == [
        "fwd=stale; fwd-status=304",
        *["fwd=stale; fwd-status=304; collapsed; detail=merged"] * 2,
    ]


APART = [
    pytest.param({"token": "bob"}, "", id="another token"),
    pytest.param({"token": "ann"}, "&appsecret_proof=1", id="another proof"),
    pytest.param({"token": "ann"}, "&limit=3", id="another parameter"),
    pytest.param({"token": "ann", "headers": {"Accept-Language": "da"}}, "", id="another language"),
    pytest.param({"token": "ann"}, "&metadata=1", id="metadata"),
    pytest.param({"token": "ann", "headers": {"Cache-Control": "no-cache"}}, "", id="no-cache"),
    pytest.param({"token": "ann", "headers": {"Cache-Control": "max-age=5"}}, "", id="max-age"),
]


@pytest.mark.parametrize("said, more", APART)
async def test_what_is_not_alike_is_asked_apart(
    scene: MakeScene, gate: MakeGate, said: dict[str, Any], more: str
) -> None:
    """Reads are merged only if everything but the fields is equal; otherwise each is sent alone."""
    here = await scene(MERGE, app_secret="")
    shut = gate(here.graph)
    first = await here.caller.start(here.say(read("/111", "about"), token="ann"))
    await shut.has(1)
    others = await here.caller.start(here.say(NAME, token="ann"), here.say(STATUS + more, **said))
    async with asyncio.timeout(60):
        while len(here.asked) < 3:
            await here.caller.settle()
    shut.open()
    await asyncio.gather(*first, *others)
    assert sorted(fields_asked(here)) == ["about", "name", "status"]


# --- one caller's bad field is its own


async def test_a_bad_field_hurts_nobody_else(scene: MakeScene, gate: MakeGate) -> None:
    """A merged read that Graph refuses is split: each caller gets Graph's answer to its own read; no second try."""
    here = await scene(MERGE)
    bad = read("/111", "name", "no_such_field")
    heard = await crowd(here, gate(here.graph), bad, STATUS, LINK)
    assert [each.status for each in heard] == [400, 200, 200]
    assert heard[0].json["error"]["code"] == 100
    assert sorted(fields_asked(here)[1:]) == sorted(
        ["link,name,no_such_field,status", "name,no_such_field", "status", "link"]
    )
    here.graph.ledger.clear()
    heard = await crowd(here, gate(here.graph), bad, STATUS, LINK)
    assert [each.status for each in heard] == [400, 200, 200]
    assert sorted(fields_asked(here)) == sorted(["about", "name,no_such_field", "link,status"])


async def test_a_combination_that_graph_refuses_is_asked_apart(scene: MakeScene, gate: MakeGate) -> None:
    """If each read succeeds and the merged one fails, each is sent alone, now and for some minutes."""
    here = await scene(MERGE)
    here.graph.faults.add({"kind": "error", "code": 100, "status": 400, "after": 1, "count": 1})
    for union in (["link,name"], []):
        here.graph.ledger.clear()
        heard = await crowd(here, gate(here.graph), NAME, LINK)
        assert [each.status for each in heard] == [200, 200]
        assert sorted(fields_asked(here)) == sorted(["about", *union, "name", "link"])


# --- held for more


async def test_what_is_held_for_more_answers_for_less(scene: MakeScene) -> None:
    """A fresh entry with all the fields that are asked for costs no call; an absent field stays absent."""
    here = await scene(FRESH)
    await here.say(read("/act_1", "name", "currency", "spend_cap"), token="ann")
    heard = await here.say(read("/act_1", "name", "spend_cap"), token="ann")
    assert list(heard.json) == ["name", "id"]
    assert heard.cache.startswith("hit; ttl=35")
    assert heard.cache.endswith("; detail=superset")
    assert len(here.asked) == 1


async def test_what_is_asked_widens_until_one_call_answers_all(scene: MakeScene) -> None:
    """Where answers are stored, a read also asks for the fields of other callers: then one call serves them all."""
    here = await scene(FRESH)
    for path in (NAME, STATUS, LINK):
        await here.say(path, token="ann")
    assert fields_asked(here) == ["name", "name,status", "link,name,status"]
    await here.say("/v25.0/111", method="POST", data={"name": "new"}, token="ann")
    for path in (STATUS, NAME, LINK):
        await here.say(path, token="ann")
    assert fields_asked(here)[3:] == ["link,name,status"]


async def test_ones_own_fresh_entry_comes_first(scene: MakeScene) -> None:
    """An entry for exactly these fields is served with its ETag."""
    here = await scene(FRESH)
    first = await here.say(NAME, token="ann")
    await here.say(STATUS, token="ann")
    again = await here.say(NAME, token="ann")
    assert (again.etag, again.body) == (first.etag, first.body)
    assert "detail" not in again.cache


async def test_client_directives_are_honoured_on_what_is_held_for_more(scene: MakeScene) -> None:
    """`no-cache` asks Graph, `only-if-cached` takes the part of a stored answer."""
    here = await scene(FRESH)
    await here.say(read("/111", "name", "status"), token="ann")
    heard = await here.say(NAME, token="ann", headers={"Cache-Control": "only-if-cached"})
    assert (heard.status, heard.cache.partition("; detail=")[2]) == (200, "superset")
    heard = await here.say(LINK, token="ann", headers={"Cache-Control": "only-if-cached"})
    assert heard.status == 504
    heard = await here.say(NAME, token="ann", headers={"Cache-Control": "no-cache"})
    assert heard.cache.startswith("fwd=")
    assert fields_asked(here) == ["name,status", "name"]


async def test_nobody_else_is_answered_from_it(scene: MakeScene) -> None:
    """An entry serves no other token, and no proof that Graph has not seen."""
    here = await scene(FRESH)
    await here.say(read("/111", "name", "status"), token="ann")
    for path, token in ((NAME, "bob"), (NAME + "&appsecret_proof=1", "ann")):
        assert (await here.say(path, token=token)).cache.startswith("fwd=")


# --- writes and leaving


async def test_a_read_after_a_write_gets_on_no_flight_from_before_it(scene: MakeScene, gate: MakeGate) -> None:
    """After a write, later reads do not join a merged read that is in flight: they see the write."""
    here = await scene(MERGE)
    shut = gate(here.graph)
    shut.holds = lambda request: request.path == "/"  # batches of reads wait, the write does not
    wide = await here.caller.start(here.say(read("/111", "name", "status"), token="ann"))
    await shut.has(1)
    before = await here.caller.start(here.say(STATUS, token="ann"))
    await here.say("/v25.0/111", method="POST", data={"name": "new"}, token="ann")
    after = await here.caller.start(here.say(NAME, token="ann"))
    await shut.has(2)
    shut.open()
    old, joined, new = await asyncio.gather(*wide, *before, *after)
    assert (old.json["name"] == "new", new.json["name"] == "new") == (False, True)
    assert joined.cache.endswith("collapsed; detail=merged")


async def test_who_leaves_hurts_nobody(scene: MakeScene, gate: MakeGate) -> None:
    """If the caller of the first read disconnects, the others are answered."""
    here = await scene(MERGE)
    shut = gate(here.graph)
    first = await here.caller.start(here.say(read("/111", "name", "status", "link"), token="ann"))
    await shut.has(1)
    others = await here.caller.start(here.say(NAME, token="ann"), here.say(STATUS, token="ann"))
    await here.leave(*first)
    shut.open()
    heard = await asyncio.gather(*others)
    assert [list(each.json) for each in heard] == [["name", "id"], ["status", "id"]]
    assert len(here.asked) == 1


async def test_pages_of_an_edge_go_on_with_the_callers_own_fields(scene: MakeScene, gate: MakeGate) -> None:
    """A link to the next page has the fields of its own caller."""
    here = await scene(MERGE, edge_length=5)
    shut = gate(here.graph)
    first = await here.caller.start(here.say(read("/111/feed", "id", limit="2"), token="ann"))
    await shut.has(1)
    others = [here.say(read("/111/feed", name, limit="2"), token="ann") for name in ("message", "link")]
    tasks = await here.caller.start(*others)
    await shut.has(2)
    shut.open()
    await asyncio.gather(*first, *tasks)
    page = tasks[0].result()
    assert len(here.asked) == 2
    assert [list(row) for row in page.json["data"]] == [["message", "id"]] * 2
    following = await here.say(page.json["paging"]["next"])
    assert [list(row) for row in following.json["data"]] == [["message", "id"]] * 2


# --- several objects at once


def nodes_asked(here: Scene) -> list[str]:
    """Returns the paths that Graph was asked for, and the ids of each read."""
    urls = [slot["relative_url"] for slot in here.asked if "relative_url" in slot]
    return [re.split(r"[?&]access_token", url)[0].removeprefix("v25.0/") for url in urls]


async def test_of_several_objects_only_the_rest_is_asked(scene: MakeScene) -> None:
    """Each id counts as a call: fresh ids are not asked for, and each answer is stored for its id."""
    here = await scene(FRESH)
    one = await here.say("/v25.0/111?fields=id,name", token="ann")
    heard = await here.say("/v25.0/?fields=id,name&ids=222,111,333", token="ann")
    assert list(heard.json) == ["222", "111", "333"]
    assert heard.json["111"] == one.json
    assert nodes_asked(here) == ["111?fields=id,name", "?fields=id,name&ids=222,333"]
    assert here.graph.ledger.counted_calls == 3
    alone = await here.say("/v25.0/333?fields=id,name", token="ann")
    assert (alone.json, alone.etag, alone.cache[:4]) == (heard.json["333"], "", "hit;")
    assert (await here.say("/v25.0/?fields=id,name&ids=333,222", token="ann")).cache.startswith("hit;")
    assert here.graph.ledger.counted_calls == 3


async def test_what_is_learnt_of_each_answers_for_fewer_fields(twins: MakeTwins) -> None:
    """An entry of one id with more fields answers for that id in `ids=`; each caller gets Graph's own words."""
    here = await twins({**FRESH, "paging": {"rewrite": False}})
    asked = (
        "/?fields=id,name,status&ids=111,222", "/111?fields=name", "/222?fields=status,id", "/333?fields=id,link,name",
        "/?fields=id,name&ids=111,333", "/?fields=name&ids=333,222,111",
    )  # fmt: skip
    for path in asked:
        direct, through = await here.both(f"/v25.0{path}", token="ann")
        assert json.loads(through.body, object_pairs_hook=list) == json.loads(direct.body, object_pairs_hook=list), path
    assert here.behind.ledger.counted_calls == 3


async def test_several_objects_are_told_as_graph_tells_them(twins: MakeTwins) -> None:
    """Whichever ids are stored, the reply is Graph's: for nodes, for edges, and with an error of one id."""
    here = await twins({**FRESH, "paging": {"rewrite": False}})
    for path in ("/", "/feed"):
        for ids in ("111,222", "222,333,111", "333", "111,404001", "err1,111", "404001"):
            for more in ("", "&fields=id,name", "&limit=2"):
                direct, through = await here.both(f"/v25.0{path}?ids={ids}{more}", token="ann")
                assert through.status == direct.status
                assert ordered(through) == ordered(direct)
    assert here.behind.ledger.counted_calls < here.alone.ledger.counted_calls


async def test_if_one_object_errs_graph_speaks_to_the_whole(scene: MakeScene) -> None:
    """The error is Graph's error for the whole read, not for the ids that were still missing."""
    here = await scene(FRESH)
    await here.say("/v25.0/111", token="ann")
    heard = await here.say("/v25.0/?ids=111,404001", token="ann")
    assert heard.status == 404
    assert nodes_asked(here) == ["111", "?ids=404001", "?ids=111,404001"]


async def test_without_freshness_several_objects_are_asked_as_ever(scene: MakeScene) -> None:
    """Nothing is stored for single ids: the whole is revalidated with its own ETag."""
    here = await scene(MERGE)
    await here.say("/v25.0/?ids=111,222", token="ann")
    heard = await here.say("/v25.0/?ids=111,222", token="ann")
    assert (heard.cache, bool(heard.etag)) == ("fwd=stale; fwd-status=304", True)


async def test_a_write_ends_the_freshness_of_what_was_learnt(scene: MakeScene) -> None:
    """A write ends the freshness of its object only; a part without an ETag is fetched without a validator."""
    here = await scene(FRESH)
    await here.say("/v25.0/?ids=111,222&fields=name", token="ann")
    await here.say("/v25.0/111", method="POST", data={"name": "new"}, token="ann")
    heard = await here.say("/v25.0/?ids=111,222&fields=name", token="ann")
    assert heard.json["111"]["name"] == "new"
    assert nodes_asked(here)[-1] == "?fields=name&ids=111"


async def test_a_body_that_has_an_etag_keeps_it(scene: MakeScene, clock: Clock) -> None:
    """The answer to `ids=` makes the entry of each id fresh again, with the ETag that it had."""
    here = await scene(FRESH)
    first = await here.say(NAME, token="ann")
    clock.ahead += 3601
    await here.say("/v25.0/?fields=name&ids=111,222", token="ann")
    again = await here.say(NAME, token="ann")
    assert (again.cache[:4], again.etag) == ("hit;", first.etag)
    clock.ahead += 3601
    assert (await here.say(NAME, token="ann")).cache == "fwd=stale; fwd-status=304"


# --- the ledger


async def test_what_is_saved_is_told_call_by_call(scene: MakeScene, gate: MakeGate) -> None:
    """Calls are avoided in Meta's units, by cause; the sidecar's count equals Graph's."""
    here = await scene(FRESH)
    await crowd(here, gate(here.graph), NAME, STATUS, LINK)
    await here.say(read("/111", "name", "status"), token="ann")
    await here.say("/v25.0/222?fields=name", token="ann")
    await here.say("/v25.0/?ids=222,333&fields=name", token="ann")
    stats = await here.stats()
    assert stats["calls_avoided"] == {
        "collapsed": 0, "fresh": 1, "stale": 0, "merged": 2, "superset": 1, "throttle": 0, "refused": 0,
    }  # fmt: skip
    assert stats["calls"]["counted"] == here.graph.ledger.counted_calls == stats["calls"]["asked"] - 4
