"""Request sets, asynchronous batches and sessions: their whole life."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from proxy.emulator import Config, running
from tests.emulator.conftest import TOKEN, Answer, Asker, Opening, body

SETS, BATCHES, LISTED = (
    f"/v25.0/act_1/{edge}" for edge in ("asyncadrequestsets", "async_batch_requests", "async_requests")
)
COUNTS = "initial_count,in_progress_count,success_count,error_count,canceled_count"
GOOD, BAD = {"adset_id": "5", "name": "a1"}, {"adset_id": "404001", "name": "a2"}
SAMPLE = """[
  {
    'name': 'create-campaign',
    'relative_url': 'act_123456/campaigns',
    'body': 'name%3DTest+Campaign%26objective%3DLINK_CLICKS%26status%3DPAUSED%26buying_type%3DAUCTION',
  },
  {
    'name': 'create-adset',
    'relative_url': 'act_123456/adsets',
    'body': 'targeting%3D%7B%22geo_locations%22%3A%7B%22countries%22%3A%5B%22US%22%5D%7D%7D%26daily_budget%3D5000%26campaign_id%3D%7Bresult%3Dcreate-campaign%3A%24.id%7D%26bid_amount%3D2%26name%3DFirst%2BAd%2BSet%20Test%26billing_event%3DLINK_CLICKS',
  },
]"""  # noqa: E501


async def set_of(asker: Asker, *specs: Any, name: str = "set1", **given: Any) -> str:
    """Start a set of ads and return its id."""
    return str((await asker.post(SETS, name=name, ad_specs=json.dumps(specs or [GOOD]), **given)).json["id"])


async def batch_of(asker: Asker, *items: Any) -> str:
    """Start an asynchronous batch and return its id."""
    return str((await asker.post(BATCHES, name="ab", adbatch=json.dumps(items))).json["id"])


async def advance(asker: Asker, **given: Any) -> Answer:
    """Push what waits to its end, or as far as said."""
    return await asker.ask("POST", "/__emulator__/advance", json=given)


async def requests_of(asker: Asker, set_id: str, fields: str = "status,result", **params: str) -> list[Any]:
    """Read the requests of a set."""
    found: list[Any] = (await asker.get(f"/{set_id}/requests", params={"fields": fields, **params})).json["data"]
    return found


async def canceled(asker: Asker, some_id: str) -> Answer:
    """Cancel a set or a request."""
    return await asker.ask("DELETE", f"/v25.0/{some_id}?access_token={TOKEN}")


@pytest.mark.parametrize("path", ["/v25.0/{}", "/v25.0/{}/", "/?id={}"])
async def test_a_set_shows_four_fields_unasked(asker: Asker, path: str) -> None:
    """They are those of Meta's sample, the owner as a number, however the set is addressed."""
    set_id = await set_of(asker)
    shown = (await asker.get(path.format(set_id))).json
    assert shown == {"id": set_id, "owner_id": 1, "name": "set1", "is_completed": False}


async def test_polls_bring_a_set_from_start_to_end(asker: Asker) -> None:
    """The counts go from initial over in progress to the end, as numbers."""
    set_id = await set_of(asker, GOOD, BAD, GOOD, GOOD)
    seen = [list((await asker.get(f"/{set_id}?fields={COUNTS}")).json.values())[:5] for _ in range(4)]
    assert seen == [[4, 0, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 3, 1, 0], [0, 0, 3, 1, 0]]
    assert (await asker.get(f"/{set_id}?fields=total_count,is_completed")).json == {
        "total_count": 4,
        "is_completed": True,
        "id": set_id,
    }


async def test_success_creates_the_object_and_an_error_says_why(asker: Asker) -> None:
    """The result is that of the direct call, or its code and message; before its turn there is neither."""
    set_id = await set_of(asker, GOOD, BAD)
    assert not any("result" in each for each in await requests_of(asker, set_id))
    assert (await asker.ask("GET", "/__emulator__/world")).json["created"] == {}
    await advance(asker)
    good, bad = await requests_of(asker, set_id)
    assert (good["status"], bad["status"]) == ("SUCCESS", "ERROR")
    assert set(bad["result"]) == {"error_code", "error_message"}
    assert (await asker.get(f"/{good['result']['id']}?fields=name,account_id")).json["name"] == "a1"
    assert (await asker.get("/act_1/ads?limit=1")).json["data"][0]["id"] == good["result"]["id"]


