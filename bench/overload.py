"""Twice of what the sidecar can take: who is let in is answered soon, the others are told at once, and it passes.

Reads that all differ come in as a clock says and not as answers allow, over as many connections as are wanted for that.
Capacity is what four hundred callers get who wait for their answers; then twice as many come for a minute.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from bench.harness import Graph, _free_port, median, run, show, sidecar, table, verdict

LATENCY_S = 0.08
WARM_S, LOAD_S, AFTER_S = 3, int(os.environ.get("OVERLOAD_S", "60")), 10
CALLERS = 1200
MOST = 8000
"""Connections that the callers open at most; who finds none free is not counted as asking."""

BODY = b'{\\"id\\":\\"1\\",\\"name\\":\\"' + b"x" * 500 + b'\\"}'
SLOT = b'{"code":200,"headers":[{"name":"Content-Type","value":"application/json"}],"body":"' + BODY + b'"}'


class Answers(asyncio.Protocol):
    """A Graph that costs next to nothing: each operation of a batch gets the same body, after a while."""

    def connection_made(self, transport):
        """Begin."""
        self.transport, self.held = transport, b""

    def data_received(self, data):
        """ClientReply a message that is whole."""
        self.held += data
        head, found, body = self.held.partition(b"\r\n\r\n")
        if not found:
            return
        size = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(body) < int(size or 0):
            return
        self.held = b""
        reply = b"[" + b",".join([SLOT] * body.count(b"relative_url")) + b"]"
        told = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(reply)
        asyncio.get_running_loop().call_later(LATENCY_S, self.transport.write, told + reply)


async def answer(port):
    """Be that Graph."""
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


@dataclass
class Tally:
    """What became of the reads of one phase."""

    began: float = field(default_factory=time.perf_counter)
    told: Counter = field(default_factory=Counter)  # by status; 0: not sent, for no connection was free
    seconds: dict = field(default_factory=lambda: {200: [], 503: []})
    steady: list = field(default_factory=list)  # seconds of the 200 that were due after the first second
    late_s: float = 0.0  # how long after a read was due it was sent, at most: that is the generator's own

    def share(self, status, part):
        """The quantile *part* of how long answers of *status* took."""
        found = sorted(self.seconds.get(status) or [0.0])
        return found[min(len(found) - 1, int(len(found) * part))]


class Caller(asyncio.Protocol):
    """One connection of a caller, free or waiting for its answer."""

    def __init__(self, crowd):
        self.crowd, self.held, self.wanted, self.sent = crowd, b"", 0, None

    def connection_made(self, transport):
        """Be free."""
        self.transport = transport
        self.crowd.free.append(self)

    def ask(self, tally, since, done=None):
        """Send a read that was due at *since*."""
        self.sent = tally, since, done
        self.transport.write(self.crowd.read())

    def data_received(self, data):
        """Take an answer that is whole."""
        self.held += data
        if not self.wanted:
            at = self.held.find(b"\r\n\r\n")
            if at < 0:
                return
            size = self.held[:at].lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self.wanted = at + 4 + int(size)
        if len(self.held) >= self.wanted:
            self.answered(int(self.held[9:12]))

    def answered(self, status):
        """Count it, and be free for the next."""
        self.held, self.wanted = b"", 0
        if self.sent is None:
            return
        tally, since, done = self.sent
        self.sent = None
        tally.told[status] += 1
        tally.seconds.setdefault(status, []).append(time.perf_counter() - since)
        if status == 200 and since > tally.began + 1:
            tally.steady.append(tally.seconds[200][-1])
        if not self.transport.is_closing():
            self.crowd.free.append(self)
        if done is not None:
            done(self)

    def connection_lost(self, _error):
        """Count what will not be answered."""
        self.crowd.opened -= 1
        if self in self.crowd.free:
            self.crowd.free.remove(self)
        self.answered(599)


class Crowd:
    """All callers."""

    def __init__(self, url):
        self.at, self.free, self.opened, self.numbers = urlsplit(url), deque(), 0, count(10**9)
        self.opening = set()
        self.host = self.at.netloc.encode()

    def read(self):
        """A read that nobody has asked before."""
        return b"GET /v25.0/%d?fields=id,name&access_token=bench HTTP/1.1\r\nHost: %s\r\n\r\n" % (
            next(self.numbers),
            self.host,
        )

    async def open(self, connections):
        """Open so many connections."""
        connect = asyncio.get_running_loop().create_connection
        self.opened += connections
        await asyncio.gather(
            *(connect(lambda: Caller(self), self.at.hostname, self.at.port) for _ in range(connections))
        )

    async def closed_loop(self, seconds):
        """Answers a second where each of four hundred callers waits for its answer."""
        tally, end, loop = Tally(), time.perf_counter() + seconds, asyncio.get_running_loop()
        over, left = loop.create_future(), CALLERS

        def again(caller):
            nonlocal left
            if (now := time.perf_counter()) < end and caller in self.free:
                self.free.remove(caller)
                caller.ask(tally, now, again)
                return
            left -= 1
            if not left:
                over.set_result(None)

        for _ in range(CALLERS):
            self.free.popleft().ask(tally, time.perf_counter(), again)
        await over
        return tally.told[200] / seconds

    async def open_loop(self, rate, seconds):
        """So many reads a second, whatever becomes of them; each is timed from when it was due."""
        tally, began, made = Tally(), time.perf_counter(), 0
        while (now := time.perf_counter() - began) < seconds:
            tally.late_s = max(tally.late_s, now - made / rate)
            while made < now * rate:
                made += 1
                if self.free:
                    self.free.popleft().ask(tally, began + made / rate)
                elif self.opened < MOST:
                    task = asyncio.ensure_future(self._open_and_ask(tally, began + made / rate))
                    self.opening.add(task)
                    task.add_done_callback(self.opening.discard)
                else:
                    tally.told[0] += 1
            await asyncio.sleep(0.002)
        return tally

    async def _open_and_ask(self, tally, since):
        self.opened += 1
        try:
            _, caller = await asyncio.get_running_loop().create_connection(
                lambda: Caller(self), self.at.hostname, self.at.port
            )
        except OSError:
            self.opened -= 1
            tally.told[0] += 1
            return
        if caller in self.free:
            self.free.remove(caller)
            caller.ask(tally, since)


async def recovered(crowd, within):
    """Seconds from the end of the load until reads take no longer than *within*, three in a row."""
    began, good = time.perf_counter(), 0
    while good < 3 and time.perf_counter() - began < AFTER_S:
        if crowd.free:
            tally, over = Tally(), asyncio.get_running_loop().create_future()
            crowd.free.popleft().ask(tally, time.perf_counter(), over.set_result)
            await over
            good = good + 1 if tally.told[200] and tally.seconds[200][0] <= within else 0
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


@dataclass
class Found:
    """What was measured."""

    capacity: float  # answers a second
    calm: Tally
    loaded: Tally
    again: Tally  # as calm, after the load
    after: float  # seconds until reads were quick again
    connections: int
    a_cpu_second: tuple[float, float]  # answers in a second of the processor: at capacity, and under load
    mib: tuple[float, float]  # memory before, and at its most under load


async def measure(proxy):
    """Before, during and after."""
    crowd = Crowd(proxy.url)
    await crowd.open(CALLERS)
    await crowd.closed_loop(1)
    at = proxy.cpu_s()
    capacity = median([await crowd.closed_loop(WARM_S) for _ in range(2)])
    busy = proxy.cpu_s() - at
    calm = await crowd.open_loop(capacity / 5, WARM_S)
    await asyncio.sleep(1)
    at, before = proxy.cpu_s(), proxy.resident_mib()
    watch = asyncio.ensure_future(watch_memory(proxy, peaks := [before]))
    loaded = await crowd.open_loop(2 * capacity, LOAD_S)
    a_cpu_second = capacity * 2 * WARM_S / busy, loaded.told[200] / (proxy.cpu_s() - at)
    after = await recovered(crowd, 2 * calm.share(200, 0.99))
    watch.cancel()
    again = await crowd.open_loop(capacity / 5, WARM_S)
    return Found(capacity, calm, loaded, again, after, crowd.opened, a_cpu_second, (before, max(peaks)))


async def watch_memory(proxy, peaks):
    """Note what memory *proxy* holds, twice a second."""
    while True:
        peaks.append(proxy.resident_mib())
        await asyncio.sleep(0.5)


async def main():
    """The table and the verdict."""
    port = _free_port()
    graph = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.overload", str(port), cwd=Path.cwd())
    try:
        with sidecar(Graph(f"http://127.0.0.1:{port}", None), **{"log.level": "error"}) as proxy:
            tell(await measure(proxy))
    finally:
        graph.terminate()
        await graph.wait()


def tell(found):
    """Print what was found."""
    loaded, calm = found.loaded, found.calm
    answered, refused = loaded.told[200], loaded.told[503]
    made = table("", "reads a second", "median ms", "p99 ms", "max ms")
    for name, tally, status, seconds in (
        ("a fifth of the capacity", calm, 200, WARM_S),
        ("twice the capacity: admitted", loaded, 200, LOAD_S),
        ("twice the capacity: refused", loaded, 503, LOAD_S),
        ("a fifth of the capacity, afterwards", found.again, 200, WARM_S),
    ):
        shares = (f"{tally.share(status, part) * 1000:,.0f}" for part in (0.5, 0.99, 1))
        made.add_row(name, f"{tally.told[status] / seconds:,.0f}", *shares)
    show(made)
    lost = sum(loaded.told.values()) - answered - refused
    at_capacity, under_load = found.a_cpu_second
    print(f"  capacity {found.capacity:,.0f} a second; refused {refused / (answered + refused):.0%}; neither: {lost:,}")
    print(f"  answers in a second of the processor: {at_capacity:,.0f} at capacity, {under_load:,.0f} at twice of it")
    print(f"  connections {found.connections:,}; the load came up to {loaded.late_s:.2f} s late")
    p99, unloaded = loaded.share(200, 0.99), calm.share(200, 0.99)
    steady = sorted(loaded.steady or [0.0])[int(len(loaded.steady) * 0.99) - 1]
    print(f"  p99 of the admitted after the first second {steady:.2f} s; median of all {loaded.share(200, 0.5):.2f} s")
    limit = 2 * unloaded + 1
    verdict("overload: p99 of the admitted", f"at most {limit:.2f} s", f"{p99:.2f} s", met=p99 <= limit)
    times = p99 / unloaded
    verdict("overload: p99 of the admitted to the unloaded", "at most 2.0", f"{times:.1f}", met=times <= 2)
    quick = loaded.share(503, 0.5)
    verdict("overload: median of the refused", "at most 0.1 s", f"{quick:.3f} s", met=quick <= 0.1)
    verdict("overload: calm again after the load", "at most 2 s", f"{found.after:.2f} s", met=found.after <= 2)
    kept = under_load / at_capacity
    verdict("overload: answers for the same processor time", "at least 70%", f"{kept:.0%}", met=kept >= 0.7)
    before, most = found.mib
    verdict("overload: memory", "at most 100 MiB more", f"{before:.0f}, then {most:.0f} MiB", met=most - before <= 100)


if __name__ == "__main__":
    if sys.argv[1:]:
        uvloop.run(answer(int(sys.argv[1])))
    else:
        run(main)
