"""Which store replicas use: its version, its password, and their own clocks; what they log of it."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard

from proxy.app import components
from proxy.app import sidecar as app_sidecar
from proxy.core.cache import encryption
from tests.conftest import LONG
from tests.journeys.conftest import MakeAsk, MakeGraph, SidecarSettings
from tests.journeys.fleets import FRESH, MakeFleet, Replica, Storm, first_ad, say, share, until_async
from tests.journeys.talking import troubles
from tests.shell.valkey.servers import Server, guarded, until

READ = "/v25.0/me?fields=id,name"


@asynccontextmanager
async def aged(store: Server) -> AsyncIterator[int]:
    """The port of a relay through which *store* looks like Redis 6.."""
    tasks: set[asyncio.Future[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_store = await asyncio.open_connection("127.0.0.1", store.port)
        tasks.add(asyncio.ensure_future(relay(reader, to_store, lambda data: data)))
        tasks.add(asyncio.ensure_future(relay(theirs, writer, as_older)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]) -> None:
    """Pass on what is read, changed, until it ends."""
    try:
        with suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(change(data))
    finally:
        writer.close()


def as_older(data: bytes) -> bytes:
    """The replies of a server as an older one would send them."""
    return b"".join([older(line) if is_version(line) else line for line in data.splitlines(keepends=True)])


def is_version(line: bytes) -> bool:
    """Whether it says what the server is."""
    return line.startswith((b"redis_version:", b"valkey_version:"))


def older(line: bytes) -> bytes:
    """The same line of an older server, equally long."""
    name, _, version = line.partition(b":")
    return b"redis_version:6%b" % version[1:] if name == b"redis_version" else b"nobody_version:%b" % version


async def test_an_older_server_is_told_at_the_start(
    graph: MakeGraph, fleet: MakeFleet, store: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, and among the troubles; and reads are answered without it."""
    async with aged(store) as port:
        (a,) = await fleet(await graph(), 1, shared={"url": f"redis://127.0.0.1:{port}"})
        assert "it is Redis 6." in caplog.text
        assert "needed is Redis 7.0 or newer, or Valkey" in caplog.text
        (trouble,) = troubles(await a.stats())
        assert "it is Redis 6." in trouble["what"]
        await say(a, READ)


async def test_a_new_password_is_read_from_its_file(
    graph: MakeGraph, fleet: MakeFleet, store: Server, tmp_path: Path
) -> None:
    """While the store refuses the old one, reads go on; with the new one replicas share again, without a restart."""
    password = tmp_path / "password"
    password.write_text("the old password\n")
    password.chmod(0o600)
    store.ask("CONFIG", "SET", "requirepass", "the old password")
    a, b = await fleet(await graph(), **FRESH, shared={"password_file": password})
    await share(a, b)
    store.signal(signal.SIGKILL)
    store.options = ("--requirepass", "the new password")
    await asyncio.to_thread(store.start)
    await until(lambda: "refuses" in a.told["trouble"] and "refuses" in b.told["trouble"])
    await say(a, READ)
    password.write_text("the new password\n")
    await share(a, b)