async def test_the_clock_moves_a_set(opening: Opening) -> None:
    """With `async_s` it is done when that time is over, without a poll."""
    now = [1_000_000.0]
    asker = await opening(clock=lambda: now[0], async_polls=None, async_s=60.0)
    set_id = await set_of(asker, GOOD, GOOD)
    assert not (await asker.get(f"/{set_id}")).json["is_completed"]
    now[0] += 30
    assert (await asker.get(f"/{set_id}?fields=success_count")).json["success_count"] == 1
    now[0] += 30
    assert (await asker.get(f"/{set_id}")).json["is_completed"]


async def test_a_set_may_be_done_at_once_or_wait_for_a_push(opening: Opening) -> None:
    """No polls needed: done when created; none counted: only the control call moves it, as far as it says."""
    quick, slow = await opening(async_polls=0), await opening(async_polls=None)
    assert (await quick.get(f"/{await set_of(quick)}")).json["is_completed"]
    set_id = await set_of(slow, GOOD, GOOD)
    for _ in range(5):
        assert not (await slow.get(f"/{set_id}")).json["is_completed"]
    await advance(slow, id=set_id, share=0.5)
    assert [each["status"] for each in await requests_of(slow, set_id)] == ["SUCCESS", "IN_PROGRESS"]
    assert (await advance(slow)).json == {"moved": {set_id: True}}
    assert (await advance(slow, id="7")).status == 400


async def test_requests_show_default_and_asked_fields(asker: Asker) -> None:
    """Alone as in the list; the set is nested as deep as asked."""
    set_id = await set_of(asker)
    (plain,) = await requests_of(asker, set_id, "")
    assert plain == {"id": plain["id"], "scope_object_id": 5, "status": "INITIAL"}
    asked = (await asker.get(f"/{plain['id']}?fields=input,async_request_set{{name}}")).json
    assert asked == {"input": GOOD, "async_request_set": {"name": "set1", "id": set_id}, "id": plain["id"]}
    assert (await asker.get(f"/requests?id={set_id}&fields=id")).json["data"] == [{"id": plain["id"]}]
    assert (await asker.get(f"/{set_id}?fields=nonsense")).error["code"] == 100


@pytest.mark.parametrize(
    "given,names",
    [("success", 1), ("SUCCESS,ERROR", 2), ("Error", 1), ('["INITIAL"]', 0), ("canceled,in_progress", 0), ("", 2)],
)
async def test_requests_are_filtered_by_status(asker: Asker, given: str, names: int) -> None:
    """In any case, several at once, under the name of the page and that of the SDK."""
    set_id = await set_of(asker, GOOD, BAD)
    await advance(asker)
    assert len(await requests_of(asker, set_id, status=given)) == names
    assert len(await requests_of(asker, set_id, statuses=given)) == names


async def test_an_unknown_status_is_refused(asker: Asker) -> None:
    """The error names it."""
    set_id = await set_of(asker)
    reply = await asker.get(f"/{set_id}/requests?status=done")
    assert (reply.status, "done" in reply.error["message"]) == (400, True)


@pytest.mark.parametrize(
    "style,expected",
    [
        ("upper", ["SUCCESS", "ERROR", "ERROR", "INITIAL"]),
        ("lower", ["success", "error", "error", "initial"]),
        ("sdk", ["SUCCESS", "ERROR", "ERROR_DEPENDENCY", "PENDING_DEPENDENCY"]),
    ],
)
async def test_statuses_are_spelled_as_configured(opening: Opening, style: str, expected: list[str]) -> None:
    """As in Meta's samples, as in its prose, or with the kinds that only its SDK knows."""
    asker = await opening(async_statuses=style, async_polls=None)
    items = [
        {"relative_url": "act_1/campaigns", "body": "name=1"},
        {"relative_url": "err/campaigns", "body": "name=2", "name": "bad"},
        {"relative_url": "act_1/adsets", "body": "campaign_id={result=bad:$.id}", "name": "orphan"},
        {"relative_url": "act_1/adsets", "body": "name=3"},
        {"relative_url": "act_1/ads", "body": "adset_id={result=orphan:$.id}"},
    ]
    set_id = await batch_of(asker, *items)
    await advance(asker, share=0.6)
    shown = [each["status"] for each in await requests_of(asker, set_id)]
    assert [*shown[:3], shown[4]] == expected


