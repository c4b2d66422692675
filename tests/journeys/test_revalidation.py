"""What is held is checked with Graph by its ETag: unchanged bodies do not travel again, changed ones replace them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.app import sidecar
from tests.journeys.conftest import MakeAsk, MakeGate, MakeGraph, MakeScene, MakeTwins, SidecarSettings

READ = "/v25.0/111?fields=id,name"
CONFIRMED = "fwd=stale; fwd-status=304"


@pytest.mark.parametrize("repeats", [False, True], ids=["304 without ETag", "304 with ETag"])
async def test_a_304_confirms_the_validator_that_was_sent(scene: MakeScene, *, repeats: bool) -> None:
    """Graph repeats few fields with a 304: the caller gets the whole reply all the same, its ETag included."""
    here = await scene(etag_on_304=repeats)
    first = await here.say(READ, token="ann")
    again = [await here.say(READ, token="ann") for _ in range(3)]
    assert {each.cache for each in again} == {CONFIRMED}
    assert {each.body for each in again} == {first.body}
    assert {each.etag for each in again} == {first.etag}
    assert {each.headers["Content-Type"] for each in again} == {"application/json; charset=UTF-8"}
    assert {each.headers["Facebook-API-Version"] for each in again} == {"v25.0"}
    assert here.graph.ledger.not_modified["batch"] == 3


async def test_what_has_changed_is_served_and_held(scene: MakeScene) -> None:
    """A changed object is seen by the very next read, and from then on that state is what is confirmed."""
    here = await scene()
    old = await here.say(READ, token="ann")
    here.graph.world.touch("111")
    new, again = await here.say(READ, token="ann"), await here.say(READ, token="ann")
    assert new.cache == "fwd=stale; fwd-status=200; stored"
    assert old.body != new.body == again.body
    assert old.etag != new.etag == again.etag
    assert again.cache == CONFIRMED


async def test_an_unchanged_body_does_not_travel_again(scene: MakeScene) -> None:
    """The second read of a large object moves a fraction of its bytes, and the saving is counted."""
    here = await scene(body_bytes=200_000)
    first = await here.say("/v25.0/111", token="ann")
    moved = here.graph.ledger.bytes_out
    await here.say("/v25.0/111", token="ann")
    assert here.graph.ledger.bytes_out - moved < 2000
    assert (await here.stats())["bytes_avoided"] == len(first.body)


class Sittings:
    """Sidecars one after another over the same cache and key."""

    def __init__(self, graph: MakeGraph, ask: MakeAsk, settings: SidecarSettings, folder: Path) -> None:
        self._graph, self._ask, self._settings, self._folder = graph, ask, settings, folder

    async def read(self, *, key: str = "key", token: str = "ann", **cache: Any) -> str:
        """Start a sidecar, read through it, end it; what Cache-Status said."""
        told = {"key_file": self._folder / key, **cache}
        async with sidecar.sidecar(self._settings(self.meta.url, cache=told)) as running:
            caller = await self._ask(running.url)
            return (await caller.say(READ, token=token)).cache

    async def begin(self) -> None:
        """Start the Graph."""
        self.meta = await self._graph()


@pytest.fixture
async def sittings(graph: MakeGraph, ask: MakeAsk, sidecar_settings: SidecarSettings, tmp_path: Path) -> Sittings:
    """Sidecars that follow each other."""
    made = Sittings(graph, ask, sidecar_settings, tmp_path)
    await made.begin()
    return made


async def test_what_is_held_outlives_a_restart(sittings: Sittings) -> None:
    """After an upgrade or a new pod on the same volume the cache is as warm as it was."""
    assert [await sittings.read(), await sittings.read()] == ["fwd=uri-miss; stored", CONFIRMED]


async def test_another_installations_key_opens_nothing(sittings: Sittings) -> None:
    """A copied cache folder is worth nothing without the key: it is asked anew, and nothing breaks."""
    assert await sittings.read() == "fwd=uri-miss; stored"
    assert await sittings.read(key="other") == "fwd=uri-miss; stored"


async def test_without_a_disk_the_memory_alone_holds(sittings: Sittings) -> None:
    """`cache.disk_mb=0` writes nothing to disk: a restart begins anew."""
    assert [await sittings.read(disk_mb=0), await sittings.read(disk_mb=0)] == ["fwd=uri-miss; stored"] * 2


async def test_without_memory_the_disk_alone_holds(scene: MakeScene) -> None:
    """`cache.memory_mb=0` serves confirmed bodies from disk."""
    here = await scene({"cache": {"memory_mb": 0}})
    first, second = await here.say(READ, token="ann"), await here.say(READ, token="ann")
    assert second.cache == CONFIRMED
    assert second.body == first.body


async def test_a_body_over_the_limit_passes_by(scene: MakeScene) -> None:
    """A body larger than `cache.max_body_kb` reaches its caller whole, every time, and is not kept."""
    here = await scene({"cache": {"max_body_kb": 1}}, body_bytes=5000)
    first, second = await here.say("/v25.0/111", token="ann"), await here.say("/v25.0/111", token="ann")
    assert first.body == second.body
    assert CONFIRMED not in second.cache
    assert here.graph.ledger.not_modified["batch"] == 0


@pytest.mark.parametrize("enabled", [True, False], ids=["batched", "alone"])
@pytest.mark.parametrize("kind", ["error_in_200", "text", "html", "empty"])
async def test_a_200_that_is_no_answer_is_not_held(scene: MakeScene, kind: str, *, enabled: bool) -> None:
    """An error or a page behind a good status reaches the caller as Graph said it, and is forgotten at once."""
    here = await scene({"batch": {"enabled": enabled}})
    here.graph.faults.add({"kind": kind, "status": 200})
    odd = await here.say(READ, token="ann")
    assert "stored" not in odd.cache
    if kind == "error_in_200":
        assert (odd.status, odd.json["error"]["code"]) == (200, 1)
    if kind == "text":
        assert (odd.status, odd.body, odd.headers["Content-Type"]) == (
            200, b"Service Unavailable", "text/plain; charset=utf-8",
        )  # fmt: skip
    here.graph.faults.clear()
    here.graph.ledger.clear()
    assert (await here.say(READ, token="ann")).cache == "fwd=uri-miss; stored"
    assert here.graph.ledger.not_modified.total() == 0


async def test_an_error_that_hides_behind_200_is_not_held(twins: MakeTwins) -> None:
    """A caller who asks for errors with status 200 gets each anew."""
    both = await twins(settings={"cache": {"fresh_s": 3600}})
    path = "/v25.0/404111?suppress_http_code=1"
    for _time in range(2):
        heard = await both.alike(path, token="ann")
        assert (heard.status, heard.cache) == (200, "fwd=uri-miss")


async def test_a_body_with_an_error_on_top_is_not_held_whatever_its_fields_say(scene: MakeScene) -> None:
    """An `error` at the top of a 200 that has an ETag is passed on, and asked for in full the next time."""
    here = await scene({"cache": {"fresh_s": 3600}})
    here.graph.world.touch("111", {"error": {"message": "no", "code": 1}})
    for _time in range(2):
        heard = await here.say("/v25.0/111?fields=error", token="ann")
        assert (heard.status, heard.json["error"]["code"], bool(heard.etag)) == (200, 1, True)
        assert heard.cache == "fwd=uri-miss"
    here.graph.world.touch("222", {"data": {"error": {"code": 1}}, "error": None})
    await here.say("/v25.0/222?fields=data", token="ann")
    assert (await here.say("/v25.0/222?fields=data", token="ann")).cache.startswith("hit")


async def test_trouble_does_not_cost_what_is_held(scene: MakeScene) -> None:
    """After an error, in whatever dress, what was held before it is confirmed again."""
    here = await scene()
    first = await here.say(READ, token="ann")
    here.graph.faults.add({"kind": "error_in_200", "where": "any"})
    assert (await here.say(READ, token="ann")).json["error"]["code"] == 1
    here.graph.faults.clear()
    again = await here.say(READ, token="ann")
    assert (again.cache, again.body) == (CONFIRMED, first.body)


async def test_an_error_is_never_held(scene: MakeScene) -> None:
    """A missing object that comes to life is seen by the next read, even where reads are fresh for hours."""
    here = await scene({"cache": {"fresh_s": 3600}}, missing_ids=("111",))
    assert (await here.say(READ, token="ann")).status == 400
    here.graph.settings.update({"missing_ids": []})
    assert (await here.say(READ, token="ann")).status == 200


async def test_load_does_not_change_the_form_of_asking(scene: MakeScene, gate: MakeGate) -> None:
    """A read is confirmed whether it rides alone or in a full batch, though Graph's ETags differ by form."""
    here = await scene({"upstream": {"connections": 1}}, etag_by_channel=True, batch_formatting="pretty")
    await here.say(READ, token="ann")
    shut = gate(here.graph)
    flying = await here.caller.start(here.say("/1", token="ann"))
    await shut.has(1)
    crowd = await here.caller.start(*(here.say(f"/2{number}", token="ann") for number in range(29)))
    riding = await here.caller.start(here.say(READ, token="ann"))
    await here.queue_of(30)
    shut.open()
    await asyncio.gather(*flying, *crowd)
    alone = await here.say(READ, token="ann")
    assert [(await riding[0]).cache, alone.cache] == [CONFIRMED] * 2
    assert here.slots == [1, 1, 30, 1]
    assert here.graph.ledger.http_calls == here.graph.ledger.batches


