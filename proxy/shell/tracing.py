"""Traces, where they are wanted: a span for each reply, and one for each batch, linked to the replies that it served.

OpenTelemetry is an extra and is loaded only here. A caller's `traceparent` (W3C Trace Context) is continued; nothing is
added to what Graph is asked. Spans hold words of ours and keyed hashes, no query and no token; they leave in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy.core.ledger import Bill

NAME = "graph-sidecar"


class Tracer:
    """Makes the spans."""

    def __init__(self, processor: SpanProcessor, version: str = "") -> None:
        """Hand what has ended to *processor*."""
        self._provider = TracerProvider(resource=Resource({"service.name": NAME, "service.version": version}))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(NAME, version)
        self._parent: ContextVar[Context | None] = ContextVar("parent", default=None)

    def hear(self, fields: Mapping[str, str]) -> None:
        """What is asked from here on in this task belongs to the trace that a message's *fields* name, if any."""
        self._parent.set(TraceContextTextMapPropagator().extract(fields) if "traceparent" in fields else None)

    def begin(self, bill: Bill, route: str) -> None:
        """A caller asks for *route*."""
        context = self._parent.get() or Context()
        bill.span = self._tracer.start_span(route, context, SpanKind.SERVER, {"url.template": route})

    def end(self, bill: Bill, status: int, told: Mapping[str, str | int]) -> None:
        """The caller was answered with *status*, of which *told* says more."""
        span = bill.span
        if not isinstance(span, Span):
            return
        span.set_attribute("http.response.status_code", status)
        span.set_attributes({f"graph_sidecar.{name}": value for name, value in told.items() if value})
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def batch(self, name: str, bills: Iterable[Bill | None], slots: int) -> Span:
        """The batch called *name* is on its way."""
        served = (bill.span for bill in bills if bill is not None)
        links = [Link(span.get_span_context()) for span in served if isinstance(span, Span)]
        told: dict[str, str | int] = {"graph_sidecar.batch": name, "graph_sidecar.slots": slots}
        return self._tracer.start_span("batch", Context(), SpanKind.CLIENT, told, links)

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


@asynccontextmanager
async def tracing(endpoint: str, version: str) -> AsyncIterator[Tracer]:
    """Send spans to the OTLP/HTTP collector at *endpoint*, off the loop, the last ones when this is left."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracer = Tracer(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=5)), version)
    try:
        yield tracer
    finally:
        await asyncio.to_thread(tracer.close)
