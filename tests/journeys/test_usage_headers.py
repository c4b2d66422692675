"""What Graph says of its limits is news: the newest known is told, and nothing is replayed."""

from __future__ import annotations

import json
from typing import Any

from proxy.app import sidecar
from tests.journeys.conftest import MakeAsk, MakeGraph, MakeScene, MakeTwins, SidecarSettings
from tests.journeys.talking import Heard

READ = "/v25.0/111?fields=id"
FRESH: dict[str, Any] = {"cache": {"fresh_s": 3600}}
HALF = {"budget": 100}


def used(heard: Heard) -> int | None:
    """What X-App-Usage says was used, in per cent."""
    told = heard.headers.get("X-App-Usage")
    return None if told is None else int(json.loads(told)["call_count"])


async def test_usage_is_told_as_graph_tells_it(twins: MakeTwins) -> None:
    """Every usage header of a new and of a confirmed read is the one of that very call, as it would be directly."""
    both = await twins(**HALF)
    for path in ("/v25.0/act_1/insights", "/v25.0/act_1", READ):
        for _time in range(2):
            heard = await both.alike(path, token="ann")
            assert used(heard)
    assert "X-FB-Ads-Insights-Throttle" in (await both.alike("/v25.0/act_1/insights", token="ann")).headers


async def test_a_confirmed_body_brings_the_usage_of_its_304(scene: MakeScene) -> None:
    """The usage beside a body from disk is of now, not of when the body was fetched."""
    here = await scene(**HALF)
    assert [used(await here.say(READ, token="ann")) for _ in range(3)] == [1, 2, 3]


async def test_what_is_fresh_brings_the_newest_usage_known(scene: MakeScene) -> None:
    """A reply that cost no call tells what the last call told: a program that slows down by it does so in time."""
    here = await scene({"rules": [{"path": "/111", "fresh_s": 3600}]}, budget_scope="token", **HALF)
    await here.say(READ, token="ann")
    assert used(await here.say(READ, token="ann")) == 1
    for _time in range(3):
        await here.say(READ, token="ann", headers={"Cache-Control": "no-cache"})
    assert used(await here.say(READ, token="ann")) == 4


async def test_usage_is_of_the_callers_own_token(scene: MakeScene) -> None:
    """Nobody is told how much another token has used."""
    here = await scene(FRESH, budget_scope="token", **HALF)
    for _time in range(5):
        await here.say(READ, token="ann", headers={"Cache-Control": "no-cache"})
    await here.say(READ, token="bob")
    assert used(await here.say(READ, token="bob")) == 1
    assert used(await here.say(READ, token="ann")) == 5


async def test_what_passes_through_is_heard_too(scene: MakeScene) -> None:
    """The usage that came with a write is what the next reply tells that cost no call."""
    here = await scene({"rules": [{"path": "/111/feed", "fresh_s": 3600}]}, **HALF)
    await here.say("/v25.0/111/feed", token="ann")
    await here.say("/v25.0/111/picture", token="ann")
    assert used(await here.say("/v25.0/111/feed", token="ann")) == 2


async def test_usage_of_a_token_in_a_body_is_told_to_nobody_else(scene: MakeScene) -> None:
    """Whose usage came with a call that names its token in the body is not known; those without one do not get it."""
    here = await scene(FRESH, budget_scope="token", public_ids=("111",), **HALF)
    await here.say(READ)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for _time in range(3):
        await here.say("/v25.0/222/feed", method="POST", data="access_token=ann&message=a", headers=form)
    heard = await here.say(READ)
    assert (used(heard), heard.cache.startswith("hit")) == (1, True)


async def test_an_account_hears_only_of_itself(scene: MakeScene) -> None:
    """The usage of one ad account is never told with a read of another."""
    here = await scene(FRESH, **HALF)
    for account in ("act_1", "act_2"):
        await here.say(f"/v25.0/{account}", token="ann")
    for account in ("1", "2"):
        heard = await here.say(f"/v25.0/act_{account}", token="ann")
        assert heard.cache.startswith("hit")
        assert list(json.loads(heard.headers["X-Business-Use-Case-Usage"])) == [account]


async def test_usage_is_never_replayed_from_the_store(
    graph: MakeGraph, ask: MakeAsk, sidecar_settings: SidecarSettings, tmp_path: Any
) -> None:
    """After a restart nothing is known of usage, and nothing is told, until Graph has told it again."""
    meta = await graph(**HALF)
    settings = sidecar_settings(meta.url, cache={"fresh_s": 3600, "key_file": tmp_path / "key"})
    heard = []
    for _start in range(2):
        async with sidecar.sidecar(settings) as running:
            heard.append(await (await ask(running.url)).say(READ, token="ann"))
    assert [used(each) for each in heard] == [1, None]
    assert heard[1].cache.startswith("hit")


async def test_an_error_brings_its_usage(twins: MakeTwins) -> None:
    """A throttled caller is told so with Graph's own headers, as directly."""
    both = await twins(budget=2)
    for _time in range(3):
        await both.alike("/v25.0/act_1", token="ann")
    heard = await both.alike("/v25.0/act_1", token="ann")
    assert (heard.status, heard.json["error"]["code"], used(heard)) == (400, 4, 100)


async def test_no_usage_is_made_up(twins: MakeTwins) -> None:
    """Where Graph tells nothing, nothing is told."""
    both = await twins(settings=FRESH, usage_headers=False)
    for _time in range(2):
        assert not any("usage" in name.lower() for name in (await both.alike(READ, token="ann")).headers)
