"""Sends batches and single reads to Graph, and translates aiohttp's errors into the sidecar's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from msgspec.structs import replace
from yarl import URL

from proxy.core.batch import request as batch_request
from proxy.core.batch import response as batch_response
from proxy.core.http import cdn_loop, headers
from proxy.core.http.codings import ACCEPTED
from proxy.core.http.errors import Cut, Large, Late, Looping, Nonsense, SidecarError, Unreachable
from proxy.core.memory.budget import Budget
from proxy.core.model import Channel, Credential, Redacted, Reply, Request
from proxy.shell.http.forms import FORM, EncodedForm
from proxy.shell.upstream.connector import Lookup, OwnSockets, connector
from proxy.shell.upstream.http1 import Check, Http1Client, Http1Response, OnSent

LOOP = "the way to Graph leads back to the sidecar"
"""How error messages about a request loop begin; what to do about it follows."""


def ignored() -> None:
    """Do nothing: the `on_sent` of calls that are not counted."""


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """How to reach Graph."""

    in_clear: frozenset[str]  # authorities without TLS: an origin whose URL begins with http:
    user_agent: str
    connect_timeout_s: float
    reply_timeout_s: float
    buffer_bytes: int = 64 * 2**20  # limit on the bodies of all replies that are being read
    rest_s: float = 0  # before a connection is used again: a stray reply in this time ends it
    lookup: Lookup = field(default_factory=Lookup)
    own: OwnSockets = field(default_factory=OwnSockets)
    loop_guard: cdn_loop.LoopGuard = field(default_factory=lambda: cdn_loop.LoopGuard(os.urandom(8).hex()))

    def url(self, host: str, rest: str) -> URL:
        """Return the URL of *rest*, a path with or without a query, on *host*."""
        return URL(f"{'http' if host in self.in_clear else 'https'}://{host}{rest}", encoded=True)


def http1_client(way: UpstreamOptions) -> Http1Client:
    """Return an HTTP/1.1 client as *way* says, with its own connection pool."""
    return Http1Client(
        connector(way.lookup, way.own),
        Budget(way.buffer_bytes),
        connect_timeout_s=way.connect_timeout_s,
        reply_timeout_s=way.reply_timeout_s,
        rest_s=way.rest_s,
    )


class UpstreamClient:
    """Sends calls to Graph and returns whole replies. A GET may be sent twice, a POST is sent once.

    The number of concurrent calls is limited elsewhere (`fair_share.Places`).
    """

    def __init__(self, way: UpstreamOptions) -> None:
        """Reach Graph by *way*; `open` before the first call."""
        self._way = way
        self._client: Http1Client | None = None
        self._common_fields = {
            "User-Agent": way.user_agent,
            "Accept": "*/*",
            "Accept-Encoding": ACCEPTED,
        }
        self._origins: dict[str, URL] = {}

    async def open(self) -> None:
        """Open the connection pool."""
        self._client = http1_client(self._way)

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()

    async def batch(
        self, requests: Sequence[Request], top: Credential, on_sent: OnSent = ignored, parts: Sequence[bytes] = ()
    ) -> Reply | batch_response.BatchFailure:
        """Return Graph's reply to a batch of *requests*, whose operations are *parts*, else made here.

        Raises Unreachable, Late (Graph may still work on it).
        """
        operations = parts or [batch_request.batch_part(request) for request in requests]
        form = EncodedForm(FORM, batch_request.batch_body(operations, top))
        try:
            answer = await self.post(requests[0].host, "/", requests[0].language, form, on_sent)
        except (Cut, Nonsense):
            return batch_response.BatchFailure.CUT
        except Large:
            return batch_response.BatchFailure.LARGE
        return batch_response.BatchFailure.CUT if answer.header("content-encoding") else answer

    async def post(self, host: str, path: str, language: str, form: EncodedForm, on_sent: OnSent = ignored) -> Reply:
        """Return Graph's reply to a batch, which may hold writes. Raises Unreachable, Cut, Late, Nonsense, Large."""
        fields = {**_language(language), "Content-Type": form.kind}
        return await self._ask(
            _OutgoingRequest(host, f"POST {path}", fields, form.body, _check_batch), Channel.BATCH, on_sent
        )

    async def single(self, request: Request, on_sent: OnSent = ignored) -> Reply:
        """Return Graph's reply to *request* as a single GET. Raises Unreachable, Cut, Late, Nonsense, Large."""
        fields = _language(request.language)
        if request.validator:
            fields["If-None-Match"] = request.validator
        check = _check_conditional if request.validator else _check_single
        asked = _OutgoingRequest(request.host, f"GET /{batch_request.relative_url(request)}", fields, b"", check)
        answer = await self._ask(asked, Channel.DIRECT, on_sent)
        return replace(answer, headers=headers.for_caller(answer.headers))

    async def as_sent(self, host: str, target: str, fields: Mapping[str, str], on_sent: OnSent = ignored) -> Reply:
        """Return Graph's reply to a GET of *target* as a caller sent it, with *fields*. Raises as `single` does."""
        answer = await self._ask(
            _OutgoingRequest(host, f"GET {target}", fields, b"", _check_single), Channel.DIRECT, on_sent
        )
        return replace(answer, headers=headers.for_caller(answer.headers))

    async def _ask(self, asked: _OutgoingRequest, channel: Channel, on_sent: OnSent) -> Reply:
        clock = asyncio.get_running_loop().time
        began = clock()
        with TranslatedErrors(self._way.own):
            async with asyncio.timeout(self._way.connect_timeout_s + self._way.reply_timeout_s):
                answer = await self._send(asked, on_sent)
        return Reply(answer.status, answer.fields, answer.body, channel=channel, upstream_s=clock() - began)

    async def _send(self, asked: _OutgoingRequest, on_sent: OnSent) -> Http1Response:
        """Send the request *asked*; a GET is sent once more if its connection ends soon, as idle ones do.

        The same if the connection carried the answer to another message. A connection that ends later than the connect
        timeout had been at work on the read, so the read is not sent again.
        """
        assert self._client is not None, "open() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        origin = self._origins.get(asked.host)
        if origin is None:
            origin = self._origins[asked.host] = self._way.url(asked.host, "/")
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
    """One request: its method and target, and the header fields that are its own."""

    hidden = ("start", "fields", "body")

    host: str
    start: str
    fields: Mapping[str, str]
    body: bytes
    check: Check


