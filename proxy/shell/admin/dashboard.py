"""The dashboard on the admin listener: its page, what the page stands on, and the events that keep it alive."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from proxy.core.routing.admin_access import Access
from proxy.shell.admin.app import failure
from proxy.shell.admin.event_stream import EventStream

PAGE = Path(__file__).parents[2] / "dashboard"

LOOKERS = 16
"""Pages that are told at once; each costs a few kB a second."""

STUCK_S = 30
"""Seconds after which one that takes nothing is let go."""

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Nothing comes from elsewhere, nothing goes elsewhere, nobody frames it (Content Security Policy Level 3).
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page's, in memory."""

    body: bytes
    kind: str
    tag: str

    @classmethod
    def of(cls, path: Path) -> _File:
        """Read *path*."""
        body = path.read_bytes()
        return cls(body, _KINDS[path.suffix], hashlib.sha256(body).hexdigest()[:16])

    def answer(self, message: web.Request) -> web.Response:
        """The file, or 304 to who holds it."""
        held = {each.value for each in message.if_none_match or ()}
        response = web.Response(status=304) if self.tag in held else web.Response(body=self.body)
        response.headers.update({**_SAFE, "Content-Type": self.kind})
        response.etag = self.tag
        return response


@dataclass(frozen=True, slots=True, eq=False)
class _Looker:
    """Who looks on, from which address, and whether it is our own page in a browser (W3C Fetch Metadata)."""

    address: str
    is_page: bool
    line: asyncio.Transport | None


class Dashboard:
    """Answers for the page."""

    def __init__(self, watch: EventStream) -> None:
        """Tell what *watch* sees."""
        self._watch = watch
        self._lookers: list[_Looker] = []  # the one that came first at the beginning
        self._files = {path.name: _File.of(path) for path in PAGE.iterdir() if path.suffix in _KINDS}

    def rows(self) -> dict[Access, list[web.RouteDef]]:
        """Its rows of the table of our own paths. The page itself tells nothing: it asks the reader for the token."""
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
        """Tell until the other end or the sidecar goes."""
        looker = _Looker(
            message.remote or "", message.headers.get("Sec-Fetch-Site") == "same-origin", message.transport
        )
        if not self._make_room(looker):
            return failure(503, f"{LOOKERS} look on already; close one of them")
        self._lookers.append(looker)
        try:
            return await self._tell(message)
        finally:
            if looker in self._lookers:
                self._lookers.remove(looker)

    def _make_room(self, newest: _Looker) -> bool:
        """Whether there is a place for *newest*: where all are taken, for who has fewer than another, or is our page.

        So nobody takes all places, and a page of ours gets in beside programs that look on from the same address.
        """
        if len(self._lookers) < LOOKERS:
            return True
        places = Counter(each.address for each in self._lookers)
        address, most = places.most_common(1)[0]
        rivals = [each for each in self._lookers if each.address == address]
        if most <= places[newest.address] + 1:
            rivals = [each for each in self._lookers if newest.is_page and not each.is_page]
        if not rivals:
            return False
        self._lookers.remove(rivals[0])
        if rivals[0].line is not None:
            rivals[0].line.abort()
        return True

    async def _tell(self, message: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        response.force_close()
        await response.prepare(message)
        events = self._watch.events(message.headers.get("Last-Event-ID", ""))
        try:
            async for event in events:
                async with asyncio.timeout(STUCK_S):
                    await response.write(event)
        except ConnectionError:
            pass  # it has gone
        except TimeoutError:
            if message.transport is not None:
                message.transport.abort()
        finally:
            await events.aclose()
        return response
