"""Serves the dashboard: the page, its files, and the stream of events that keeps it current."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from proxy.core.routing.admin_access import Access
from proxy.shell.admin.app import error_response
from proxy.shell.admin.event_stream import EventStream

PAGE = Path(__file__).parents[2] / "dashboard"

MAX_STREAMS = 16
"""Event streams at once; each costs a few kB a second."""

WRITE_TIMEOUT_S = 30
"""Seconds after which a stream whose reader takes nothing is closed."""

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Loads nothing from other origins, sends nothing to them, cannot be framed (Content Security Policy Level 3).
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_FIELDS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page, in memory."""

    body: bytes
    content_type: str
    etag: str

    @classmethod
    def of(cls, path: Path) -> _File:
        """Read the file at *path*."""
        body = path.read_bytes()
        return cls(body, _CONTENT_TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:16])

    def answer(self, message: web.Request) -> web.Response:
        """The file, or 304 if the request's If-None-Match names it."""
        known = {each.value for each in message.if_none_match or ()}
        response = web.Response(status=304) if self.etag in known else web.Response(body=self.body)
        response.headers.update({**_PAGE_FIELDS, "Content-Type": self.content_type})
        response.etag = self.etag
        return response


@dataclass(frozen=True, slots=True, eq=False)
class _Viewer:
    """The reader of an event stream: its address, and whether it is our page in a browser (W3C Fetch Metadata)."""

    address: str
    is_page: bool
    transport: asyncio.Transport | None


class Dashboard:
    """Serves the page, its files and its event stream."""

    def __init__(self, stream: EventStream) -> None:
        """Send the events of *stream*."""
        self._stream = stream
        self._viewers: list[_Viewer] = []  # the oldest first
        self._files = {path.name: _File.of(path) for path in PAGE.iterdir() if path.suffix in _CONTENT_TYPES}

    def routes(self) -> dict[Access, list[web.RouteDef]]:
        """The dashboard's routes. Anyone may load the page: it holds no data and asks its reader for the token."""
        return {
            Access.ANYONE: [web.get("/", self._page), web.get("/assets/{name}", self._asset)],
            Access.READ: [web.get("/events", self._events, allow_head=False)],
        }

    async def _page(self, message: web.Request) -> web.Response:
        return self._files["index.html"].answer(message)

    async def _asset(self, message: web.Request) -> web.Response:
        file = self._files.get(message.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        return file.answer(message)

    async def _events(self, message: web.Request) -> web.StreamResponse:
        """Send events until the reader or the sidecar ends."""
        viewer = _Viewer(
            message.remote or "", message.headers.get("Sec-Fetch-Site") == "same-origin", message.transport
        )
        if not self._make_room(viewer):
            return error_response(503, f"{MAX_STREAMS} event streams are open already; close one of them")
        self._viewers.append(viewer)
        try:
            return await self._send_events(message)
        finally:
            if viewer in self._viewers:
                self._viewers.remove(viewer)

    def _make_room(self, newest: _Viewer) -> bool:
        """True if *newest* may open a stream; if all are taken, the oldest stream of the busiest address may be closed.

        A stream is closed for an address that has fewer, and a program's stream is closed for our own page. So no
        address takes all streams, and the page opens beside programs that read from the same address.
        """
        if len(self._viewers) < MAX_STREAMS:
            return True
        places = Counter(each.address for each in self._viewers)
        address, most = places.most_common(1)[0]
        rivals = [each for each in self._viewers if each.address == address]
        if most <= places[newest.address] + 1:
            rivals = [each for each in self._viewers if newest.is_page and not each.is_page]
        if not rivals:
            return False
        self._viewers.remove(rivals[0])
        if rivals[0].transport is not None:
            rivals[0].transport.abort()
        return True

    async def _send_events(self, message: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        response.force_close()
        await response.prepare(message)
        events = self._stream.events(message.headers.get("Last-Event-ID", ""))
        try:
            async for event in events:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await response.write(event)
        except ConnectionError:
            pass  # the reader has left
        except TimeoutError:
            if message.transport is not None:
                message.transport.abort()
        finally:
            await events.aclose()
        return response
