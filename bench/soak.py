"""Half an hour at half capacity with changes, restarts and reloads leaves memory, descriptors and tasks as they were.

`SOAK_MINUTES` names another length, `SOAK_RATE` another rate than half of what is measured at the start. Callers, each
with a token of its own, read objects that change by themselves, and write to objects and read these again. The settings
are read anew each half minute; Graph and the shared store are killed in turn every two minutes, and are away for some
seconds. Every five seconds what the sidecar holds is noted; the slopes are those of the second half, in which every
cache and memo has been filled. The slopes of less than ten minutes say nothing, and are not judged.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import _await_port, _free_port, gets, ids, open_connection, run, show, sidecar, table, verdict
from proxy.commands.demo.client import LostConnectionError, request
from proxy.emulator.objects.values import user_of

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
RATE = float(os.environ.get("SOAK_RATE", "0"))
LEAST_MINUTES = 10  # for slopes
OBJECTS, CALLERS, CAPACITY_S = 3000, 50, 8.0
WRITE_EVERY = 40
"""A caller's reads between two of its writes."""
NOTE_EVERY_S, RELOAD_EVERY_S, RESTART_EVERY_S, AWAY_S, AFTER_S = 5.0, 30.0, 120.0, 3.0, 5.0
MEMORY_MB, DISK_MB, STORE_MB = 4, 8, 16
"""What entries may take in memory, on disk and in the shared store: less than the reads would fill."""
GRAPH = {"body_bytes": 2048, "change_every_s": 60, "ledger_requests": 0}


class Server:
    """A program on a port of its own that can be killed and started again."""

    def __init__(self, *command):
        self.port = _free_port()
        self.command = [word.format(port=self.port) for word in command]
        self.start()

    def start(self):
        """Start it, and wait until it listens."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(self.command, cwd=Path(__file__).parents[1], **quiet)
        _await_port(self.port, self.process)

    def stop(self):
        """Kill it."""
        self.process.kill()
        self.process.wait()


@contextmanager
def servers():
    """Yield a Graph and, if there is a redis-server, a store."""
    words = [word for name, value in GRAPH.items() for word in ("--set", f"{name}={value}")]
    with ExitStack() as stack:
        graph = Server(sys.executable, "-m", "proxy", "emulate", "--listen", "127.0.0.1:{port}", *words)
        stack.callback(graph.stop)
        store = None
        if program := shutil.which("redis-server"):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            limits = ("--maxmemory", f"{STORE_MB}mb", "--maxmemory-policy", "allkeys-lru")
            store = Server(program, "--port", "{port}", "--save", "", "--dir", folder, *limits)
            stack.callback(store.stop)
        yield graph, store


@dataclass
class Soak:
    """What callers were told, and what the sidecar held."""

    ours: object
    graph: Server
    store: Server | None
    ends: float = 0.0
    told: Counter = field(default_factory=Counter)
    notes: list = field(default_factory=list)
    lives: int = 0
    """How often Graph was killed: what was written to it has gone each time."""
    troubled_until: float = 0.0

    async def caller(self, number, rate):
        """Read, and now and then write, at the caller's part of *rate* until the time is over."""
        token, own, place, connection = f"caller-{number}", 9_000_000 + number, number, None
        reads = gets(self.ours.url, ids(0, OBJECTS), token)
        wait = CALLERS / rate if rate else 0.0
        while (now := time.monotonic()) < self.ends:
            place += 1
            try:
                connection = connection or await open_connection(self.ours.url)
                if rate and place % WRITE_EVERY == 0:
                    await self._write(connection, token, own, place)
                else:
                    self._judge(await connection.ask(reads[(place * 7) % OBJECTS]), token)
            except (LostConnectionError, ConnectionError):
                connection = None
                self._count("connections lost")
            await asyncio.sleep(max(0.0, wait - (time.monotonic() - now)))
        if connection is not None:
            connection.close()

    async def _write(self, connection, token, own, number):
        """Give an object that is the caller's own a name, and read it: it has that name."""
        path, lives, body = f"/v25.0/{own}", self.lives, f"name=name-{number}"
        self.told["writes sent"] += 1
        reply = await connection.ask(request(self.ours.url, "POST", path, token=token, body=body))
        if reply.status != 200:
            self._count(f"write: {reply.status}")
            return
        self.told["writes answered"] += 1
        heard = await connection.ask(request(self.ours.url, "GET", f"{path}?fields=name,viewer", token=token))
        said = self._judge(heard, token)
        if said and said["name"] != f"name-{number}" and lives == self.lives:
            self.told["older than a write"] += 1

    def _judge(self, reply, token):
        """Count *reply*; return its body if it is good."""
        if reply.status != 200:
            self._count(f"read: {reply.status}")
            return None
        self.told["good"] += 1
        said = json.loads(reply.text)
        self.told["foreign"] += said["viewer"] != user_of(token)
        return said

    def _count(self, what):
        calm = time.monotonic() > self.troubled_until
        self.told[what + (", all being well" if calm else ", Graph being away")] += 1

    async def watcher(self):
        """Note what the sidecar holds."""
        while time.monotonic() < self.ends:
            await asyncio.sleep(NOTE_EVERY_S)
            self.notes.append(await asyncio.to_thread(self._note))

    def _note(self):
        folder, stats = Path(f"/proc/{self.ours.pid}"), self.ours.stats()
        metrics = urllib.request.urlopen(f"{self.ours.admin}/metrics").read().decode()  # noqa: S310 - our own
        return {
            "at": time.monotonic(),
            "memory, MiB": self.ours.resident_mib(),
            "open files": len(list((folder / "fd").iterdir())),
            "threads": len(list((folder / "task").iterdir())),
            "tasks": float(metrics.partition("\ngraph_sidecar_tasks ")[2].partition("\n")[0]),
            "entries in memory, MiB": stats["store"]["memory_bytes"] / 2**20,
            "entries on disk, MiB": stats["store"]["disk_bytes"] / 2**20,
            "shared store, MiB": self._shared_mib(),
        }

    def _shared_mib(self):
        if self.store is None:
            return 0.0
        found = subprocess.run(["redis-cli", "-p", str(self.store.port), "INFO", "memory"], capture_output=True,
                               text=True, check=False).stdout  # fmt: skip
        return int(found.partition("used_memory:")[2].split("\r")[0].split("\n")[0] or 0) / 2**20

    async def trouble(self):
        """Read the settings anew, and kill Graph and the store in turn, until the time is over."""
        began, reloads, restarts = time.monotonic(), 0, 0
        while time.monotonic() < self.ends:
            await asyncio.sleep(1)
            passed = time.monotonic() - began
            if passed > (reloads + 1) * RELOAD_EVERY_S:
                reloads += 1
                await asyncio.to_thread(_reload, self.ours.admin)
            if passed > (restarts + 1) * RESTART_EVERY_S and self.ends - time.monotonic() > AWAY_S + AFTER_S:
                restarts += 1
                await self._restart(self.graph if restarts % 2 or self.store is None else self.store)
        self.told["reloads"], self.told["restarts of the store"] = reloads, restarts - self.lives

    async def _restart(self, server):
        if server is self.graph:
            self.lives += 1
            self.troubled_until = time.monotonic() + 60
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(server.start)
        if server is self.graph:
            self.troubled_until = time.monotonic() + AFTER_S


