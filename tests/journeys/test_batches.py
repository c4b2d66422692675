"""Different reads share one call to Graph, each with its own token, and no read suffers from its company."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from proxy.emulator import token_hash
from proxy.emulator.objects.values import user_of
from tests.journeys.conftest import MakeAsk, MakeGate, MakeGraph, MakeScene, MakeSidecar
from tests.journeys.talking import Gate, Heard, Scene, asked

ONE_AT_A_TIME = {"upstream": {"connections": 1}}
PATHS = [f"/v25.0/{number}?fields=id,viewer" for number in range(100, 160)]


def window_ms(timing: str) -> float:
    """How long a reply's request waited for company."""
    found = re.search(r"window;dur=([\d.]+)", timing)
    return float(found[1]) if found else -1


async def together(here: Scene, shut: Gate, *says: tuple[str, str], queued: int | None = None) -> list[Heard]:
    """Ask *says* (path, token) while another read is at Graph; the last *queued* of them then leave together."""
    first = await here.caller.start(here.say("/1", token="first"))
    await shut.has(1)
    callers = await here.caller.start(*(here.say(path, token=token) for path, token in says))
    await here.queue_of(len(says) if queued is None else queued)
    shut.open()
    heard = await asyncio.gather(*first, *callers)
    return heard[1:]


async def test_a_lone_read_waits_for_nobody(scene: MakeScene) -> None:
    """Who asks for one thing at a time pays nothing for the chance of company."""
    here = await scene({"batch": {"window_ms": 1000}})
    for path in PATHS[:3]:
        heard = await here.say(path, token="ann")
        assert window_ms(heard.headers["Server-Timing"]) < 1000
    assert here.slots == [1, 1, 1]


async def test_a_full_batch_leaves_and_the_rest_follows(scene: MakeScene, gate: MakeGate) -> None:
    """Fifty reads are one call, as many as Graph takes; more make another, and none waits for its window to close."""
    here = await scene({"batch": {"window_ms": 1000}})
    shut = gate(here.graph)
    heard = await together(here, shut, *((path, "ann") for path in PATHS), queued=10)
    assert here.slots == [1, 50, 10]
    assert [each.json["id"] for each in heard] == [str(number) for number in range(100, 160)]
    assert all(window_ms(each.headers["Server-Timing"]) < 1000 for each in heard)
    assert (await here.stats())["round_trips_avoided"] == 58


async def test_reads_behind_a_flight_leave_when_their_window_closes(scene: MakeScene, gate: MakeGate) -> None:
    """A slow call holds nobody up: what gathers behind it leaves after `batch.window_ms`, while it is still out."""
    here = await scene({"batch": {"window_ms": 1}})
    shut = gate(here.graph)
    first = await here.caller.start(here.say("/1", token="ann"))
    await shut.has(1)
    callers = await here.caller.start(here.say("/2", token="ann"))
    await shut.has(2)
    shut.open()
    await asyncio.gather(*first, *callers)
    assert here.slots == [1, 1]


@pytest.mark.parametrize("slots", [1, 7])
async def test_batches_are_as_large_as_the_operator_says(scene: MakeScene, gate: MakeGate, slots: int) -> None:
    """`batch.slots` bounds every batch."""
    here = await scene({"batch": {"slots": slots}, "upstream": {"connections": 1}})
    heard = await together(here, gate(here.graph), *((path, "ann") for path in PATHS[:20]))
    assert max(here.slots) == slots
    assert sum(here.slots) == 21
    assert [each.status for each in heard] == [200] * 20


async def test_tokens_ride_together_each_with_its_own(scene: MakeScene, gate: MakeGate) -> None:
    """Users share calls and nothing else: each slot carries its own token, and each reply is its own viewer's."""
    here = await scene(ONE_AT_A_TIME)
    users = [f"user-{number}" for number in range(50)]
    heard = await together(here, gate(here.graph), *((PATHS[0], user) for user in users))
    assert here.slots == [1, 50]
    assert [each.json["viewer"] for each in heard] == [user_of(user) for user in users]
    sent = [slot["relative_url"].rpartition("access_token=#")[2] for slot in here.asked[1:]]
    assert sorted(sent) == sorted(token_hash(user) for user in users)


