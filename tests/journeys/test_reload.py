"""New settings while it runs: SIGHUP and POST /reload, with requests in the air."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.app import sidecar as app_sidecar
from proxy.settings import Settings
from tests.journeys.conftest import MakeAsk, MakeGate, MakeGraph, SidecarSettings
from tests.journeys.processes import serving
from tests.journeys.talking import Ask, Scene
from tests.wires import calling


class Again:
    """A sidecar whose settings can be changed behind its back."""

    def __init__(self, here: Scene, make: Callable[..., Settings], read: list[Settings]) -> None:
        self.here = here
        self._make = make
        self._read = read

    async def reload(self, **tables: Any) -> Any:
        """Let it read its first settings with these laid over; what it says."""
        self._read.append(self._make(**tables))
        return (await self.here.caller.say(f"{self.here.front.admin_url}/reload", method="POST")).json


@pytest.fixture
async def again(lifetimes: AsyncExitStack, graph: MakeGraph, ask: MakeAsk, sidecar_settings: SidecarSettings) -> Again:
    """A Graph, a sidecar with its first settings, and a caller."""
    behind = await graph()
    make = partial(sidecar_settings, behind.url, upstream={"connections": 1})
    read = [make()]
    front = await lifetimes.enter_async_context(app_sidecar.sidecar(read[0], reread=lambda: read[-1]))
    return Again(Scene(behind, front, await ask(front.url)), make, read)


async def test_rules_change(again: Again) -> None:
    """A rule that calls a route fresh holds for the next read; without it Graph is asked again."""
    here = again.here
    await here.say("/v25.0/111", token="ann")
    assert await again.reload(rules=[{"path": "/111", "fresh_s": 3600}]) == {"changed": ["rules"], "needs_restart": []}
    assert (await here.say("/v25.0/111", token="ann")).cache.startswith("hit")
    await again.reload()
    assert (await here.say("/v25.0/111", token="ann")).cache == "fwd=stale; fwd-status=304"
    await again.reload(cache={"fresh_s": 3600})
    assert (await here.say("/v25.0/111", token="ann")).cache.startswith("hit")


async def test_limits_change_under_what_is_queued(again: Again, gate: MakeGate) -> None:
    """Reads that wait, and batches in the air, live through a change; who comes then meets the new limits."""
    here = again.here
    shut = gate(here.graph)
    first = await here.caller.start(here.say("/v25.0/100", token="ann"))
    await shut.has(1)
    await again.reload(batch={"queue": 3, "slots": 2})
    queued = await here.caller.start(*(here.say(f"/v25.0/{number}", token="ann") for number in (101, 102, 103)))
    await here.queue_of(3)
    assert (await here.say("/v25.0/104", token="ann")).status == 503
    shut.open()
    heard = await asyncio.gather(*first, *queued)
    assert [each.json["id"] for each in heard] == ["100", "101", "102", "103"]
    assert sorted(here.graph.ledger.slots) == [1, 1, 2]


async def test_links_and_batches_change(again: Again) -> None:
    """Paging links and whether reads ride at all are matters of each reply."""
    here = again.here
    path = "/v25.0/act_1/campaigns?limit=1"
    assert (await here.say(path, token="ann")).json["paging"]["next"].startswith(here.front.url)
    await again.reload(paging={"rewrite": False}, batch={"enabled": False})
    before = here.graph.ledger.batches
    assert not (await here.say(path, token="ann")).json["paging"]["next"].startswith(here.front.url)
    assert here.graph.ledger.batches == before


async def test_the_token_changes(again: Again, tmp_path: Path) -> None:
    """A token that is named, or changed in its file, is needed from the next call on; a bad one changes nothing."""
    file = tmp_path / "token"
    file.write_text("short")
    heard = await again.reload(admin_token_file=str(file))
    assert heard["error"]["problems"] == [
        f"admin_token_file: {file}: must hold 16 or more letters, digits and signs on one line"
    ]
    file.write_text("correct-horse-battery")
    assert (await again.reload(admin_token_file=str(file)))["changed"] == ["admin_token_file"]
    assert (await again.reload())["error"]["status"] == 401


async def reload_told(ours: Ask) -> tuple[int, list[str]]:
    """What /metrics and /stats say of the last reload."""
    metrics = (await ours.say("/metrics")).body.decode()
    found = re.search(r"^graph_sidecar_config_last_reload_successful (\d)\.0$", metrics, re.MULTILINE)
    at = re.search(r"^graph_sidecar_config_last_reload_success_timestamp_seconds (\S+)$", metrics, re.MULTILINE)
    assert found is not None
    assert at is not None
    assert 0 <= time.time() - float(at[1]) < 3600
    told = (await ours.say("/stats")).json
    assert told["connections"] >= 1
    assert told["instance"].rpartition(":")[0] == socket.gethostname()
    assert told["upstream"].startswith("http://127.0.0.1:")
    return int(found[1]), [each["what"] for each in told["troubles"] if each["about"] == "settings"]


async def test_signal_and_post_read_the_file(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """The real command reads its file again, says what it took, refuses a bad file as a whole, and goes on."""
    behind = await graph()
    file = tmp_path / "graph-sidecar.toml"
    file.write_text("")
    async with serving(behind.url, tmp_path, environ={"GRAPH_SIDECAR_CONFIG": str(file)}) as sidecar:
        caller, ours = await ask(sidecar.url), await ask(sidecar.admin_url)
        await caller.say("/v25.0/111", token="ann")
        file.write_text(
            'drain_s = 7\n[log]\nlevel = "debug"\n[[rules]]\npath = "/111"\nfresh_s = 3600\n[[rules]]\npath = "/111"\n'
        )
        sidecar.signal(signal.SIGHUP)
        await sidecar.says("reloaded: drain_s, rules, log.level")
        await sidecar.says(r"rules\[1\].path = .*: never applies")
        assert (await caller.say("/v25.0/111", token="ann")).cache.startswith("hit")
        file.write_text('drain_s = -1\nlissten = "a:1"\n[batch]\nslots = 51\n')
        heard = await ours.say("/reload", method="POST")
        assert (heard.status, len(heard.json["error"]["problems"])) == (422, 3)
        await sidecar.says(r"not reloaded: .*lissten")
        assert await reload_told(ours) == (0, ["The last reload was refused, the settings before it stay in force"])
        assert (await caller.say("/v25.0/111", token="ann")).cache.startswith("hit")
        file.write_text('listen = "127.0.0.1:1"\nadmin = "127.0.0.1:2"\n[upstream]\nconnections = 1\n')
        told = (await ours.say("/reload", method="POST")).json
        assert told == {"changed": ["drain_s", "rules", "log.level"], "needs_restart": ["upstream.connections"]}
        assert await reload_told(ours) == (1, [])
        assert (await caller.say("/v25.0/111", token="ann")).cache == "fwd=stale; fwd-status=304"
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0


async def test_a_sampled_log_keeps_errors_and_writes_and_counts_all(
    graph: MakeGraph, ask: MakeAsk, tmp_path: Path
) -> None:
    """With `log.sample = 0` good reads have no line, whatever their way; after a reload each has its line again."""
    behind = await graph()
    file = tmp_path / "graph-sidecar.toml"
    file.write_text("[log]\nsample = 0\n[cache]\nfresh_s = 60\n")
    async with serving(behind.url, tmp_path, environ={"GRAPH_SIDECAR_CONFIG": str(file)}) as sidecar:
        caller, ours = await ask(sidecar.url), await ask(sidecar.admin_url)
        for path in ("/v25.0/111", "/v25.0/111", "/v25.0/111", "/v25.0/404111"):
            await caller.say(path, token="ann")
        await caller.say("/v25.0/112", method="POST", data={"name": "new"}, token="ann")
        file.write_text("[cache]\nfresh_s = 60\n")
        await ours.say("/reload", method="POST")
        await caller.say("/v25.0/111", token="ann")
        told = (await ours.say("/stats")).json
        assert sum(told["replies"].values()) == 6
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0
    lines = [json.loads(line) for line in sidecar.lines]
    replies = [line for line in lines if line["logger"] == "graph_sidecar.reply"]
    assert [(line["mode"], line["method"], line["status"]) for line in replies] == [
        ("MISS", "GET", 400),
        ("SKIPPED", "POST", 200),
        ("REUSED", "GET", 200),
    ]


@pytest.mark.parametrize("way", ["", "X-Way:usual\r\n"], ids=["fast", "handler"])
async def test_what_was_asked_before_is_stored_by_the_rules_of_now(again: Again, gate: MakeGate, way: str) -> None:
    """A reply to a read that was under way is not kept if its route is no longer cached."""
    held = gate(again.here.graph)
    async with calling(again.here.front.url) as wire:
        await wire.send(f"GET /v25.0/111?fields=id HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann\r\n{way}\r\n")
        await held.has(1)
        await again.reload(rules=[{"path": "/111", "cache": False}])
        held.open()
        assert (await wire.message()).fields["Cache-Status"] == "graph-sidecar; fwd=uri-miss"
