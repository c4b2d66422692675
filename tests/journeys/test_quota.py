"""As a limit comes near, calls are avoided; under a stopped limit no reads are sent. Graph's own ledger counts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from proxy import emulator
from tests.journeys.conftest import Clock, MakeAsk, MakeSidecar
from tests.journeys.talking import Heard, Scene

READ = "/v25.0/111?fields=id"
LOW = {"Priority": "u=6"}
OLD_IS_GOOD: dict[str, Any] = {"cache": {"stale_if_error_s": 86_400}}

MakeLimited = Callable[..., Awaitable[Scene]]


class Standing(Clock):
    """A time of day that stands until it is moved: a limit is left alone for a second, however busy the machine is."""

    def __init__(self) -> None:
        """Start now."""
        super().__init__()
        self._began = time.time()

    def __call__(self) -> float:
        """Returns epoch seconds."""
        return self._began + self.ahead


@pytest.fixture
def clock() -> Clock:
    """The clock of Graph and of every sidecar here."""
    return Standing()


@pytest.fixture
def limited(lifetimes: AsyncExitStack, sidecar: MakeSidecar, ask: MakeAsk, clock: Clock) -> MakeLimited:
    """A Graph with limits, a sidecar and a caller, all on one clock."""

    async def make(settings: dict[str, Any] | None = None, **config: Any) -> Scene:
        graph = await lifetimes.enter_async_context(emulator.running(emulator.Config(**config), clock=clock))
        front = await sidecar(graph, **(settings or {}))
        return Scene(graph, front, await ask(front.url))

    return make


async def use(here: Scene, calls: int, path: str = "/v25.0/9{}", token: str = "ann") -> list[Heard]:
    """Make so many calls with *token*, each for another object."""
    return [await here.say(path.format(number), token=token) for number in range(calls)]


def is_again(heard: Heard, first: Heard) -> bool:
    """Whether *heard* repeats Graph's refusal *first* with Retry-After, and Graph was not asked."""
    same = (heard.status, heard.body, heard.headers["Content-Type"]) == (
        first.status,
        first.body,
        first.headers["Content-Type"],
    )
    return same and int(heard.headers["Retry-After"]) > 0 and heard.cache == "detail=throttled"


# --- watch


async def test_freshness_stretches_as_a_limit_comes_near(limited: MakeLimited, clock: Clock) -> None:
    """Between watch and stop an entry stays fresh for longer, up to its `stretch_s`, and the reply says so."""
    here = await limited({"cache": {"fresh_s": 10, "stretch_s": 110}}, budget=10)
    await here.say(READ, token="ann")
    clock.ahead += 20
    assert (await here.say(READ, token="ann")).cache == "fwd=stale; fwd-status=304"  # 2 of 10: calm
    await use(here, 5)
    clock.ahead += 20  # 7 of 10: fresh for 10 + 25
    heard = await here.say(READ, token="ann")
    assert (heard.cache.rpartition("; ")[2], heard.headers["Age"]) == ("detail=stretched", "20")
    assert heard.cache.startswith("hit; ttl=14;") or heard.cache.startswith("hit; ttl=15;")
    clock.ahead += 20
    assert (await here.say(READ, token="ann")).cache == "fwd=stale; fwd-status=304"


async def test_without_a_rule_nothing_is_stretched(limited: MakeLimited) -> None:
    """With default settings every read is revalidated with Graph, up to the last call."""
    here = await limited(budget=10)
    await use(here, 8)
    for _time in range(2):
        await here.say(READ, token="ann")
    assert here.graph.ledger.counted_calls == 10


# --- spare


