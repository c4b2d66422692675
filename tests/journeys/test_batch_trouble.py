"""Whatever goes wrong with a batch, each caller gets what Graph would have told it directly, and calls are bounded.

The same world stands alone and, struck by faults, behind the sidecar; callers of several tokens ask both.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from tests.journeys.conftest import MakeAsk, MakeGate, MakeScene, MakeSidecar, MakeTwins
from tests.journeys.talking import Gate, Heard, Scene, Twins, assert_alike

COUNT = 6
SAYS = [(f"/v25.0/{number}", ("ann", "bob", "cem")[number % 3]) for number in range(100, 100 + COUNT)]
ONE_AT_A_TIME = {"upstream": {"connections": 1}}
IMPATIENT = {"upstream": {"connect_timeout_s": 1, "reply_timeout_s": 1, "connections": 1}}
SOON_LATE_MS = 5000
PASSED = {"alone": {}, "passed": {"Range": "bytes=0-"}}

Faults = dict[str, dict[str, Any]]
SLOTS: Faults = {
    "null": {"kind": "null"},
    "null, one": {"kind": "null", "id": "102"},
    "960": {"kind": "aborted"},
    "960, one": {"kind": "aborted", "id": "102"},
    "960 as 400": {"kind": "aborted", "status": 400, "id": "103"},
    "500 code 1": {"kind": "error", "code": 1, "status": 500, "id": "102"},
    "503 code 2": {"kind": "error", "code": 2, "status": 503, "id": "102"},
}
ARRAYS: Faults = {
    "short at the tail": {"kind": "short", "place": "tail"},
    "short in the middle": {"kind": "short", "place": "middle", "slots": 2},
    "short at the head": {"kind": "short", "place": "head"},
    "all slots missing": {"kind": "short", "place": "head", "slots": COUNT},
    "too long": {"kind": "long", "slots": 3},
}
WHOLES: Faults = {
    "GraphBatchException": {"kind": "batch_exception"},
    "500 code 1": {"kind": "unknown"},
    "503 code 2": {"kind": "unavailable"},
    "HTML 200": {"kind": "html", "status": 200},
    "HTML 400": {"kind": "html", "status": 400},
    "HTML 502": {"kind": "html", "status": 502},
    "text 200": {"kind": "text"},
    "empty 200": {"kind": "empty"},
    "error in 200": {"kind": "error_in_200"},
    "cut before the reply": {"kind": "cut"},
    "reply lost": {"kind": "lost"},
    "cut in the middle": {"kind": "cut_middle"},
}
TOKENS: Faults = {
    "190": {"kind": "refused"},
    "190 as 401": {"kind": "refused", "status": 401},
}
EVERY_TROUBLE = {**SLOTS, **ARRAYS, **WHOLES, **TOKENS}


async def struck(
    here: Twins, shut: Gate, *faults: dict[str, Any], says: Sequence[tuple[str, str]] = SAYS
) -> list[Heard]:
    """What those who *say* hear whose reads leave in one batch, with *faults* in force from then on."""
    scene = Scene(here.behind, here.front, here.through)
    first = await here.through.start(here.through.say("/1", token="first"))
    await shut.has(1)
    callers = await here.through.start(*(here.through.say(path, token=token) for path, token in says))
    await scene.queue_of(len(says))
    here.behind.ledger.clear()
    for fault in faults:
        here.behind.faults.add(fault)
    shut.open()
    heard = await asyncio.gather(*first, *callers)
    return list(heard[1:])


async def told_directly(here: Twins) -> list[Heard]:
    """What they would hear of Graph itself."""
    return [await here.direct.say(path, token=token) for path, token in SAYS]


@pytest.mark.parametrize("held", [False, True], ids=["cold", "held"])
@pytest.mark.parametrize("once", [True, False], ids=["once", "always"])
@pytest.mark.parametrize("trouble", EVERY_TROUBLE)
async def test_each_gets_its_own_answer(
    twins: MakeTwins, gate: MakeGate, trouble: str, *, once: bool, held: bool
) -> None:
    """Trouble with the batch costs more calls, at most a batch's worth and three, and no caller its answer."""
    here = await twins(ONE_AT_A_TIME)
    if held:
        for path, token in SAYS:
            await here.through.say(path, token=token)
        for world in (here.alone.world, here.behind.world):
            world.touch("101", {"name": "changed since"})
    fault = {**EVERY_TROUBLE[trouble], "where": "batch", "count": 1 if once else None}
    heard = await struck(here, gate(here.behind), fault)
    for direct, through in zip(await told_directly(here), heard, strict=True):
        assert_alike(direct, through)
    assert here.behind.ledger.faults >= 1
    assert here.behind.ledger.http_calls <= COUNT + 4