async def test_each_change_of_the_store_is_one_line_of_the_log(
    graph: MakeGraph, fleet: MakeFleet, store: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that stays away is told once, whatever is read meanwhile, and that it answers again is told once."""
    caplog.set_level(logging.INFO, "graph_sidecar.shared")
    (a,) = await fleet(await graph(), 1, **FRESH)
    await until(lambda: bool(a.told["believed"]))
    store.signal(signal.SIGKILL)
    await until(lambda: not a.told["up"])
    for limit in range(5):
        await say(a, f"/v25.0/act_1/ads?limit={limit + 1}&fields=id")
        await asyncio.sleep(0.2)  # attempts to connect, all of which fail
    await asyncio.to_thread(store.start)
    await until(lambda: bool(a.told["up"]))
    told = [each.getMessage() for each in caplog.records if each.name == "graph_sidecar.shared"]
    away = [line for line in told if " is away: " in line]
    assert len(set(away)) == len(away) <= 2  # that the connection broke, and then why there is no other
    assert sum(line.endswith(" answers") for line in told) == 2
    assert len(told) == len(away) + 2


@pytest.mark.skipif(not LONG, reason="a Sentinel takes seconds; the client and a failover are tested alone")
async def test_a_failover_by_a_sentinel_leaves_no_read_older_than_a_write(
    graph: MakeGraph, fleet: MakeFleet, tmp_path: Path
) -> None:
    """The primary is killed in a storm of reads and writes; replicas find the next one, and share through that."""
    with guarded(tmp_path) as (url, one, two):
        a, b, c = await fleet(await graph(latency_ms=3), 3, **FRESH, shared={"url": url, "timeout_ms": 50})
        await share(a, b)
        listed = (await say(a, "/v25.0/act_1/ads?limit=6&fields=id,name")).json["data"]
        storm = Storm(a, [b, c], [each["id"] for each in listed], 3000)
        await storm.blow(lambda: one.signal(signal.SIGKILL))
        assert storm.older == []
        await until(lambda: all(each.told["believed"] for each in (a, b, c)), 60)
        await share(a, b)
        assert two.ask("ROLE")[0] == b"master"  # type: ignore[index]


async def test_an_entry_is_compressed_once_for_disk_and_store(
    graph: MakeGraph, fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain reads and reads by the layers: disk and shared store seal the same compressed body, and both open it."""
    compressed: list[bytes] = []

    def compress(body: bytes) -> bytes:
        compressed.append(body)
        return zstandard.compress(body)

    monkeypatch.setattr(
        encryption, "_tools", SimpleNamespace(pack=compress, unpack=zstandard.ZstdDecompressor().decompress)
    )
    behind = await graph(body_bytes=2048)
    a, b = await fleet(behind, 2, cache={"fresh_s": 600, "memory_mb": 0})
    await share(a, b)
    for read in ("/v25.0/120100000000042", "/v25.0/120100000000043"):
        body = (await say(a, read, headers={"TE": "trailers"} if read.endswith("3") else {})).body
        assert (await say(b, read)).body == body
        await until_async(partial(is_written, b))
        assert compressed.count(body) == 2  # each replica for both of its stores, or for its own disk
        assert (await say(a, read)).body == body


async def is_written(replica: Replica) -> bool:
    """Whether all that it holds is on its disk."""
    return not (await replica.stats())["store"]["queue_depth"]


@pytest.mark.parametrize("ahead_s", [7200.0, -7200.0])
async def test_replicas_need_not_agree_on_the_time(
    graph: MakeGraph,
    sidecar_settings: SidecarSettings,
    ask: MakeAsk,
    lifetimes: AsyncExitStack,
    *,
    store: Server,
    tmp_path: Path,
    ahead_s: float,
) -> None:
    """What was fetched by a clock that is ahead, or behind, is as old as it is; and no read is older than a write."""
    behind, pair = await graph(), []
    for number, ahead in enumerate((0.0, ahead_s)):
        cache = {"dir": tmp_path / f"cache{number}", "key_file": tmp_path / "key", "fresh_s": 600}
        settings = sidecar_settings(behind.url, cache=cache, shared={"url": store.url, "timeout_ms": 500})
        clocks = components.Clocks(now=partial(later, ahead))
        running = await lifetimes.enter_async_context(app_sidecar.sidecar(settings, clocks))
        pair.append(Replica(running, await ask(running.url)))
    a, b = pair
    await share(a, b)
    await share(b, a)
    ad = await first_ad(a)
    read = f"/v25.0/{ad}?fields=id,name"
    for one, other, name in ((a, b, "one"), (b, a, "two")):
        await say(other, read)
        await say(one, f"/v25.0/{ad}", method="POST", data={"name": name})
        assert (await say(other, read)).json["name"] == name
    heard = await say(b, read)
    assert heard.json["name"] == "two"
    assert int(heard.headers.get("Age", "0")) < 300


def later(seconds: float) -> float:
    """Epoch seconds by a clock that is so much ahead."""
    return time.time() + seconds
