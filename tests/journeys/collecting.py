"""A collector of traces, as an operator would run one: OTLP over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SERVER, CLIENT = 2, 3


@dataclass
class Span:
    """A span as it arrived."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: list[str]
    told: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """What has arrived, also as raw bytes; where it is not *well* it takes what comes and never answers."""

    well: bool = True
    url: str = ""
    raw: list[bytes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)

    def named(self, name: str, **told: Any) -> list[Span]:
        """The spans of this name with these attributes."""
        return [span for span in self.spans if span.name == name and told.items() <= span.told.items()]

    async def take(self, message: web.BaseRequest) -> web.StreamResponse:
        """Take a lot of spans."""
        self.raw.append(await message.read())
        if not self.well:
            await asyncio.Event().wait()
        got = ExportTraceServiceRequest.FromString(self.raw[-1])
        for group in got.resource_spans:
            self.resource = _plain(group.resource.attributes)
            self.spans += [_span(each) for scope in group.scope_spans for each in scope.spans]
        return web.Response()


def _span(given: Any) -> Span:
    told = {name.removeprefix("graph_sidecar."): value for name, value in _plain(given.attributes).items()}
    links = [link.span_id.hex() for link in given.links]
    ids = given.trace_id.hex(), given.span_id.hex(), given.parent_span_id.hex()
    return Span(given.name, given.kind, *ids, links, told, failed=given.status.code == given.status.STATUS_CODE_ERROR)


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@asynccontextmanager
async def collecting(*, well: bool = True) -> AsyncIterator[Collector]:
    """A collector on a port of its own."""
    collector = Collector(well)
    runner = web.ServerRunner(web.Server(collector.take, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    try:
        yield collector
    finally:
        await runner.cleanup()
