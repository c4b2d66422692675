"""`/webhooks`: receives Meta's notifications, on the admin listener or on a public listener of its own.

Every caller must prove itself by the verify token or by a signature over the raw bytes. The secrets are read from their
files each time, so that a changed file needs no restart, and never appear in a reply or log.
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
from proxy.shell.admin.app import error_response
from proxy.shell.files import TokenFileError, read_token

PATH = "/webhooks"

BUFFERED = 8 * LARGEST_EVENT_BODY
"""The most bytes of all notifications that are being received: a signature can be checked only at the end."""

BODY_TIMEOUT_S = 20
"""Seconds in which a notification must be received: this path may be public."""

_log = logging.getLogger("graph_sidecar.webhooks")


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Answers Meta; *on_events* gets authentic events, *on_outcome* each notification's outcome and event count."""

    verify_token_file: Path | None
    secret_file: Path | None
    on_events: Callable[[Sequence[Event]], None]
    on_outcome: Callable[[str, int], None]
    bodies: Budget = field(default_factory=lambda: Budget(BUFFERED))

    @property
    def routes(self) -> list[web.RouteDef]:
        """The routes whose secret is set."""
        rows = [web.get(PATH, self._verify, allow_head=False)] if self.verify_token_file else []
        return [*rows, web.post(PATH, self._receive)] if self.secret_file else rows

    async def _verify(self, request: web.Request) -> web.StreamResponse:
        """Answer Meta's verification request (GET with `hub.*`), which must show the verify token."""
        token = _read_secret(self.verify_token_file)
        if token is None:
            return error_response(503, "the verify token cannot be read")
        echo = challenge(request.query, token)
        if echo is None:
            self.on_outcome("refused", 0)
            return error_response(403, "the verification request does not show the verify token")
        return web.Response(text=echo)

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        """Receive a notification; nothing in it is used before its signature is checked."""
        signature = request.headers.get("X-Hub-Signature-256", "")
        if not is_signature(signature):
            return self._refuse(403, "forged", "no signature in X-Hub-Signature-256")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return self._refuse(415, "refused", "Content-Encoding is not accepted: the signature is over plain bytes")
        with self.bodies.share() as share:
            try:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    body = await _read_body(request, share)
            except TimeoutError:
                return self._refuse(408, "refused", "too slow")
            if body is None and max(share.size, request.content_length or 0) > LARGEST_EVENT_BODY:
                return self._refuse(413, "refused", f"at most {LARGEST_EVENT_BODY} bytes")
            if body is None:  # Meta sends a refused notification again
                return self._refuse(503, "refused", "too many notifications at once", {"Retry-After": "5"})
            return self._accept(signature, body)

    def _accept(self, signature: str, body: bytes) -> web.StreamResponse:
        """Use the events in *body* if its signature is valid."""
        secret = _read_secret(self.secret_file)
        if secret is None:
            return error_response(503, "the app secret cannot be read")
        if not is_authentic(signature, body, secret):
            return self._refuse(403, "forged", "the signature does not match the body")
        events = read_events(body)
        if events is None:
            return self._refuse(400, "refused", "not a notification")
        self.on_events(events)
        self.on_outcome("heard", len(events))
        return web.Response(text="ok\n")

    def _refuse(
        self, status: int, outcome: str, reason: str, fields: Mapping[str, str] = MappingProxyType({})
    ) -> web.Response:
        self.on_outcome(outcome, 0)
        _log.warning("a notification was refused: %s", reason)
        response = error_response(status, reason)
        response.headers.update(fields)
        return response


def _read_secret(file: Path | None) -> str | None:
    try:
        return read_token(file) if file else None
    except TokenFileError as error:
        _log.error("%s", error)
        return None


async def _read_body(request: web.Request, share: Share) -> bytes | None:
    """The raw body; None if it is longer than allowed, or if *share* has no room left for it."""
    if (request.content_length or 0) > LARGEST_EVENT_BODY:
        return None
    pieces = []
    async for piece in request.content.iter_any():
        pieces.append(piece)
        if not share.grow(len(piece)) or share.size > LARGEST_EVENT_BODY:
            return None
    return b"".join(pieces)