@pytest.mark.parametrize("how", ["whole", "null"])
async def test_one_that_only_works_alone(twins: MakeTwins, gate: MakeGate, how: str) -> None:
    """A read that spoils every batch it is in is answered all the same, and so are its mates."""
    here = await twins(ONE_AT_A_TIME, batch_poison_ids=("104",), batch_poison=how)
    heard = await struck(here, gate(here.behind))
    for direct, through in zip(await told_directly(here), heard, strict=True):
        assert_alike(direct, through)
    assert here.behind.ledger.http_calls <= COUNT + 4


async def test_a_refusal_is_its_own_slots(twins: MakeTwins, gate: MakeGate) -> None:
    """A read that Graph refuses is refused with Graph's words, once, while its mates are served."""
    here = await twins(ONE_AT_A_TIME, missing_ids=("103",), refused_tokens=("cem",))
    heard = await struck(here, gate(here.behind))
    for direct, through in zip(await told_directly(here), heard, strict=True):
        assert_alike(direct, through)
    assert sorted({each.status for each in heard}) == [200, 400]
    assert here.behind.ledger.http_calls == 1


# --- throttles


@pytest.mark.parametrize("code,status", [(4, 400), (4, 403), (17, 400), (32, 429), (613, 400), (80004, 400), (4, 503)])
async def test_a_throttled_slot_is_passed_on(twins: MakeTwins, gate: MakeGate, code: int, status: int) -> None:
    """Asking again while throttled prolongs the block: the caller hears Graph's own word after one call."""
    here = await twins(ONE_AT_A_TIME)
    fault = {"kind": "error", "code": code, "status": status, "id": "102"}
    here.alone.faults.add(fault)
    heard = await struck(here, gate(here.behind), fault)
    for direct, through in zip(await told_directly(here), heard, strict=True):
        assert_alike(direct, through)
    assert [each.status for each in heard].count(status) == 1
    assert here.behind.ledger.http_calls == 1


@pytest.mark.parametrize("code,status", [(4, 400), (4, 403), (17, 429), (4, 503)])
async def test_a_throttled_batch_is_the_answer_to_its_owners_reads(
    twins: MakeTwins, gate: MakeGate, code: int, status: int
) -> None:
    """A whole batch that meets a throttle of the one token in it is not asked again, not even in part."""
    here = await twins(ONE_AT_A_TIME)
    fault = {"kind": "refused", "code": code, "status": status}
    here.alone.faults.add(fault)
    own = [(path, "ann") for path, _token in SAYS]
    heard = await struck(here, gate(here.behind), fault, says=own)
    for (path, token), through in zip(own, heard, strict=True):
        direct = await here.direct.say(path, token=token)
        assert (through.status, through.json["error"]["message"]) == (direct.status, direct.json["error"]["message"])
        # The refusal is that of the call to the root, whose version is nobody's.
        assert through.told == {name: said for name, said in direct.told.items() if name != "facebook-api-version"}
    assert {each.json["error"]["code"] for each in heard} == {code}
    assert here.behind.ledger.http_calls == 1


async def test_one_tokens_throttle_does_not_throttle_the_others(twins: MakeTwins, gate: MakeGate) -> None:
    """The throttled one's reads hear of the throttle; who rode along gets the answers, in another batch."""
    here = await twins(ONE_AT_A_TIME)
    heard = await struck(here, gate(here.behind), {"kind": "refused", "code": 17, "where": "batch", "count": 1})
    said = zip(SAYS, await told_directly(here), heard, strict=True)
    top = SAYS[0][1]
    for (_path, token), direct, through in said:
        if token == top:
            assert (through.status, through.json["error"]["code"]) == (400, 17)
        else:
            assert_alike(direct, through)
    assert here.behind.ledger.http_calls == 2


async def test_retries_end_when_nothing_helps(twins: MakeTwins, gate: MakeGate) -> None:
    """When Graph fails in every form of asking, each caller hears Graph's own failure, and the number of calls ends."""
    here = await twins(ONE_AT_A_TIME)
    fault = {"kind": "unknown"}
    here.alone.faults.add(fault)
    heard = await struck(here, gate(here.behind), fault)
    for direct, through in zip(await told_directly(here), heard, strict=True):
        assert_alike(direct, through)
    assert {each.status for each in heard} == {500}
    assert here.behind.ledger.http_calls == 1 + 2 + COUNT


# --- late, cut and gone


async def test_what_is_late_is_not_asked_again(twins: MakeTwins, gate: MakeGate) -> None:
    """A batch that takes Graph too long is given up: Graph may be at work on it yet, and each caller is told 504."""
    here = await twins(IMPATIENT)
    heard = await struck(here, gate(here.behind), {"kind": "delay", "ms": SOON_LATE_MS, "where": "batch"})
    for each in heard:
        assert_ours(each, 504)
    assert here.behind.ledger.http_calls == 1