async def test_tokens_may_be_kept_in_batches_of_their_own(scene: MakeScene, gate: MakeGate) -> None:
    """With `batch.group = "token"` no call to Graph holds two users."""
    here = await scene({"batch": {"group": "token"}, "upstream": {"connections": 4}})
    shut = gate(here.graph)
    users = ("ann", "bob", "eve")
    lone = await here.caller.start(*(here.say("/1", token=user) for user in users))
    await shut.has(3)
    callers = await here.caller.start(*(here.say(path, token=user) for path in PATHS[:5] for user in users))
    await here.queue_of(15)
    shut.open()
    heard = await asyncio.gather(*lone, *callers)
    assert [each.status for each in heard] == [200] * 18
    assert here.slots == [1, 1, 1, 5, 5, 5]
    for call in here.graph.ledger.requests:
        assert len({slot["relative_url"].rpartition("access_token=")[2] for slot in call["slots"]}) == 1


async def test_batches_may_be_off(scene: MakeScene) -> None:
    """With `batch.enabled = false` each read is a call of its own, collapsed and revalidated as ever."""
    here = await scene({"batch": {"enabled": False}})
    first, second = await here.crowd(*PATHS[:5], token="ann"), await here.crowd(*PATHS[:5], token="ann")
    assert {each.cache for each in second} == {"fwd=stale; fwd-status=304"}
    assert [each.body for each in first] == [each.body for each in second]
    assert here.slots == []
    assert here.graph.ledger.http_calls == 10
    assert here.graph.ledger.not_modified["single"] == 5


async def test_rules_may_keep_reads_out_of_batches(scene: MakeScene) -> None:
    """Reads under a rule with `batch = false` go alone, whatever the rest does."""
    here = await scene({"rules": [{"path": "/*/insights", "batch": False}]})
    await here.crowd("/v25.0/act_1/insights", "/v25.0/act_1", token="ann")
    again = await here.say("/v25.0/act_1/insights", token="ann")
    assert again.cache == "fwd=stale; fwd-status=304"
    assert ["insights" in each.get("relative_url", "") for each in here.asked if "relative_url" in each] == [False]


async def test_a_token_that_may_not_stand_on_top_spoils_nothing(scene: MakeScene, gate: MakeGate) -> None:
    """A token that Graph takes in a slot but not for the batch as a whole: everybody gets their own answer."""
    here = await scene(ONE_AT_A_TIME, refused_on_top=("shy",))
    says = [("/v25.0/111?fields=viewer", token) for token in ("shy", "ann", "bob")]
    heard = await together(here, gate(here.graph), *says)
    assert [each.json["viewer"] for each in heard] == [user_of(token) for _, token in says]


async def test_an_expired_token_spoils_nothing_but_its_own(scene: MakeScene, gate: MakeGate) -> None:
    """One expired token among forty-nine others: it gets its 190 with Graph's subcode, the others their answers."""
    here = await scene(ONE_AT_A_TIME, refused_tokens=("old",), refused_subcode=463)
    says = [(PATHS[0], token) for token in ("old", *(f"user-{number}" for number in range(49)))]
    refused, *heard = await together(here, gate(here.graph), *says)
    error = refused.json["error"]
    assert (refused.status, error["code"], error["error_subcode"]) == (400, 190, 463)
    assert "invalid_token" in refused.headers["WWW-Authenticate"]
    assert [each.status for each in heard] == [200] * 49
    assert here.slots[:2] == [1, 50]


async def test_a_token_refused_on_top_is_not_put_there_again(scene: MakeScene) -> None:
    """An expired token costs its neighbours one extra call, not one with every batch."""
    here = await scene(ONE_AT_A_TIME, refused_tokens=("old",))
    await here.say(PATHS[0], token="old")
    here.graph.ledger.clear()
    for path in PATHS[1:4]:
        heard = await asyncio.gather(here.say(path, token="old"), here.say(path, token="ann"))
        assert [each.status for each in heard] == [400, 200]
    # A batch that is refused for its top token is counted as a call and never gets to its slots.
    assert [len(call["slots"]) for call in here.graph.ledger.requests if "slots" in call] == here.slots


