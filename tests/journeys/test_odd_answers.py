"""Graph answers a plain read as no page of Meta's shows: the fast path and the handler make the same of it."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from urllib.parse import parse_qs

import pytest

from proxy.shell.observe.stats import stats
from tests.journeys.conftest import MakeScripted
from tests.wires import Listener, Message, Wire, calling, ok

ASKED = "GET /v25.0/111?fields=name HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann\r\n"
WAYS = {"fast": f"{ASKED}\r\n", "handler": f"{ASKED}X-Way:usual\r\n\r\n"}


def operations(message: Message) -> list[dict[str, object]]:
    """The operations of a batch; none of another message."""
    form = parse_qs(message.body.decode())
    found: list[dict[str, object]] = json.loads(form["batch"][0]) if "batch" in form else []
    return found


@pytest.mark.parametrize("way", WAYS)
async def test_a_304_to_a_read_without_a_validator_confirms_nothing(scripted: MakeScripted, way: str) -> None:
    """What is held came by another channel, so its ETag was not sent: the read is asked alone."""
    slots: list[object] = [None, {"code": 304, "headers": [{"name": "ETag", "value": '"alone"'}], "body": None}]
    asked = []

    async def serve(wire: Wire, _at: Listener) -> None:
        while True:
            message = await wire.message()
            asked.append([each.get("headers") for each in operations(message)])
            if asked[-1]:
                await wire.send(ok(json.dumps([slots.pop(0)])))
            else:
                await wire.send(ok(f'{{"id":"{len(asked)}"}}', 'ETag: "alone"'))

    _, front = await scripted(serve)
    async with calling(front.url) as wire:
        bodies = []
        for _ in range(2):
            await wire.send(WAYS[way])
            bodies.append(json.loads((await wire.message()).body))
    assert asked == [[None], [], [None], []]
    assert bodies == [{"id": "2"}, {"id": "4"}]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("callers", [1, 3])
async def test_a_reply_too_large_to_keep_is_asked_for_no_oftener(
    scripted: MakeScripted, way: str, callers: int
) -> None:
    """In a batch, alone, and then for each caller as a stream; each caller's request and its stream are asked for."""
    body, asked = json.dumps({"id": "1", "text": "x" * 3 * 2**20}), []

    async def serve(wire: Wire, _at: Listener) -> None:
        while True:
            asked.append(len(operations(await wire.message())))
            await wire.send(ok(json.dumps([{"code": 200, "headers": [], "body": body}]) if asked[-1] else body))

    _, front = await scripted(serve, upstream={"buffered_mb": 2})
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(calling(front.url)) for _ in range(callers)]
        for wire in wires:
            await wire.send(WAYS[way])
        for wire in wires:
            assert (await wire.message()).body == body.encode()
        await wires[0].send(WAYS[way].replace("/111", "/222"))
        assert (await wires[0].message()).body == body.encode()
    assert asked == [1, 0, *[0] * callers, 1, 0, 0]
    calls = stats(front.telemetry)["calls"]
    assert (calls["asked"], calls["batches"], calls["passed"]) == (2 * (callers + 1), 2, callers + 1)