def _check_batch(answer: Http1Response) -> None:
    """Raises Nonsense if *answer* can only be the reply to a single read."""
    if answer.status == 200 and batch_response.is_single(answer.body):
        raise Nonsense("Graph answered a batch with the reply to a single call")


def _check_single(answer: Http1Response) -> None:
    """Raises Nonsense if *answer* can only be the reply to a conditional read or to a batch."""
    if answer.status == 304:
        raise Nonsense("Graph answered 304 to a request without If-None-Match")
    _check_conditional(answer)


def _check_conditional(answer: Http1Response) -> None:
    """Raises Nonsense if *answer* can only be the reply to a batch."""
    if batch_response.is_batch_array(answer.body):
        raise Nonsense("Graph answered a single call with the reply to a batch")


class TranslatedErrors:
    """A context that raises aiohttp's errors as SidecarErrors, without the URL, which may hold a token."""

    __slots__ = ("_came_back", "_own")

    def __init__(self, own: OwnSockets) -> None:
        """Tell a call that came back to one of the sockets *own* from one that Graph did not answer."""
        self._own, self._came_back = own, own.came_back

    def __enter__(self) -> None:
        """Begin the call."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Raise the SidecarError for *error*, if there is one."""
        if error is not None and (found := _translated(error, has_come_back=self._own.came_back > self._came_back)):
            raise found from None


def _translated(error: BaseException, *, has_come_back: bool) -> SidecarError | None:
    """Return the SidecarError for *error* of a call that *has_come_back* to the sidecar, if it has one."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Unreachable("no connection to Graph in time")
        case TimeoutError():
            return Late("Graph did not answer in time")
        case aiohttp.ClientConnectorDNSError():
            return Unreachable("no connection to Graph: its host name cannot be resolved here")
        case aiohttp.ClientPayloadError():
            return Cut("the connection to Graph ended in the middle of its reply")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError() if has_come_back:
            return Looping(f"{LOOP}: set upstream.nameservers or upstream.address")
        case aiohttp.ClientConnectorError():
            return Unreachable(f"no connection to Graph ({type(error.os_error).__name__})")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError():
            return Cut("the connection to Graph ended before its reply")
        case aiohttp.ClientError() | HttpProcessingError():
            return Nonsense(f"Graph's reply cannot be read ({type(error).__name__})")
    return None


def _language(language: str) -> dict[str, str]:
    return {"Accept-Language": language} if language else {}
