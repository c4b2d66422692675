"""A Graph on bare sockets whose replies name whom they are for, and which says more, or less, than it was asked.

Every body is `{"token": ..., "asked": ...}`, so that a reply that reaches somebody else is seen to be someone else's.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.wires import Listener, Message, Wire, ok

LATE_S = 0.02
"""Seconds between a reply and the one that follows it unasked."""

Fault = Callable[[Wire, bytes], Awaitable[bool]]
"""Sends a reply, or something else; whether the connection goes on."""


def named(message: Message) -> tuple[str, str]:
    """The token of *message* and what it asks for."""
    target, _, query = message.target.partition("?")
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    form = {name: values[-1] for name, values in parse_qs(message.body.decode("latin-1")).items()}
    return given.pop("access_token", "") or form.get("access_token", ""), _asked(target.lstrip("/"), given)


def _asked(path: str, given: dict[str, str]) -> str:
    return "&".join([path, *(f"{name}={value}" for name, value in sorted(given.items()))])


def body_for(token: str, asked: str) -> str:
    """The body of the reply to *token*, who asked for this."""
    return json.dumps({"token": token, "asked": asked})


def _slot(operation: dict[str, Any]) -> dict[str, Any]:
    said = Message.of(f"{operation['method']} /{operation['relative_url']} HTTP/1.1", "")
    said.body = operation.get("body", "").encode()
    return {"code": 200, "headers": [], "body": body_for(*named(said))}


def right_reply(message: Message) -> bytes:
    """What a Graph answers that does as it should."""
    form = parse_qs(message.body.decode("latin-1"))
    if "batch" in form:
        return ok(json.dumps([_slot(each) for each in json.loads(form["batch"][0])]))
    head, end, body = ok(body_for(*named(message))).partition(b"\r\n\r\n")
    return head + end + (b"" if message.method == "HEAD" else body)


async def plain(wire: Wire, reply: bytes) -> bool:
    """Nothing but the reply."""
    await wire.send(reply)
    return True


async def doubled(wire: Wire, reply: bytes) -> bool:
    """The reply twice at once."""
    await wire.send(reply + reply)
    return True


async def doubled_late(wire: Wire, reply: bytes) -> bool:
    """The reply, and once more a while later."""
    await wire.send(reply)
    await asyncio.sleep(LATE_S)
    await wire.send(reply)
    return True


async def doubled_in_part(wire: Wire, reply: bytes) -> bool:
    """The reply and the beginning of another, whose end comes later."""
    await wire.send(reply + reply[:20])
    await asyncio.sleep(LATE_S)
    await wire.send(reply[20:])
    return True


async def in_pieces(wire: Wire, reply: bytes) -> bool:
    """The reply in three pieces, the last of which begins another."""
    third = len(reply) // 3
    for piece in (reply[:third], reply[third : 2 * third], reply[2 * third :] + reply):
        await wire.send(piece)
        await asyncio.sleep(0)
    return True


async def unasked_timeout(wire: Wire, reply: bytes) -> bool:
    """The reply, and a while later a 408 that does not end the connection."""
    await wire.send(reply)
    await asyncio.sleep(LATE_S)
    await wire.send(ok('{"error":{"message":"idle","code":1}}', status="408 Request Timeout"))
    return True


async def with_a_body(wire: Wire, reply: bytes) -> bool:
    """A body where there is none: after the reply to HEAD this is another's whole reply."""
    body = ok(body_for("stray", "body"))
    await wire.send(reply, body if reply.endswith(b"\r\n\r\n") else body.partition(b"\r\n\r\n")[2])
    return True


async def chunked_and_more(wire: Wire, reply: bytes) -> bool:
    """The reply in chunks, and bytes after the last."""
    body = reply.partition(b"\r\n\r\n")[2]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    await wire.send(head if not body else head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), b"HTTP/1.1 2")
    return True


async def announced(wire: Wire, reply: bytes) -> bool:
    """Interim answers first."""
    await wire.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", reply)
    return True


async def cut(wire: Wire, reply: bytes) -> bool:
    """Half the reply, then the end of the connection."""
    await wire.send(reply[: len(reply) // 2])
    wire.cut()
    return False


async def hung_up(wire: Wire, _reply: bytes) -> bool:
    """No reply, and the end of the connection."""
    wire.writer.close()
    return False


async def late(wire: Wire, reply: bytes) -> bool:
    """The reply after a while, when some of its callers have left."""
    await asyncio.sleep(2 * LATE_S)
    await wire.send(reply)
    return True


FAULTS: tuple[Fault, ...] = (
    doubled, doubled_late, doubled_in_part, in_pieces, unasked_timeout, with_a_body, chunked_and_more, announced, cut,
    hung_up, late,
)  # fmt: skip


@dataclass
class StrayGraph:
    """Answers each message rightly, but for a *share* of them, which get one of the faults."""

    share: float
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    faults: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    """How often each write came, by the id that its body says."""
    messages: int = 0

    async def serve(self, wire: Wire, _at: Listener) -> None:
        """Answer the messages of one connection."""
        goes_on = True
        while goes_on:
            head = await wire.head()
            is_early = head.method == "POST" and head.target.lstrip("/")[:1] == "v" and self.dice.random() < self.share
            if is_early and int(head.fields.get("Content-Length", "0")) > 0:
                await self._refuse_early(wire, head)
                return
            head.body = await wire.reader.readexactly(int(head.fields.get("Content-Length", "0")))
            self.messages += 1
            self._note_writes(head)
            fault = self.dice.choice(FAULTS) if self.dice.random() < self.share else plain
            self.faults[fault.__name__] += 1
            goes_on = await fault(wire, right_reply(head))

    async def _refuse_early(self, wire: Wire, head: Message) -> None:
        """An answer to a message whose body has not been read; the connection ends."""
        self.faults["early"] += 1
        await wire.send(ok(body_for(*named(head)), status="400 Bad Request"))

    def _note_writes(self, message: Message) -> None:
        form = parse_qs(message.body.decode("latin-1"))
        self.writes.update(form.get("write", ()))
        for operation in json.loads(form.get("batch", ["[]"])[0]):
            self.writes.update(parse_qs(operation.get("body", "")).get("write", ()))
