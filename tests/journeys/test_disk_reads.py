"""Reads whose entries are on disk alone: callers get what others get, and reads that come together share the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from proxy.app import sidecar as app_sidecar
from proxy.shell.pipeline.cache import Cache
from proxy.shell.store.sqlite import Sqlite
from tests.journeys.conftest import MakeScene
from tests.journeys.talking import Ask, Scene

COUNT = 40
PATHS = [f"/v25.0/{1_201_000_000_000 + number}?fields=name" for number in range(COUNT)]
REVALIDATED = "fwd=stale; fwd-status=304"


async def _stored(scene: Scene) -> list[bytes]:
    """Read all paths, and wait until each is on disk; returns the bodies."""
    replies = await asyncio.gather(*(scene.caller.say(path, token="ann") for path in PATHS))
    async with asyncio.timeout(60):
        while (await _store_stats(scene.front, scene.caller))["writes"] < COUNT:
            pass
    return [reply.body for reply in replies]


async def _store_stats(front: app_sidecar.Sidecar, ask: Ask) -> dict[str, int]:
    stats: dict[str, int] = (await ask.say(f"{front.admin_url}/stats")).json["store"]
    return stats


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each statement asked for."""
    made: list[int] = []
    read = Sqlite.read

    def watched(rows: Sqlite, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        made.append(len(keys))
        return read(rows, keys)

    monkeypatch.setattr(Sqlite, "read", watched)
    return made


@pytest.fixture
def asked_layers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of reads that the layers answered, each in a task."""
    made: list[str] = []
    find = Cache._find

    def watched(cache: Cache, key: bytes, request: object) -> object:
        made.append(str(getattr(request, "path", "")))
        return find(cache, key, request)  # type: ignore[arg-type]

    monkeypatch.setattr(Cache, "_find", watched)
    return made


async def test_reads_that_come_together_share_the_disk(
    scene: MakeScene, reads: list[int], asked_layers: list[str]
) -> None:
    """Each gets its own entry, which Graph has confirmed; there are few statements, and no task for each read."""
    here = await scene({"cache": {"memory_mb": 0}})
    bodies = await _stored(here)
    reads.clear()
    replies = await asyncio.gather(*(here.caller.say(path, token="ann") for path in PATHS))
    assert [reply.body for reply in replies] == bodies
    assert {reply.cache for reply in replies} == {REVALIDATED}
    assert sum(reads) == COUNT
    assert len(reads) <= COUNT // 2
    assert asked_layers == []


async def test_equal_reads_of_an_entry_on_disk_share_a_call(scene: MakeScene, reads: list[int]) -> None:
    """Callers who come while it is read from disk join the first, and Graph is asked once."""
    here = await scene({"cache": {"memory_mb": 0}})
    await _stored(here)
    reads.clear()
    before = len(here.graph.ledger.slots)
    replies = await asyncio.gather(*(here.caller.say(PATHS[0], token="ann") for _ in range(5)))
    assert {reply.cache for reply in replies} <= {REVALIDATED, f"{REVALIDATED}; collapsed"}
    assert len({reply.body for reply in replies}) == 1
    assert sum(reads) <= len(here.graph.ledger.slots) - before


async def test_an_order_to_forget_holds_up_no_other_read(
    scene: MakeScene, reads: list[int], asked_layers: list[str]
) -> None:
    """An entry that was asked for after the order is read in the ordinary way again; an older one is forgotten."""
    here = await scene({"cache": {"memory_mb": 0}})
    await _stored(here)
    node = PATHS[0].removeprefix("/v25.0/").partition("?")[0]
    order = f'{{"id": "{node}"}}'.encode()
    assert (await here.caller.say(f"{here.front.admin_url}/purge", method="POST", data=order)).status == 200
    caches = [(await here.caller.say(path, token="ann")).cache for path in PATHS[:3]]
    assert caches == ["fwd=uri-miss; stored", REVALIDATED, REVALIDATED]
    assert asked_layers != []
    asked_layers.clear()
    async with asyncio.timeout(60):
        while (await _store_stats(here.front, here.caller))["queue_depth"]:
            pass
    caches = [(await here.caller.say(path, token="ann")).cache for path in PATHS[:3]]
    assert caches == [REVALIDATED] * 3
    assert asked_layers == []
