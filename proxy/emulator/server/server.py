"""The emulator on the wire: an aiohttp request in, Graph's reply out."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from ssl import SSLContext
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.web import BaseRequest, StreamResponse
from multidict import CIMultiDict

from proxy.emulator.config import Config
from proxy.emulator.graph import batch
from proxy.emulator.graph.faults import Fault, Target
from proxy.emulator.language import headers, operations
from proxy.emulator.language.bodies import Body, read_body
from proxy.emulator.language.calls import Call, Reply, build_call
from proxy.emulator.language.errors import GraphError, bad_parameter
from proxy.emulator.language.headers import preflight
from proxy.emulator.server import control, notifications, transport_faults, webhooks
from proxy.emulator.server.parts import Parts

_CHUNK = bytes(65536)
_MAX_LINE = 256 * 1024
_BACKLOG = 4096
"""The listen backlog: a connection beyond it is retried by its caller a second later."""
_FAST_LEVEL = 1
"""The fastest level of compression."""
_BAD_CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "cut_gzip": ("gzip", lambda text: gzip.compress(text, _FAST_LEVEL, mtime=0)[:-9]),
    "cut_deflate": ("deflate", lambda text: zlib.compress(text, _FAST_LEVEL)[:-5]),
    "unknown_coding": ("x-fb-dz", lambda text: b"\x01dz" + text[::-1]),
}
"""Faults of Content-Encoding: the coding that the reply names, and the bytes that it sends."""


class Emulator(Parts):
    """A Graph that needs no network: its parts, and the handler that joins them."""

    @property
    def server(self) -> web.Server:
        """A low-level server, which also counts connections."""
        return _CountingServer(self)

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer one HTTP request."""
        if request.path.startswith(control.PREFIX):
            return await control.answer(self, request)
        self._as_set(request)
        await _continue(request)
        body = await read_body(request, self.settings.config.stream_over_bytes)
        target = _origin_form(request.raw_path)
        fields = {name.lower(): value for name, value in request.headers.items()}
        self._record(request, target, fields, body)
        if request.method == "OPTIONS" and "access-control-request-method" in fields:
            return await self._send(request, preflight(fields), None)
        try:
            call = build_call(request.method, target, fields, body.params, self.settings.config)
        except GraphError as error:
            nameless = _call_without_version(request, fields, self.settings.config)
            return await self._send(request, self.graph.error_reply(nameless, error), None)
        call.files, call.opaque = body.files, body.opaque
        return await self._answer(request, call)

    async def _answer(self, request: BaseRequest, call: Call) -> StreamResponse:
        """The response to *call*, with the faults that apply before, instead of and after the answer."""
        target = self._target(call)
        await self._wait(self._draw("before", target))
        fault = self._draw("instead", target)
        if fault:
            reply = transport_faults.replacement_reply(fault, self.graph, call)
            return await self._send(request, reply, fault)
        reply = self._reply(call)
        await notifications.deliver(self.graph.async_jobs)
        await webhooks.deliver(self)
        fault = self._draw("after", target)
        return await self._send(request, transport_faults.spoil_reply(fault, reply) if fault else reply, fault)

    def _reply(self, call: Call) -> Reply:
        if batch.is_batch(call):
            return batch.answer_batch(self.graph, call)
        try:
            reply = self.graph.perform(call)
        except ValueError as error:
            reply = self.graph.error_reply(call, bad_parameter(str(error)))
        return reply or self.graph.error_reply(call, bad_parameter("empty"))

    def _as_set(self, request: BaseRequest) -> None:
        """Let the reply name the version of HTTP that is set."""
        if self.settings.config.http_version == "1.0":
            request._version = HttpVersion10  # noqa: SLF001 - aiohttp answers in the version that it was asked in

    def _record(self, request: BaseRequest, target: str, fields: dict[str, str], body: Body) -> None:
        """Record the request in the ledger."""
        self.ledger.bytes_in += body.size
        self.ledger.record_request(
            {
                "method": request.method,
                "target": target,
                "headers": sorted(fields),
                "if_none_match": fields.get("if-none-match"),
                "batch": body.params.get("batch"),
            },
            fields.get("user-agent", ""),
        )

    def _target(self, call: Call) -> Target | None:
        """The parts of *call* that faults are matched with; None if no fault is in force."""
        if not self.faults.active:
            return None
        if not batch.is_batch(call):
            return Target("single", call.method, ["/".join(call.path)], call.ids())
        urls = operations.relative_urls(call.params["batch"])
        paths = [url.partition("?")[0].strip("/") for url in urls]
        return Target("batch", call.method, paths, [each for url in urls for each in operations.object_ids(url)])

    def _draw(self, level: str, target: Target | None) -> Fault | None:
        fault = self.faults.draw(level, target) if target else None
        self.ledger.faults += fault is not None
        return fault

    async def _wait(self, fault: Fault | None) -> None:
        delay = self.settings.config.latency_ms + (fault.ms if fault else 0.0)
        if delay:
            await asyncio.sleep(delay / 1000)

    async def _send(self, request: BaseRequest, reply: Reply, fault: Fault | None) -> StreamResponse:
        """Send the reply, damaged by *fault* if there is one."""
        said = CIMultiDict(headers.with_trace_fields(reply.headers, self.graph.trace()))
        if self.settings.config.via:
            said["Via"] = self.settings.config.via
        if self.settings.config.clock_off_s:
            said["Date"] = formatdate(time.time() + self.settings.config.clock_off_s, usegmt=True)
        kind = fault.kind if fault else ""
        if kind in ("cut", "lost"):
            return _abort(request)
        if reply.stream:
            return await self._export(request, reply, said)
        whole = (reply.body or "").encode("utf-8", "surrogateescape")
        text = _badly_encoded(kind, said, whole)
        if text is None:
            text = self._encoded(request, said, whole)
        self.ledger.bytes_out += len(text)
        if kind == "cut_middle":
            return await _send_half(request, reply.status, said, text)
        if kind == "drip" and fault:
            return await _send_slowly(request, reply.status, said, text, fault.ms)
        return self._whole_response(reply.status, said, text)

    def _whole_response(self, status: int, said: CIMultiDict[str], text: bytes) -> StreamResponse:
        kind, body = (_NotModified, None) if status == 304 else (web.Response, text)
        response = kind(status=status, headers=said, body=body)
        if not self.settings.config.keep_alive:
            response.force_close()
        return response

    def _encoded(self, request: BaseRequest, said: CIMultiDict[str], text: bytes) -> bytes:
        """The body as it goes over the wire, where the ledger counts it."""
        if not (self.settings.config.compress and text and "gzip" in request.headers.get("Accept-Encoding", "")):
            return text
        said["Content-Encoding"] = "gzip"
        return gzip.compress(text, _FAST_LEVEL, mtime=0)

    async def _export(self, request: BaseRequest, reply: Reply, said: CIMultiDict[str]) -> StreamResponse:
        """Stream so many bytes without ever holding them."""
        self.ledger.bytes_out += reply.stream
        said["Content-Length"] = str(reply.stream)
        response = await _started(request, reply.status, said)
        for start in range(0, reply.stream, len(_CHUNK)):
            await response.write(_CHUNK[: reply.stream - start])
        await response.write_eof()
        return response