async def test_what_has_time_waits_and_the_rest_goes_first(limited: MakeLimited) -> None:
    """Near the limit a low-priority read waits; others are sent first, and one that joins it lets it go at once."""
    here = await limited({"quota": {"longest_wait_s": 3600}}, budget=100)
    await use(here, 85)
    await here.say("/v25.0/201", token="ann", headers=LOW)  # the first takes the turn that is free
    (patient,) = await here.caller.start(here.say("/v25.0/202", token="ann", headers=LOW))
    assert (await here.say("/v25.0/203", token="ann")).status == 200
    assert not patient.done()
    hasty = await here.say("/v25.0/202", token="ann")
    assert (hasty.status, (await patient).body) == (200, hasty.body)
    assert here.graph.ledger.counted_calls == 88
    assert "app" in (await here.stats())["paced"]


async def test_nobody_waits_longer_than_the_setting(limited: MakeLimited) -> None:
    """After `quota.longest_wait_s` a read is sent in any case, and its reply says that it waited."""
    here = await limited({"quota": {"longest_wait_s": 0.05}}, budget=100)
    await use(here, 85)
    heard = [await here.say(f"/v25.0/20{number}", token="ann", headers=LOW) for number in range(3)]
    assert [each.status for each in heard] == [200] * 3
    assert [each.cache.endswith("detail=paced") for each in heard] == [False, True, True]


async def test_a_rule_gives_a_priority_and_the_caller_another(limited: MakeLimited) -> None:
    """`priority` of a rule counts for reads without a Priority field."""
    rules = [{"path": "/20*", "priority": 7}]
    here = await limited({"quota": {"longest_wait_s": 3600}, "rules": rules}, budget=100)
    await use(here, 85)
    await here.say("/v25.0/201", token="ann")
    (patient,) = await here.caller.start(here.say("/v25.0/202", token="ann"))
    assert (await here.say("/v25.0/203", token="ann", headers={"Priority": "i, u=1"})).status == 200
    assert not patient.done()
    patient.cancel()


async def test_reads_of_a_batch_have_the_priority_of_its_call(limited: MakeLimited) -> None:
    """An application's own batch of low priority waits like its reads."""
    here = await limited({"quota": {"longest_wait_s": 3600}}, budget=100)
    await use(here, 85)
    await here.say("/v25.0/201", token="ann", headers=LOW)
    form = {"access_token": "ann", "batch": json.dumps([{"method": "GET", "relative_url": "202"}])}
    (patient,) = await here.caller.start(here.say("/v25.0/", method="POST", data=form, headers=LOW))
    assert (await here.say("/v25.0/203", token="ann")).status == 200
    assert not patient.done()
    patient.cancel()


# --- stop


async def test_a_stopped_limit_is_left_alone_until_one_probe_finds_it_open(limited: MakeLimited, clock: Clock) -> None:
    """After Graph's refusal no read is sent until the time is over; then one is sent, and its answer counts for all."""
    here = await limited(budget=3, window_s=100_000.0)
    await use(here, 3)
    first = await here.say(READ, token="ann")
    assert (first.status, first.json["error"]["code"], "Retry-After" in first.headers) == (400, 4, False)
    crowds = [[f"/v25.0/{hundred}{number}" for number in range(10)] for hundred in range(30, 34)]
    assert all(is_again(heard, first) for heard in await here.crowd(*crowds[0], token="ann"))
    assert here.graph.ledger.counted_calls == 4
    clock.ahead += 1.1
    again = await here.crowd(*crowds[1], token="ann")
    assert here.graph.ledger.counted_calls == 5
    assert [("Retry-After" in heard.headers) for heard in again].count(False) == 1
    clock.ahead += 1.1  # a refused probe doubles the pause
    await here.crowd(*crowds[2], token="ann")
    assert here.graph.ledger.counted_calls == 5
    here.graph.settings.update({"budget": 1000})
    clock.ahead += 1.1
    (probe,) = [heard for heard in await here.crowd(*crowds[3], token="ann") if heard.status == 200]
    assert probe.cache.endswith("detail=probe")
    assert {heard.status for heard in await here.crowd(*crowds[3], token="ann")} == {200}
    assert (await here.stats())["stopped"] == {"app": 1}


