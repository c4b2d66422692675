"""Starting, draining, dying and starting again: the real command in a process of its own."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from tests.journeys.conftest import MakeAsk, MakeGate, MakeGraph, MakeTwins
from tests.journeys.processes import serving
from tests.journeys.talking import assert_alike, troubles
from tests.wires import Listener, Wire, calling, listening

READ = "/v25.0/111"
FOREVER = "drain_s=3600"


async def silence(wire: Wire, at: Listener) -> None:
    """A Graph that hears and says nothing."""
    at.arrived.append(await wire.message())
    at.news.set()
    await wire.ended()


# --- the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_what_is_open_is_finished(
    graph: MakeGraph, gate: MakeGate, ask: MakeAsk, tmp_path: Path, number: signal.Signals
) -> None:
    """At the end open reads get their answers, those that wait for a batch too, new callers are refused, status 0.

    Who is in the middle of asking is answered, and told that the connection ends.
    """
    behind = await graph()
    shut = gate(behind)
    async with (
        serving(behind.url, tmp_path, FOREVER, "upstream.connections=1") as sidecar,
        calling(sidecar.url) as kept,
    ):
        caller, probe = await ask(sidecar.url), await ask(sidecar.admin_url)
        assert (await probe.say("/readyz")).status == 200
        first = await caller.start(caller.say(READ, token="ann"))
        await shut.has(1)
        queued = await caller.start(caller.say("/v25.0/222", token="ann"), caller.say("/v25.0/333", token="bob"))
        while (await probe.say("/stats")).json["queued"] != 2:
            pass
        await kept.send("GET /?callback=1 HTTP/1.1\r\n")
        await probe.say("/livez")  # by now it has heard that
        sidecar.signal(number)
        await sidecar.says("draining")
        ready = await probe.say("/readyz")
        assert (ready.status, ready.body) == (503, b"draining\n")
        assert (await probe.say("/livez")).status == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await (await ask(sidecar.url)).say(READ)
        await kept.send("Host: a\r\n\r\n")
        late = await kept.message()
        assert (late.status, late.fields["Connection"]) == (400, "close")
        shut.open()
        heard = await asyncio.gather(*first, *queued)
        assert [each.json["id"] for each in heard] == ["111", "222", "333"]
        assert await sidecar.ended() == 0
        assert "Traceback" not in sidecar.said


@pytest.mark.parametrize("drain_s", ["0", "0.2"])
async def test_draining_is_bounded(tmp_path: Path, drain_s: str) -> None:
    """A Graph that never answers does not keep the process: after drain_s it ends, and with status 0.

    Who still waits then for the beginning of an answer is told so; a write is not told to try again, for it may have
    happened.
    """
    async with (
        listening(silence) as at,
        serving(at.url, tmp_path, f"drain_s={drain_s}", "upstream.reply_timeout_s=3600") as sidecar,
        calling(sidecar.url) as reading,
        calling(sidecar.url) as writing,
    ):
        await reading.send(f"GET {READ}?access_token=t HTTP/1.1\r\nHost: a\r\n\r\n")
        await writing.send(f"POST {READ} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        await at.news.wait()
        sidecar.signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await sidecar.ended() == 0
        for wire, may_be_repeated in ((reading, True), (writing, False)):
            heard = await wire.message()
            assert (heard.status, b"graph-sidecar: the sidecar has stopped" in heard.body) == (503, True)
            assert (b'"is_transient":true' in heard.body, "Retry-After" in heard.fields) == (may_be_repeated,) * 2
        assert "Traceback" not in sidecar.said


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    """Who says it twice means it: what is open is broken off at once, and the status is not that of a clean end."""
    async with (
        listening(silence) as at,
        serving(at.url, tmp_path, FOREVER, "upstream.reply_timeout_s=3600") as sidecar,
        calling(sidecar.url) as wire,
    ):
        await wire.send(f"GET {READ}?access_token=t HTTP/1.1\r\nHost: a\r\n\r\n")
        await at.news.wait()
        sidecar.signal(signal.SIGTERM)
        await sidecar.says("draining")
        sidecar.signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await sidecar.ended() == 1
        assert "Traceback" not in sidecar.said


async def test_goodbye_is_said_in_the_head(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """Within the grace new requests are taken; whatever way they go, their answers say that the connection ends."""
    behind = await graph()
    async with serving(behind.url, tmp_path, "drain_grace_s=3600") as sidecar:
        probe = await ask(sidecar.admin_url)
        async with calling(sidecar.url) as reading, calling(sidecar.url) as writing:
            for wire in (reading, writing):
                await wire.send(f"GET {READ}?access_token=t HTTP/1.1\r\nHost: a\r\n\r\n")
                assert "close" not in (await wire.message()).fields.get("Connection", "")
            sidecar.signal(signal.SIGTERM)
            await sidecar.says("draining")
            assert (await probe.say("/readyz")).status == 503
            told = (await probe.say("/stats")).json
            assert (told["state"], [each["about"] for each in troubles(told)]) == ("draining", ["drain"])
            await reading.send(f"GET {READ}?access_token=t HTTP/1.1\r\nHost: a\r\n\r\n")
            await writing.send(f"POST {READ}?access_token=t&name=x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            for wire in (reading, writing):
                heard = await wire.message()
                assert (heard.status, heard.fields["Connection"]) == (200, "close")
                assert await wire.everything() == b""
        async with calling(sidecar.url) as late:
            await late.send(f"GET {READ}?access_token=t HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await late.message()).status == 200


async def test_idle_connections_do_not_hold_up_the_end(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """Clients keep connections open for a next request; nobody waits for those."""
    behind = await graph()
    async with serving(behind.url, tmp_path, FOREVER) as sidecar, calling(sidecar.url) as idle:
        caller = await ask(sidecar.url)
        assert (await caller.say(READ, token="ann")).status == 200
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0
        assert await idle.everything() == b""


async def test_an_upload_in_progress_is_finished(graph: MakeGraph, tmp_path: Path) -> None:
    """Draining waits for a body that is still coming, too."""
    behind = await graph()
    async with serving(behind.url, tmp_path, FOREVER) as sidecar, calling(sidecar.url) as wire:
        await wire.send(f"POST {READ}/photos?access_token=t HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nmes")
        await wire.send("")
        while not await _taken(sidecar.admin_url, wire):
            pass
        sidecar.signal(signal.SIGTERM)
        await sidecar.says("draining")
        await wire.send("s=1")
        assert (await wire.message()).status == 200
        assert await sidecar.ended() == 0


async def _taken(admin_url: str, _wire: Wire) -> bool:
    """Whether the sidecar has turned once since it was written to: then it has read what was sent."""
    async with aiohttp.ClientSession() as session, session.get(f"{admin_url}/livez") as reply:
        return reply.status == 200


async def test_what_was_read_is_there_after_a_restart(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """What is unwritten at the end is written: the next start revalidates it all and moves no body again."""
    behind = await graph(body_bytes=2000)
    paths = [f"/v25.0/{number}" for number in range(100, 160)]
    heard = []
    for _start in range(2):
        async with serving(behind.url, tmp_path) as sidecar:
            caller = await ask(sidecar.url)
            heard.append(await asyncio.gather(*(caller.say(path, token="ann") for path in paths)))
            sidecar.signal(signal.SIGTERM)
            assert await sidecar.ended() == 0
    assert [each.body for each in heard[1]] == [each.body for each in heard[0]]
    assert {each.cache for each in heard[1]} == {"fwd=stale; fwd-status=304"}
    assert behind.ledger.not_modified["batch"] == len(paths)


@pytest.mark.parametrize("after", [1, 40, 120])
async def test_after_kill_9_answers_are_right(twins: MakeTwins, ask: MakeAsk, tmp_path: Path, after: int) -> None:
    """Killed in the middle of writing, the next start serves the right answers, from what is whole of its cache."""
    here = await twins(body_bytes=2000)
    paths = [f"/v25.0/{number}" for number in range(1000, 1300)]
    async with serving(here.behind.url, tmp_path, "batch.slots=5") as sidecar:
        caller = await ask(sidecar.url)
        reads = [asyncio.ensure_future(caller.say(path, token="ann")) for path in paths]
        for done in asyncio.as_completed(reads):
            await done
            if sum(read.done() for read in reads) > after:
                break
        sidecar.signal(signal.SIGKILL)
        await sidecar.ended()
        await asyncio.gather(*reads, return_exceptions=True)
    here.alone.world.touch("1001", {"name": "new"})
    here.behind.world.touch("1001", {"name": "new"})
    async with serving(here.behind.url, tmp_path) as sidecar:
        caller = await ask(sidecar.url)
        for path in paths:
            through = await caller.say(path, token="ann")
            assert_alike(await here.direct.say(path, token="ann"), through)
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.ended() == 0
        assert "Traceback" not in sidecar.said


# --- the start


def refused(*arguments: str) -> str:
    """The one line with which the command refuses to start, on status 2."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("graph-sidecar: ")
    return done.stderr


