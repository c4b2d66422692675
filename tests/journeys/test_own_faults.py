"""A fault of the sidecar's own makes a reply slower, never two replies, and concerns one caller alone."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from proxy.core.batch import response as batch_response
from proxy.core.cache.purge import Purges
from proxy.core.fast_path.answer_template import AnswerTemplates
from proxy.core.observe.access_log import PreparedLine
from proxy.core.quota.limiter import Limiter
from proxy.shell.downstream import fast_flights
from proxy.shell.downstream.client_batch_slots import ClientBatchSlots
from proxy.shell.downstream.confirmed_reads import ConfirmedReads
from proxy.shell.downstream.fast_flights import FastFlights
from proxy.shell.downstream.flight_group import FlightGroup
from proxy.shell.downstream.waiting_batch import WaitingBatch
from proxy.shell.observe.counted_call import CountedCall
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.log_writer import LOG
from proxy.shell.pipeline.cache import Cache
from proxy.shell.store.store import Store
from tests.journeys.conftest import MakeGate, MakeScene
from tests.wires import calling

ASKED = "GET /v25.0/111?fields=id HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann\r\n\r\n"


def _fault(*_args: Any) -> PreparedLine | None:
    raise RuntimeError("a fault that a test has made")


WHILE_TELLING = {"of a new body": "line_like", "of a confirmed body": "prepare_line", "of what is told": "route_counts"}


@pytest.mark.parametrize("name", WHILE_TELLING.values(), ids=WHILE_TELLING)
async def test_a_fault_while_a_reply_is_told_of_makes_no_second_reply(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each message has one reply, and the next message on the connection has its own."""
    here = await scene()
    monkeypatch.setattr(Counters, name, _fault)
    await _each_has_its_own(here.front.url)


