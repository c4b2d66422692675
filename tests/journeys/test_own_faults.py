"""A fault of the sidecar's own makes a reply slower, never two replies, and concerns one caller alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.core.observe.access_log import PreparedLine
from proxy.shell.observe.counters import Counters
from tests.journeys.conftest import MakeScene
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


async def _each_has_its_own(url: str) -> None:
    async with calling(url) as wire:
        for node in ("111", "112", "111", "111", "113"):
            await wire.send(ASKED.replace("111", node))
            found = await wire.message()
            assert (found.status, json.loads(found.body)) == (200, {"id": node})