async def test_who_was_refused_and_comes_back_is_asked(limited: MakeLimited) -> None:
    """A refused caller's next try goes to Graph, whoever refused it, and an answer opens the limit for all."""
    here = await limited()
    here.graph.faults.add({"kind": "throttled", "count": 2})
    first = await here.say(READ, token="ann")
    assert is_again(await here.say("/v25.0/222", token="ann"), first)
    second = await here.say("/v25.0/222", token="ann")
    assert (second.status, "Retry-After" in second.headers, here.graph.ledger.throttled_calls) == (400, False, 2)
    assert is_again(await here.say("/v25.0/333", token="ann"), second)
    back = await here.say(READ, token="ann")
    assert (back.status, back.cache.endswith("detail=probe")) == (200, True)
    assert (await here.say("/v25.0/444", token="ann")).cache == "fwd=uri-miss; stored"
    assert here.graph.ledger.counted_calls == 4


async def test_a_time_that_graph_names_holds_for_those_it_refused(limited: MakeLimited, clock: Clock) -> None:
    """With Graph's own `Retry-After` no read is sent before that, and each caller gets the remaining seconds."""
    here = await limited()
    here.graph.faults.add({"kind": "throttled", "status": 429, "retry_after_s": 90, "seconds": 90.0})
    first = await here.say(READ, token="ann")
    assert first.headers["Retry-After"] == "90"
    clock.ahead += 40
    for path in (READ, READ, "/v25.0/222"):
        again = await here.say(path, token="ann")
        assert (again.body, again.headers["Retry-After"] in {"50", "49"}) == (first.body, True)
    clock.ahead += 51
    assert (await here.say(READ, token="ann")).status == 200
    assert here.graph.ledger.counted_calls == 2


async def test_fields_that_were_asked_together_are_asked_apart_when_they_come_back(limited: MakeLimited) -> None:
    """Merged reads that are refused cost one call; each caller's retry is sent, whatever happens to the others."""
    here = await limited({"rules": [{"path": "/*", "merge": True}]})
    here.graph.faults.add({"kind": "throttled", "code": 613, "subcode": None, "count": 1})
    paths = [f"/v25.0/111?fields={name}" for name in ("id", "name", "link")]
    assert {heard.status for heard in await here.crowd(*paths, token="ann")} == {400}
    assert here.graph.ledger.counted_calls == 1
    assert [heard.status for heard in await here.crowd(*paths, token="ann")] == [200] * 3
    assert here.graph.ledger.counted_calls == 4


async def test_what_is_held_answers_for_a_stopped_limit(limited: MakeLimited, clock: Clock) -> None:
    """Where a rule allows stale replies, callers get one in place of the refusal, and no call is made."""
    here = await limited(OLD_IS_GOOD, budget=2)
    old = await here.say(READ, token="ann")
    clock.ahead += 5
    await use(here, 2)
    for _time in range(3):
        heard = await here.say(READ, token="ann")
        assert (heard.status, heard.body) == (200, old.body)
        assert heard.cache.startswith("hit; ttl=-")
        assert heard.cache.endswith("detail=throttled")
    assert here.graph.ledger.counted_calls == 3
    wanted = await here.say(READ, token="ann", headers={"Cache-Control": "no-cache"})
    assert (wanted.status, wanted.cache) == (400, "detail=throttled")


async def test_at_a_hundred_percent_what_is_held_answers_and_the_rest_is_asked(limited: MakeLimited) -> None:
    """Before Graph has refused a read there is no refusal to repeat: only Graph can say what it would answer."""
    here = await limited(OLD_IS_GOOD, budget=2)
    await here.say(READ, token="ann")
    await use(here, 1)
    assert (await here.say(READ, token="ann")).cache.endswith("detail=throttled")
    assert here.graph.ledger.counted_calls == 2
    assert (await here.say("/v25.0/333", token="ann")).json["error"]["code"] == 4
    assert here.graph.ledger.counted_calls == 3


