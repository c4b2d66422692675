"""A reply through the sidecar says what Graph's own direct reply says: the same requests to twins, compared."""

from __future__ import annotations

import asyncio

import pytest

from tests.journeys.conftest import MakeTwins
from tests.journeys.talking import Heard, Twins, assert_alike

AS_GIVEN = {"paging": {"rewrite": False}}

PATHS = [
    # objects
    "/111",
    "/v25.0/111",
    "/v19.0/111?fields=id,name,link,emails",
    "/v20.0/111/",
    "/v25.0/me",
    "/v25.0/me?fields=id,name,email",
    "/v25.0/act_1?fields=name,currency,amount_spent",
    "/v25.0/111_12050001?fields=message,from{id,name},created_time",
    "/v25.0/111?metadata=1",
    "/v25.0/111?fields=created_time&date_format=U",
    "/v25.0/111?fields=category&locale=da_DK",
    "/v25.0/111?fields=id,name&pretty=1",
    "/v25.0/111?fields=id,name&format=json",
    "/v25.0/111?debug=all",
    "/v25.0/111?fields=name.as(title),id",
    "/v25.0/111?fields[]=id&fields[]=name",
    "/v25.0/?id=111",
    "/v25.0/?ids=111,222&fields=id,viewer",
    "/v25.0/feed?ids=111,222&limit=1",
    # edges
    "/v25.0/111/feed",
    "/v25.0/111/feed?limit=3&fields=id,message",
    "/v25.0/111/feed?limit=3&offset=4",
    "/v25.0/111/feed?limit=0",
    "/v25.0/111/feed?summary=1&limit=1",
    "/v25.0/me/accounts",
    "/v25.0/me/adaccounts?fields=id,name",
    "/v25.0/111?fields=feed.limit(2){id,comments.limit(1){message}},name",
    "/v25.0/act_1/insights",
    "/v25.0/act_1/insights?level=ad&fields=spend,impressions&time_increment=1&date_preset=last_7d",
    '/v25.0/act_1/insights?time_range={"since":"2024-01-01","until":"2024-01-03"}&time_increment=1',
    "/v25.0/act_1/campaigns?fields=name,status&limit=5",
    '/v25.0/act_1/ads?filtering=[{"field":"ad.id","operator":"IN","value":["1","2"]}]&limit=1',
    # errors
    "/v25.0/404111",
    "/v25.0/errors",
    "/v25.0/111?fields=nope",
    "/v25.0/111?fields=id,name{",
    "/v25.0/111/nope",
    "/v25.0/111/feed/nope",
    "/v25.0/111/feed?limit=x",
    "/v25.0/111/feed?after=junk",
    "/v25.0/?ids=111,404111",
    "/v25.0/",
    "/",
    "/v99.0/111",
    "/v1.0/111",
    "/v25.0/404111?suppress_http_code=1",
    # what is not batched
    "/v25.0/111/picture",
    "/v25.0/111/picture?redirect=0&height=200",
    "/v25.0/debug_token?input_token=ann",
    "/v25.0/oauth/access_token?client_id=1&client_secret=x&grant_type=client_credentials",
    # texts that invite mistakes
    "/v25.0/111?fields=id&q=%7B%22a%22:%22%26%3D%25%22%7D",
    "/v25.0/111?fields=id&q=a+b%2Bc",
    "/v25.0/111?fields=id&q=%F0%9F%90%98",
    "/v25.0/111?fields=id&q=%FF",
    "/v25.0/111?fields=id&q",
    "/v25.0/111?&&fields=id&",
    "/v25.0/111?fields=",
    "/v25.0/111?fields=id&method=",
    "/v25.0/111?fields=id&x=\\{result",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_any_read_is_answered_as_directly(twins: MakeTwins, path: str) -> None:
    """Status, JSON, type, usage, version and challenge are Graph's own, the first time and when confirmed."""
    both = await twins(AS_GIVEN, budget=1000)
    first, again = await both.alike(path, token="ann"), await both.alike(path, token="ann")
    assert first.headers["Content-Type"] == again.headers["Content-Type"]
    assert int(again.headers.get("Content-Length", "0")) == len(again.body)


@pytest.mark.parametrize("batching", [True, False], ids=["batched", "alone"])
@pytest.mark.parametrize("formatting", ["same", "compact", "pretty"])
async def test_however_graph_formats_a_slot(twins: MakeTwins, formatting: str, *, batching: bool) -> None:
    """White space and the order of keys may differ from a direct reply; what the JSON says does not."""
    both = await twins(
        {**AS_GIVEN, "batch": {"enabled": batching}},
        batch_formatting=formatting, set_cookie=True, compress=True, pretty_for_browsers=True,
    )  # fmt: skip
    for path in PATHS[:30]:
        heard = await both.alike(path, token="ann")
        assert "Set-Cookie" not in heard.headers
        assert "X-Fb-Request-Id" in heard.headers


async def test_a_crowd_is_answered_as_one_by_one(twins: MakeTwins) -> None:
    """All of the table asked at once, twice, by three users: each gets what Graph says to them alone."""
    both = await twins(AS_GIVEN)
    for _time in range(2):
        for token in ("ann", "bob", "eve"):
            direct = [await both.direct.say(path, token=token) for path in PATHS]
            through = await asyncio.gather(*(both.through.say(path, token=token) for path in PATHS))
            for one, other in zip(direct, through, strict=True):
                assert_alike(one, other)
    assert max(both.behind.ledger.slots) > 20


@pytest.mark.parametrize(
    "refusal",
    [
        {"refused_tokens": ("ann",)},
        {"refused_tokens": ("ann",), "refused_subcode": 460},
        {"app_secret": "s", "require_proof": True},
        {"budget": 0},
        {"budget": 0, "throttle_code": 17},
        {"budget": 0, "throttle_code": 613, "throttle_status": 403},
        {"budget": 0, "throttle_code": 80004},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v25.0/111", "/v25.0/act_1/insights"])
async def test_a_refusal_is_graphs_own(twins: MakeTwins, refusal: dict[str, object], path: str) -> None:
    """An expired token, a missing proof or a spent quota is told with Graph's status, code, subcode and challenge."""
    both = await twins(AS_GIVEN, **refusal)
    heard = await both.alike(path, token="ann")
    assert heard.status >= 400
    assert heard.json["error"]["fbtrace_id"]


@pytest.mark.parametrize("status", [400, 403, 500, 503])
@pytest.mark.parametrize("code", [1, 2, 10, 200, 368, 803])
async def test_trouble_is_told_in_graphs_words(twins: MakeTwins, code: int, status: int) -> None:
    """An error of one object reaches its caller with the status and the body that a direct call has."""
    both = await twins(AS_GIVEN)
    both.trouble({"kind": "error", "id": "111", "code": code, "status": status, "message": "no / „æøå“"})
    heard = await both.alike("/v25.0/111", token="ann")
    assert (heard.status, heard.json["error"]["code"]) == (status, code)


async def test_no_field_of_a_connection_or_a_batch_shows(twins: MakeTwins) -> None:
    """The fields of a reply are those of a direct one, and the sidecar's own three."""
    both: Twins = await twins(AS_GIVEN, set_cookie=True, compress=True)
    direct, through = await both.both("/v25.0/act_1/insights", token="ann")
    assert names(through) - names(direct) == {"cache-status", "server-timing"}
    assert names(direct) - names(through) <= {"content-encoding", "transfer-encoding", "alt-svc"}
    confirmed = await both.through.say("/v25.0/act_1/insights", token="ann")
    assert names(confirmed) == names(through)


def names(heard: Heard) -> set[str]:
    """The fields of a reply that are not of the connection."""
    return {name.lower() for name in heard.headers} - {"date", "server", "content-length"}
