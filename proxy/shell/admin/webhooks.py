"""`/webhooks`: where Meta tells of changes; on the admin listener, or on one of its own that the world may reach.

Whoever comes brings a proof: the verify token, or a signature over the raw bytes. The secrets are read from their files
each time, so that a changed file needs no restart, and are never told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from aiohttp import web

from proxy.core.graph.webhooks import LARGEST_EVENT_BODY, Event, challenge, is_authentic, is_signature, read_events
from proxy.core.memory.budget import Budget, Share
from proxy.shell.admin.app import failure
from proxy.shell.files import TokenFileError, read_token

PATH = "/webhooks"

BUFFERED = 8 * LARGEST_EVENT_BODY
"""Bytes of all notifications that are coming in: what they are is known when they are here."""

BODY_TIMEOUT_S = 20
"""Seconds in which a notification has to be here: the world may reach this path."""

_log = logging.getLogger("graph_sidecar.webhooks")


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Answers Meta; *heard* is told what is authentic, *counted* how each notification ended, and its events."""

    verify_token_file: Path | None
    secret_file: Path | None
    heard: Callable[[Sequence[Event]], None]
    counted: Callable[[str, int], None]
    bodies: Budget = field(default_factory=lambda: Budget(BUFFERED))

    @property
    def routes(self) -> list[web.RouteDef]:
        """Its rows of a listener's table: those for which there is a secret."""
        rows = [web.get(PATH, self._shake_hands, allow_head=False)] if self.verify_token_file else []
        return [*rows, web.post(PATH, self._take)] if self.secret_file else rows

    async def _shake_hands(self, request: web.Request) -> web.StreamResponse:
        """Meta asks whether somebody here knows the token (GET with `hub.*`)."""
        token = _read(self.verify_token_file)
        if token is None:
            return failure(503, "the verify token cannot be read")
        echo = challenge(request.query, token)
        if echo is None:
            self.counted("refused", 0)
            return failure(403, "this is not the handshake of anybody who knows the verify token")
        return web.Response(text=echo)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        """A notification: nothing is believed before its signature is checked."""
        signature = request.headers.get("X-Hub-Signature-256", "")
        if not is_signature(signature):
            return self._refuse(403, "forged", "no signature in X-Hub-Signature-256")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return self._refuse(415, "refused", "only bytes as they were signed")
        with self.bodies.share() as share:
            try:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    body = await _body(request, share)
            except TimeoutError:
                return self._refuse(408, "refused", "too slow")
            if body is None and max(share.size, request.content_length or 0) > LARGEST_EVENT_BODY:
                return self._refuse(413, "refused", f"at most {LARGEST_EVENT_BODY} bytes")
            if body is None:  # Meta tells again what was not taken
                return self._refuse(503, "refused", "too many notifications are coming in", {"Retry-After": "5"})
            return self._heard(signature, body)

    def _heard(self, signature: str, body: bytes) -> web.StreamResponse:
        """Believe *body*, if it is signed."""
        secret = _read(self.secret_file)
        if secret is None:
            return failure(503, "the app secret cannot be read")
        if not is_authentic(signature, body, secret):
            return self._refuse(403, "forged", "the signature is not that of these bytes")
        events = read_events(body)
        if events is None:
            return self._refuse(400, "refused", "not a notification")
        self.heard(events)
        self.counted("heard", len(events))
        return web.Response(text="ok\n")

    def _refuse(
        self, status: int, outcome: str, reason: str, fields: Mapping[str, str] = MappingProxyType({})
    ) -> web.Response:
        self.counted(outcome, 0)
        _log.warning("a notification was refused: %s", reason)
        response = failure(status, reason)
        response.headers.update(fields)
        return response


def _read(file: Path | None) -> str | None:
    try:
        return read_token(file) if file else None
    except TokenFileError as error:
        _log.error("%s", error)
        return None


async def _body(request: web.Request, share: Share) -> bytes | None:
    """The raw bytes, held as *share* allows; None if they are too many, or others have left too little."""
    if (request.content_length or 0) > LARGEST_EVENT_BODY:
        return None
    pieces = []
    async for piece in request.content.iter_any():
        pieces.append(piece)
        if not share.grow(len(piece)) or share.size > LARGEST_EVENT_BODY:
            return None
    return b"".join(pieces)