LIMITS = {
    (4, None): {"edge", "node", "other"}, (4, 1504022): set(), (17, None): {"edge", "node", "other"},
    (17, 2446079): {"edge", "node"}, (32, None): {"edge", "node"}, (341, None): {"edge", "node", "other"},
    (368, None): {"edge"}, (613, None): {"edge"}, (613, 1487742): {"edge", "node"}, (613, 5044001): {"edge"},
    (80000, 2446079): {"edge", "node"}, (80001, None): {"edge", "node"}, (80004, 2446079): {"edge", "node"},
    (80014, None): {"edge", "node"}, (130429, None): {"edge", "node"},
}  # fmt: skip
"""What is left alone after a refusal of the edge /act_1/campaigns: the edge, the node beside it, another account."""


@pytest.mark.parametrize(
    "code, subcode, status",
    [*((*told, 400) for told in LIMITS), *((code, None, status) for code in (4, 613) for status in (200, 403, 429))],
)
async def test_every_code_stops_its_own_limit_and_no_other(
    limited: MakeLimited, code: int, subcode: int | None, status: int
) -> None:
    """Code and subcode decide, whatever the status; other tokens are not affected."""
    here = await limited()
    fault = {"code": code, "subcode": subcode, "status": status, "path": "act_1/campaigns"}
    here.graph.faults.add({"kind": "throttled", **fault})
    first = await here.say("/v25.0/act_1/campaigns?limit=2", token="ann")
    assert (first.status, first.json["error"]["code"], first.json["error"].get("error_subcode")) == (
        status,
        code,
        subcode,
    )
    paths = {"edge": "act_1/campaigns?limit=3", "node": "act_1?fields=name", "other": "act_2/adsets"}
    heard = {which: await here.say(f"/v25.0/{path}", token="ann") for which, path in paths.items()}
    stopped = {which for which, reply in heard.items() if is_again(reply, first)}
    if code == 4 and subcode:
        assert heard["edge"].cache != "detail=throttled"  # the app's limit for insights alone
    assert stopped == LIMITS[code, subcode]
    assert all(heard[which].status == 200 for which in ("node", "other") if which not in stopped)
    assert (await here.say("/v25.0/act_1?fields=id", token="bob")).json["id"] == "act_1"


@pytest.mark.parametrize("code", [4, 613])
async def test_a_throttled_edge_does_not_stop_its_node(limited: MakeLimited, code: int) -> None:
    """A limit of one edge says nothing about others, however often that edge is polled."""
    here = await limited()
    here.graph.faults.add({"kind": "throttled", "code": code, "subcode": None, "path": "900/adnetworkanalytics"})
    for _time in range(3):
        assert (await here.say("/v25.0/900/adnetworkanalytics", token="ann")).json["error"]["code"] == code
    for path in ("/v25.0/900", "/v25.0/900/feed"):
        tries = [(await here.say(path, token="ann")).status for _time in range(2)]
        assert tries == ([200, 200] if code == 613 else [400, 200])
        await here.say("/v25.0/900/adnetworkanalytics", token="ann")
    assert here.graph.ledger.throttled_calls == 5


async def test_accounts_and_uses_have_limits_of_their_own(limited: MakeLimited, clock: Clock) -> None:
    """One account's insights are stopped as long as Graph says; its campaigns and other insights are not."""
    here = await limited(account_budget=2, window_s=60.0, block_s=150.0)
    path = "/v25.0/act_1/insights?fields=spend&date_preset={}"
    for preset in ("today", "yesterday"):
        assert (await here.say(path.format(preset), token="ann")).status == 200
    first = await here.say(path.format("last_7d"), token="ann")
    assert first.json["error"]["code"] == 80000
    again = await here.say(path.format("last_30d"), token="ann")
    assert is_again(again, first)
    assert 170 <= int(again.headers["Retry-After"]) <= 180  # three minutes are what Graph told
    for free in ("/v25.0/act_1/campaigns", "/v25.0/act_2/insights", "/v25.0/111"):
        assert (await here.say(free, token="ann")).status == 200
    usage = {(row["kind"], row["id"], row["type"]): row for row in _usage(await here.stats())}
    assert usage["account", "1", "ads_insights"]["stage"] == "stop"
    assert usage["account", "1", "ads_management"]["stage"] == "calm"
    clock.ahead += 181
    assert (await here.say(path.format("last_7d"), token="ann")).status == 200


