"""Tokens, proofs and what bodies hold are text in memory alone: everything else that the program writes is searched."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import signal
from collections.abc import Iterator
from pathlib import Path
from types import CoroutineType, FunctionType, ModuleType
from urllib.parse import quote

import aiohttp
import pytest

from proxy.emulator import proof_of
from tests.journeys.collecting import collecting
from tests.journeys.conftest import MakeAsk, MakeGate, MakeGraph, MakeScene
from tests.journeys.processes import Serving, serving
from tests.journeys.talking import Ask

APP_SECRET = "APPSECRETAPPSECRET"
TOKEN = "EAAGoodTokenGoodToken"
PIPED = "999|AppTokenAppToken"
DEAD = "EAADeadTokenDeadToken"
SHY = "EAAShyTokenShyToken"
PROOF = proof_of(APP_SECRET, TOKEN)
FORGED = "f0f0f0f0f0f0f0f0f0f0"
INSIDE = "a secret that a user wrote down"
ALL = (APP_SECRET, TOKEN, PIPED, DEAD, SHY, PROOF, FORGED, INSIDE, "EAAP", "CODECODECODE")

READ = "/v25.0/111?fields=id,name,feed.limit(1){message}"


def spellings(secret: str) -> Iterator[bytes]:
    """The forms in which a secret may lie about."""
    plain = secret.encode()
    yield from (plain, quote(secret, safe="").encode(), plain.hex().encode(), secret.encode("utf-16-le"))
    if len(plain) < 12:
        return
    # Base64 of a longer text holds one of three forms of its middle.
    for shift in range(3):
        yield base64.b64encode(bytes(shift) + plain)[4:-4]


def found_in(heap: bytes) -> list[str]:
    """The secrets that *heap* holds in any form."""
    return [secret for secret in ALL if any(form in heap for form in spellings(secret))]


async def every_kind_of_request(caller: Ask) -> None:
    """Reads, writes and nonsense, with every secret in every place that may hold one."""
    for token in (TOKEN, PIPED, DEAD, SHY):
        for scheme in ("Bearer", "OAuth", "Basic", ""):
            await caller.say(READ, headers={"Authorization": f"{scheme} {token}".strip()})
        given = quote(token, safe="")
        for path in (
            READ, f"{READ}&appsecret_proof={PROOF}", f"{READ}&appsecret_proof={FORGED}&appsecret_time=1",
            f"{READ}&callback=cb", f"{READ}&callback=1", "/me/accounts", "/v25.0/404111", "/v25.0/111?fields=nope",
            "/v25.0/111/picture", f"/v25.0/debug_token?input_token={given}", f"/v25.0/111?access.token={given}",
            f"/oauth/access_token?client_id=1&client_secret={APP_SECRET}&code=CODECODECODE", "/v25.0/../111",
        ):  # fmt: skip
            await caller.say(path, token=given)
            await caller.say(
                path, token=given, headers={"Cache-Control": "only-if-cached", "Authorization": "Bearer x"}
            )
        await caller.say("/v25.0/111", method="POST", data={"name": INSIDE, "access_token": token})
        await caller.say("/v25.0/222", method="DELETE", token=given)
        await caller.say("/", method="POST", data={"access_token": token, "batch": '[{"relative_url":"me"}]'})
        part = f'--b\r\nContent-Disposition: form-data; name="access_token; x={token}\r\n\r\n{token}\r\n--b--\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        await caller.say("/", method="POST", token=given, headers=kind, data=part.encode())


async def nonsense(front: Serving) -> None:
    """What no HTTP client sends: unreadable heads, and connections that end too early."""
    host, _, port = front.url.removeprefix("http://").rpartition(":")
    for head in (
        f"GET /{TOKEN}?access_token={TOKEN} HTTP/9.9",
        f"GET /æ?access_token={TOKEN} HTTP/1.1",
        f"GET /111?access_token={TOKEN} HTTP/1.1\r\nAuthorization {TOKEN}",
        f"GET /111?access_token={TOKEN} HTTP/1.1\r\nContent-Length: {TOKEN}",
        f"CONNECT {TOKEN}:443 HTTP/1.1",
        f"{TOKEN} / HTTP/1.1",
        f"GET /111?access_token={TOKEN}&x={'x' * 70_000} HTTP/1.1",
        f"GET /111?access_token={TOKEN} HTTP/1.1\r\nX: {'x' * 70_000}",
        f"POST /111?access_token={TOKEN} HTTP/1.1\r\nContent-Length: 100",
        f"GET http://[{TOKEN}/111 HTTP/1.1",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode())
        writer.write_eof()
        await reader.read()
        writer.close()


def files_of(folder: Path) -> list[bytes]:
    """The names and the bytes of all files below *folder*."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [each for path in files for each in (str(path).encode(), path.read_bytes())]


