"""`POST /purge` forgets: by path, object, fingerprint, or everything; in memory, on disk, and of earlier runs."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from proxy.app import sidecar
from tests.journeys.conftest import MakeAsk, MakeGate, MakeGraph, MakeScene, SidecarSettings
from tests.journeys.processes import Serving, serving
from tests.journeys.talking import Ask, Heard

FRESH: dict[str, Any] = {"fresh_s": 3600}
ADS = "/v25.0/act_1/ads?limit=2"
READS = (ADS, "/v25.0/act_2/ads?limit=2", "/v25.0/111?fields=id,name", "/v25.0/111/feed?limit=1")


async def purge(caller: Ask, front: sidecar.Sidecar | Serving, order: Any) -> Heard:
    """Give an order."""
    body = order if isinstance(order, bytes) else json.dumps(order).encode()
    return await caller.say(f"{front.admin_url}/purge", method="POST", data=body)


async def read_all(caller: Ask) -> list[str]:
    """Read everything as two callers; how each came about, in a word."""
    heard = [await caller.say(path, token=token) for token in ("ann", "bob") for path in READS]
    return [one.cache.partition(";")[0] for one in heard]


MISS, HIT, REVALIDATED = "fwd=uri-miss", "hit", "fwd=stale"
ORDERS = [
    ({"path": "/act_*/ads"}, [MISS, MISS, HIT, HIT], 4),
    ({"path": "/act_1/*"}, [MISS, HIT, HIT, HIT], 2),
    ({"id": "111"}, [HIT, HIT, MISS, MISS], 4),
    ({"id": "act_2"}, [HIT, MISS, HIT, HIT], 2),
    ({"all": True}, [MISS] * 4, 8),
    ({"id": "999"}, [HIT] * 4, 0),
]


@pytest.mark.parametrize("order, expected, dropped", ORDERS, ids=json.dumps)
async def test_what_is_held_is_forgotten(scene: MakeScene, order: Any, expected: list[str], dropped: int) -> None:
    """What an order is about is gone at once, for every credential; the rest stays."""
    here = await scene({"cache": FRESH})
    await read_all(here.caller)
    assert await read_all(here.caller) == [HIT] * 8
    heard = await purge(here.caller, here.front, order)
    assert (heard.status, heard.json["dropped"]) == (200, dropped)
    assert await read_all(here.caller) == expected * 2
    assert await read_all(here.caller) == [HIT] * 8


async def test_a_list_that_shows_the_object_goes_with_it(scene: MakeScene) -> None:
    """An order for an ad forgets the list that shows the ad."""
    here = await scene({"cache": FRESH})
    ad = (await here.say(ADS, token="ann")).json["data"][0]["id"]
    assert (await purge(here.caller, here.front, {"id": ad})).json["dropped"] == 1
    assert (await here.say(ADS, token="ann")).cache == "fwd=uri-miss; stored"


async def test_one_credential_is_forgotten(scene: MakeScene) -> None:
    """A token that was taken back leaves nothing behind; fingerprints are what logs and `/stats` show."""
    here = await scene({"cache": FRESH})
    await read_all(here.caller)
    apps = [each["app"] for each in (await here.stats())["apps"]]
    heard = [(await purge(here.caller, here.front, {"fingerprint": each})).json["dropped"] for each in apps]
    assert sorted(heard) == [4, 4]


@pytest.mark.parametrize(
    "order",
    [b"", b"[]", {}, {"all": False}, {"path": ""}, {"id": 1}, {"id": "1", "all": True}, {"token": "EAABsecret"}],
)
async def test_what_is_no_order_is_refused(scene: MakeScene, order: Any) -> None:
    """Anything else is 400 with what is allowed, and nothing is forgotten."""
    here = await scene({"cache": FRESH})
    await here.say(ADS, token="ann")
    heard = await purge(here.caller, here.front, order)
    assert heard.status == 400
    assert '"fingerprint"' in heard.json["error"]["message"]
    assert b"EAABsecret" not in heard.body
    assert (await here.say(ADS, token="ann")).cache.startswith("hit")


async def test_what_an_earlier_run_left_is_forgotten_when_it_is_met(
    graph: MakeGraph, sidecar_settings: SidecarSettings, ask: MakeAsk, tmp_path: Path
) -> None:
    """Of rows on disk nobody can tell what they are about; whoever would read one that was purged gets Graph's word."""
    behind = await graph()
    settings = sidecar_settings(behind.url, cache={**FRESH, "dir": tmp_path / "kept", "key_file": tmp_path / "key"})
    async with sidecar.sidecar(settings) as front:
        await read_all(await ask(front.url))
    async with sidecar.sidecar(settings) as front:
        caller = await ask(front.url)
        heard = await purge(caller, front, {"path": "/act_*/ads"})
        assert heard.json == {"dropped": 0, "marked": True, "durable": True}
        assert await read_all(caller) == [MISS, MISS, HIT, HIT] * 2
    async with sidecar.sidecar(settings) as front:
        caller = await ask(front.url)
        assert await read_all(caller) == [HIT] * 8
        assert (await purge(caller, front, {"all": True})).json == {"dropped": 8, "marked": False, "durable": True}
        assert await read_all(caller) == [MISS] * 8


@pytest.mark.parametrize("spoil", [False, True], ids=["legible", "spoiled"])
async def test_no_restart_undoes_an_order(graph: MakeGraph, ask: MakeAsk, tmp_path: Path, *, spoil: bool) -> None:
    """What was purged stays so when the sidecar is killed the moment it has said so, and nobody has asked since.

    Where what was written of orders can no longer be read, none of what is older is served. What no order covers is
    revalidated: a run that was killed left no word of the writes that it knew of.
    """
    behind = await graph()
    async with serving(behind.url, tmp_path, "cache.fresh_s=3600") as front:
        await read_all(await ask(front.url))
        front.signal(signal.SIGTERM)
        assert await front.ended() == 0
    async with serving(behind.url, tmp_path, "cache.fresh_s=3600") as front:
        caller = await ask(front.url)
        for order in ({"path": "/act_1/*"}, {"id": "111"}):
            assert (await purge(caller, front, order)).json["durable"]
        front.signal(signal.SIGKILL)
        await front.ended()
    if spoil:
        (tmp_path / "cache" / "orders").write_bytes(b"no orders")
    async with serving(behind.url, tmp_path, "cache.fresh_s=3600") as front:
        caller = await ask(front.url)
        assert await read_all(caller) == [MISS, MISS if spoil else REVALIDATED, MISS, MISS] * 2
        assert await read_all(caller) == [HIT] * 8
    assert b"act_" not in (tmp_path / "cache" / "orders").read_bytes()


async def test_an_answer_from_before_is_not_held(scene: MakeScene, gate: MakeGate) -> None:
    """What was on its way when the order came is given to who asked for it, and not kept for others."""
    here = await scene({"cache": FRESH})
    shut = gate(here.graph)
    before = await here.caller.start(here.say(ADS, token="ann"))
    await shut.has(1)
    await purge(here.caller, here.front, {"all": True})
    shut.open()
    (heard,) = await asyncio.gather(*before)
    assert heard.status == 200
    assert (await here.say(ADS, token="ann")).cache == "fwd=uri-miss; stored"
