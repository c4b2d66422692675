"""Talks to Graph: one batch or one read. The only place where aiohttp's errors become ours."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import aiohttp
from msgspec.structs import replace
from yarl import URL

from proxy.core import batching, headers, looping
from proxy.core.errors import Cut, Late, Looping, Nonsense, Unreachable
from proxy.core.messages import Channel, Credential, Headers, Reply, Request
from proxy.shell.dialing import Lookup, OwnSockets, connector

HEAD_SIZE = 65_536
"""Characters of a status line and of a header field; usage headers grow with the number of accounts."""

LOOP = "the way to Graph leads back to the sidecar"
"""What is said of it, with what to do."""


Left = Callable[[], None]
"""Told each time that the head of a call has been written; a GET may be sent twice."""


def ignored() -> None:
    """For calls whose leaving nobody counts."""


@dataclass(frozen=True, slots=True)
class Way:
    """How Graph is reached; times in seconds."""

    in_clear: frozenset[str]  # authorities that are asked without TLS: an origin whose URL says so
    user_agent: str
    connections: int
    connect_timeout_s: float
    reply_timeout_s: float
    lookup: Lookup = field(default_factory=Lookup)
    own: OwnSockets = field(default_factory=OwnSockets)
    trail: looping.Trail = field(default_factory=lambda: looping.Trail(os.urandom(8).hex()))

    def url(self, host: str, rest: str) -> URL:
        """Where *rest*, a path and perhaps a query, is on *host*."""
        return URL(f"{'http' if host in self.in_clear else 'https'}://{host}{rest}", encoded=True)


class Upstream:
    """Calls to Graph whose answers somebody here reads. A GET may be asked twice; a POST is sent once."""

    def __init__(self, way: Way) -> None:
        """Reach Graph by *way*; `open` before the first call."""
        self._way = way
        self._places = asyncio.Semaphore(way.connections)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=connector(self._way.lookup, self._way.own),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._way.connect_timeout_s, sock_read=self._way.reply_timeout_s
            ),
            headers={"User-Agent": self._way.user_agent, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"},
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=HEAD_SIZE,
            max_field_size=HEAD_SIZE,
            trace_configs=[departures()],
        )

    async def close(self) -> None:
        """Drop the connections."""
        if self._session is not None:
            await self._session.close()

    async def batch(self, requests: Sequence[Request], top: Credential, left: Left = ignored) -> Reply | batching.Call:
        """Ask *requests* in one call. Raises Unreachable."""
        form = batching.encode(requests, top)
        try:
            return await self.post(requests[0].host, "/", requests[0].language, form, left)
        except (Cut, Nonsense):
            return batching.Call.CUT
        except Late:
            return batching.Call.LATE

    async def post(
        self, host: str, path: str, language: str, body: bytes | aiohttp.MultipartWriter, left: Left = ignored
    ) -> Reply:
        """The answer to a batch, which may hold writes. Raises Unreachable, Cut, Late, Nonsense."""
        fields = _language(language)
        if isinstance(body, bytes):
            fields["Content-Type"] = "application/x-www-form-urlencoded"
        return await self._exchange("POST", self._way.url(host, path), fields, body, Channel.BATCH, left=left)

    async def single(self, request: Request, left: Left = ignored) -> Reply:
        """Ask *request* in a call of its own. Raises Unreachable, Cut, Late, Nonsense."""
        fields = _language(request.language)
        if request.validator:
            fields["If-None-Match"] = request.validator
        url = self._way.url(request.host, f"/{batching.relative_url(request)}")
        answer = await self._exchange("GET", url, fields, None, Channel.DIRECT, left=left)
        if answer.status == 304 and not request.validator:
            raise Nonsense("Graph answered 304 to a request without If-None-Match")
        return replace(answer, headers=headers.passed_out(answer.headers))

    async def _exchange(
        self,
        verb: str,
        url: URL,
        fields: Mapping[str, str],
        body: bytes | aiohttp.MultipartWriter | None,
        channel: Channel,
        *,
        left: Left,
    ) -> Reply:
        assert self._session is not None, "open() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        clock = asyncio.get_running_loop().time
        signed = {**fields, looping.FIELD: self._way.trail.signed}
        async with (
            self._places,
            translated(self._way.own),
            asyncio.timeout(self._way.connect_timeout_s + self._way.reply_timeout_s),
        ):
            began = clock()
            async with self._session.request(
                verb, url, data=_pieces(body), headers=signed, allow_redirects=False, trace_request_ctx=left
            ) as answer:
                told = await answer.read()
                return Reply(answer.status, fields_of(answer), told, channel=channel, upstream_s=clock() - began)


def departures() -> aiohttp.TraceConfig:
    """Calls each request's `trace_request_ctx` when its head is written: from there on it may have reached Graph."""

    async def left(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx()

    config = aiohttp.TraceConfig()
    config.on_request_headers_sent.append(left)
    return config


@asynccontextmanager
async def translated(own: OwnSockets) -> AsyncIterator[None]:
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
    except aiohttp.ClientError as strange:
        raise Nonsense(f"Graph's reply cannot be read ({type(strange).__name__})") from None


def _pieces(
    body: bytes | aiohttp.MultipartWriter | None,
) -> bytes | io.BytesIO | aiohttp.MultipartWriter | None:
    """A large body is written in pieces, so that others get their turn in between."""
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > 2**20 else body


def fields_of(answer: aiohttp.ClientResponse) -> Headers:
    """The header fields of *answer*, named as Graph named them: aiohttp would call an ETag Etag."""
    return tuple((name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in answer.raw_headers)


def _language(language: str) -> dict[str, str]:
    return {"Accept-Language": language} if language else {}
