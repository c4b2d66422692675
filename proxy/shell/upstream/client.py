"""Sends batches and single reads to Graph, and translates aiohttp's errors into the sidecar's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

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
from proxy.core.model import Channel, Credential, Headers, Redacted, Reply, Request
from proxy.shell.http.forms import FORM, EncodedForm
from proxy.shell.upstream.connector import Lookup, OwnSockets, connector
from proxy.shell.upstream.http1 import Check, Http1Client, Http1Response, OnSent, head_of_post
from proxy.shell.upstream.plain_exchange import PlainExchange, Taker

LOOP = "the way to Graph leads back to the sidecar"
"""How error messages about a request loop begin; what to do about it follows."""

_MOST_HEADS = 256
"""The most heads of batches that are kept: one for each host and language."""


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

    @property
    def longest_s(self) -> float:
        """The most seconds that a call may take."""
        return self.connect_timeout_s + self.reply_timeout_s

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
        self._longest_s = way.longest_s
        self._client: Http1Client | None = None
        self._common_fields = {
            "User-Agent": way.user_agent,
            "Accept": "*/*",
            "Accept-Encoding": ACCEPTED,
        }
        self._origins: dict[str, URL] = {}
        self._post_heads: dict[tuple[str, str], _PostHead] = {}

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
        return await _batch_answer(self.post(requests[0].host, "/", requests[0].language, form, on_sent))

    def start_batch(self, first: Request, top: Credential, parts: Sequence[bytes], taker: Taker) -> StartedBatch | None:
        """Send a batch of *parts*, the operations of *first* and others, if a connection is kept; else return None.

        *taker* gets the answer.
        """
        assert self._client is not None, "open() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        head, body = self._post_head(first.host, first.language), batch_request.batch_body(parts, top)
        message = b"%bContent-Length: %d\r\n\r\n%b" % (head.block, len(body), body)
        exchange = self._client.start(head.end, message, taker, self._longest_s)
        return StartedBatch(self._way, exchange) if exchange is not None else None

    def _post_head(self, host: str, language: str) -> _PostHead:
        """Return the head of the batches that go to *host* in this *language*."""
        known, loop_field = self._post_heads.get((host, language)), self._way.loop_guard.field_value
        if known is None or known.loop_field != loop_field:
            assert self._client is not None  # noqa: S101 - as above
            end = self._client.endpoint(self._origin(host))
            fields = self._all_fields({**_language(language), "Content-Type": FORM})
            known = _PostHead(loop_field, end, head_of_post("POST /", end, fields))
            if len(self._post_heads) >= _MOST_HEADS:
                self._post_heads.clear()
            self._post_heads[host, language] = known
        return known

    def _origin(self, host: str) -> URL:
        origin = self._origins.get(host)
        if origin is None:
            origin = self._origins[host] = self._way.url(host, "/")
        return origin

    def _all_fields(self, own: Mapping[str, str]) -> dict[str, str]:
        """Return the header fields of a call with *own* ones."""
        return {**self._common_fields, cdn_loop.LOOP_FIELD: self._way.loop_guard.field_value, **own}

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
            async with asyncio.timeout(self._longest_s):
                answer = await self._send(asked, on_sent)
        return Reply(answer.status, answer.fields, answer.body, channel=channel, upstream_s=clock() - began)

    async def _send(self, asked: _OutgoingRequest, on_sent: OnSent) -> Http1Response:
        """Send the request *asked*; a GET is sent once more if its connection ends soon, as idle ones do.

        The same if the connection carried the answer to another message. A connection that ends later than the connect
        timeout had been at work on the read, so the read is not sent again.
        """
        assert self._client is not None, "open() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        origin, fields = self._origin(asked.host), self._all_fields(asked.fields)
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            return await self._client.ask(origin, asked.start, fields, asked.body, on_sent, check=asked.check)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as gone:
            is_soon = clock() - began < self._way.connect_timeout_s
            if isinstance(gone, aiohttp.ClientConnectorError) or not asked.start.startswith("GET") or not is_soon:
                raise
        return await self._client.ask(origin, asked.start, fields, asked.body, on_sent, check=asked.check)


class StartedBatch:
    """A batch that left without a task."""

    __slots__ = ("_came_back", "_exchange", "_way", "sent")

    def __init__(self, way: UpstreamOptions, exchange: PlainExchange) -> None:
        """Take that *exchange* has sent it by *way*."""
        self._way = way
        self._exchange = exchange
        self._came_back = way.own.came_back
        self.sent = exchange.sent  # in the event loop's time

    def reply(self, fields: Headers, body: bytes) -> Reply:
        """Return the plain response with these *fields* and this *body*, which has come now."""
        took = self._exchange.now() - self.sent
        return Reply(200, fields, body, channel=Channel.BATCH, upstream_s=took)

    async def answer(self) -> Reply | batch_response.BatchFailure:
        """Return the answer that is not plain. Raises Late, and what `TranslatedErrors` makes of an error."""
        return await _batch_answer(self._answer())

    async def _answer(self) -> Reply:
        with TranslatedErrors(self._way.own, self._came_back):
            async with asyncio.timeout_at(self.sent + self._way.longest_s):
                whole = await self._exchange.response(_check_batch)
        took = self._exchange.now() - self.sent
        return Reply(whole.status, whole.fields, whole.body, channel=Channel.BATCH, upstream_s=took)

    def close(self) -> None:
        """Close the connection, unless the answer was taken or a task awaits it."""
        self._exchange.close()


async def _batch_answer(answering: Awaitable[Reply]) -> Reply | batch_response.BatchFailure:
    """Return what *answering* gives; a failure of the whole batch for an answer that cannot be read."""
    try:
        answer = await answering
    except (Cut, Nonsense):
        return batch_response.BatchFailure.CUT
    except Large:
        return batch_response.BatchFailure.LARGE
    return batch_response.BatchFailure.CUT if answer.header("content-encoding") else answer


class _PostHead(NamedTuple):
    """The head of batches, without the length of the body."""

    loop_field: str
    end: aiohttp.ClientRequest  # where they go
    block: bytes


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

    def __init__(self, own: OwnSockets, came_back: int | None = None) -> None:
        """Tell a call that came back to one of the sockets *own* from one that Graph did not answer.

        *came_back* is how many had come back when the call began, if that was earlier than now.
        """
        self._own, self._came_back = own, own.came_back if came_back is None else came_back

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