class _NotModified(web.Response):
    """A 304 that says `Content-Length: 0` as Graph does; aiohttp would take it out."""

    async def _write_headers(self) -> None:
        self.headers["Content-Length"] = "0"
        await super()._write_headers()


class _CountingServer(web.Server):
    """A server that tells the ledger of every connection."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator.handle, access_log=None, max_line_size=_MAX_LINE, max_field_size=_MAX_LINE)
        self._ledger = emulator.ledger

    def __call__(self) -> Any:
        """Make the protocol of a new connection."""
        self._ledger.connections += 1
        return super().__call__()


@dataclass
class Running:
    """An emulator that listens, with the parts that tests look at."""

    emulator: Emulator
    url: str

    def __post_init__(self) -> None:
        """Bring the parts within reach."""
        self.ledger = self.emulator.ledger
        self.faults = self.emulator.faults
        self.world = self.emulator.world
        self.settings = self.emulator.settings


@asynccontextmanager
async def running(
    config: Config | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Callable[[], float] = time.time,
    ssl_context: SSLContext | None = None,
) -> AsyncIterator[Running]:
    """Run an emulator while the context lasts; port 0 takes any free one."""
    emulator = Emulator(config, clock)
    runner = web.ServerRunner(emulator.server, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=_BACKLOG, ssl_context=ssl_context)
        await site.start()
        scheme = "https" if ssl_context else "http"
        yield Running(emulator, f"{scheme}://{host}:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


async def serve(config: Config, host: str, port: int, *, ready: Callable[[str], None] | None = None) -> None:
    """Run an emulator until cancelled; *ready* is called with its URL."""
    async with running(config, host=host, port=port) as graph:
        if ready:
            ready(graph.url)
        await asyncio.Event().wait()


def _origin_form(raw: str) -> str:
    """Path and query of a request target; some clients send a whole URL to their proxy."""
    if raw.startswith("/"):
        return raw
    return "/" + raw.partition("://")[2].partition("/")[2]


def _call_without_version(request: BaseRequest, fields: dict[str, str], config: Config) -> Call:
    """A call in place of a request whose version is unknown."""
    return Call(request.method, config.oldest_version, (), {}, None, fields)


async def _continue(request: BaseRequest) -> None:
    """Send 100 Continue to a client that waits for it, as curl does with large files (RFC 9110 section 10.1.1)."""
    is_asked = request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue"
    if is_asked and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _badly_encoded(kind: str, said: CIMultiDict[str], text: bytes) -> bytes | None:
    """The body as a fault of this *kind* encodes it, with a matching Content-Length; None for other kinds."""
    if kind not in _BAD_CODINGS or not text:
        return None
    coding, packed = _BAD_CODINGS[kind]
    said["Content-Encoding"] = coding
    return packed(text)


def _abort(request: BaseRequest) -> StreamResponse:
    """Close the connection at once; the response is for aiohttp alone and is not sent."""
    if request.transport:
        request.transport.abort()
    return web.Response()


async def _started(request: BaseRequest, status: int, said: CIMultiDict[str]) -> StreamResponse:
    response = StreamResponse(status=status, headers=said)
    await response.prepare(request)
    return response


async def _send_half(request: BaseRequest, status: int, said: CIMultiDict[str], text: bytes) -> StreamResponse:
    """Promise a whole body, send half of it and close the connection."""
    said["Content-Length"] = str(len(text))
    response = await _started(request, status, said)
    await response.write(text[: len(text) // 2])
    if request.transport:
        request.transport.close()
    return response


async def _send_slowly(
    request: BaseRequest, status: int, said: CIMultiDict[str], text: bytes, ms: float
) -> StreamResponse:
    """Send the body in ten pieces that take *ms* in all."""
    said["Content-Length"] = str(len(text))
    response = await _started(request, status, said)
    size = max(1, -(-len(text) // 10))
    for start in range(0, len(text), size):
        await asyncio.sleep(ms / 10_000)
        await response.write(text[start : start + size])
    await response.write_eof()
    return response
