"""More than can wait: those beyond the queue are told at once and how long to stay away; the others are served."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

from tests.journeys.bombs import answers, graph
from tests.journeys.conftest import MakeGate, MakeScene
from tests.journeys.processes import serving
from tests.journeys.talking import Gate, Heard, Scene
from tests.wires import calling, listening, ok

SMALL = {"batch": {"queue": 3}, "upstream": {"connections": 1}}


def assert_overloaded(heard: Heard, setting: str = "batch.queue") -> None:
    """A 503 of the sidecar's own, in Graph's shape, which a Graph client takes for one to try again."""
    error = heard.json["error"]
    assert heard.status == 503
    assert heard.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert int(heard.headers["Retry-After"]) > 0
    assert error["message"].startswith("graph-sidecar: ")
    assert f"(setting {setting})" in error["message"]
    assert error["is_transient"] is True
    assert "detail=overloaded" in heard.cache


async def filled(here: Scene, shut: Gate, token: str = "ann") -> list[asyncio.Task[Heard]]:
    """One read at Graph and a queue that is full behind it."""
    first = await here.caller.start(here.say("/v25.0/1", token=token))
    await shut.has(1)
    waiting = await here.caller.start(*(here.say(f"/v25.0/{n}", token=token) for n in (2, 3, 4)))
    await here.queue_of(3)
    return first + waiting


async def test_beyond_the_queue_callers_are_told(scene: MakeScene, gate: MakeGate) -> None:
    """The first too many gets its 503 while the others still wait; they get their answers, and so does who returns."""
    here = await scene(SMALL)
    shut = gate(here.graph)
    waiting = await filled(here, shut)
    assert_overloaded(await here.say("/v25.0/5", token="ann"))
    shut.open()
    assert [heard.json["id"] for heard in await asyncio.gather(*waiting)] == ["1", "2", "3", "4"]
    assert (await here.say("/v25.0/5", token="ann")).status == 200


async def test_a_twin_needs_no_place(scene: MakeScene, gate: MakeGate) -> None:
    """Who asks what is on its way already is never one too many."""
    here = await scene(SMALL)
    shut = gate(here.graph)
    waiting = await filled(here, shut)
    twins = await here.caller.start(*(here.say(f"/v25.0/{n}", token="ann") for n in (1, 2, 3, 4)))
    shut.open()
    assert {heard.status for heard in await asyncio.gather(*waiting, *twins)} == {200}


async def test_who_leaves_makes_room(scene: MakeScene, gate: MakeGate) -> None:
    """A place in the queue is free again when its caller has hung up."""
    here = await scene(SMALL)
    shut = gate(here.graph)
    *waiting, last = await filled(here, shut)
    await here.leave(last)
    await here.queue_of(2)
    newcomer = await here.caller.start(here.say("/v25.0/5", token="ann"))
    await here.queue_of(3)
    shut.open()
    assert {heard.status for heard in await asyncio.gather(*waiting, *newcomer)} == {200}


async def test_one_group_does_not_fill_anothers_queue(scene: MakeScene, gate: MakeGate) -> None:
    """The bound is for each group: with tokens apart, one that asks too much leaves the others their room."""
    here = await scene({"batch": SMALL["batch"] | {"group": "token"}, "upstream": {"connections": 3}})
    shut = gate(here.graph)
    waiting = await filled(here, shut)
    assert_overloaded(await here.say("/v25.0/5", token="ann"))
    other = await here.caller.start(here.say("/v25.0/5", token="bob"))
    await shut.has(2)
    shut.open()
    assert {heard.status for heard in await asyncio.gather(*waiting, *other)} == {200}


async def test_overload_is_covered_by_what_may_stand_in(scene: MakeScene, gate: MakeGate) -> None:
    """Where a rule lets an old body stand in for a failure, overload is one."""
    here = await scene({**SMALL, "cache": {"stale_if_error_s": 3600}})
    held = await here.say("/v25.0/5", token="ann")
    shut = gate(here.graph)
    waiting = await filled(here, shut)
    heard = await here.say("/v25.0/5", token="ann")
    assert (heard.status, heard.body) == (200, held.body)
    assert "detail=stale-if-error" in heard.cache
    shut.open()
    await asyncio.gather(*waiting)


async def test_what_passes_through_is_not_held_up(scene: MakeScene, gate: MakeGate) -> None:
    """A full queue of reads is no matter for writes."""
    here = await scene(SMALL)
    shut = gate(here.graph)
    shut.holds = lambda request: request.path == "/"
    waiting = await filled(here, shut)
    assert (await here.say("/v25.0/9", token="ann", method="POST", data={"name": "x"})).status == 200
    shut.open()
    await asyncio.gather(*waiting)


# --- time, and the processor

USUAL = {"X-Way": "usual"}
"""Heads with it are not answered from memory without being parsed."""


async def test_a_queue_is_bounded_by_time(scene: MakeScene, gate: MakeGate) -> None:
    """Reads that find no connection within `batch.queue_s` are told, those with a token and those without."""
    here = await scene({"upstream": {"connections": 1}, "batch": {"queue_s": 0.4}}, public_ids=("1", "2"))
    shut = gate(here.graph)
    first = await here.caller.start(here.say("/v25.0/1", token="ann"))
    await shut.has(1)
    waiting = await here.caller.start(here.say("/v25.0/2", token="ann"), here.say("/v25.0/2"))
    for heard in await asyncio.gather(*waiting):
        assert_overloaded(heard, "batch.queue_s")
    shut.open()
    assert (await asyncio.gather(*first))[0].status == 200
    assert (await here.say("/v25.0/2", token="ann")).status == 200


class Insistent(asyncio.Protocol):
    """A caller that asks again as soon as it has an answer, whatever that is."""

    def __init__(self, request: bytes, statuses: Counter[int]) -> None:
        """Ask *request* and count the *statuses* of the answers."""
        self.request = request
        self.statuses = statuses
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Count an answer, and ask again."""
        self.held += data
        head, found, body = self.held.partition(b"\r\n\r\n")
        if found and len(body) == int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            self.statuses[int(head[9:12])] += 1
            self.held = b""
            self.transport.write(self.request)


