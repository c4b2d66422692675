"""The calls that `doctor` makes: read-only, counted in Meta's units, and no more than so many."""

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
from proxy.shell.upstream.client import UpstreamOptions, translate_errors
from proxy.shell.upstream.connector import resolver

MOST_CALLS = 40
"""Calls that are made at the most, each operation of a batch and each of `ids=` being one."""

_TIMEOUT_S = 30


class Over(Exception):  # noqa: N818 - the end of the asking, which may well be in order
    """Nothing more is asked; the text says why, without a token, id or name."""


class Caller(Redacted, frozen=True):
    """Who asks: the token, and the app's secret where there is one."""

    hidden = ("token", "secret")

    token: str
    secret: str = ""

    @property
    def vouching(self) -> dict[str, str]:
        """The parameters that carry the token, and its proof where the secret is known."""
        if not self.secret:
            return {"access_token": self.token}
        proof = hmac.new(self.secret.encode(), self.token.encode(), hashlib.sha256).hexdigest()
        return {"access_token": self.token, "appsecret_proof": proof}


@dataclass
class Asker:
    """Makes the calls, one after another."""

    way: UpstreamOptions
    host: str
    caller: Caller
    progress: Callable[[int, int], None]
    calls: int = 0
    http_calls: int = 0
    opened: int = 0
    """Connections that were opened."""
    _session: aiohttp.ClientSession = field(init=False, repr=False)

    async def open(self) -> None:
        """Make the pool of one connection."""
        traces = aiohttp.TraceConfig(SimpleNamespace)
        traces.on_connection_create_end.append(self._on_new_connection)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver(self.way.lookup), limit=1),
            timeout=aiohttp.ClientTimeout(sock_connect=self.way.connect_timeout_s),
            trace_configs=[traces],
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Drop the connection."""
        await self._session.close()

    async def get(
        self, path: str, query: Mapping[str, str], fields: Mapping[str, str], *, proof: bool = True, costs: int = 1
    ) -> Answer:
        """The answer to a GET under the caller's token. Raises Over."""
        own = self.caller.vouching if proof else {"access_token": self.caller.token}
        return await self._ask("GET", f"/{path}?{urlencode({**query, **own})}", fields, None, costs)

    async def batch(
        self, operations: Sequence[Mapping[str, Any]], fields: Mapping[str, str], *, costs: int = 0
    ) -> Answer:
        """The answer to a batch, the caller's token on top. Raises Over."""
        form = {**self.caller.vouching, "include_headers": "true", "batch": json.dumps(operations)}
        return await self._ask("POST", "/", fields, form, costs or len(operations))

    def operation(self, path: str, query: Mapping[str, str], fields: Mapping[str, str]) -> dict[str, Any]:
        """A read as an operation with the caller's own token, as the sidecar writes it."""
        url = f"{path}?{urlencode({**query, **self.caller.vouching})}"
        told = [f"{name}: {value}" for name, value in fields.items()]
        return {"method": "GET", "relative_url": url, **({"headers": told} if told else {})}

    async def _ask(
        self, method: str, rest: str, fields: Mapping[str, str], form: Mapping[str, str] | None, costs: int
    ) -> Answer:
        if self.calls + costs > MOST_CALLS:
            raise Over(f"{MOST_CALLS} calls were made, and no more are")
        self.calls += costs
        self.http_calls += 1
        self.progress(self.calls, MOST_CALLS)
        answer = await self._answered(method, rest, fields, form)
        error = answer.error
        if error is not None and error.code in THROTTLED:
            raise Over(f"a limit of Graph's is reached (code {error.code}): more calls would prolong that")
        return answer

    async def _answered(
        self, method: str, rest: str, fields: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Answer:
        opened = self.opened
        always = {"User-Agent": self.way.user_agent, "Accept": "*/*", **fields}
        try:
            with translate_errors(self.way.own):
                async with (
                    asyncio.timeout(_TIMEOUT_S),
                    self._session.request(
                        method, self.way.url(self.host, rest), headers=always, data=form, allow_redirects=False
                    ) as reply,
                ):
                    body = await reply.read()
                    version = f"{reply.version.major}.{reply.version.minor}" if reply.version else ""
                    told = tuple((name, value) for name, value in reply.headers.items())
                    return Answer(reply.status, told, body, version, self.opened == opened, time.time())
        except errors.SidecarError as error:
            raise Over(str(error)) from None

    async def _on_new_connection(self, *_: object) -> None:
        """Note that the call under way opened a connection."""
        self.opened += 1


@asynccontextmanager
async def asking(
    way: UpstreamOptions, host: str, caller: Caller, progress: Callable[[int, int], None]
) -> AsyncIterator[Asker]:
    """An Asker over connections of its own."""
    asker = Asker(way, host, caller, progress)
    await asker.open()
    try:
        yield asker
    finally:
        await asker.close()
