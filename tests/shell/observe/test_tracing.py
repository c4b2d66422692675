"""Spans as a collector gets them: one for each reply in its caller's trace, one for each batch with links to these."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp import web
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proxy.core.model import Mode, Reply
from proxy.shell.observe.counters import Counters
from proxy.shell.observe.tracing import Tracer, tracing
from tests.shell.fakes import Clock, ask

TRACE, PARENT = 0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7
FIELDS = {"traceparent": f"00-{TRACE:032x}-{PARENT:016x}-01"}
REQUEST = ask("/act_1/ads", token="EAABsecret")


@pytest.fixture
def kept() -> Iterator[InMemorySpanExporter]:
    """What a collector would hold."""
    exporter = InMemorySpanExporter()
    yield exporter
    exporter.shutdown()


@pytest.fixture
def telemetry(kept: InMemorySpanExporter) -> Counters:
    """One that makes spans."""
    made = Counters(Clock(), Clock())
    made.tracer = Tracer(SimpleSpanProcessor(kept))
    return made


def answered(telemetry: Counters, fields: dict[str, str], status: int = 200) -> None:
    """One read that rode in a batch."""
    assert telemetry.tracer
    with telemetry.tracer.message(fields):
        cost = telemetry.asked(REQUEST.path, REQUEST.query, b"f" * 16)
        with telemetry.batch([(cost, 1)]) as sending:
            sending.left()
        reply = Reply(status, (), b"EAABsecret", Mode.MISS, batch=sending.id)
        telemetry.replied(REQUEST, reply, cost, 0.1, reply)


def test_a_reply_is_a_span_of_its_callers_trace(telemetry: Counters, kept: InMemorySpanExporter) -> None:
    """And its batch one that links to it."""
    answered(telemetry, FIELDS)
    batch, reply = kept.get_finished_spans()
    assert reply.parent
    assert reply.context
    assert (reply.context.trace_id, reply.parent.span_id) == (TRACE, PARENT)
    assert reply.attributes
    assert batch.attributes
    assert (reply.name, reply.attributes["graph_sidecar.mode"]) == ("/act_{id}/ads", "MISS")
    assert reply.attributes["graph_sidecar.batch"] == batch.attributes["graph_sidecar.batch"]
    assert [link.context.span_id for link in batch.links] == [reply.context.span_id]


def test_without_a_trace_of_the_callers_one_begins(telemetry: Counters, kept: InMemorySpanExporter) -> None:
    """The one before is not continued by accident."""
    answered(telemetry, FIELDS)
    answered(telemetry, {})
    reply = kept.get_finished_spans()[-1]
    assert reply.parent is None
    assert reply.context
    assert reply.context.trace_id != TRACE


def test_spans_hold_no_secret(telemetry: Counters, kept: InMemorySpanExporter) -> None:
    """Neither the token nor the query nor the body."""
    answered(telemetry, FIELDS, status=502)
    assert all("EAAB" not in span.to_json() for span in kept.get_finished_spans())
    assert not kept.get_finished_spans()[-1].status.is_ok


async def test_a_collector_gets_the_last_ones_when_it_ends() -> None:
    """OTLP over HTTP, in a thread, flushed on leaving."""
    got: list[bytes] = []

    async def collect(message: web.BaseRequest) -> web.Response:
        got.append(await message.read())
        return web.Response()

    runner = web.ServerRunner(web.Server(collect))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    telemetry = Counters(Clock(), Clock())
    async with asyncio.timeout(60), tracing(f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces", "1") as tracer:
        telemetry.tracer = tracer
        answered(telemetry, FIELDS)
    await runner.cleanup()
    assert b"/act_{id}/ads" in b"".join(got)
    assert b"EAAB" not in b"".join(got)