@pytest.mark.parametrize("name", ["listen", "admin"])
def test_a_port_in_use_is_said(name: str) -> None:
    """Who starts a second one on the same port reads which setting is in the way."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
        said = refused(f"--{name}", where)
    assert name in said
    assert where in said
    assert "in use" in said


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A cache folder that cannot be made is said at the start, with its setting and its path."""
    (tmp_path / "file").write_text("")
    said = refused("--cache-dir", str(tmp_path / "file" / "cache"))
    assert "cache.dir" in said
    assert str(tmp_path / "file") in said


@pytest.mark.parametrize("size,mode", [(31, 0o600), (33, 0o600), (32, 0o644), (0, 0o600)])
def test_a_key_that_cannot_be_trusted_is_said(tmp_path: Path, size: int, mode: int) -> None:
    """A key file of the wrong size, or that others may read, is refused and not repaired."""
    key = tmp_path / "key"
    key.write_bytes(bytes(size))
    key.chmod(mode)
    said = refused("--set", f"cache.key_file={key}")
    assert "cache.key_file" in said
    assert str(key) in said
    assert key.stat().st_size == size


@pytest.mark.parametrize("setting", ["batch.slots=51", "batch.slots=0", "batch.slots=many", "batch.slot=5"])
def test_a_bad_setting_is_said(setting: str) -> None:
    """More slots than Graph takes, nonsense and unknown names are refused by name, before anything is opened."""
    said = refused("--set", setting)
    assert setting.partition("=")[0] in said