def _usage(stats: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = stats["usage"]
    return rows


async def test_leaving_a_limit_alone_ends_its_block_and_calling_prolongs_it(
    limited: MakeLimited, ask: MakeAsk, clock: Clock
) -> None:
    """A program that asks every ten seconds never leaves the block when it calls Graph directly; here it does."""
    behind = await limited({"quota": {"probe_s": 80}}, budget=1, window_s=30.0, block_s=60.0)
    alone = await limited(budget=1, window_s=30.0, block_s=60.0)
    direct = await ask(alone.graph.url)
    heard = []
    for second in range(0, 190, 10):
        clock.ahead += 10
        path = f"/v25.0/4{second}"
        answers = await asyncio.gather(behind.say(path, token="ann"), direct.say(path, token="ann"))
        heard.append([answer.status for answer in answers])
    assert heard[0] == [200, 200]
    assert heard[-1] == [200, 400]
    assert behind.graph.ledger.throttled_calls == 7
    assert alone.graph.ledger.throttled_calls == 18


async def test_writes_are_never_held_back_nor_answered_for_graph(limited: MakeLimited) -> None:
    """A write to a stopped account goes to Graph, and gets Graph's answer."""
    here = await limited()
    here.graph.faults.add({"kind": "error", "code": 4, "status": 400, "method": "GET"})
    await here.say(READ, token="ann")
    batch = json.dumps([{"method": "POST", "relative_url": "111/feed", "body": "message=a"}])
    for form in ({"message": "b"}, {"batch": batch}):
        path = "/v25.0/" if "batch" in form else "/v25.0/111/feed"
        heard = await here.say(path, method="POST", data={"access_token": "ann", **form})
        assert heard.status == 200
    assert here.graph.ledger.writes == {("POST", "/111/feed"): 2}
    assert (await here.say("/v25.0/222", token="ann")).cache == "detail=throttled"


async def test_what_is_in_flight_when_a_limit_stops_is_answered_by_graph(limited: MakeLimited) -> None:
    """Reads that were already sent get Graph's own answers."""
    here = await limited(budget=2)
    heard = await here.crowd(*(f"/v25.0/{number}" for number in range(500, 504)), token="ann")
    assert sorted(each.status for each in heard) == [200, 200, 400, 400]
    assert not any("Retry-After" in each.headers for each in heard)
    assert here.graph.ledger.counted_calls == 4


async def test_batches_of_the_application_are_listened_to(limited: MakeLimited) -> None:
    """The refusal of a slot stops its limit, also beside a write; later slots' usage headers give the time."""
    here = await limited()
    here.graph.faults.add({"kind": "error", "code": 80004, "status": 400, "id": "act_1"})
    items = [
        {"method": "POST", "relative_url": "111/feed", "body": "message=a"},
        {"method": "GET", "relative_url": "act_1"},
    ]
    form = {"access_token": "ann", "batch": json.dumps(items)}
    slots = (await here.say("/v25.0/", method="POST", data=form)).json
    assert [slot["code"] for slot in slots] == [200, 400]
    assert (await here.say("/v25.0/act_1?fields=name", token="ann")).cache == "detail=throttled"
    reads = [{"method": "GET", "relative_url": each} for each in ("act_1?fields=id", "act_2")]
    slots = (await here.say("/v25.0/", method="POST", data={**form, "batch": json.dumps(reads)})).json
    assert [slot["code"] for slot in slots] == [400, 200]
    assert "Retry-After" in {field["name"] for field in slots[0]["headers"]}


def batch_of(*items: dict[str, Any]) -> dict[str, str]:
    """Returns a form with a batch of these operations, reads by default."""
    return {"access_token": "ann", "batch": json.dumps([{"method": "GET", **item} for item in items])}


NAMED = {"name": "first", "relative_url": "111?fields=id", "omit_response_on_success": False}
NAMING = "{result=first:$.id}"


async def test_reads_that_keep_an_order_leave_a_stopped_limit_alone(limited: MakeLimited, clock: Clock) -> None:
    """A chain of reads without entries gets Graph's refusal again; reads that refer to it are null, and none is sent.

    When the batch comes back all of it goes.
    """
    here = await limited(budget=1, window_s=60.0)
    await use(here, 1)
    first = await here.say("/v25.0/999", token="ann")
    chain = batch_of(NAMED, {"relative_url": f"?ids={NAMING}&fields=name"})
    before = here.graph.ledger.counted_calls
    slots = (await here.say("/v25.0/", method="POST", data=chain)).json
    assert (slots[0]["code"], slots[0]["body"], slots[1]) == (400, first.body.decode(), None)
    assert here.graph.ledger.counted_calls == before
    here.graph.settings.update({"budget": 1000})
    slots = (await here.say("/v25.0/", method="POST", data=chain)).json
    assert [slot["code"] for slot in slots] == [200, 200]
    assert here.graph.ledger.counted_calls == before + 2


async def test_a_batch_of_which_a_read_was_refused_comes_back_whole(limited: MakeLimited) -> None:
    """The other operations of a refused batch are retried as well, although they were not refused."""
    here = await limited()
    for other in ("222", "me/picture?redirect=0"):
        here.graph.faults.add({"kind": "throttled", "count": 2, "path": "333"})
        batch = batch_of({"relative_url": "111?fields=id"}, {"relative_url": other}, {"relative_url": "333"})
        codes = []
        for _time in range(3):
            slots = (await here.say("/v25.0/", method="POST", data=batch)).json
            codes.append([slot["code"] for slot in slots])
        assert codes == [[200, 200, 400], [200, 200, 400], [200, 200, 200]]


async def test_in_a_chain_too_what_is_held_answers(limited: MakeLimited) -> None:
    """Where a rule allows stale replies, the stale reply fills the slot, and references to it work."""
    here = await limited(OLD_IS_GOOD, budget=2)
    old = [await here.say(f"/v25.0/{path}", token="ann") for path in ("111?fields=id", "?ids=111&fields=name")]
    await use(here, 1)
    before = here.graph.ledger.counted_calls
    quoting = {"relative_url": f"?ids={NAMING}&fields=name"}
    slots = (await here.say("/v25.0/", method="POST", data=batch_of(NAMED, quoting))).json
    assert [slot["body"] for slot in slots] == [each.body.decode() for each in old]
    assert here.graph.ledger.counted_calls == before


async def test_a_write_is_not_held_back_with_the_reads_beside_it(limited: MakeLimited) -> None:
    """A write is sent together with the read that it refers to; a read that it does not need is not sent."""
    here = await limited()
    here.graph.faults.add({"kind": "error", "code": 4, "status": 400, "method": "GET", "count": 1})
    await here.say("/v25.0/999", token="ann")
    write = {"method": "POST", "relative_url": f"{NAMING}/feed", "body": "message=a"}
    slots = (await here.say("/v25.0/", method="POST", data=batch_of(NAMED, {"relative_url": "222"}, write))).json
    assert [slot["code"] for slot in slots] == [200, 400, 200]
    assert here.graph.ledger.writes == {("POST", "/111/feed"): 1}
    assert "/222" not in str(here.asked)


async def test_refusals_given_again_are_errors_and_no_savings(limited: MakeLimited) -> None:
    """`/stats` and `/metrics` count refusals apart from answers: as refused, beside Graph's own errors."""
    here = await limited(budget=1, window_s=60.0)
    await use(here, 1)
    for node in range(301, 305):
        await here.say(f"/v25.0/{node}", token="ann")
    told = await here.stats()
    assert told["error_replies"] == {"graph": 1, "refused": 3, "sidecar": 0}
    assert told["outcomes"] == {**told["replies"], "REUSED": told["replies"]["REUSED"] - 3, "REFUSED": 3}
    assert told["calls_avoided"] == dict.fromkeys(told["calls_avoided"], 0) | {"refused": 3}
    assert sum(route["refused"] for route in told["routes"]) == 3
    text = (await here.caller.say(f"{here.front.admin_url}/metrics")).body.decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if "error_replies_total{" in line)
    assert samples == {f'graph_sidecar_error_replies_total{{origin="{each}"}}': f"{number}.0"
                       for each, number in told["error_replies"].items()}  # fmt: skip