async def main():
    """Measure the capacity, ask at half of it until the time is over, and note what the sidecar holds meanwhile."""
    with servers() as (graph, store):
        settings = {"cache.memory_mb": MEMORY_MB, "cache.disk_mb": DISK_MB}
        if store is not None:
            settings |= {"shared.url": f"redis://127.0.0.1:{store.port}", "shared.timeout_ms": 500}
        with sidecar(_At(f"http://127.0.0.1:{graph.port}"), **settings) as ours:
            rate = RATE or await capacity(Soak(ours, graph, store)) / 2
            soak = Soak(ours, graph, store, ends=time.monotonic() + MINUTES * 60)
            callers = (soak.caller(number, rate) for number in range(CALLERS))
            await asyncio.gather(soak.watcher(), soak.trouble(), *callers)
    tell(soak, rate)


@dataclass(frozen=True)
class _At:
    url: str


async def capacity(soak):
    """Replies a second where every caller asks again as soon as it has its reply."""
    soak.ends = time.monotonic() + CAPACITY_S
    await asyncio.gather(*(soak.caller(number, 0) for number in range(CALLERS)))
    return soak.told["good"] / CAPACITY_S


def _reload(admin):
    urllib.request.urlopen(urllib.request.Request(f"{admin}/reload", method="POST")).read()  # noqa: S310 - our own


def _slope(points):
    """The rise of *points* of time and value, by least squares, for an hour."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points) or 1.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread * 3600


def tell(soak, rate):
    """Print what was noted, and whether it is as it should be."""
    late, notes = soak.notes[len(soak.notes) // 2 :], soak.notes
    made = table(f"{MINUTES:g} minutes at {rate:.0f} a second", "median of the 2nd half", "most", "an hour brings")
    slopes = {}
    for name in (name for name in notes[0] if name != "at"):
        slopes[name] = _slope([(note["at"], note[name]) for note in late])
        middle = sorted(note[name] for note in late)[len(late) // 2]
        made.add_row(name, f"{middle:.1f}", f"{max(note[name] for note in notes):.1f}", f"{slopes[name]:+.1f}")
    show(made)
    print(
        f"  restarts of Graph: {soak.lives}; " + "; ".join(f"{k}: {n:,}" for k, n in sorted(soak.told.items())) + "\n"
    )
    for what in ("foreign", "older than a write"):
        verdict(f"bodies {what} in a soak", "0", str(soak.told[what]), met=not soak.told[what])
    calm = {what: n for what, n in soak.told.items() if what.endswith("all being well")}
    verdict("replies that are not 200 in a soak, Graph being there", "0", str(sum(calm.values())), met=not calm)
    if MINUTES >= LEAST_MINUTES:
        _tell_slopes(slopes)
    for name, limit in {"entries in memory": MEMORY_MB, "entries on disk": DISK_MB, "shared store": STORE_MB}.items():
        most = max(note[f"{name}, MiB"] for note in notes)
        verdict(f"{name} in a soak, at most", f"<= {limit} MiB", f"{most:.1f} MiB", met=most <= limit * 1.05)


def _tell_slopes(slopes):
    memory = slopes["memory, MiB"]
    verdict("memory in a soak, an hour brings", "<= 20 MiB", f"{memory:+.1f} MiB", met=memory <= 20)
    flat = {name: slopes[name] for name in ("open files", "threads", "tasks")}
    told = ", ".join(f"{name} {slope:+.1f}" for name, slope in flat.items())
    verdict("descriptors, threads and tasks in a soak, an hour", "<= 10 more", told, met=max(flat.values()) <= 10)


if __name__ == "__main__":
    run(main)
