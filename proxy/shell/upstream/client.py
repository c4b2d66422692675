"""Talks to Graph: one batch or one read. The only place where aiohttp's errors become ours."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from msgspec.structs import replace
from yarl import URL

from proxy.core.batch import request as batch_request
from proxy.core.batch import response as batch_response
from proxy.core.http import cdn_loop, headers
from proxy.core.http.codings import ACCEPTED
from proxy.core.http.errors import Cut, Large, Late, Looping, Nonsense, Unreachable
from proxy.core.memory.budget import Budget
from proxy.core.model import Channel, Credential, Redacted, Reply, Request
from proxy.shell.http.forms import FORM, EncodedForm
from proxy.shell.upstream.connector import Lookup, OwnSockets, connector
from proxy.shell.upstream.http1 import Check, Http1Client, Http1Response, OnSent

LOOP = "the way to Graph leads back to the sidecar"
"""What is said of it, with what to do."""


def ignored() -> None:
    """For calls whose leaving nobody counts."""


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """How Graph is reached; times in seconds."""

    in_clear: frozenset[str]  # authorities that are asked without TLS: an origin whose URL says so
    user_agent: str
    connect_timeout_s: float
    reply_timeout_s: float
    buffer_bytes: int = 64 * 2**20  # of all replies that are being read
    rest_s: float = 0  # in which a connection is not used again after an answer, for a stray reply to end it
    lookup: Lookup = field(default_factory=Lookup)
    own: OwnSockets = field(default_factory=OwnSockets)
    loop_guard: cdn_loop.LoopGuard = field(default_factory=lambda: cdn_loop.LoopGuard(os.urandom(8).hex()))

    def url(self, host: str, rest: str) -> URL:
        """Where *rest*, a path and perhaps a query, is on *host*."""
        return URL(f"{'http' if host in self.in_clear else 'https'}://{host}{rest}", encoded=True)


def http1_client(way: UpstreamOptions) -> Http1Client:
    """Calls to Graph by *way*, on a pool of their own."""
    return Http1Client(
        connector(way.lookup, way.own),
        Budget(way.buffer_bytes),
        connect_timeout_s=way.connect_timeout_s,
        reply_timeout_s=way.reply_timeout_s,
        rest_s=way.rest_s,
    )


class UpstreamClient:
    """Calls to Graph whose answers somebody here reads. A GET may be asked twice; a POST is sent once.

    How many may be on their way is counted outside of it (`places`).
    """

    def __init__(self, way: UpstreamOptions) -> None:
        """Reach Graph by *way*; `open` before the first call."""
        self._way = way
        self._client: Http1Client | None = None
        self._common_fields = {"User-Agent": way.user_agent, "Accept": "*/*", "Accept-Encoding": ACCEPTED}

    async def open(self) -> None:
        """Make the connection pool."""
        self._client = http1_client(self._way)

    async def close(self) -> None:
        """Drop the connections."""
        if self._client is not None:
            await self._client.close()

    async def batch(
        self, requests: Sequence[Request], top: Credential, on_sent: OnSent = ignored
    ) -> Reply | batch_response.BatchFailure:
        """Ask *requests* in one call. Raises Unreachable, Late: Graph may be at work on what is late."""
        form = EncodedForm(FORM, batch_request.encode_batch(requests, top))
        try:
            answer = await self.post(requests[0].host, "/", requests[0].language, form, on_sent)
        except (Cut, Nonsense):
            return batch_response.BatchFailure.CUT
        except Large:
            return batch_response.BatchFailure.LARGE
        return batch_response.BatchFailure.CUT if answer.header("content-encoding") else answer

    async def post(self, host: str, path: str, language: str, form: EncodedForm, on_sent: OnSent = ignored) -> Reply:
        """The answer to a batch, which may hold writes. Raises Unreachable, Cut, Late, Nonsense, Large."""
        fields = {**_language(language), "Content-Type": form.kind, "Content-Length": str(len(form.body))}
        return await self._ask(
            _OutgoingRequest(host, f"POST {path}", fields, form.body, _check_batch), Channel.BATCH, on_sent
        )

    async def single(self, request: Request, on_sent: OnSent = ignored) -> Reply:
        """Ask *request* in a call of its own. Raises Unreachable, Cut, Late, Nonsense, Large."""
        fields = _language(request.language)
        if request.validator:
            fields["If-None-Match"] = request.validator
        check = _check_conditional if request.validator else _check_single
        asked = _OutgoingRequest(request.host, f"GET /{batch_request.relative_url(request)}", fields, b"", check)
        answer = await self._ask(asked, Channel.DIRECT, on_sent)
        return replace(answer, headers=headers.passed_out(answer.headers))

    async def as_sent(self, host: str, target: str, fields: Mapping[str, str], on_sent: OnSent = ignored) -> Reply:
        """The answer to a GET as a caller sent it, with these *fields*. Raises as `single` does."""
        answer = await self._ask(
            _OutgoingRequest(host, f"GET {target}", fields, b"", _check_single), Channel.DIRECT, on_sent
        )
        return replace(answer, headers=headers.passed_out(answer.headers))

    async def _ask(self, asked: _OutgoingRequest, channel: Channel, on_sent: OnSent) -> Reply:
        clock = asyncio.get_running_loop().time
        began = clock()
        with translate_errors(self._way.own):
            async with asyncio.timeout(self._way.connect_timeout_s + self._way.reply_timeout_s):
                answer = await self._send(asked, on_sent)
        return Reply(answer.status, answer.fields, answer.body, channel=channel, upstream_s=clock() - began)

    async def _send(self, asked: _OutgoingRequest, on_sent: OnSent) -> Http1Response:
        """Send what was *asked*; a GET once more where its connection soon ended, as those do that were idle.

        Once more, too, where it carried the answer to another message. A connection that ends later than a new one may
        take to open had been at work on the read.
        """
        assert self._client is not None, "open() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        origin = self._way.url(asked.host, "/")
        fields = {**self._common_fields, cdn_loop.LOOP_FIELD: self._way.loop_guard.field_value, **asked.fields}
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            return await self._client.ask(origin, asked.start, fields, asked.body, on_sent, check=asked.check)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as gone:
            is_soon = clock() - began < self._way.connect_timeout_s
            if isinstance(gone, aiohttp.ClientConnectorError) or not asked.start.startswith("GET") or not is_soon:
                raise
        return await self._client.ask(origin, asked.start, fields, asked.body, on_sent, check=asked.check)


class _OutgoingRequest(Redacted, frozen=True, gc=False):
    """One message: how it begins, and what of its fields is not said of all."""

    hidden = ("start", "fields", "body")

    host: str
    start: str
    fields: Mapping[str, str]
    body: bytes
    check: Check


def _check_batch(answer: Http1Response) -> None:
    """Raises Nonsense where *answer* is what a single read gets."""
    if answer.status == 200 and batch_response.is_single(answer.body):
        raise Nonsense("Graph answered a batch with the reply to a single call")


def _check_single(answer: Http1Response) -> None:
    """Raises Nonsense where *answer* is what a conditional read gets, or a batch."""
    if answer.status == 304:
        raise Nonsense("Graph answered 304 to a request without If-None-Match")
    _check_conditional(answer)


def _check_conditional(answer: Http1Response) -> None:
    """Raises Nonsense where *answer* is what a batch gets."""
    if batch_response.is_batch_array(answer.body):
        raise Nonsense("Graph answered a single call with the reply to a batch")


@contextmanager
def translate_errors(own: OwnSockets) -> Iterator[None]:
    """Errors of aiohttp's as ours, said once and without a URL, for that holds a token."""
    came_back = own.came_back
    try:
        yield
    except TimeoutError as late:
        if isinstance(late, aiohttp.ConnectionTimeoutError):
            raise Unreachable("no connection to Graph in time") from None
        raise Late("Graph did not answer in time") from None
    except aiohttp.ClientConnectorDNSError:
        raise Unreachable("no connection to Graph: its host name cannot be resolved here") from None
    except aiohttp.ClientPayloadError:
        raise Cut("the connection to Graph ended in the middle of its reply") from None
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError) as gone:
        if own.came_back > came_back:
            raise Looping(f"{LOOP}: set upstream.nameservers or upstream.address") from None
        if isinstance(gone, aiohttp.ClientConnectorError):
            raise Unreachable(f"no connection to Graph ({type(gone.os_error).__name__})") from None
        raise Cut("the connection to Graph ended before its reply") from None
    except (aiohttp.ClientError, HttpProcessingError) as strange:
        raise Nonsense(f"Graph's reply cannot be read ({type(strange).__name__})") from None


def _language(language: str) -> dict[str, str]:
    return {"Accept-Language": language} if language else {}