async def test_sets_are_listed_newest_first_and_by_completion(opening: Opening) -> None:
    """Each account lists its own; `async_requests` holds the batches too."""
    asker = await opening(async_polls=None)
    first, second = await set_of(asker), await set_of(asker, GOOD, name="second")
    await advance(asker, id=first)
    third = await batch_of(asker, {"relative_url": "act_1/campaigns", "body": "name=1"})

    async def listed(path: str, **params: str) -> list[str]:
        return [each["id"] for each in (await asker.get(path, params=params)).json["data"]]

    assert await listed(LISTED) == [third, second, first]
    assert await listed(SETS) == [second, first]
    assert await listed(SETS, is_completed="1") == [first]
    assert await listed(SETS, is_completed="false") == [second]
    assert await listed(LISTED, type="BATCH_API") == [third]
    assert await listed("/act_2/asyncadrequestsets") == []
    page = (await asker.get(SETS, params={"limit": "1", "summary": "true"})).json
    assert (page["summary"]["total_count"], "next" in page["paging"]) == (2, True)


async def test_an_ad_set_lists_what_is_created_in_it(asker: Asker) -> None:
    """From all sets, filtered like the requests of one."""
    await set_of(asker, GOOD, BAD)
    await set_of(asker, {"adset_id": 5, "name": "b"})
    await advance(asker)
    found = (await asker.get("/5/asyncadrequests?status=SUCCESS,ERROR")).json["data"]
    assert [each["scope_object_id"] for each in found] == [5, 5]
    assert [each["status"] for each in (await asker.get("/404001/asyncadrequests")).json.get("data", [])] == []


async def test_a_set_is_changed_and_canceled_with_a_bare_true(opening: Opening) -> None:
    """Name and notification change; what was not looked at yet is canceled, what is done stays."""
    asker = await opening(async_polls=None)
    set_id = await set_of(asker, GOOD, GOOD, GOOD, GOOD)
    changed = await asker.post(f"/v25.0/{set_id}", name="New Name", notification_mode="OFF")
    assert changed.text == "true"
    assert (await asker.get(f"/{set_id}?fields=name")).json["name"] == "New Name"
    await advance(asker, share=0.25)
    assert (await canceled(asker, set_id)).text == "true"
    assert [each["status"] for each in await requests_of(asker, set_id)] == [
        "SUCCESS",
        "IN_PROGRESS",
        "CANCELED",
        "CANCELED",
    ]
    await advance(asker)
    assert (await asker.get(f"/{set_id}?fields={COUNTS},is_completed")).json == {
        "initial_count": 0,
        "in_progress_count": 0,
        "success_count": 2,
        "error_count": 0,
        "canceled_count": 2,
        "is_completed": True,
        "id": set_id,
    }


async def test_one_request_is_canceled_and_only_in_time(asker: Asker) -> None:
    """The others go on; one that is done can no more be canceled."""
    set_id = await set_of(asker, GOOD, GOOD)
    first, second = await requests_of(asker, set_id, "id")
    assert (await canceled(asker, first["id"])).json is True
    await advance(asker)
    assert [each["status"] for each in await requests_of(asker, set_id)] == ["CANCELED", "SUCCESS"]
    assert (await canceled(asker, second["id"])).status == 400


async def test_a_change_works_in_a_batch_too(asker: Asker) -> None:
    """The slot's body is `true`, and a poll beside it is a slot like any other."""
    set_id = await set_of(asker)
    renamed, poll = await asker.batch(
        {"method": "POST", "relative_url": set_id, "body": "name=x"}, {"relative_url": f"{set_id}?fields=name"}
    )
    assert (body(renamed), body(poll)["name"]) == (True, "x")


async def test_metas_own_batch_sample_works(asker: Asker) -> None:
    """Single quotes, trailing commas, bodies encoded twice over, and a reference to the entry before."""
    set_id = (await asker.post("/v25.0/act_123456/async_batch_requests", name="x", adbatch=SAMPLE)).json["id"]
    await advance(asker)
    campaign, ad_set = [each["result"]["id"] for each in await requests_of(asker, set_id)]
    read = (await asker.get(f"/{ad_set}?fields=name,campaign_id,daily_budget,targeting")).json
    assert (read["name"], read["campaign_id"], read["daily_budget"]) == ("First Ad Set Test", campaign, "5000")
    assert (await asker.get(f"/{campaign}?fields=name,account_id")).json == {
        "name": "Test Campaign",
        "account_id": "123456",
        "id": campaign,
    }


