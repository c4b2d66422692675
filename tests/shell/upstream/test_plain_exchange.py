"""A batch that leaves without a task gets what a task would get, whatever comes back and however it is cut."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.batch.request import batch_part
from proxy.core.batch.response import BatchFailure
from proxy.core.http.errors import Late, SidecarError
from proxy.core.model import Credential, Headers, Reply, Request
from proxy.shell.upstream.client import StartedBatch, UpstreamClient, UpstreamOptions
from proxy.shell.upstream.plain_exchange import PlainHeads, read_head
from tests.shell.fakes import ask
from tests.wires import Listener, Wire, listening, ok

TOP = Credential("EAABsecret")
ARRAY = b'[{"code":200,"headers":[],"body":"{\\"id\\":\\"111\\"}"}]'
LONG = b"[" + b" " * 300_000 + b"]"


def chunked(body: bytes, *fields: str, end: bytes = b"0\r\n\r\n", size: int = 30) -> bytes:
    """A reply in chunks of this *size*."""
    head = "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *fields, "", ""]).encode()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return head + b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


PACKED = gzip.compress(ARRAY)
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
PLAIN = {
    "an array": ok(ARRAY),
    "no slots": ok(b"[]"),
    "a long array": ok(LONG),
    "in chunks": chunked(ARRAY),
    "in one chunk": chunked(ARRAY, size=1000),
    "packed": ok(PACKED, "Content-Encoding: gzip"),
    "packed in chunks": chunked(PACKED, "Content-Encoding: gzip", "Connection: keep-alive"),
    "kept alive": ok(ARRAY, "Connection: keep-alive", 'X-App-Usage: {"call_count":1}', "Set-Cookie: a=b; path=/"),
}  # fmt: skip
OTHERS = {
    "in chunks that say more": chunked(ARRAY).replace(b"\r\n1E\r\n", b"\r\n1E;a=b\r\n"),
    "in chunks of wrong sizes": chunked(ARRAY).replace(b"\r\n1E\r\n", b"\r\n1D\r\n"),
    "in chunks without a size": chunked(ARRAY).replace(b"\r\n1E\r\n", b"\r\n\r\n"),
    "in chunks with a trailer": chunked(ARRAY, end=b"0\r\nX-Sum: 1\r\n\r\n"),
    "in chunks and more": chunked(ARRAY) + b"HTTP/1.1 2",
    "no chunk but the last": chunked(b""),
    "by length and in chunks": chunked(ARRAY, "Content-Length: 3"),
    "nothing": ok(b""),
    "packed in part": ok(PACKED[:-1], "Content-Encoding: gzip"),
    "packed twice": ok(PACKED * 2, "Content-Encoding: gzip"),
    "packed and more": ok(PACKED + b"more", "Content-Encoding: gzip"),
    "not packed": ok(ARRAY, "Content-Encoding: gzip"),
    "packed and large": ok(gzip.compress(b"[" + b" " * 2**21 + b"]"), "Content-Encoding: gzip"),
    "packed by another": ok(zlib.compress(ARRAY), "Content-Encoding: deflate"),
    "packed in a strange way": ok(ARRAY, "Content-Encoding: br"),
    "announced": EARLY_HINTS + ok(ARRAY),
    "an object": ok(b'{"id":"1"}'),
    "an error": ok(b'{"error":{"code":1}}', status="500 Internal Server Error"),
    "idle for too long": ok(b"{}", status="408 Request Timeout"),
    "the last": ok(ARRAY, "Connection: close"),
    "twice": ok(ARRAY) * 2,
    "and a part of another": ok(ARRAY) + ok(ARRAY)[:20],
    "and bytes that are no head": ok(ARRAY) + b"{}\r\n\r\n",
    "two lengths": ok(ARRAY, f"Content-Length: {len(ARRAY)}"),
    "two different lengths": ok(ARRAY, "Content-Length: 3"),
    "a length that is none": ok(ARRAY).replace(b"Content-Length: ", b"Content-Length: +"),
    "a folded field": ok(ARRAY, "X-Folded: a", " b"),
    "a field without a name": ok(ARRAY, ": a"),
    "a field of other letters": ok(ARRAY, "X-Name: \xe4"),
    "an empty field": ok(ARRAY, "X-Empty:"),
    "of version 1.0": ok(ARRAY).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "with a trailer": ok(ARRAY, "Trailer: X-Sum"),
    "an upgrade": ok(ARRAY, "Upgrade: h2c", "Connection: upgrade"),
}
NOT_BY_THEIR_HEADS = {
    "packed in a strange way", "packed by another", "announced", "an error", "idle for too long", "the last",
    "two lengths", "two different lengths", "a length that is none", "by length and in chunks", "nothing",
    "a folded field", "a field without a name", "a field of other letters", "an empty field", "of version 1.0",
    "no HTTP", "with a trailer", "an upgrade",
}  # fmt: skip
"""The others of which the head alone shows that they are not plain."""

ENDED = {
    "until the end": b"HTTP/1.1 200 OK\r\n\r\n" + ARRAY,
    "half a head": ok(ARRAY)[:25],
    "half a body": ok(ARRAY)[:-5],
    "nothing": b"",
}


@dataclass
class Taken:
    """Who takes the answer to a batch that left without a task."""

    outcome: asyncio.Future[object] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    started: StartedBatch | None = None
    task: asyncio.Task[None] | None = None

    def take(self, fields: Headers, body: bytes) -> None:
        assert self.started is not None
        self.outcome.set_result(self.started.reply(fields, body))

    def read_on(self) -> None:
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.started is not None
        try:
            self.outcome.set_result(await self.started.answer())
        except SidecarError as error:
            self.outcome.set_result(error)


@dataclass
class Stand:
    """A client, and a Graph that answers each message after the first with *said*, in these pieces."""

    client: UpstreamClient
    at: Listener
    read: Request

    async def prime(self) -> None:
        """Let a connection be kept."""
        await self.client.batch([self.read], TOP)

    async def by_task(self) -> object:
        try:
            return await self.client.batch([self.read], TOP)
        except SidecarError as error:
            return error

    def start(self) -> Taken | None:
        taken = Taken()
        taken.started = self.client.start_batch(self.read, TOP, [batch_part(self.read)], taken)
        return taken if taken.started is not None else None

    async def without_task(self) -> tuple[object, bool]:
        """The outcome, and whether a task was needed for it."""
        taken = self.start()
        assert taken is not None, "a connection is kept"
        return await taken.outcome, taken.task is not None


@asynccontextmanager
async def stand(
    answer: Callable[[Wire], Awaitable[None]], reply_timeout_s: float = 20.0, **way: object
) -> AsyncIterator[Stand]:
    """A Graph that does *answer* with each message after the first of a connection."""

    async def serve(wire: Wire, at: Listener) -> None:
        at.arrived.append(await wire.message())
        await wire.send(ok(b"[]"))
        while True:
            at.arrived.append(await wire.message())
            await answer(wire)

    async with listening(serve) as at:
        host = f"127.0.0.1:{at.port}"
        options = UpstreamOptions(frozenset({host}), "graph-sidecar", 20.0, reply_timeout_s, **way)  # type: ignore[arg-type]
        client = UpstreamClient(options)
        await client.open()
        try:
            yield Stand(client, at, ask(token=TOP.token, host=host))
        finally:
            await client.close()


def told(outcome: object) -> object:
    """What matters of an *outcome*."""
    if isinstance(outcome, Reply):
        return outcome.status, outcome.headers, outcome.body, outcome.channel, outcome.upstream_s is not None
    return outcome if isinstance(outcome, BatchFailure) else (type(outcome), str(outcome))


def cuts(said: bytes, dice: random.Random) -> list[list[bytes]]:
    """*said* whole, and in pieces, some of them of one byte."""
    found = [[said]]
    for _ in range(3):
        ends = sorted({0, len(said), *dice.choices(range(len(said) + 1), k=dice.randint(1, 3))})
        found.append([said[start:end] for start, end in pairwise(ends)])
    return [*found, [said[:1], said[1:]], [said[:-1], said[-1:]]]


async def sent(wire: Wire, pieces: list[bytes]) -> None:
    """Send *pieces*, each in a packet of its own where the machine has time."""
    for piece in pieces:
        await wire.send(piece)
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
async def test_the_outcome_is_that_of_a_task(name: str) -> None:
    """The same reply or error, and the same end for the connection."""
    said = (PLAIN | OTHERS)[name]
    for pieces in cuts(said, random.Random(name)):
        outcomes = []
        for way in ("by_task", "without_task"):
            async with stand(lambda wire, pieces=pieces: sent(wire, pieces)) as here:  # type: ignore[misc]
                await here.prime()
                outcome = await getattr(here, way)()
                outcome = outcome[0] if isinstance(outcome, tuple) else outcome
                await asyncio.sleep(0.002)
                is_kept = here.start() is not None
                outcomes.append((told(outcome), is_kept if len(pieces) == 1 else None))
        assert outcomes[0] == outcomes[1], pieces


@pytest.mark.parametrize("name", ENDED)
async def test_the_end_of_a_connection_is_told_as_by_a_task(name: str) -> None:
    """A connection that ends in the middle of a response, or before it."""

    async def answer(wire: Wire) -> None:
        await wire.send(ENDED[name])
        wire.writer.close()

    outcomes = []
    for way in ("by_task", "without_task"):
        async with stand(answer) as here:
            await here.prime()
            outcome = await getattr(here, way)()
            outcomes.append(told(outcome[0] if isinstance(outcome, tuple) else outcome))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("cut", [0, 1])
async def test_a_plain_response_needs_no_task(name: str, cut: int) -> None:
    """However many pieces its body comes in."""
    said = PLAIN[name]
    pieces = [said[:-cut], said[-cut:]] if cut else [said]
    async with stand(lambda wire: sent(wire, pieces)) as here:
        await here.prime()
        for _ in range(3):
            outcome, has_task = await here.without_task()
            assert isinstance(outcome, Reply)
            assert outcome.body == {"no slots": b"[]", "a long array": LONG}.get(name, ARRAY)
            assert not has_task
        assert here.at.connections == 1


@pytest.mark.parametrize("said", [b"", ok(ARRAY)[:30], ok(ARRAY)[:-3]], ids=["silence", "in the head", "in the body"])
async def test_silence_is_late(said: bytes) -> None:
    """A response that does not come, or stops, is late; the connection is not used again."""

    async def answer(wire: Wire) -> None:
        await wire.send(said)
        await wire.ended()

    async with stand(answer, reply_timeout_s=0.1) as here:
        await here.prime()
        outcome, _ = await here.without_task()
        assert isinstance(outcome, Late)
        assert here.start() is None


async def test_more_than_the_budget_waits_its_turn_in_a_task() -> None:
    """A response that has no room is read as any other large one."""
    async with stand(lambda wire: wire.send(ok(LONG)), buffer_bytes=400_000) as here:
        await here.prime()
        assert told((await here.without_task())[0]) == BatchFailure.LARGE


async def test_nobody_waits_any_more() -> None:
    """A batch that is given up ends its connection; what comes later is taken by nobody."""
    ended = asyncio.Event()

    async def answer(wire: Wire) -> None:
        await wire.ended()
        ended.set()

    async with stand(answer) as here:
        await here.prime()
        taken = here.start()
        assert taken is not None
        assert taken.started is not None
        taken.started.close()
        await asyncio.wait_for(ended.wait(), 20)
        assert not taken.outcome.done()


async def test_without_a_kept_connection_nothing_is_sent() -> None:
    """The first batch, and one while the connections rest, is sent by a task."""
    async with stand(lambda wire: wire.send(ok(ARRAY)), rest_s=3600) as here:
        assert here.start() is None
        await here.prime()
        assert here.start() is None
        assert len(here.at.arrived) == 1


def test_no_head_is_plain_that_says_more() -> None:
    """What a plain head is: each other is left to aiohttp's parser."""
    heads = {name: read_head(said) for name, said in (PLAIN | OTHERS).items()}
    assert not {name for name in PLAIN if heads[name] is None}
    assert {name for name in OTHERS if heads[name] is None} == NOT_BY_THEIR_HEADS
    assert read_head(ok(ARRAY, *["X: 1"] * 200)) is None
    assert read_head(ok(ARRAY, f"X: {'1' * 20_000}")) is None
    fields = (("Content-Type", "application/json"), ("Content-Length", str(len(ARRAY))))
    assert read_head(ok(ARRAY)) == (fields, len(ok(ARRAY)) - len(ARRAY), len(ARRAY), False)


