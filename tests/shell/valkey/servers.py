"""Stores for tests: Debian's redis-server, or the server that VALKEY_SERVER names, and one that makes mistakes."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


def program() -> str:
    """The server that is tested with; skips where there is none."""
    found = os.environ.get("VALKEY_SERVER") or shutil.which("redis-server") or shutil.which("valkey-server")
    if not found:
        pytest.skip("no redis-server here; Debian: apt-get install redis-server")
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


async def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until it is *true*."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - the state of another process
            await asyncio.sleep(0.002)


@dataclass
class Server:
    """A real server, which a test may stop, freeze, kill and start again."""

    folder: Path
    port: int = field(default_factory=free_port)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `shared.url`."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [program(), "--port", str(self.port), "--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.run([*command, *self.options])

    def run(self, command: list[str]) -> None:
        """Run *command*, and wait until it answers."""
        log = str(self.folder / f"{self.port}.log")
        self.process = subprocess.Popen([*command, "--logfile", log])
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break  # it was built without what it is to do
            try:
                if self.ask(b"PING", timeout=1) is not None:
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise TimeoutError(Path(log).read_text() if Path(log).exists() else "redis-server does not start")

    def ask(self, *command: bytes | str | int, timeout: float = 5) -> object:
        """Its reply to one command, on a connection of its own."""
        import hiredis

        pack: Any = hiredis.pack_command
        reader = hiredis.Reader()
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as made:
            made.sendall(pack(command))
            while (reply := reader.gets()) is False:
                if not (data := made.recv(65536)):
                    raise ConnectionError("closed")
                reader.feed(data)
        return reply

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: STOP freezes it, CONT thaws it, KILL ends it."""
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait(10)

    def stop(self) -> None:
        """End it, frozen or not."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    """A server that runs meanwhile."""
    server = Server(folder, options=options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def guarded(folder: Path) -> Iterator[tuple[str, Server, Server]]:
    """A primary, its replica, and a Sentinel that watches them; with its address."""
    for name in ("one", "two", "sentinel"):
        (folder / name).mkdir()
    with serving(folder / "one") as one, serving(folder / "two") as two:
        two.ask("REPLICAOF", "127.0.0.1", one.port)
        watch, config = free_port(), folder / "sentinel" / "sentinel.conf"
        config.write_text(
            f"port {watch}\ndir {folder / 'sentinel'}\n"
            f"sentinel monitor main 127.0.0.1 {one.port} 1\nsentinel down-after-milliseconds main 300\n"
        )
        guard = Server(folder / "sentinel", port=watch, options=("--sentinel",))
        try:
            guard.run([program(), str(config), "--sentinel"])
            _wait_for_replica(guard, two)
            yield f"valkey+sentinel://127.0.0.1:{watch}/main", one, two
        finally:
            guard.stop()


def _wait_for_replica(guard: Server, replica: Server) -> None:
    """Wait until the Sentinel knows of the *replica*, which has all that its primary has."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        known, info = guard.ask("SENTINEL", "REPLICAS", "main"), replica.ask("INFO", "replication")
        if isinstance(known, list) and known and isinstance(info, bytes) and b"master_link_status:up" in info:
            return
        time.sleep(0.05)
    raise TimeoutError("the Sentinel knows of no replica")


@dataclass
class Faults:
    """How often a reply is dropped, doubled or delayed, of each 1000."""

    drop: float = 0
    double: float = 0
    delay: float = 0
    made: int = 0


@asynccontextmanager
async def faulty(faults: Faults, seed: int) -> AsyncIterator[int]:
    """The port of a server that answers GET with the key's own name, and makes these mistakes."""
    import hiredis

    dice = random.Random(seed)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    await _answer(writer, command, faults, dice)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _answer(writer: asyncio.StreamWriter, command: list[bytes], faults: Faults, dice: random.Random) -> None:
    """Answer."""
    text = b"body of " + command[1] if command[0].upper() == b"GET" else command[-1]
    throw = dice.random() * 1000
    times = 1
    if throw < faults.drop:
        times = 0
    elif throw < faults.drop + faults.double:
        times = 2
    elif throw < faults.drop + faults.double + faults.delay:
        await writer.drain()
        await asyncio.sleep(dice.random() * 0.06)
    faults.made += times != 1
    writer.write(b"$%d\r\n%b\r\n" % (len(text), text) * times)