async def test_a_fault_in_the_fast_path_is_answered_by_the_handler(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's connection ends for it."""
    here = await scene({"rules": [{"path": "/*", "fresh_s": 60}]})
    monkeypatch.setattr(Counters, "prepare_hit", _fault)
    await _each_has_its_own(here.front.url)


WHILE_TAKING: dict[str, tuple[object, str]] = {
    "in the cache": (Cache, "keep_new"),
    "in what is noted of an entry": (Purges, "note"),
    "in the store": (Store, "put"),
    "in what is learned of limits": (Limiter, "on_usage_of_reply"),
    "in what is learned of the batch's limits": (Limiter, "on_usage"),
    "in the templates of replies": (AnswerTemplates, "outer_fields"),
    "in what becomes of the slots": (batch_response, "resolve"),
    "in what is counted": (CountedCall, "answered"),
}


WHILE_TAKING_TOGETHER: dict[str, tuple[object, str]] = {
    "in what is confirmed together": (FlightGroup, "_find_confirmed"),
    "in what is held together": (FastFlights, "note_usage"),
    "in what is written of slots": (WaitingBatch, "write"),
    "in what is filled together": (ClientBatchSlots, "fill_together"),
    "in what is filled": (ClientBatchSlots, "fill_prepared"),
    "in what is renewed together": (Store, "renew_all"),
    "in what is confirmed again": (ConfirmedReads, "kind_of"),
    "in the slots of fresh entries": (WaitingBatch, "fill_fresh"),
}


@pytest.mark.parametrize("where", WHILE_TAKING)
async def test_a_fault_while_a_slot_is_taken_leaves_no_caller_without_an_answer(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Neither the caller of that read nor those whose reads are in the same batch; it is logged."""
    here = await scene({"batch": {"window_ms": 50}})
    monkeypatch.setattr(*WHILE_TAKING[where], _fault)
    nodes = ("111", "112", "113")
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(calling(here.front.url)) for _ in nodes]
        for wire, node in zip(wires, nodes, strict=True):
            await wire.send(ASKED.replace("111", node))
        heard = [await wire.message() for wire in wires]
    assert [(each.status, json.loads(each.body)["id"]) for each in heard] == [(200, node) for node in nodes]


@pytest.mark.parametrize("before", [0, 1, 3], ids=["first seen", "revalidated", "revalidated again"])
@pytest.mark.parametrize("where", [*WHILE_TAKING, *WHILE_TAKING_TOGETHER])
async def test_a_fault_while_the_slots_of_a_clients_batch_are_taken_leaves_no_caller_without_an_answer(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch, where: str, before: int
) -> None:
    """As for single reads: each operation has its own answer."""
    here, nodes = await scene({"rules": [{"path": "/113*", "fresh_s": 60}]}), ("111", "112", "113", "114")
    operations = json.dumps([{"method": "GET", "relative_url": f"v25.0/{node}?fields=id"} for node in nodes])
    for _ in range(before):
        await here.say("/v25.0/", method="POST", data={"access_token": "ann", "batch": operations})
    monkeypatch.setattr(*(WHILE_TAKING | WHILE_TAKING_TOGETHER)[where], _fault)
    async with asyncio.timeout(20):
        heard = await here.say("/v25.0/", method="POST", data={"access_token": "ann", "batch": operations})
    assert [json.loads(slot["body"])["id"] for slot in heard.json] == list(nodes)


async def test_a_fault_while_a_batch_is_counted_fails_none_of_its_reads(
    scene: MakeScene, gate: MakeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also none whose slot is null, and that is asked again."""
    here = await scene({"batch": {"window_ms": 1000, "slots": 2}})
    held = gate(here.graph)
    here.graph.faults.add({"kind": "null", "id": "112", "count": 1})
    monkeypatch.setattr(fast_flights, "add_answers", _fault)
    nodes = ("113", "111", "112")  # the first is at Graph when the other two come, which share the next batch
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(calling(here.front.url)) for _ in nodes]
        for wire, node in zip(wires, nodes, strict=True):
            await wire.send(ASKED.replace("111", node))
            await here.caller.settle()
            await held.has(1)
        await held.has(2)
        held.open()
        heard = [await wire.message() for wire in wires]
    assert here.slots[:2] == [1, 2]
    assert [(each.status, json.loads(each.body)["id"]) for each in heard] == [(200, node) for node in nodes]


async def test_a_route_may_get_a_label_while_hits_of_another_wait_to_be_counted(scene: MakeScene) -> None:
    """Both take the place of routes that nobody could read, the caller has its answer, and all are counted."""
    here = await scene({"rules": [{"path": "/111*", "fresh_s": 60}]})
    for number in range(64):
        await here.say(f"/v25.0/9/{chr(97 + number % 26)}{chr(97 + number // 26)}", token="ann")
    async with calling(here.front.url) as wire:
        for _ in range(4):
            await wire.send(ASKED)
            assert (await wire.message()).status == 200
        other = ASKED.replace("111?fields=id", "act_111/campaigns?limit=2")
        await wire.send(other.replace("Host: a\r\n", "Host: a\r\nX-Way:usual\r\n"))
        assert (await wire.message()).status == 200
    counted = Counter[str]()
    for (_mode, route, _status), times in here.front.telemetry.replies.items():
        counted[route] += times
    assert (counted["/{id}"], counted.total()) == (3, 64 + 4 + 1)


class _Routes(logging.Handler):
    """The routes that the log tells of."""

    def __init__(self) -> None:
        """None yet."""
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        self.told.append(record.entry.route)  # type: ignore[attr-defined]


@pytest.mark.parametrize("fresh_s", [0, 60])
async def test_the_log_has_the_label_that_a_route_has_got(scene: MakeScene, fresh_s: int) -> None:
    """Hits, and confirmed replies, are told of by it from then on."""
    here, log, lines = (
        await scene({"rules": [{"path": "/111*", "fresh_s": fresh_s}]}),
        logging.getLogger(LOG),
        _Routes(),
    )
    for number in range(64):
        await here.say(f"/v25.0/9/{chr(97 + number % 26)}{chr(97 + number // 26)}", token="ann")
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(lines)
    try:
        for _ in range(3):
            async with calling(here.front.url) as wire:
                for _ in range(3):
                    await wire.send(ASKED)
                    assert (await wire.message()).status == 200
            await here.stats()
    finally:
        log.removeHandler(lines)
        log.setLevel(level)
    assert lines.told == ["other"] + ["/{id}"] * 8


async def _each_has_its_own(url: str) -> None:
    async with calling(url) as wire:
        for node in ("111", "112", "111", "111", "113"):
            await wire.send(ASKED.replace("111", node))
            found = await wire.message()
            assert (found.status, json.loads(found.body)) == (200, {"id": node})
