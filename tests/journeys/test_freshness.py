"""Where rules allow it, a read is served without asking Graph: never an unfinished body, never after a write."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.journeys.conftest import Clock, MakeGate, MakeScene
from tests.journeys.talking import Scene

READ = "/v25.0/111?fields=id,name"
FRESH: dict[str, Any] = {"cache": {"fresh_s": 3600}}
CONFIRMED = "fwd=stale; fwd-status=304"


async def name_of(here: Scene, path: str = READ, token: str = "ann") -> tuple[str, str]:
    """Returns the object's name and the mode of the reply."""
    heard = await here.say(path, token=token)
    return heard.json["name"], heard.cache.partition("=")[0]


async def test_nothing_is_fresh_unless_the_operator_says_so(scene: MakeScene) -> None:
    """With default settings every read is revalidated: the next caller sees a change."""
    here = await scene()
    before, _ = await name_of(here)
    here.graph.world.touch("111")
    assert (await name_of(here))[0] == f"{before} · 1"


async def test_what_is_fresh_costs_no_call(scene: MakeScene) -> None:
    """Within `cache.fresh_s` Graph is not asked; the reply has its age and its remaining freshness."""
    here = await scene(FRESH)
    first = await here.say(READ, token="ann")
    for _time in range(3):
        heard = await here.say(READ, token="ann")
        assert (heard.status, heard.body, heard.etag) == (200, first.body, first.etag)
        assert heard.cache.startswith("hit; ttl=35")
        assert heard.headers["Age"] in {"0", "1"}
    assert here.graph.ledger.counted_calls == 1
    assert (await here.stats())["calls_avoided"]["fresh"] == 3


async def test_freshness_ends(scene: MakeScene, clock: Clock) -> None:
    """After `cache.fresh_s` Graph is asked, and its answer, changed or not, is fresh again."""
    here = await scene(FRESH)
    await here.say(READ, token="ann")
    clock.ahead += 3599
    assert (await here.say(READ, token="ann")).headers["Age"] == "3599"
    clock.ahead += 2
    assert (await here.say(READ, token="ann")).cache == CONFIRMED
    clock.ahead += 3599
    assert (await here.say(READ, token="ann")).cache.startswith("hit; ttl=")


@pytest.mark.parametrize("merge", [False, True], ids=["", "merged"])
@pytest.mark.parametrize("is_held", [False, True], ids=["first seen", "revalidated"])
async def test_a_slow_answer_does_not_take_the_place_of_a_newer_one(
    scene: MakeScene, gate: MakeGate, *, is_held: bool, merge: bool
) -> None:
    """Two programs that share a token, and not the proof, ask at once; the first call is answered last."""
    here = await scene({**FRESH, "batch": {"window_ms": 0}, "merge": {"enabled": merge}})
    slow, quick = f"{READ}&appsecret_proof=aa", f"{READ}&appsecret_proof=bb"
    if is_held:
        await here.say(READ, token="ann")
    held = gate(here.graph)
    first = asyncio.ensure_future(here.say(slow, token="ann"))
    await held.has(1)
    held.holds = lambda _request: False
    here.graph.world.touch("111")
    newer, _ = await name_of(here, quick)
    held.open()
    assert (await first).json["name"] != newer
    assert await name_of(here, quick) == (newer, "hit; ttl")
    assert await name_of(here, slow) == (newer, "fwd")


async def test_a_clock_that_is_set_back_makes_nothing_fresh_for_ever(scene: MakeScene, clock: Clock) -> None:
    """When the machine's clock is set back a day, entries do not stay fresh for that day."""
    clock.ahead = 86_400
    here = await scene(FRESH)
    await here.say(READ, token="ann")
    clock.ahead = 0
    assert not (await here.say(READ, token="ann")).cache.startswith("hit")


# --- rules


async def test_the_first_rule_that_matches_holds(scene: MakeScene) -> None:
    """The first rule that matches the path without its version decides; reads without a rule are revalidated."""
    rules = [
        {"path": "/act_*/insights", "fresh_s": 0},
        {"path": "/act_*/*", "fresh_s": 3600},
        {"path": "act_*", "fields": ["name", "currency", "timezone_name"], "fresh_s": 3600},
    ]
    here = await scene({"rules": rules})
    fresh = {
        "/v25.0/act_1/insights": False,
        "/v25.0/act_1/campaigns": True,
        "/act_1/campaigns?fields=id": True,
        "/v25.0/act_1?fields=name": True,
        "/v25.0/act_1?fields=currency,name": True,
        "/v25.0/act_1?fields=name,balance": False,
        "/v25.0/act_1": False,
        "/v25.0/111": False,
    }
    for path, expected in fresh.items():
        await here.say(path, token="ann")
        assert (await here.say(path, token="ann")).cache.startswith("hit") == expected, path