VALUES = ("1", "a b", "keep-alive", "close", "gzip", "br", "chunked", "1" * 40, "", " a", "a ", "\xe4", "a\rb", "a\x00")
NAMES = ("Connection", "connection", "Content-Encoding", "Content-Length", "Transfer-Encoding", "X-A", "x b")
HEADS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4).map(tuple)


@given(st.lists(HEADS, min_size=1, max_size=3), st.data())
def test_a_head_is_read_the_same_whatever_heads_came_before(some: list[Headers], data: st.DataObject) -> None:
    """A head whose fields have the names of an earlier one is compared with that, and read no other way."""
    heads = PlainHeads()
    for _ in range(8):
        fields = [
            (name, data.draw(st.sampled_from((value, *VALUES)))) for name, value in data.draw(st.sampled_from(some))
        ]
        said = "".join(f"{name}: {value}\r\n" for name, value in fields)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {data.draw(st.integers(0, 99))}\r\n{said}\r\n".encode("latin-1")
        assert heads.read(head + ARRAY) == read_head(head + ARRAY)


def test_a_head_like_the_last_is_read_by_what_varies_in_it() -> None:
    """So is one after a head of other fields; what has varied once may vary again."""
    heads = PlainHeads()
    said = [ok(ARRAY, f"X-Trace: {trace}", f"X-Same: {same}") for trace, same in ("ab", "bb", "cb", "dc", "eb", "fb")]
    assert [heads.read(each) for each in [*said, ok(ARRAY), *said]] == [
        read_head(each) for each in [*said, ok(ARRAY), *said]
    ]
    assert heads.read(ok(ARRAY, "X-Trace: g", "X-Same: d", "Connection: close")) is None
