"""Talks to Graph: one batch or one read. The only place where aiohttp's errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
from yarl import URL

from proxy.core import batching, headers
from proxy.core.errors import Cut, Late, Nonsense, Unreachable
from proxy.core.messages import Channel, Credential, Reply, Request


@dataclass(frozen=True, slots=True)
class Way:
    """How Graph is reached; times in seconds."""

    scheme: str
    user_agent: str
    connections: int
    connect_timeout_s: float
    reply_timeout_s: float


class Upstream:
    """Reads of Graph. Everything here may be asked twice; what may not goes through `passthrough`."""

    def __init__(self, way: Way) -> None:
        """Reach Graph by *way*; `open` before the first call."""
        self._way = way
        self._places = asyncio.Semaphore(way.connections)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=connector(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._way.connect_timeout_s),
            headers={"User-Agent": self._way.user_agent, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"},
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=HEAD_SIZE,
            max_field_size=HEAD_SIZE,
        )

    async def close(self) -> None:
        """Drop the connections."""
        if self._session is not None:
            await self._session.close()

    async def batch(self, requests: Sequence[Request], top: Credential) -> Reply | batching.Call:
        """Ask *requests* in one call. Raises Unreachable."""
        first, form = requests[0], batching.encode(requests, top)
        fields = {"Content-Type": "application/x-www-form-urlencoded", **_language(first)}
        try:
            return await self._exchange("POST", self._url(first.host, ""), fields, form, Channel.BATCH)
        except (Cut, Nonsense):
            return batching.Call.CUT
        except Late:
            return batching.Call.LATE

    async def single(self, request: Request) -> Reply:
        """Ask *request* in a call of its own. Raises Unreachable, Cut, Late, Nonsense."""
        fields = _language(request)
        if request.validator:
            fields["If-None-Match"] = request.validator
        answer = await self._exchange(
            "GET", self._url(request.host, batching.relative_url(request)), fields, None, Channel.DIRECT
        )
        if answer.status == 304 and not request.validator:
            raise Nonsense("Graph answered 304 to a request without If-None-Match")
        return replace(answer, headers=headers.passed_out(answer.headers))

    def _url(self, host: str, rest: str) -> URL:
        return URL(f"{self._way.scheme}://{host}/{rest}", encoded=True)

    async def _exchange(
        self, verb: str, url: URL, fields: Mapping[str, str], body: bytes | None, channel: Channel
    ) -> Reply:
        assert self._session is not None, "open() comes first"  # noqa: S101 - a mistake of ours, not of a caller
        clock = asyncio.get_running_loop().time
        async with self._places, translated(), asyncio.timeout(self._way.connect_timeout_s + self._way.reply_timeout_s):
            began = clock()
            async with self._session.request(verb, url, data=body, headers=fields, allow_redirects=False) as answer:
                told = await answer.read()
                fields_back = tuple(answer.headers.items())
                return Reply(answer.status, fields_back, told, channel=channel, upstream_s=clock() - began)


HEAD_SIZE = 65_536
"""Characters of a status line and of a header field; usage headers grow with the number of accounts."""


def connector() -> aiohttp.TCPConnector:
    """A pool of connections to Graph; who may use how many at once is counted outside of it."""
    return aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=60)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Errors of aiohttp's as ours, said once and without a URL, for that holds a token."""
    try:
        yield
    except TimeoutError as late:
        if isinstance(late, aiohttp.ConnectionTimeoutError):
            raise Unreachable("no connection to Graph in time") from None
        raise Late("Graph did not answer in time") from None
    except aiohttp.ClientConnectorError as refused:
        raise Unreachable(f"no connection to Graph ({type(refused.os_error).__name__})") from None
    except aiohttp.ClientPayloadError:
        raise Cut("the connection to Graph ended in the middle of its reply") from None
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
        raise Cut("the connection to Graph ended before its reply") from None
    except aiohttp.ClientError as strange:
        raise Nonsense(f"Graph's reply cannot be read ({type(strange).__name__})") from None


def _language(request: Request) -> dict[str, str]:
    return {"Accept-Language": request.language} if request.language else {}