async def test_a_rule_changes_only_what_it_names(scene: MakeScene) -> None:
    """A value that a rule leaves out is the one in `cache`."""
    here = await scene({**FRESH, "rules": [{"path": "/111", "batch": False}]})
    await here.say(READ, token="ann")
    assert (await here.say(READ, token="ann")).cache.startswith("hit")
    assert here.slots == []


# --- stale


async def test_stale_while_revalidate_answers_now_and_learns_behind(scene: MakeScene, gate: MakeGate) -> None:
    """Within `stale_while_revalidate_s` no caller waits: the stale entry is served while one call fetches the next."""
    here = await scene({"cache": {"stale_while_revalidate_s": 3600}})
    old = await here.say(READ, token="ann")
    here.graph.world.touch("111")
    shut = gate(here.graph)
    for _time in range(3):
        heard = await here.say(READ, token="ann")
        assert heard.body == old.body
        assert heard.cache == "hit; ttl=-1; detail=stale-while-revalidate"
    await shut.has(1)
    assert here.slots == [1, 1]
    shut.open()
    async with asyncio.timeout(60):
        while (await here.say(READ, token="ann")).body == old.body:
            pass


async def test_stale_if_error_stands_in_for_graph(scene: MakeScene) -> None:
    """Within `stale_if_error_s` callers get the entry while Graph is down, and Graph's answer once it is back."""
    here = await scene({"cache": {"stale_if_error_s": 3600}})
    old = await here.say(READ, token="ann")
    troubles: list[dict[str, Any]] = [{"kind": kind} for kind in ("unavailable", "cut", "html")]
    troubles += [{"kind": "refused", "code": code, "status": 400} for code in (1, 2)]
    for fault in troubles:
        here.graph.faults.clear()
        here.graph.faults.add(fault)
        heard = await here.say(READ, token="ann")
        assert (heard.status, heard.body) == (200, old.body), fault
        assert heard.cache.startswith("hit; ttl=-")
        assert heard.cache.endswith("; detail=stale-if-error")
    here.graph.faults.clear()
    assert (await here.say(READ, token="ann")).cache == CONFIRMED


async def test_nothing_old_stands_in_unless_the_operator_says_so(scene: MakeScene) -> None:
    """With default settings Graph's errors are passed on."""
    here = await scene()
    await here.say(READ, token="ann")
    here.graph.faults.add({"kind": "unavailable"})
    assert (await here.say(READ, token="ann")).status == 503


async def test_an_error_of_the_callers_own_is_never_covered(scene: MakeScene) -> None:
    """An expired token and a deleted object are reported at once, whatever is stored."""
    here = await scene({"cache": {"stale_if_error_s": 3600}})
    await here.say(READ, token="ann")
    here.graph.settings.update({"refused_tokens": ["ann"]})
    assert (await here.say(READ, token="ann")).json["error"]["code"] == 190
    here.graph.settings.update({"refused_tokens": [], "missing_ids": ["111"]})
    assert (await here.say(READ, token="ann")).json["error"]["code"] == 100


# --- what is not final


async def test_a_token_that_graph_refuses_is_answered_from_nothing_fresh(scene: MakeScene) -> None:
    """One refusal of a token ends the freshness of all its entries; other tokens are not affected."""
    here = await scene(FRESH)
    for token in ("ann", "bob"):
        await here.say(READ, token=token)
        assert (await here.say(READ, token=token)).cache.startswith("hit")
    here.graph.settings.update({"refused_tokens": ["ann"]})
    assert (await here.say("/v25.0/222", token="ann")).json["error"]["code"] == 190
    assert (await here.say(READ, token="ann")).status == 400
    assert (await here.say(READ, token="bob")).cache.startswith("hit")
    here.graph.settings.update({"refused_tokens": []})
    assert (await here.say(READ, token="ann")).status == 200


async def test_a_report_is_polled_to_its_end(scene: MakeScene) -> None:
    """A report in progress goes to Graph each time, whatever the rules say; once it is done it is fresh."""
    here = await scene(FRESH, report_polls=3)
    started = await here.say("/v25.0/act_1/insights", method="POST", token="ann")
    run = f"/v25.0/{started.json['report_run_id']}"
    states = [(await here.say(run, token="ann")).json["async_percent_completion"] for _ in range(5)]
    assert states == [0, 25, 50, 100, 100]
    assert (await here.say(run, token="ann")).cache.startswith("hit")


