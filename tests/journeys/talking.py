"""Clients of journeys: they send requests to a server and compare the replies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy import emulator
from proxy.app import sidecar

USER_AGENT = "graph-sidecar"
"""The sidecar's own User-Agent: ETags depend on it, so clients that compare ETags send the same."""

SAME = ("Content-Type", "facebook-api-version", "X-App-Usage", "X-Ad-Account-Usage", "X-Business-Use-Case-Usage",
        "X-FB-Ads-Insights-Throttle", "WWW-Authenticate", "Location", "Expires", "Pragma", "Cache-Control",
        "Access-Control-Allow-Origin")  # fmt: skip
"""The header fields that are equal in a direct reply and one through the sidecar, besides the ETag."""


@dataclass(frozen=True)
class Heard:
    """A reply as its caller got it."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def etag(self) -> str:
        """The validator, None without one."""
        return self.headers.get("ETag", "")

    @property
    def cache(self) -> str:
        """Cache-Status without the name of the cache: `fwd=uri-miss; stored`."""
        return self.headers.get("Cache-Status", "").removeprefix("graph-sidecar").removeprefix("; ")

    @property
    def told(self) -> dict[str, list[str]]:
        """The header fields that are equal in both."""
        return {name: self.headers.getall(name) for name in SAME if name in self.headers}


class Ask:
    """One client of one server; requests go over the wire as they are given: no cookies, redirects or re-quoting."""

    def __init__(self, url: str) -> None:
        """Send to *url*."""
        self.url = url
        self._sent = 0
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        """Open the session."""
        watch = aiohttp.TraceConfig()
        watch.on_request_headers_sent.append(self._note_sent)
        self._session = aiohttp.ClientSession(
            trace_configs=[watch],
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Accept": "*/*"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        await self._session.close()

    async def say(
        self,
        path: str,
        *,
        method: str = "GET",
        token: str = "",
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        typed: bool = True,
    ) -> Heard:
        """Make one request; *path* is path and query as they stand in the request line, or a whole URL.

        A body that is not *typed* goes without a Content-Type.
        """
        url = path if "://" in path else self.url + path
        if token:
            url += f"{'&' if '?' in path else '?'}access_token={token}"
        async with self._session.request(
            method,
            URL(url, encoded=True),
            headers=CIMultiDict(headers or {}),
            data=data,
            allow_redirects=False,
            skip_auto_headers=() if typed else ("Content-Type",),
        ) as reply:
            return Heard(reply.status, reply.headers, await reply.read())

    async def start(self, *requests: Coroutine[Any, Any, Heard]) -> list[asyncio.Task[Heard]]:
        """Make *requests* of this caller at once; they are in the sidecar's hands when this returns.

        One loop serves both ends and polls all sockets in one go: what was sent before a request that has been answered
        has been read.
        """
        wanted = self._sent + len(requests)
        tasks = [asyncio.ensure_future(request) for request in requests]
        async with self._news:
            await self._news.wait_for(lambda: self._sent >= wanted)
        await self.settle()
        return tasks

    async def settle(self) -> None:
        """Wait until the sidecar has processed all earlier requests, and all connections that were closed earlier."""
        for _turn in range(3):
            assert (await self.say("/?callback=1")).status == 400

    async def _note_sent(self, *_event: object) -> None:
        async with self._news:
            self._sent += 1
            self._news.notify_all()


class Gate:
    """Takes the place of a Graph's sending of replies: they are made and counted, and then wait for `open`."""

    def __init__(self, send: Callable[..., Awaitable[Any]]) -> None:
        """Hold back the replies that *send* would send."""
        self._send = send
        self._opened = asyncio.Event()
        self._held = 0
        self._news = asyncio.Condition()
        self.holds: Callable[[web.BaseRequest], bool] = lambda _request: True

    def open(self) -> None:
        """Release all replies, held and future ones."""
        self._opened.set()

    async def has(self, replies: int) -> None:
        """Wait until so many replies were held in all."""
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: self._held >= replies)

    async def send(self, request: web.BaseRequest, *reply: Any) -> Any:
        """Send a reply when it may be sent."""
        if self.holds(request) and not self._opened.is_set():
            async with self._news:
                self._held += 1
                self._news.notify_all()
            await self._opened.wait()
        return await self._send(request, *reply)


