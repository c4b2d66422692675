"""How journeys speak to a server, and what they compare of what they hear."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy import app, emulator

USER_AGENT = "graph-sidecar"
"""What the sidecar says of itself to Graph: ETags depend on it, so callers that compare them say the same."""

SAME = ("Content-Type", "facebook-api-version", "X-App-Usage", "X-Ad-Account-Usage", "X-Business-Use-Case-Usage",
        "X-FB-Ads-Insights-Throttle", "WWW-Authenticate", "Location", "Expires", "Pragma", "Cache-Control",
        "Access-Control-Allow-Origin")  # fmt: skip
"""The header fields in which a reply through the sidecar equals a direct one, besides the ETag."""


@dataclass(frozen=True)
class Heard:
    """A reply as its caller got it."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)

    @property
    def etag(self) -> str:
        """The validator, or nothing."""
        return self.headers.get("ETag", "")

    @property
    def cache(self) -> str:
        """Cache-Status without the name of the cache: `fwd=uri-miss; stored`."""
        return self.headers.get("Cache-Status", "").removeprefix("graph-sidecar").removeprefix("; ")

    @property
    def told(self) -> dict[str, list[str]]:
        """The fields in which direct and through are alike."""
        return {name: self.headers.getall(name) for name in SAME if name in self.headers}


class Ask:
    """One caller of one server. What it says is what goes over the wire: no cookie, no redirect, no re-quoting."""

    def __init__(self, url: str) -> None:
        """Speak to *url*."""
        self.url = url

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
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
    ) -> Heard:
        """Make one request; *path* is path and query as they stand in the request line, or a whole URL."""
        url = path if "://" in path else self.url + path
        if token:
            url += f"{'&' if '?' in path else '?'}access_token={token}"
        async with self._session.request(
            method, URL(url, encoded=True), headers=CIMultiDict(headers or {}), data=data, allow_redirects=False
        ) as reply:
            return Heard(reply.status, reply.headers, await reply.read())


@dataclass(frozen=True)
class Twins:
    """The same world twice: `alone`, and `behind` the sidecar `front`."""

    alone: emulator.Running
    behind: emulator.Running
    front: app.Running
    direct: Ask
    through: Ask

    async def both(self, path: str, **said: Any) -> tuple[Heard, Heard]:
        """The reply to the same request directly and through the sidecar."""
        return await self.direct.say(path, **said), await self.through.say(path, **said)

    async def alike(self, path: str, **said: Any) -> Heard:
        """The reply through the sidecar, once it is found to equal the direct one."""
        direct, through = await self.both(path, **said)
        assert_alike(direct, through)
        return through


def assert_alike(direct: Heard, through: Heard) -> None:
    """Law 5: status, JSON, Content-Type, usage and version headers are those of Graph's own direct reply."""
    assert through.status == direct.status
    assert _content(through) == _content(direct)
    assert through.told == direct.told
    assert bool(through.etag) == bool(direct.etag)


def _content(heard: Heard) -> Any:
    """The body as its reader sees it; what is different in any two replies of Graph's is left out."""
    try:
        found = heard.json
    except ValueError:
        return heard.body
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        found["error"].pop("fbtrace_id", None)
    return found


def asked(graph: emulator.Running) -> list[dict[str, Any]]:
    """All that a Graph was asked, calls of their own and slots alike, oldest first."""
    return [one for request in graph.ledger.requests for one in (request.get("slots") or [request])]


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """*under* with *over* laid on top, table by table."""
    both = {**under, **over}
    for name in under.keys() & over.keys():
        if isinstance(under[name], dict) and isinstance(over[name], dict):
            both[name] = merged(under[name], over[name])
    return both