@pytest.mark.parametrize(
    "unfinished, finished",
    [
        ({"async_status": "Job Running"}, {"async_status": "Job Completed"}),
        ({"async_percent_completion": 99}, {"async_percent_completion": 100}),
        ({"is_completed": False}, {"is_completed": True}),
        ({"status_code": "IN_PROGRESS"}, {"status_code": "PUBLISHED"}),
        ({"status_code": "FINISHED"}, {"status_code": "EXPIRED"}),
        ({"status": "IN_PROGRESS"}, {"status": "ACTIVE"}),
    ],
)
async def test_a_body_that_is_not_final_is_never_fresh(
    scene: MakeScene, unfinished: dict[str, Any], finished: dict[str, Any]
) -> None:
    """A job, async set or media container in progress is revalidated each time: its end is seen at once."""
    here = await scene({"cache": {"fresh_s": 3600, "stale_while_revalidate_s": 3600}})
    path = f"/v25.0/111?fields=id,{next(iter(unfinished))}"
    here.graph.world.touch("111", unfinished)
    await here.say(path, token="ann")
    assert (await here.say(path, token="ann")).cache == CONFIRMED
    here.graph.world.touch("111", finished)
    assert (await here.say(path, token="ann")).json == {"id": "111", **finished}


# --- writes through the sidecar

WRITES = [
    pytest.param("/v25.0/111", "POST", {"name": "new"}, id="update"),
    pytest.param("/111", "POST", {"name": "new"}, id="another version"),
    pytest.param("/v25.0/111/feed", "POST", {"message": "new"}, id="something added to it"),
    pytest.param("/v25.0/111?method=post&name=new", "GET", None, id="a GET that writes"),
    pytest.param("/v25.0/111/feed", "DELETE", None, id="something taken from it"),
    pytest.param("/", "POST", {"batch": '[{"method":"POST","relative_url":"111","body":"name=new"}]'}, id="batch"),
    pytest.param("/?id=111", "POST", {"name": "new"}, id="id in the query"),
    pytest.param("/", "POST", {"id": "111", "name": "new"}, id="id in the body"),
]


@pytest.mark.parametrize("path, method, data", WRITES)
async def test_a_caller_reads_its_own_write(
    scene: MakeScene, path: str, method: str, data: dict[str, str] | None
) -> None:
    """After a write through the sidecar, the object and its edges are asked for again, however fresh they are."""
    here = await scene({"cache": {"fresh_s": 3600, "stale_while_revalidate_s": 3600}})
    for read in (READ, "/v25.0/111/feed?limit=1"):
        await here.say(read, token="ann")
        await here.say(read, token="bob")
        assert (await here.say(read, token="ann")).cache.startswith("hit")
    assert (await here.say(path, method=method, data=data, token="eve")).status == 200
    for read in (READ, "/v25.0/111/feed?limit=1"):
        for token in ("ann", "bob"):
            assert (await here.say(read, token=token)).cache.startswith("fwd=stale")


async def test_a_write_leaves_other_objects_fresh(scene: MakeScene) -> None:
    """A write to one object does not end the freshness of others."""
    here = await scene(FRESH)
    await here.say("/v25.0/222", token="ann")
    await here.say("/v25.0/111", method="POST", data={"name": "new"}, token="ann")
    assert (await here.say("/v25.0/222", token="ann")).cache.startswith("hit")


async def test_a_write_that_graph_refused_or_lost_ends_freshness_too(scene: MakeScene, clock: Clock) -> None:
    """A write whose answer was lost may have been performed: the next read goes to Graph."""
    here = await scene(FRESH)
    for fault in ({"kind": "lost", "method": "POST"}, {"kind": "unavailable", "method": "POST"}):
        await here.say(READ, token="ann")
        assert (await here.say(READ, token="ann")).cache.startswith("hit")
        here.graph.faults.add(fault)
        assert (await here.say("/v25.0/111", method="POST", data={"name": "new"}, token="ann")).status >= 500
        here.graph.faults.clear()
        assert (await here.say(READ, token="ann")).cache.startswith("fwd=stale")
        clock.ahead += 61


async def test_a_write_ends_the_flights_of_what_it_touched(scene: MakeScene, gate: MakeGate) -> None:
    """A read after a write does not join an older flight: it sees the write, and so do later reads."""
    here = await scene(FRESH)
    shut = gate(here.graph)
    shut.holds = lambda request: request.path == "/"  # batches of reads wait, the write does not
    before = await here.caller.start(here.say(READ, token="ann"))
    await shut.has(1)
    await here.say("/v25.0/111", method="POST", data={"name": "new"}, token="ann")
    after = await here.caller.start(here.say(READ, token="ann"))
    await shut.has(2)
    shut.open()
    old, new = await asyncio.gather(*before, *after)
    assert old.json["name"] != "new"
    assert new.json["name"] == "new"
    assert (await name_of(here))[0] == "new"
