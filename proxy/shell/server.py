"""aiohttp's message to a `Request`, a `Reply` to aiohttp's response; what is no plain read goes straight through."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict

from proxy.core import dressing, errors, normal
from proxy.core.keys import Keys
from proxy.core.messages import Headers, Reply
from proxy.core.quota import Usage
from proxy.core.reading import Head, Hosts, Read, Skip, credential, read
from proxy.core.rules import RuleBook
from proxy.shell import Layer
from proxy.shell.passthrough import Passthrough
from proxy.shell.telemetry import Telemetry

_log = logging.getLogger("graph_sidecar.server")

BODY_LOOKED_AT = 65_536
"""Bytes of a GET's body that are read to see whether it says anything; Meta's Node SDK sends `{}` with each."""


@dataclass(frozen=True, slots=True)
class House:
    """What the server works with; everything is made by `app`."""

    stack: Layer
    passthrough: Passthrough
    hosts: Hosts
    rules: RuleBook
    keys: Keys
    usage: Usage
    telemetry: Telemetry
    rewrite_links: bool
    wrote: Callable[[tuple[str, ...]], None]
    now: Callable[[], float]
    clock: Callable[[], float]


class Server:
    """The end towards the application: every path belongs to Graph."""

    def __init__(self, house: House) -> None:
        """Answer with what *house* holds."""
        self._house = house
        self._linked = house.hosts.linked

    async def handle(self, message: web.BaseRequest) -> web.StreamResponse:
        """Answer one message of an application's; never raises but when its caller has left."""
        began = self._house.clock()
        head = Head(message.method, message.raw_path, _fields(message))
        try:
            looked_at = await _look_at(message)
            found = read(
                head, None if len(looked_at) > BODY_LOOKED_AT else looked_at, self._house.hosts, self._house.rules
            )
            if isinstance(found, Read):
                return await self._answer(message, head, found, began)
            return await self._pass(message, head, found, looked_at, began)
        except errors.SidecarError as error:
            return _response(dressing.bare(errors.reply_of(error)))
        except Exception as fault:  # noqa: BLE001 - a fault of ours is told, and its text, which may hold a token, is not
            _log.error("a fault of the sidecar's: %s\n%s", type(fault).__name__, _frames(fault))
            return _response(
                dressing.bare(errors.reply_of(errors.Fault(f"a fault of its own ({type(fault).__name__})")))
            )

    async def _answer(self, message: web.BaseRequest, head: Head, found: Read, began: float) -> web.Response:
        house, request = self._house, found.request
        reply = await self._ask(found)
        fingerprint, now = house.keys.fingerprint(request.credential), house.now()
        node = _node(normal.nodes(request.path, request.query))
        if reply.upstream_s is not None:
            house.usage.note(fingerprint, node, reply.headers, now)
        dressed = dressing.dress(found, reply, self._way_in(message, head), house.usage.newest(fingerprint, node, now))
        house.telemetry.replied(request, reply, fingerprint, house.clock() - began)
        return _response(dressed)

    async def _ask(self, found: Read) -> Reply:
        try:
            return await self._house.stack(found.request)
        except errors.SidecarError as error:
            return errors.reply_of(error)

    async def _pass(
        self, message: web.BaseRequest, head: Head, found: Skip, looked_at: bytes, began: float
    ) -> web.StreamResponse:
        house, target = self._house, normal.read_target(head.target)
        nodes, who = normal.nodes(target.path, target.query), credential(head)

        def answered(fields: Headers) -> None:
            if found.writes:
                house.wrote(nodes)
            if not isinstance(who, str):
                house.usage.note(house.keys.fingerprint(who), _node(nodes), fields, house.now())

        response = await house.passthrough.stream(
            message,
            host=house.hosts.of(head),
            target=normal.origin_form(head.target),
            looked_at=looked_at,
            extra=dressing.skipped(found.reason, writes=found.writes),
            answered=answered,
        )
        house.telemetry.passed(found.reason, response.status, house.clock() - began)
        return response

    def _way_in(self, message: web.BaseRequest, head: Head) -> dressing.WayIn:
        """Links lead back the way the caller came; one that calls Graph by its own name comes back by itself."""
        host = head.headers.get("host", "")
        if not self._house.rewrite_links or not normal.is_authority(host) or self._house.hosts.by_name(head):
            return dressing.WayIn("", self._linked)
        return dressing.WayIn(f"{message.scheme}://{host}", self._linked)


def _fields(message: web.BaseRequest) -> dict[str, str]:
    """Header fields by lower-case name; of one that came several times the values in a row (RFC 9110 section 5.3)."""
    fields: dict[str, str] = {}
    for name, value in message.headers.items():
        key = name.lower()
        fields[key] = f"{fields[key]}, {value}" if key in fields else value
    return fields


async def _look_at(message: web.BaseRequest) -> bytes:
    """The body of a GET or HEAD, so far as it is short; of other methods none, for theirs are streamed."""
    if message.method not in {"GET", "HEAD"} or not message.body_exists:
        return b""
    pieces, size = [], 0
    async for chunk in message.content.iter_any():
        pieces.append(chunk)
        size += len(chunk)
        if size > BODY_LOOKED_AT:
            break
    return b"".join(pieces)


def _response(reply: Reply) -> web.Response:
    fields = CIMultiDict(reply.headers)
    fields.setdefault("Server", dressing.NAME)
    return web.Response(status=reply.status, headers=fields, body=reply.body)


def _node(nodes: tuple[str, ...]) -> str:
    return nodes[0] if nodes else ""


def _frames(fault: BaseException) -> str:
    """Where it happened, without the values: they may hold a token."""
    return "".join(
        f"  {frame.filename}:{frame.lineno} {frame.name}\n" for frame in traceback.extract_tb(fault.__traceback__)
    )