@pytest.mark.parametrize("path", ["/v25.0/111/picture?redirect=0", "/v25.0/debug_token?input_token=bob"])
async def test_what_passes_through_leaves_a_stopped_limit_alone(limited: MakeLimited, clock: Clock, path: str) -> None:
    """A passed-through read gets Graph's refusal again; when the time is over it may be the probe."""
    here = await limited(budget=1, window_s=60.0)
    await use(here, 1)
    first = await here.say(READ, token="ann")
    before = here.graph.ledger.counted_calls
    assert is_again(await here.say(path, token="ann"), first)
    assert here.graph.ledger.counted_calls == before
    told = await here.stats()
    assert (told["calls_avoided"]["refused"], told["calls_avoided"]["throttle"]) == (1, 0)
    assert told["errors"][0].items() >= {"mode": "SKIPPED", "code": 4, "what": "throttled"}.items()
    assert (told["outcomes"]["SKIPPED"], told["outcomes"]["REFUSED"]) == (0, 1)
    here.graph.settings.update({"budget": 1000})
    clock.ahead += 3600
    assert (await here.say(path, token="ann")).status == 200
    assert (await here.say(READ, token="ann")).status == 200


async def test_what_passes_through_and_was_refused_is_asked_when_it_comes_back(limited: MakeLimited) -> None:
    """The body of a passed-through reply is not read: after an error status its caller may try again."""
    here = await limited()
    here.graph.faults.add({"kind": "throttled", "count": 3})
    path, other = "/v25.0/111/picture?redirect=0", "/v25.0/222/picture?redirect=0"
    first = await here.say(path, token="ann")
    await here.say(READ, token="ann")
    heard = [await here.say(each, token="ann") for each in (other, path, other)]
    assert [each.status for each in heard] == [400, 400, 200]
    assert [("Retry-After" in each.headers) for each in [first, *heard]] == [False, True, False, False]


async def test_tokens_of_one_app_share_its_limits_if_so_set(limited: MakeLimited) -> None:
    """With `quota.group = "shared"` limits that Graph reports for one token count for all tokens."""
    here = await limited({"quota": {"group": "shared"}}, budget=2)
    first = [await here.say(READ, token=token) for token in ("ann", "bob", "eve")][-1]
    assert is_again(await here.say("/v25.0/112", token="pat"), first)
    assert here.graph.ledger.counted_calls == 3


async def test_nothing_is_done_about_limits_unless_wanted(limited: MakeLimited) -> None:
    """With `quota.enabled` off every read is sent, and Graph's refusals are passed on."""
    here = await limited({"quota": {"enabled": False}, "cache": {"fresh_s": 0, "stretch_s": 3600}}, budget=2)
    heard = [await here.say(READ, token="ann", headers=LOW) for _time in range(5)][-1]
    assert (heard.status, "Retry-After" in heard.headers) == (400, False)
    assert here.graph.ledger.counted_calls == 5
