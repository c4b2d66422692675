"""Makes the calls of `doctor`: reads only, counted in Meta's units, and at most MOST_CALLS."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import aiohttp

from proxy.core.graph.doctor.answers import Answer
from proxy.core.graph.throttles import THROTTLED
from proxy.core.http import errors
from proxy.core.model import Redacted
from proxy.shell.upstream.client import TranslatedErrors, UpstreamOptions
from proxy.shell.upstream.connector import resolver

MOST_CALLS = 40
"""The most calls that are made; each operation of a batch and each id of `ids=` is a call."""

_TIMEOUT_S = 30


class Stopped(Exception):  # noqa: N818 - not always an error: the limit of calls may be reached
    """No further call is made; the text says why, and holds no token, id or name."""


class TokenAndSecret(Redacted, frozen=True):
    """The token for all calls, and the app's secret if it is known."""

    hidden = ("token", "secret")

    token: str
    secret: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters with the token, and with its `appsecret_proof` if the secret is known."""
        if not self.secret:
            return {"access_token": self.token}
        proof = hmac.new(self.secret.encode(), self.token.encode(), hashlib.sha256).hexdigest()
        return {"access_token": self.token, "appsecret_proof": proof}


@dataclass
class GraphClient:
    """Makes the calls, one after another."""

    upstream: UpstreamOptions
    host: str
    token: TokenAndSecret
    progress: Callable[[int, int], None]
    calls: int = 0
    http_calls: int = 0
    opened: int = 0
    """Connections that were opened."""
    _session: aiohttp.ClientSession = field(init=False, repr=False)

    async def open(self) -> None:
        """Make a pool of one connection."""
        traces = aiohttp.TraceConfig(SimpleNamespace)
        traces.on_connection_create_end.append(self._on_new_connection)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver(self.upstream.lookup), limit=1),
            timeout=aiohttp.ClientTimeout(sock_connect=self.upstream.connect_timeout_s),
            trace_configs=[traces],
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._session.close()

    async def get(
        self, path: str, query: Mapping[str, str], fields: Mapping[str, str], *, proof: bool = True, costs: int = 1
    ) -> Answer:
        """Returns the answer to a GET with the token. Raises Stopped."""
        own = self.token.parameters if proof else {"access_token": self.token.token}
        return await self._ask("GET", f"/{path}?{urlencode({**query, **own})}", fields, None, costs)

    async def batch(
        self, operations: Sequence[Mapping[str, Any]], fields: Mapping[str, str], *, costs: int = 0
    ) -> Answer:
        """Returns the answer to a batch with the token as its top-level token. Raises Stopped."""
        form = {**self.token.parameters, "include_headers": "true", "batch": json.dumps(operations)}
        return await self._ask("POST", "/", fields, form, costs or len(operations))

    def operation(self, path: str, query: Mapping[str, str], fields: Mapping[str, str]) -> dict[str, Any]:
        """Returns a read as an operation with a token of its own, as the sidecar writes it."""
        url = f"{path}?{urlencode({**query, **self.token.parameters})}"
        lines = [f"{name}: {value}" for name, value in fields.items()]
        return {"method": "GET", "relative_url": url, **({"headers": lines} if lines else {})}

    async def _ask(
        self, method: str, rest: str, fields: Mapping[str, str], form: Mapping[str, str] | None, costs: int
    ) -> Answer:
        if self.calls + costs > MOST_CALLS:
            raise Stopped(f"{MOST_CALLS} calls were made, which is the most that doctor makes")
        self.calls += costs
        self.http_calls += 1
        self.progress(self.calls, MOST_CALLS)
        answer = await self._send(method, rest, fields, form)
        error = answer.error
        if error is not None and error.code in THROTTLED:
            raise Stopped(f"a limit of Graph's is reached (code {error.code}), and more calls would prolong the block")
        return answer

    async def _send(self, method: str, rest: str, fields: Mapping[str, str], form: Mapping[str, str] | None) -> Answer:
        opened = self.opened
        always = {"User-Agent": self.upstream.user_agent, "Accept": "*/*", **fields}
        try:
            with TranslatedErrors(self.upstream.own):
                async with (
                    asyncio.timeout(_TIMEOUT_S),
                    self._session.request(
                        method, self.upstream.url(self.host, rest), headers=always, data=form, allow_redirects=False
                    ) as reply,
                ):
                    body = await reply.read()
                    version = f"{reply.version.major}.{reply.version.minor}" if reply.version else ""
                    received = tuple((name, value) for name, value in reply.headers.items())
                    return Answer(reply.status, received, body, version, self.opened == opened, time.time())
        except errors.SidecarError as error:
            raise Stopped(str(error)) from None

    async def _on_new_connection(self, *_: object) -> None:
        """Record that the current call opened a connection."""
        self.opened += 1


@asynccontextmanager
async def open_client(
    upstream: UpstreamOptions, host: str, token: TokenAndSecret, progress: Callable[[int, int], None]
) -> AsyncIterator[GraphClient]:
    """A client with a connection of its own, which is closed at the end of the context."""
    client = GraphClient(upstream, host, token, progress)
    await client.open()
    try:
        yield client
    finally:
        await client.close()
