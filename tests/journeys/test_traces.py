"""Traces of the real command, as a collector gets them; and a collector that is away, slow or not to be had."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.journeys.collecting import CLIENT, SERVER, Collector, Span, collecting
from tests.journeys.conftest import MakeAsk, MakeGate, MakeGraph
from tests.journeys.processes import serving

HASTY = {"OTEL_BSP_SCHEDULE_DELAY": "10"}
"""Milliseconds that spans wait for others to go with."""
READ, OTHER = "/v25.0/111?fields=id,name", "/v25.0/222"
PICTURE = "/v25.0/111/picture?redirect=0"


def parent(number: int, sampled: str = "01") -> dict[str, str]:
    """What a caller says of the span that it asks in: trace and span bear the same *number*."""
    return {"traceparent": f"00-{number:032x}-{number:016x}-{sampled}"}


def of_caller(at: Collector, number: int) -> Span:
    """The one span that continues this caller's."""
    (found,) = [span for span in at.spans if span.parent == f"{number:016x}"]
    assert (found.kind, found.trace) == (SERVER, f"{number:032x}")
    return found


async def test_a_collector_gets_every_reply_and_every_call(
    graph: MakeGraph, gate: MakeGate, ask: MakeAsk, tmp_path: Path
) -> None:
    """Each reply is in its caller's trace, those that failed or that nobody waited for as well; calls are linked."""
    behind = await graph()
    shut = gate(behind)
    async with collecting() as at, serving(behind.url, tmp_path, f"traces.endpoint={at.url}") as front:
        caller = await ask(front.url)
        asked = await caller.start(caller.say(READ, token="EAABann", headers=parent(1)))
        await shut.has(1)
        asked += await caller.start(caller.say(READ, token="EAABann", headers=parent(2)))
        (left,) = await caller.start(caller.say(OTHER, token="EAABann", headers=parent(3)))
        await shut.has(2)
        left.cancel()
        await caller.settle()
        shut.open()
        assert [heard.status for heard in await asyncio.gather(*asked)] == [200, 200]
        assert (await caller.say(PICTURE, token="EAABann", headers=parent(4))).status == 200
        assert (await caller.say(READ, token="EAABann", headers=parent(5, sampled="00"))).status == 200
        behind.faults.add({"kind": "cut_middle", "path": "*/picture"})
        with contextlib.suppress(aiohttp.ClientError):
            await caller.say(PICTURE, token="EAABann", headers=parent(6))
        batch = {"access_token": "EAABann", "batch": '[{"relative_url":"333"},{"relative_url":"444"}]'}
        assert (await caller.say("/", method="POST", data=batch, headers=parent(7))).status == 200
        front.signal(signal.SIGTERM)
        assert await front.ended() == 0
    first, twin, gone, passed, broken = (of_caller(at, number) for number in (1, 2, 3, 4, 6))
    (call,) = at.named("batch", batch=first.told["batch"])
    assert (call.kind, call.told["slots"], call.links) == (CLIENT, 1, [first.id])
    assert [span.links for span in (first, twin)] == [[call.id]] * 2
    assert [(span.name, span.told["mode"]) for span in (first, twin)] == [("/{id}", "MISS"), ("/{id}", "COALESCED")]
    assert first.told["http.response.status_code"] == 200
    assert gone.told["detail"] == "left"
    assert (passed.name, passed.told["mode"]) == ("/{id}/picture", "SKIPPED")
    assert [span.parent for span in at.named("stream")] == [passed.id, broken.id]
    assert (passed.failed, broken.failed) == (False, True)
    assert [span for span in at.spans if span.parent == f"{5:016x}"] == []
    assert len([span for span in at.spans if span.parent == f"{7:016x}"]) == 2
    assert at.resource["service.name"] == "graph-sidecar"
    assert b"EAABann" not in b"".join(at.raw)


async def test_a_collector_that_hangs_holds_up_nobody(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """Replies come and the end is clean while it keeps all that it gets waiting; the log says that traces are lost."""
    behind = await graph()
    async with (
        collecting(well=False) as at,
        serving(behind.url, tmp_path, f"traces.endpoint={at.url}", environ=HASTY) as front,
    ):
        caller = await ask(front.url)
        while not at.raw:
            assert (await caller.say(READ, token="ann")).status == 200
        assert (await caller.say(READ, token="ann")).status == 200
        front.signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await front.ended() == 0
        assert "traces did not arrive" in front.said
        assert "Traceback" not in front.said


async def test_a_collector_that_is_away_is_told_of_once(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """One line says so, without the noise of a library."""
    behind = await graph()
    async with serving(behind.url, tmp_path, "traces.endpoint=http://127.0.0.1:9/v1/traces", environ=HASTY) as front:
        caller = await ask(front.url)
        for _lot in range(3):
            assert (await caller.say(READ, token="ann")).status == 200
        await front.says("do not arrive at 127.0.0.1:9")
        front.signal(signal.SIGTERM)
        assert await front.ended() == 0
    told = [line for line in front.lines if "warning" in line or "error" in line]
    assert sum("do not arrive" in line for line in told) == 1
    assert all("127.0.0.1:9" in line for line in told)


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_missing_extra_is_said(tmp_path: Path, command: str) -> None:
    """Who sets an endpoint without the extra reads what to install, and the status is 2."""
    (tmp_path / "opentelemetry").mkdir()  # as other packages leave it: a name, and no exporter in it
    (tmp_path / "opentelemetry" / "__init__.py").write_text("")
    program = "from proxy.cli import main; raise SystemExit(main())"
    free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [sys.executable, "-c", program, command, *free, "--set", "traces.endpoint=http://127.0.0.1:4318/v1/traces"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pip install opentelemetry-sdk" in done.stderr
    assert "traces.endpoint" in done.stderr