@pytest.mark.parametrize("way", ["alone", "passed", "in a batch of its own"])
async def test_a_late_reply_costs_one_call(scene: MakeScene, way: str) -> None:
    """Whatever way a read takes, Graph is asked once where it does not answer in time."""
    here = await scene(IMPATIENT)
    here.graph.faults.add({"kind": "delay", "ms": SOON_LATE_MS})
    if way == "in a batch of its own":
        operations = json.dumps([{"method": "GET", "relative_url": str(number)} for number in (1, 2)])
        heard = await here.say("/", method="POST", data={"access_token": "ann", "batch": operations})
    else:
        heard = await here.say("/v25.0/100", token="ann", headers=PASSED[way])
    assert heard.status == 504
    assert here.graph.ledger.http_calls == 1


async def test_a_late_reply_is_covered_by_what_is_held(scene: MakeScene) -> None:
    """Where a rule allows, what is held answers in the place of an answer that did not come in time."""
    here = await scene({**IMPATIENT, "cache": {"stale_if_error_s": 3600}})
    first = await here.say("/v25.0/100", token="ann")
    here.graph.faults.add({"kind": "delay", "ms": SOON_LATE_MS})
    late = await here.say("/v25.0/100", token="ann")
    assert (late.status, late.body) == (200, first.body)
    assert here.graph.ledger.http_calls == 2


async def test_a_reply_that_drips_in_time_is_a_reply(twins: MakeTwins, gate: MakeGate) -> None:
    """Slow is not wrong: a reply that comes in pieces is waited for."""
    here = await twins(ONE_AT_A_TIME)
    heard = await struck(here, gate(here.behind), {"kind": "drip", "ms": 50, "where": "batch"})
    for direct, through in zip(await told_directly(here), heard, strict=True):
        assert_alike(direct, through)
    assert here.behind.ledger.http_calls == 1


def assert_ours(heard: Heard, status: int) -> None:
    """The sidecar speaks for itself: Graph's shape, typed, transient, and with its name."""
    error = heard.json["error"]
    assert heard.status == status
    assert heard.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert error["message"].startswith("graph-sidecar: ")
    assert error["is_transient"] is True
    assert "fwd=uri-miss" in heard.cache


@pytest.mark.parametrize(
    "fault,status",
    [
        ({"kind": "delay", "ms": SOON_LATE_MS}, 504),
        ({"kind": "cut"}, 502),
        ({"kind": "cut_middle"}, 502),
        ({"kind": "lost"}, 502),
    ],
    ids=["late", "cut", "cut in the middle", "lost"],
)
@pytest.mark.parametrize("token", ["ann", ""], ids=["in a batch", "alone"])
async def test_what_graph_does_not_answer_is_told_as_that(
    scene: MakeScene, fault: dict[str, Any], status: int, token: str
) -> None:
    """Where Graph answers in no form, the caller gets an error that its Graph client can read, and soon."""
    here = await scene(IMPATIENT, public_ids=("100",))
    here.graph.faults.add(fault)
    assert_ours(await here.say("/v25.0/100", token=token), status)


async def test_a_graph_that_is_gone_is_told_as_that(sidecar: MakeSidecar, ask: MakeAsk) -> None:
    """Without a connection to Graph every read is a 502 in Graph's shape; writes are, too."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        front = await sidecar(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        caller = await ask(front.url)
        heard = await asyncio.gather(*(caller.say(path, token=token) for path, token in SAYS))
        for each in (*heard, await caller.say("/v25.0/100")):
            assert_ours(each, 502)
        written = await caller.say("/v25.0/100", token="ann", method="POST", data={"name": "x"})
    assert (written.status, written.json["error"]["is_transient"]) == (502, True)
    assert written.headers["Content-Type"] == "application/json; charset=UTF-8"


async def test_what_is_held_survives_trouble(scene: MakeScene) -> None:
    """After trouble the next read is revalidated as before: an error costs nothing that was held."""
    here = await scene(IMPATIENT)
    await here.say("/v25.0/100", token="ann")
    here.graph.faults.add({"kind": "cut", "count": 3})
    await here.say("/v25.0/100", token="ann")
    here.graph.faults.clear()
    heard = await here.say("/v25.0/100", token="ann")
    assert (heard.status, heard.cache.partition(";")[0]) == (200, "fwd=stale")
    assert here.graph.ledger.not_modified["batch"] == 1


@pytest.mark.parametrize("enabled", [True, False], ids=["batched", "alone"])
async def test_the_time_for_connecting_is_no_time_for_answering(scene: MakeScene, *, enabled: bool) -> None:
    """A Graph that says nothing is late after `reply_timeout_s`, however long connecting to it may take."""
    late = {"kind": "delay", "ms": 4000}
    settings = {"upstream": {"connect_timeout_s": 60, "reply_timeout_s": 0.2}, "batch": {"enabled": enabled}}
    here = await scene(settings, faults=(json.dumps(late),))
    heard = await here.say("/v25.0/111", token="ann")
    assert (heard.status, heard.json["error"]["is_transient"]) == (504, True)