async def test_a_validator_is_never_used_in_another_form(scene: MakeScene) -> None:
    """A read that had to be asked alone once is asked without a validator when it rides again, and held anew."""
    here = await scene(etag_by_channel=False, batch_formatting="pretty")
    here.graph.faults.add({"kind": "null", "count": 1})
    alone = await here.say(READ, token="ann")
    riding, again = await here.say(READ, token="ann"), await here.say(READ, token="ann")
    assert alone.json == riding.json
    assert [slot["headers"] for slot in here.asked if "relative_url" in slot] == [[], [], ["if-none-match"]]
    assert again.cache == CONFIRMED


async def test_rules_may_keep_nothing(scene: MakeScene) -> None:
    """Reads under a rule with `cache = false` are asked in full each time and leave nothing behind."""
    here = await scene({"rules": [{"path": "/*/feed", "cache": False}]})
    for _time in range(2):
        assert (await here.say("/v25.0/111/feed", token="ann")).cache == "fwd=uri-miss"
    await here.say(READ, token="ann")
    assert (await here.say(READ, token="ann")).cache == CONFIRMED
    assert (await here.stats())["store"]["memory_entries"] == 1


@pytest.mark.parametrize(
    "cache", [{"max_body_kb": 1}, {"memory_mb": 0, "disk_mb": 0}], ids=["too large", "no room at all"]
)
async def test_what_is_not_kept_is_not_called_stored(scene: MakeScene, cache: dict[str, int]) -> None:
    """`stored` is said of a body that is held, not of one that only might have been."""
    here = await scene({"cache": cache}, body_bytes=2048)
    assert (await here.say("/v25.0/111", token="ann")).cache == "fwd=uri-miss"