@pytest.mark.parametrize(
    "text", ["{result=x:$.id}", "%7Bresult%3Dx%3A%24.id%7D", "%7bresult=x:$.id%7d", "{result=x:$.*.id}"]
)
@pytest.mark.parametrize("place", ["/v25.0/111?fields=id&q={}", "/v25.0/{}?fields=id", "/v25.0/111?{}=1&fields=id"])
async def test_a_callers_text_is_never_a_reference(scene: MakeScene, gate: MakeGate, place: str, text: str) -> None:
    """Text that would mean another slot in a batch, in path or query, harms nobody who asks at the same time."""
    here = await scene(ONE_AT_A_TIME)
    says = [(PATHS[0], "ann"), (place.format(text), "eve"), (PATHS[1], "bob")]
    ann, eve, bob = await together(here, gate(here.graph), *says, queued=2)
    assert (ann.json["viewer"], bob.json["viewer"]) == (user_of("ann"), user_of("bob"))
    assert "batch" not in eve.body.decode().lower()
    assert here.slots == [1, 2]


async def test_one_bad_read_spoils_nothing(scene: MakeScene, gate: MakeGate) -> None:
    """A read that Graph refuses gets its own error; its neighbours get their bodies."""
    here = await scene(ONE_AT_A_TIME)
    says = [(PATHS[0], "ann"), ("/v25.0/404111", "ann"), ("/v25.0/111?fields=nope", "ann"), (PATHS[1], "ann")]
    heard = await together(here, gate(here.graph), *says)
    assert [each.status for each in heard] == [200, 400, 400, 200]
    assert here.slots == [1, 4]


class Names(AbstractResolver):
    """Stands in for DNS: each known host lives at a port of this machine."""

    def __init__(self, places: dict[str, int]) -> None:
        self._places = places

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        place = self._places[host]
        return [ResolveResult(hostname=host, host="127.0.0.1", port=place, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_host_of_graphs_may_be_asked_for_by_name(
    graph: MakeGraph, sidecar: MakeSidecar, ask: MakeAsk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program for Instagram or the beta names its host in `Host`, gets its answers, and mixes with no other."""
    main, beta, insta = await graph(), await graph(seed=2), await graph(seed=3)
    names = Names({
        "graph.beta.facebook.com": int(beta.url.rpartition(":")[2]),
        "graph.instagram.com": int(insta.url.rpartition(":")[2]),
    })  # fmt: skip
    monkeypatch.setattr("proxy.shell.upstream.connector.resolver", lambda _lookup: names)
    monkeypatch.setattr(
        "proxy.shell.upstream.client.UpstreamOptions.url",
        lambda _, host, rest: URL(f"http://{host}{rest}", encoded=True),
    )
    caller = await ask((await sidecar(main, cache={"fresh_s": 3600})).url)

    async def say(host: str, **said: Any) -> str:
        headers = {"Host": host} if host else {}
        return str((await caller.say("/v25.0/111?fields=name", token="ann", headers=headers, **said)).json)

    hosts = ("", "graph.beta.facebook.com", "graph.instagram.com", "GRAPH.beta.facebook.com", "evil.example")
    plain, at_beta, at_insta, beta_again, stranger = [await say(host) for host in hosts]
    assert len({plain, at_beta, at_insta}) == 3
    assert (beta_again, stranger) == (at_beta, plain)
    assert [len(asked(each)) for each in (main, beta, insta)] == [1, 1, 1]
    assert [each.ledger.batches for each in (main, beta, insta)] == [1, 1, 0]
    await say("graph.beta.facebook.com", method="POST", data={"name": "new"})
    assert [sum(each.ledger.writes.values()) for each in (main, beta, insta)] == [0, 1, 0]
