"""A read that memory answers again and again is answered as the usual way would answer it after any change.

The time of day stands still but where a test moves it, so that nothing but the change itself ends what was prepared.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from proxy import emulator
from proxy.app import components, log_setup
from proxy.app.sidecar import Sidecar, sidecar
from proxy.settings import Settings
from proxy.settings.observe import CompareSettings
from proxy.shell.observe.log_writer import LOG
from proxy.shell.observe.stats import stats
from tests.journeys.conftest import SidecarSettings
from tests.wires import Message, Wire, calling

RULE = {"path": "/*", "fresh_s": 60}


@dataclass
class World:
    """A Graph, a sidecar that holds a fresh entry, and a connection on which memory has answered twice."""

    graph: emulator.Running
    front: Sidecar
    wire: Wire
    now: list[float]
    settings: list[Settings]

    async def read(self, node: str = "111", *fields: str) -> Message:
        """What a read of *node* gets."""
        await self.wire.send(_head("GET", f"/v25.0/{node}?fields=id", *fields))
        return await self.wire.message()

    async def say(self, method: str, path: str, body: str = "", *, to_admin: bool = False) -> Message:
        """What a message on a connection of its own gets."""
        async with calling(self.front.admin_url if to_admin else self.front.url) as wire:
            await wire.send(_head(method, path, f"Content-Length: {len(body)}"), body)
            return await wire.message()


def _head(method: str, path: str, *fields: str) -> str:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", "Authorization: Bearer ann", *fields)
    return "\r\n".join([*lines, "", ""])


@pytest.fixture
async def world(sidecar_settings: SidecarSettings) -> AsyncIterator[World]:
    """One in which memory has answered twice."""
    now = [1_790_000_000.0]
    async with AsyncExitStack() as stack:
        config = emulator.Config(budget=1000, budget_scope="token")
        graph = await stack.enter_async_context(emulator.running(config, clock=lambda: now[0]))
        settings = [sidecar_settings(graph.url, rules=[RULE])]
        clocks = components.Clocks(now=lambda: now[0])
        opened = sidecar(settings[0], clocks, reread=lambda: settings[0])
        front = await stack.enter_async_context(opened)
        wire = await stack.enter_async_context(calling(front.url))
        made = World(graph, front, wire, now, settings)
        await made.read()
        now[0] += 0.25
        for _time in range(2):
            assert _is_hit(await made.read())
        yield made


def _is_hit(found: Message) -> bool:
    return "; hit" in found.fields["Cache-Status"]


async def _write(world: World) -> None:
    await world.say("POST", "/v25.0/111", "name=a")


async def _purge(world: World) -> None:
    await world.say("POST", "/purge", json.dumps({"id": "111"}), to_admin=True)


async def _purge_all(world: World) -> None:
    await world.say("POST", "/purge", json.dumps({"all": True}), to_admin=True)


async def _refuse_the_token(world: World) -> None:
    world.graph.settings.update({"refused_tokens": ["ann"]})
    assert (await world.read("222")).status == 400
    world.graph.settings.update({"refused_tokens": []})


async def _reload(world: World) -> None:
    world.settings[0] = world.settings[0].model_copy(update={"rules": ()})
    await world.front.live.reload()


async def _let_freshness_end(world: World) -> None:
    world.now[0] += 60


async def _set_the_clock_back(world: World) -> None:
    world.now[0] -= 30
    await _write(world)


@pytest.mark.parametrize(
    "change", [_write, _purge, _purge_all, _refuse_the_token, _reload, _let_freshness_end, _set_the_clock_back]
)
async def test_what_ends_freshness_ends_it_at_once(world: World, change: Callable[[World], Awaitable[None]]) -> None:
    """Graph is asked by the very next read."""
    await change(world)
    assert not _is_hit(await world.read())


async def test_what_is_told_of_an_answer_is_of_this_moment(world: World) -> None:
    """Age and the freshness that is left change by the second, and with an entry that Graph has confirmed meanwhile."""
    for age in (1, 2, 3):
        world.now[0] += 1
        found = await world.read()
        assert (found.fields["Age"], _is_hit(found)) == (str(age), True)
        assert f"ttl={59 - age}" in found.fields["Cache-Status"]
    await world.read("111", "Cache-Control: no-cache")
    found = await world.read()
    assert (found.fields["Age"], _is_hit(found)) == ("0", True)


async def test_usage_headers_are_the_newest_of_the_token(world: World) -> None:
    """As soon as another read has brought them; none, when they are outdated."""
    before = (await world.read()).fields["X-App-Usage"]
    for _time in range(30):
        await world.read("222", "Cache-Control: no-cache")
    found = await world.read()
    assert _is_hit(found)
    assert found.fields["X-App-Usage"] != before


async def test_a_read_that_is_compared_goes_the_usual_way(world: World) -> None:
    """From the reload on that says so."""
    world.settings[0] = world.settings[0].model_copy(update={"compare": CompareSettings(percent=100)})
    await world.front.live.reload()
    assert _is_hit(await world.read())
    while not (told := stats(world.front.telemetry)["compare"])["reads"]:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.001)  # until Graph has answered directly
    assert (told["percent"], told["reads"]) == (100, 1)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines of replies, as the log has them."""
    logger, found = logging.getLogger(LOG), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    levels = logger.level, logging.getLogger().level
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(levels[0])
    logging.getLogger().setLevel(levels[1])


async def test_the_log_tells_of_hits_as_long_as_it_is_to(lines: list[str], world: World) -> None:
    """`POST /log` is obeyed from the next reply on."""
    told = []
    for replies in (True, False, True):
        log_setup.change(level="info", replies=replies)
        before = len(lines)
        await world.read()
        told.append(len(lines) - before)
    assert told == [1, 0, 1]


async def test_each_hit_is_counted_once(world: World) -> None:
    """At any moment, whichever way answered it."""
    for number in range(1, 6):
        await world.read()
        found = stats(world.front.telemetry)
        assert (found["replies"]["REUSED"], found["calls_avoided"]["fresh"]) == (2 + number, 2 + number)
        assert sum(world.front.telemetry.age.counts) == 2 + number