@pytest.mark.parametrize(
    "items",
    [
        "",
        "[]",
        "nonsense",
        "[1]",
        json.dumps([{"relative_url": "act_1/campaigns"}] * 1001),
        json.dumps([{"method": "GET", "relative_url": "1"}]),
        json.dumps([{"relative_url": "act_1/ads", "body": "adset_id={result=later:$.id}"}]),
    ],
)
async def test_a_batch_that_cannot_be_taken_is_refused_whole(asker: Asker, items: str) -> None:
    """Nothing, too much, a read, a reference to nothing."""
    assert (await asker.post(BATCHES, name="x", adbatch=items)).status == 400
    assert (await asker.get(LISTED)).json["data"] == []


async def test_a_thousand_requests_are_taken(asker: Asker) -> None:
    """As many as Meta allows, all carried out."""
    set_id = await batch_of(asker, *({"relative_url": "act_1/ads", "body": f"name={n}"} for n in range(1000)))
    await advance(asker)
    assert (await asker.get(f"/{set_id}?fields=success_count")).json["success_count"] == 1000


async def test_a_fault_may_strike_one_request(asker: Asker) -> None:
    """With `where` async, when its turn comes, and with no effect on the call that gave it."""
    asker.graph.faults.add({"kind": "error", "where": "async", "code": 17, "count": 1})
    set_id = await set_of(asker, GOOD, GOOD)
    await advance(asker)
    bad, good = await requests_of(asker, set_id)
    assert (bad["result"]["error_code"], good["status"]) == (17, "SUCCESS")


# --- notifications


@pytest.fixture
async def listener() -> AsyncIterator[tuple[str, list[Any]]]:
    """A local address that keeps what it is told."""
    told: list[Any] = []

    async def hear(request: web.BaseRequest) -> web.Response:
        told.append((request.method, await request.json()))
        return web.Response()

    server = RawTestServer(hear)
    await server.start_server()
    yield str(server.make_url("/done?x=1")), told
    await server.close()


NOTICE = "notification_mode,notification_status,notification_result"


async def notice(asker: Asker, set_id: str) -> list[Any]:
    """What the set says of its notification."""
    shown = (await asker.get(f"/{set_id}?fields={NOTICE}")).json
    return [shown.get(name) for name in NOTICE.split(",")]


async def test_a_finished_set_is_announced_once(asker: Asker, listener: tuple[str, list[Any]]) -> None:
    """The URI is called when all is done, and no later change of it is taken."""
    uri, told = listener
    set_id = await set_of(asker, GOOD, BAD, notification_uri=uri, notification_mode="ON_COMPLETE")
    assert (await notice(asker, set_id), told) == (["ON_COMPLETE", "not_sent", None], [])
    await advance(asker)
    assert await notice(asker, set_id) == ["ON_COMPLETE", "sent", "HTTP 200"]
    ((method, said),) = told
    assert (method, said["id"], said["success_count"], said["error_count"]) == ("POST", set_id, 1, 1)
    assert (await asker.post(f"/{set_id}", notification_mode="OFF")).status == 400
    assert (await asker.post(f"/{set_id}", name="still")).json is True
    assert len(told) == 1


async def test_polls_and_cancels_announce_too(asker: Asker, listener: tuple[str, list[Any]]) -> None:
    """The notification is out before the poll that completed the set is answered."""
    uri, told = listener
    polled = await set_of(asker, notification_uri=uri, notification_mode="ON_COMPLETE")
    for count in (0, 0, 1):
        await asker.get(f"/{polled}")
        assert len(told) == count
    taken_back = await set_of(asker, GOOD, GOOD, notification_uri=uri, notification_mode="ON_COMPLETE")
    await canceled(asker, taken_back)
    assert told[1][1]["canceled_count"] == 2


async def test_a_notification_waits_until_it_is_wanted(asker: Asker, listener: tuple[str, list[Any]]) -> None:
    """Switched on after the end it goes out then; switched off it never does."""
    uri, told = listener
    set_id = await set_of(asker, notification_uri=uri)
    await advance(asker)
    assert (await notice(asker, set_id), told) == (["OFF", "not_sent", None], [])
    await asker.post(f"/{set_id}", notification_mode="on_complete")
    assert len(told) == 1
    assert (await asker.post(f"/{set_id}", notification_mode="MAYBE")).status == 400


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/closed", "https://example.com/", "nonsense"])
async def test_a_notification_that_fails_says_so(asker: Asker, uri: str) -> None:
    """A closed door, another machine, no address: it is not sent, and the set is complete all the same."""
    set_id = await set_of(asker, notification_uri=uri, notification_mode="ON_COMPLETE")
    await advance(asker)
    mode, status, result = await notice(asker, set_id)
    assert (mode, status, bool(result)) == ("ON_COMPLETE", "not_sent", True)
    assert (await asker.get(f"/{set_id}")).json["is_completed"]


