"""Reloads and a drain under 500 requests a second lose none of them.

The load comes at its own pace, answered or not, half of it writes. The sidecar is first reloaded under it, by signal
and by POST, good files and bad ones. Then it is told to end while another is ready to take over, as in a rolling
update: callers hear of it only some time after `/readyz` has fallen, and until then go on asking the first.
A request is lost if it is not answered 200.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from bench.harness import graph, ids, open_connection, run, show, sidecar, table, verdict
from proxy.commands.demo.client import LostConnectionError, request

RATE, LATENCY_MS = 500, 20
RELOADS_S, DRAIN_S = 6, 4
GRACE_S, HEARD_AFTER_S = 2, 1
WHO = "bench"


class Load:
    """Requests at a steady pace to whatever is in use."""

    def __init__(self, url):
        self.url, self.lost, self.done, self.numbers = url, [], 0, iter(ids(0, 1_000_000))
        self._idle, self._tasks = [], set()

    async def go(self, seconds):
        """Ask for so long, then wait for the answers; how many there were."""
        before, loop = self.done + len(self.lost), asyncio.get_running_loop()
        began = loop.time()
        for number in range(int(RATE * seconds)):
            await asyncio.sleep(max(0, began + number / RATE - loop.time()))
            task = asyncio.ensure_future(self._ask(number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)
        return self.done + len(self.lost) - before

    async def _ask(self, number):
        url, body = self.url, "name=new" if number % 2 else ""
        asked = request(url, "POST" if body else "GET", f"/v25.0/{next(self.numbers)}", token=WHO, body=body)
        try:
            at, connection = self._connection(url) or (url, await open_connection(url))
            answer = await connection.ask(asked)
        except (OSError, LostConnectionError) as error:
            self.lost.append(type(error).__name__)
            return
        if answer.status != 200:
            self.lost.append(str(answer.status))
            return
        self.done += 1
        if answer.field("connection").lower() != "close":
            self._idle.append((at, connection))

    def _connection(self, url):
        self._idle = [each for each in self._idle if each[0] == url]
        return self._idle.pop() if self._idle else None


async def main():
    """Reload, then drain."""
    settings = {"drain_grace_s": GRACE_S, "log.level": "error"}
    with (
        _file() as file,
        graph(latency_ms=LATENCY_MS) as origin,
        sidecar(origin, **settings) as first,
        sidecar(origin, **settings) as second,
    ):
        load = Load(first.url)
        await load.go(1)  # which warms up
        asked, (good, bad) = await asyncio.gather(load.go(RELOADS_S), _reload(first, file))
        by_reloads, load.lost = load.lost, []
        in_drain, took = await asyncio.gather(load.go(DRAIN_S), _drain(first, second, load))
    made = table(f"{RATE} requests a second, half of them writes", "requests", "lost")
    made.add_row(f"{good} reloads, and {bad} of a bad file", str(asked), str(len(by_reloads)))
    made.add_row(f"a drain that took {took:.1f} s", str(in_drain), str(len(load.lost)))
    show(made)
    for what, lost in (("reloads", by_reloads), ("a drain", load.lost)):
        why = f" ({', '.join(sorted(set(lost)))})" if lost else ""
        verdict(f"requests lost by {what}", "0", f"{len(lost)}{why}", met=not lost)


@contextmanager
def _file():
    """A file of settings that the sidecars read."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "graph-sidecar.toml")
        file.touch()
        os.environ["GRAPH_SIDECAR_CONFIG"] = str(file)
        yield file


async def _reload(ours, file):
    """Change the file and tell it, again and again; how many reloads were good, and how many were to be refused."""
    good, loop = [], asyncio.get_running_loop()
    end = loop.time() + RELOADS_S - 0.5
    while loop.time() < end:
        number = len(good)
        good.append(number % 4 != 3)
        window = number % 7 if good[-1] else -1
        await asyncio.to_thread(file.write_text, f"[batch]\nwindow_ms = {window}\nslots = {50 - number % 40}\n")
        if number % 2:
            status = await asyncio.to_thread(_post, f"{ours.admin}/reload")
            if status != (200 if good[-1] else 422):
                raise SystemExit(f"a reload was answered {status}")
        else:
            os.kill(ours.pid, signal.SIGHUP)
        await asyncio.sleep(0.1)
    return sum(good), len(good) - sum(good)


def _post(url):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30).status  # noqa: S310 - ours
    except urllib.error.HTTPError as error:
        return error.code


async def _drain(first, second, load):
    """End the first in the middle of it; callers change over when they have heard."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(1)
    os.kill(first.pid, signal.SIGTERM)
    began = loop.time()
    await asyncio.to_thread(_until, lambda: not _ready(first.admin))
    await asyncio.sleep(HEARD_AFTER_S)
    load.url = second.url
    await asyncio.to_thread(_until, lambda: _ready(first.admin) is None)
    return loop.time() - began


def _until(is_so):
    while not is_so():
        time.sleep(0.02)


def _ready(admin):
    """Whether it is ready; None if nobody answers."""
    try:
        return urllib.request.urlopen(f"{admin}/readyz", timeout=30).status == 200  # noqa: S310 - ours
    except urllib.error.HTTPError:
        return False
    except OSError:
        return None


if __name__ == "__main__":
    run(main)