async def test_a_busy_processor_refuses_reads_unread(scene: MakeScene) -> None:
    """While more reads come than can be answered some get a 503 that Graph clients understand, the others an answer.

    Writes and probes are served; afterwards all are, on the same connections.
    """
    here = await scene({"listener": {"lag_s": 0.02}, "rules": [{"path": "/1", "fresh_s": 3600}]})
    loop, stop, statuses = asyncio.get_running_loop(), asyncio.Event(), Counter[int]()
    assert (await here.say("/v25.0/1", token="ann")).status == 200
    asked = b"GET /v25.0/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann\r\nX-Way:usual\r\n\r\n"

    def hog() -> None:
        time.sleep(0.012)
        if not stop.is_set():
            loop.call_soon(hog)

    at = here.front.listen
    opening = (loop.create_connection(lambda: Insistent(asked, statuses), at.host, at.port) for _ in range(150))
    flood = await asyncio.gather(*opening)
    hog()
    while not statuses[503]:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    while (heard := await here.say("/v25.0/1", token="ann", headers=USUAL)).status == 200:
        pass
    assert_overloaded(heard, "listener.lag_s")
    assert (await here.say("/v25.0/9", token="ann", method="POST", data={"name": "x"})).status == 200
    assert (await here.say(f"{here.front.admin_url}/livez")).status == 200
    before = statuses[200]
    while statuses[200] < before + 100:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    stop.set()
    for transport, _protocol in flood:
        transport.close()
    while (heard := await here.say("/v25.0/1", token="ann", headers=USUAL)).status != 200:
        assert_overloaded(heard, "listener.lag_s")
    assert set(statuses) == {200, 503}
    told = await here.stats()
    assert told["errors"][0]["what"] == "overloaded"
    assert (await here.say(f"{here.front.admin_url}/metrics")).body.count(b'mode="FAILED"')


async def test_a_burst_is_answered_whole(tmp_path: Path) -> None:
    """A thousand callers that ask while the process stands still all get their answer: a burst is no overload."""
    async with (
        listening(graph(lambda _wire: ok(), lambda _wire, message: answers(message))) as at,
        serving(at.url, tmp_path, "batch.queue_s=60") as sidecar,
        AsyncExitStack() as callers,
    ):
        wires = [await callers.enter_async_context(calling(sidecar.url)) for _ in range(1000)]
        sidecar.signal(signal.SIGSTOP)
        for number, wire in enumerate(wires):
            await wire.send(f"GET /v25.0/{number} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer EAABsecret\r\n\r\n")
        sidecar.signal(signal.SIGCONT)
        assert Counter([(await wire.message()).status for wire in wires]) == {200: 1000}
