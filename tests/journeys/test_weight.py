"""One caller's weight is its own: while a heavy request is served, others are, and no turn of the loop is long."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import pytest

from tests.journeys.bombs import answers, messages
from tests.journeys.conftest import MakeAsk, MakeScripted
from tests.wires import Listener, Wire, calling, ok
from tests.work import slowness, untraced

URLENCODED = "application/x-www-form-urlencoded"
TOKEN = "EAABheavy"
LARGE = 7 * 2**20
LONGEST_TURN_S = 0.25
"""Seconds of the processor that one turn of the loop may take: five times what is wanted, for busy machines."""


def batch(*operations: dict[str, str]) -> bytes:
    """The body of a batch."""
    return urlencode({"batch": json.dumps(operations)}).encode()


def reads(*urls: str) -> bytes:
    """The body of a batch of reads."""
    return batch(*({"method": "GET", "relative_url": url} for url in urls))


def parts(count: int) -> bytes:
    """A multipart body of so many tiny parts."""
    return b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * count + b"--x--\r\n"


def named(paths: int, path: str) -> bytes:
    """A batch whose first operation is named by all others."""
    first = {"name": "a", "method": "GET", "relative_url": "me"}
    others = ({"method": "GET", "relative_url": f"{at}?a={{result=a:{path}}}"} for at in range(paths))
    return batch(first, *others)


def chain(length: int) -> list[dict[str, str]]:
    """Operations each of which depends on the one before it."""
    plain = ({"name": f"n{at}", "method": "GET", "relative_url": f"{at}"} for at in range(length))
    return [{**each, "depends_on": f"n{at - 1}"} if at else each for at, each in enumerate(plain)]


def packed(body: bytes) -> bytes:
    """*body* as a mobile SDK sends it."""
    return gzip.compress(body, 1)


HEAVY: dict[str, tuple[bytes, str, str]] = {
    "references that never close": (reads("{result=a:" * 600), URLENCODED, ""),
    "references": (reads("{result=a:$.id}" * 2000), URLENCODED, ""),
    "steps of paths": (named(300, "$" + ".a" * 3000), URLENCODED, ""),
    "paths that multiply": (named(60, "$..*..*..*"), URLENCODED, ""),
    "paths that are read in two ways": (named(1, "$" + ".data[0]" * 60), URLENCODED, ""),
    "tiny parts": (parts(10_000), "multipart/form-data; boundary=x", ""),
    "pairs": (packed(b"a&" * (LARGE // 2)), URLENCODED, "gzip"),
    "escapes": (b"batch=%5B%22" + b"%41" * (LARGE // 3) + b"%22%5D", URLENCODED, ""),
    "loose JSON": (b"batch=" + b"[{a:1}," * (LARGE // 7), URLENCODED, ""),
    "numbers": (b"batch=[" + b"1e308," * 90_000 + b"1]", URLENCODED, ""),
    "arrays": (b'{"batch":[' + b"[]," * (LARGE // 3) + b"1]}", "application/json", ""),
    "identical reads": (reads(*("me?fields=id" for _ in range(1000))), URLENCODED, ""),
    "different reads": (reads(*(f"{at}?fields=id" for at in range(1000))), URLENCODED, ""),
    "writes": (batch(*({"method": "POST", "relative_url": "1", "body": "a=b"} for _ in range(1000))), URLENCODED, ""),
    "names": (batch(*chain(1000)), URLENCODED, ""),
}


@asynccontextmanager
async def turns() -> AsyncIterator[list[float]]:
    """Measure the processor time of each turn of the loop; the longest comes first at the end."""
    found: list[float] = []

    async def watch() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            found.append(now - last)
            last = now

    gc.collect()
    gc.freeze()  # what the tests themselves hold is not gone through
    task = asyncio.ensure_future(watch())
    try:
        await asyncio.sleep(0)
        with untraced():
            yield found
    finally:
        task.cancel()
        gc.unfreeze()
        found.sort(reverse=True)


@pytest.mark.parametrize("body, kind, coding", HEAVY.values(), ids=HEAVY)
async def test_others_are_served_beside_a_heavy_request(
    scripted: MakeScripted, ask: MakeAsk, *, body: bytes, kind: str, coding: str
) -> None:
    """Another caller's read and `/livez` are answered before the heavy request is, and no turn of the loop is long."""
    others_done = asyncio.Event()

    async def graph(wire: Wire, _at: Listener) -> None:
        async for message in messages(wire):
            is_heavy = TOKEN in f"{message.fields} {message.body[-4096:]!r}"
            if is_heavy:
                await others_done.wait()
            is_batch = message.body.startswith(b"access_token")
            await wire.send(answers(message) if is_batch else ok())

    _, running = await scripted(graph, batch={"group": "token", "window_ms": 0})
    other, admin = await ask(running.url), await ask(running.admin_url)
    assert (await other.say("/v25.0/0", token="ann")).status == 200
    fields = [f"Content-Length: {len(body)}", f"Content-Type: {kind}"] + [f"Content-Encoding: {coding}"] * bool(coding)
    head = ["POST /v25.0 HTTP/1.1", "Host: a", f"Authorization: Bearer {TOKEN}", *fields, "", ""]
    async with calling(running.url) as heavy, turns() as measured:
        await heavy.send("\r\n".join(head).encode() + body)
        answer = asyncio.ensure_future(heavy.message())
        read, alive = await asyncio.gather(other.say("/v25.0/1", token="ann"), admin.say("/livez"))
        assert (read.status, alive.status, answer.done()) == (200, 200, False)
        others_done.set()
        await answer
    assert measured[0] < LONGEST_TURN_S * slowness()