FAULTS = ("null", "aborted", "error", "refused", "batch_exception", "unknown", "unavailable", "html", "text", "empty",
          "error_in_200", "cut", "short", "long", "cut_middle", "lost")  # fmt: skip


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_secret_is_ever_written(graph: MakeGraph, ask: MakeAsk, tmp_path: Path, form: str) -> None:
    """At the most talkative level, through every kind of request and failure, nothing written holds a secret."""
    meta = await graph(app_secret=APP_SECRET, refused_tokens=(DEAD,), refused_on_top=(SHY,))
    meta.world.touch("111", {"name": INSIDE})
    talkative = ("log.level=debug", f"log.format={form}", "cache.stale_if_error_s=60")
    async with (
        collecting() as collector,
        serving(meta.url, tmp_path, *talkative, f"traces.endpoint={collector.url}") as front,
    ):
        caller = await ask(front.url)
        await every_kind_of_request(caller)
        for kind in FAULTS:
            meta.faults.clear()
            meta.faults.add({"kind": kind, "message": f"{INSIDE} {TOKEN}"})
            await asyncio.gather(*(caller.say(READ, token=token) for token in (TOKEN, DEAD, SHY)))
            with contextlib.suppress(aiohttp.ClientError):  # a reply that is cut off is handed on cut off
                await caller.say("/v25.0/111", method="POST", data={"name": INSIDE}, token=TOKEN)
        await nonsense(front)
        heard = [await caller.say(f"{front.admin_url}{path}") for path in ("/stats", "/metrics", "/", "/readyz")]
        assert [each.status for each in heard] == [200] * 4
        pages = [each.body for each in heard]
        front.signal(signal.SIGTERM)
        assert await front.ended() == 0
        said = "".join(front.lines).encode()
    assert len(front.lines) > 100
    assert sum("/{id}" in line and "SKIPPED" in line for line in front.lines) > 10
    assert sum("MISS" in line for line in front.lines) > 10
    written = files_of(tmp_path)
    assert sum(map(len, written)) > 10_000
    assert len(collector.spans) > 100
    for heap in (said, *pages, *written, *collector.raw):
        assert found_in(heap) == []


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_secret_is_written_while_graph_is_away(ask: MakeAsk, tmp_path: Path, form: str) -> None:
    """Nor where no connection to Graph can be made at all."""
    async with serving("http://127.0.0.1:9", tmp_path, "log.level=debug", f"log.format={form}") as front:
        caller = await ask(front.url)
        await every_kind_of_request(caller)
        front.signal(signal.SIGTERM)
        assert await front.ended() == 0
    assert len(front.lines) > 100
    assert found_in("".join(front.lines).encode()) == []


def test_the_search_finds_what_it_looks_for() -> None:
    """A secret in the middle of other text, plain or encoded, is found."""
    text = f"x{TOKEN}xy".encode()
    for heap in (text, text.hex().encode(), base64.b64encode(text), quote(f"a{PIPED}").encode()):
        assert found_in(heap)


OURS = ("proxy.core.", "proxy.shell.", "proxy.app.", "proxy.settings.")
ENDS = (type, ModuleType, FunctionType, str, bytes)
"""What is not looked into: it leads to all that there is."""


def objects_of_ours() -> Iterator[object]:
    """Each object of a class of the sidecar's that is in memory."""
    seen = set[int]()
    left = [each for each in gc.get_objects() if is_ours(each) or isinstance(each, CoroutineType)]
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, ENDS):
            continue
        seen.add(id(each))
        if is_ours(each):
            yield each
        left.extend(gc.get_referents(each))


def is_ours(each: object) -> bool:
    """Whether it is of a class of the sidecar's."""
    return str(type(each).__module__).startswith(OURS)


async def test_no_repr_shows_a_secret(scene: MakeScene, gate: MakeGate) -> None:
    """Of whatever is in memory while requests of all kinds are on their way: a repr may end up in a log."""
    rules = [{"path": "/111*", "merge": True}, {"path": "/112*", "fresh_s": 60}]
    here = await scene({"batch": {"slots": 5}, "rules": rules})
    token, proof = "EAAReprTokenReprToken", "e0e0e0e0e0e0e0e0e0e0"
    reads = [f"/v25.0/{number}?fields=id,name" for number in range(111, 117)]
    await here.crowd(*reads[:3], token=token)
    held, bearer = gate(here.graph), {"Authorization": f"Bearer {token}"}
    operations = '{"relative_url":"me"},{"relative_url":"112?access_token=' + token + '"}'
    batches = [operations, operations + ',{"method":"POST","relative_url":"113","body":"name=x"}']
    async with asyncio.TaskGroup() as group:
        for path in (
            *reads,
            *(f"{read}&appsecret_proof={proof}" for read in reads),
            "/?ids=1,2,3",
            "/v25.0/111/picture",
        ):
            group.create_task(here.say(path, token=token))
        for path in reads:
            group.create_task(here.say(path, headers=bearer))
        for batch in batches:
            sent = {"access_token": token, "batch": f"[{batch}]"}
            group.create_task(here.say("/", method="POST", data=sent))
        group.create_task(here.say("/v25.0/114", method="POST", data={"name": "x"}, token=token))
        await held.has(5)
        shown = {type(each).__name__ for each in objects_of_ours() if token in (text := repr(each)) or proof in text}
        held.open()
    assert shown == set()