# --- a cache that somebody else has had


def _garbage(folder: Path) -> None:
    (folder / "cache.db").write_bytes(b"no database " * 1000)


def _torn(folder: Path) -> None:
    database = folder / "cache.db"
    database.write_bytes(database.read_bytes()[: database.stat().st_size // 2])


def _overwritten(folder: Path) -> None:
    database = folder / "cache.db"
    blob = bytearray(database.read_bytes())
    blob[4096:8192] = os.urandom(4096)
    database.write_bytes(bytes(blob))


def _empty(folder: Path) -> None:
    (folder / "cache.db").write_bytes(b"")


def _a_folder(folder: Path) -> None:
    (folder / "cache.db").unlink()
    (folder / "cache.db").mkdir()


def _a_link(folder: Path) -> None:
    (folder / "cache.db").unlink()
    (folder / "cache.db").symlink_to("/etc/hostname")


def _planted(folder: Path) -> None:
    """A pickle whose loading would leave a mark, in the places where a cache keeps files."""

    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return (Path.touch, (folder.parent / "exploded",))

    for name in ("cache.db-journal", "00/00/bomb.val", "settings.pickle"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(pickle.dumps(Bomb()))


def _no_wal(folder: Path) -> None:
    for name in ("cache.db-wal", "cache.db-shm"):
        (folder / name).write_bytes(os.urandom(5000))


@pytest.mark.parametrize("spoil", [_garbage, _torn, _overwritten, _empty, _a_folder, _a_link, _planted, _no_wal])
async def test_a_spoiled_cache_is_a_miss(
    twins: MakeTwins, ask: MakeAsk, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Whatever the cache folder holds, the sidecar starts, serves right answers, runs nothing, and ends well."""
    here = await twins(body_bytes=2000)
    paths = [f"/v25.0/{number}" for number in range(1000, 1020)]
    for start in range(2):
        async with serving(here.behind.url, tmp_path) as sidecar:
            caller = await ask(sidecar.url)
            for path in paths * 2:
                through = await caller.say(path, token="ann")
                assert_alike(await here.direct.say(path, token="ann"), through)
            sidecar.signal(signal.SIGTERM)
            assert await sidecar.ended() == 0
            assert "Traceback" not in sidecar.said
        if not start:
            spoil(tmp_path / "cache")
    assert not (tmp_path / "exploded").exists()


async def test_two_on_one_folder_both_serve(graph: MakeGraph, ask: MakeAsk, tmp_path: Path) -> None:
    """A second sidecar on the same folder, as in a rolling update, serves too; each is right, and both end well."""
    behind = await graph(body_bytes=2000)
    async with serving(behind.url, tmp_path) as one, serving(behind.url, tmp_path) as other:
        callers = [await ask(one.url), await ask(other.url)]
        for name in ("first", "second"):
            behind.world.touch("111", {"name": name})
            for caller in callers * 2:
                heard = await caller.say("/v25.0/111?fields=name", token="ann")
                assert (heard.status, heard.json["name"]) == (200, name)
        for sidecar in (one, other):
            sidecar.signal(signal.SIGTERM)
            assert await sidecar.ended() == 0