@dataclass(frozen=True)
class Scene:
    """A Graph, a sidecar in front of it, and a client of the sidecar."""

    graph: emulator.Running
    front: sidecar.Sidecar
    caller: Ask

    async def say(self, path: str, **said: Any) -> Heard:
        """Make one request through the sidecar."""
        return await self.caller.say(path, **said)

    async def crowd(self, *paths: str, **said: Any) -> list[Heard]:
        """Make requests for *paths* at once."""
        return list(await asyncio.gather(*(self.caller.say(path, **said) for path in paths)))

    @property
    def asked(self) -> list[dict[str, Any]]:
        """All reads that Graph got, single calls and slots alike, oldest first."""
        return asked(self.graph)

    @property
    def slots(self) -> list[int]:
        """The sizes of the batches that Graph got."""
        return self.graph.ledger.slots

    async def stats(self) -> Any:
        """The sidecar's counts."""
        return (await self.caller.say(f"{self.front.admin_url}/stats")).json

    async def queue_of(self, reads: int) -> None:
        """Wait until so many reads wait for a batch: each has looked for its entry on disk before."""
        async with asyncio.timeout(60):
            while (await self.stats())["queued"] != reads:
                pass

    async def leave(self, *requests: asyncio.Task[Heard]) -> None:
        """Close the connections of *requests*; returns when the sidecar has noticed."""
        for request in requests:
            request.cancel()
        await asyncio.wait(requests)
        await self.caller.settle()


@dataclass(frozen=True)
class Twins:
    """The same world twice: `alone`, and `behind` the sidecar `front`."""

    alone: emulator.Running
    behind: emulator.Running
    front: sidecar.Sidecar
    direct: Ask
    through: Ask

    def trouble(self, fault: dict[str, Any]) -> None:
        """Inject the same fault on both sides."""
        for graph in (self.alone, self.behind):
            graph.faults.add(fault)

    async def both(self, path: str, **said: Any) -> tuple[Heard, Heard]:
        """The reply to the same request directly and through the sidecar."""
        return await self.direct.say(path, **said), await self.through.say(path, **said)

    async def alike(self, path: str, **said: Any) -> Heard:
        """Returns the reply through the sidecar, after comparing it with the direct reply."""
        direct, through = await self.both(path, **said)
        assert_alike(direct, through)
        return through


def troubles(stats: Any) -> list[dict[str, Any]]:
    """The troubles in *stats*, the document of `/stats`; not those of the process, for the machine may be busy."""
    return [each for each in stats["troubles"] if each["about"] != "process"]


def assert_alike(direct: Heard, through: Heard) -> None:
    """Law 5: status, JSON, Content-Type, usage and version headers are those of Graph's own direct reply."""
    assert through.status == direct.status
    assert _content(through) == _content(direct)
    assert through.told == direct.told
    assert bool(through.etag) == bool(direct.etag)


def _content(heard: Heard) -> Any:
    """Returns the body as its reader sees it, without the parts that differ in any two replies of Graph's."""
    try:
        found = heard.json
    except ValueError:
        return heard.body
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        found["error"].pop("fbtrace_id", None)
    return _without_order(found)


def _without_order(value: Any) -> Any:
    """Returns *value* with each link replaced by its target, whose parameters have no order."""
    if isinstance(value, dict):
        return {name: _without_order(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_order(each) for each in value]
    if not isinstance(value, str) or not value.startswith("https://graph.facebook.com/"):
        return value
    link = urlsplit(value)
    asked_for = dict(parse_qsl(link.query, keep_blank_values=True))
    return link.path, {**asked_for, "fields": sorted(asked_for.get("fields", "").split(","))}


def asked(graph: emulator.Running) -> list[dict[str, Any]]:
    """Returns all reads that a Graph got, single calls and slots alike, oldest first."""
    return [one for request in graph.ledger.requests for one in (request.get("slots") or [request])]


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Returns *under* updated with *over*, table by table."""
    both = {**under, **over}
    for name in under.keys() & over.keys():
        if isinstance(under[name], dict) and isinstance(over[name], dict):
            both[name] = merged(under[name], over[name])
    return both