# --- sessions

COPY = {"method": "POST", "relative_url": "120310000/copies", "name": "copy", "body": "adset_id=5&status=PAUSED"}


async def test_sessions_are_polled_to_their_result(asker: Asker) -> None:
    """One for each operation, with its reply, good or bad, as text."""
    items = [COPY, {**COPY, "relative_url": "err/copies", "name": "lost"}]
    sessions = (await asker.post("/v25.0", asyncbatch=json.dumps(items))).json["async_sessions"]
    assert [each["name"] for each in sessions] == ["copy", "lost"]
    good, bad = (f"/v25.0/{each['id']}?fields=id,status,result,error_code,exception" for each in sessions)
    seen = [(await asker.get(good)).json for _ in range(3)]
    assert [each["status"] for each in seen] == ["NOT_STARTED", "IN_PROGRESS", "COMPLETED"]
    made = json.loads(seen[2]["result"])["copied_ad_id"]
    assert (await asker.get(f"/{made}?fields=status")).json["status"] == "PAUSED"
    await advance(asker)
    failed = (await asker.get(bad)).json
    assert (failed["status"], failed["error_code"], failed["exception"]) == (
        "FAILED",
        100,
        json.loads(failed["result"])["error"]["message"],
    )


@pytest.mark.parametrize(
    "items",
    [
        [{**COPY, "name": ""}],
        [COPY, {**COPY, "name": "b", "body": "x={result=copy:$.id}"}],
        [COPY, {**COPY, "name": "b", "depends_on": "copy"}],
        [COPY] * 51,
        [],
    ],
)
async def test_sessions_need_names_and_no_dependencies(asker: Asker, items: list[Any]) -> None:
    """Such a batch is refused whole, and nothing is carried out."""
    reply = await asker.post("/v25.0/", asyncbatch=json.dumps(items))
    assert reply.status == 400
    assert (await asker.ask("GET", "/__emulator__/world")).json["async"] == {}


@pytest.mark.parametrize(
    "path,given",
    [
        ("/v25.0/act_1/asyncadrequestsets", {}),
        ("/v25.0/act_1/asyncadrequestsets", {"ad_specs": "[1"}),
        ("/v25.0/120110000/asyncadrequestsets", {"ad_specs": "[{}]"}),
        ("/v25.0/act_1/asyncadrequestsets", {"ad_specs": "[{}]", "notification_mode": "MAYBE"}),
        ("/v25.0/", {"asyncbatch": "x"}),
    ],
)
async def test_what_makes_no_sense_is_refused(asker: Asker, path: str, given: dict[str, str]) -> None:
    """Missing or broken specs, the wrong kind of object, an unknown mode, no array; and nothing is started."""
    assert (await asker.post(path, **given)).status == 400
    assert (await asker.ask("GET", "/__emulator__/world")).json["async"] == {}


@pytest.mark.clients
async def test_metas_python_sdk_runs_the_whole_life(client_python: Callable[[str], Path]) -> None:
    """Unmodified it creates, changes, polls, filters, cancels and lists, alone and in a batch."""
    program = Path(__file__).parent / "programs" / "async_sets.py"
    async with running(Config(async_plain_true=False)) as graph:
        process = await asyncio.create_subprocess_exec(
            client_python("clients"), program, graph.url, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    said: dict[str, Any] = {}
    for line in out.splitlines():
        said |= json.loads(line)
    assert process.returncode == 0
    assert (said["name"], said["good"], said["bad"]) == ("set2", 1, 1)
    assert said["of_ad_set"] == [said["results"][0]["id"]]
    assert (said["input"], said["set"], said["ad"], said["refers"]) == (GOOD, "set2", "a1", True)
    assert (said["canceled"], said["sets"], said["finished"]) == (["CANCELED"] * 2, ["idle", "set2"], 1)
    assert said["ridden"] == [["id"], ["id", "is_completed", "name", "owner_id"]]
