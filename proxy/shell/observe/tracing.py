"""Makes traces, if `traces.endpoint` is set: a span for each reply and for each call to Graph, linked both ways.

OpenTelemetry is an extra and is loaded only here. A caller's `traceparent` (W3C Trace Context) is continued; nothing is
added to what Graph is asked. Spans hold words of ours and keyed hashes, no query and no token; they leave in a thread,
and a collector that is away or slow costs spans, never anybody's time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Thread
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy.core.http.cache_status import CACHE_NAME
from proxy.core.quota.ledger import RequestCost

EXPORT_S = 5
"""Seconds that a collector gets for a lot of spans."""

GOODBYE_S = 1
"""Seconds that it gets at the end for all that is left."""

BATCHES = 4096
"""Batches that replies may still point to."""

_log = logging.getLogger("graph_sidecar.traces")


@dataclass(slots=True)
class _Message:
    """A caller's message while it is answered: the trace that it belongs to, and its spans that have not ended."""

    parent: Context = field(default_factory=Context)
    open: dict[Span, None] = field(default_factory=dict)


class Tracer:
    """Makes spans of replies and of calls to Graph."""

    def __init__(self, processor: SpanProcessor, version: str = "") -> None:
        """Hand ended spans to *processor*; OTEL_ variables set the resource and the sampling."""
        ours = Resource({"service.name": CACHE_NAME, "service.version": version})
        resource = ours.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(CACHE_NAME, version)
        self._message: ContextVar[_Message | None] = ContextVar("message", default=None)
        self._batches: OrderedDict[str, SpanContext] = OrderedDict()

    # --- requests of callers ---

    @contextmanager
    def message(self, fields: Mapping[str, str]) -> Iterator[None]:
        """Put the spans of one message into the trace that its header *fields* name; leaving the context ends them."""
        propagator = TraceContextTextMapPropagator()
        message = _Message(propagator.extract(fields) if "traceparent" in fields else Context())
        token, why = self._message.set(message), "unanswered"
        try:
            yield
        except asyncio.CancelledError:
            why = "left"
            raise
        finally:
            self._message.reset(token)
            for span in message.open:
                span.set_attribute("graph_sidecar.detail", why)
                span.end()

    def begin(self, cost: RequestCost, route: str) -> None:
        """Begin the span of a reply to a read of *route*."""
        message = self._message.get() or _Message()
        span = self._tracer.start_span(route, message.parent, SpanKind.SERVER, {"url.template": route})
        message.open[span] = None
        cost.span = span

    def end(self, cost: RequestCost, status: int, attributes: Mapping[str, str | int]) -> None:
        """End the span of a reply with *status* and *attributes*; it links to the batch in which the reply came."""
        span = cost.span
        if not isinstance(span, Span):
            return
        span.set_attribute("http.response.status_code", status)
        span.set_attributes({f"graph_sidecar.{name}": value for name, value in attributes.items() if value})
        if batch := self._batches.get(str(attributes.get("batch"))):
            span.add_link(batch)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()
        if message := self._message.get():
            message.open.pop(span, None)

    # --- what goes to Graph ---

    def sent(self, kind: str, name: str, costs: Sequence[RequestCost | None]) -> Span:
        """Begin the span of a call of this *kind*: in a trace of its own if it has a *name*, else in its caller's."""
        asked = [cost.span for cost in costs if cost is not None and isinstance(cost.span, Span)]
        if not name:
            parent = set_span_in_context(asked[0], Context()) if asked else Context()
            return self._tracer.start_span(kind, parent, SpanKind.CLIENT)
        links = [Link(span.get_span_context()) for span in asked]
        attributes: dict[str, str | int] = {"graph_sidecar.batch": name, "graph_sidecar.slots": len(costs)}
        # Whoever samples its requests does not want the batches of the others.
        parent = Context() if not asked or any(span.is_recording() for span in asked) else _unsampled(asked[0])
        span = self._tracer.start_span(kind, parent, SpanKind.CLIENT, attributes, links)
        self._batches[name] = span.get_span_context()
        if len(self._batches) > BATCHES:
            self._batches.popitem(last=False)
        return span

    def landed(self, span: Span, error: type[BaseException] | None) -> None:
        """End the *span* of a call that was answered, or failed with *error*."""
        if error is not None:
            span.set_attribute("error.type", error.__name__)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self) -> None:
        """Send the spans that are not sent yet."""
        self._provider.shutdown()


def _unsampled(span: Span) -> Context:
    return set_span_in_context(span, Context())


class _LossReporter(SpanExporter):
    """Logs once that spans do not arrive, and once that they do again; the library logs it for each lot."""

    def __init__(self, exporter: SpanExporter, where: str) -> None:
        self._exporter = exporter
        self._where = where
        self._arrives = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        arrives = result is SpanExportResult.SUCCESS
        if arrives != self._arrives:
            message = "traces arrive again at %s" if arrives else "traces do not arrive at %s and are lost"
            _log.log(logging.INFO if arrives else logging.WARNING, message, self._where)
        self._arrives = arrives
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


@asynccontextmanager
async def tracing(endpoint: str, version: str) -> AsyncIterator[Tracer]:
    """Send spans to the OTLP/HTTP collector at *endpoint*, off the loop, the last ones when this is left."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    where = urlsplit(endpoint).netloc
    tracer = Tracer(BatchSpanProcessor(_LossReporter(OTLPSpanExporter(endpoint, timeout=EXPORT_S), where)), version)
    try:
        yield tracer
    finally:
        await _close(tracer, where)


async def _close(tracer: Tracer, where: str) -> None:
    """Send the last spans, in a thread and within GOODBYE_S: a collector that hangs does not keep the process."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def work() -> None:
        tracer.close()
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(done.set)

    Thread(target=work, name="traces-end", daemon=True).start()
    try:
        async with asyncio.timeout(GOODBYE_S):
            await done.wait()
    except TimeoutError:
        _log.warning("the last traces did not arrive at %s in %g s and are lost", where, GOODBYE_S)
