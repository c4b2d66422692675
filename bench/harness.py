"""What every measurement stands on: the real programs in processes of their own, raw callers, tables and verdicts.

A script is the load generator; the emulator and the sidecar are its children. Where there are two processors the
sidecar (or nginx in its place) has one of them to itself. All figures of a script come from one run, the ways that it
compares taking turns in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.commands.demo.client import ClientConnection, ClientReply, open_connection, request
from proxy.commands.demo.processes import Control, DemoProcess, EmulatorLedger

VERDICTS = "BENCH_VERDICTS"
"""The variable that names the file in which a whole `make bench` gathers what each script found."""

_CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
_ALONE, _OTHERS = _CPUS[-1:], _CPUS[:-1] or _CPUS
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Graph:
    """An emulator that runs."""

    url: str
    ledger: EmulatorLedger


@dataclass(frozen=True)
class Proxy:
    """A sidecar, or nginx, that runs."""

    url: str
    pid: int
    stats: Callable[[], dict] = dict
    admin: str = ""

    def cpu_s(self):
        """Processor seconds that it has used so far, its threads included."""
        try:  # in nanoseconds (kernel: Documentation/scheduler/sched-stats.rst)
            threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
            return sum(int(each.read_text().split()[0]) for each in threads) / 1e9
        except (OSError, ValueError):
            pass
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mib(self):
        """Memory that it holds now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class _Uninterrupted:
    """In the place of the demo's `Ending`: here Ctrl-C is the event loop's affair."""

    def wait(self, stream):
        """Let the reading wait."""


@contextmanager
def graph(**config) -> Iterator[Graph]:
    """Run the emulator with these settings of its own."""
    with DemoProcess("graph", _Uninterrupted(), config={"ledger_requests": 0, **config}, **_pinned(_OTHERS)) as part:
        url = part.receive()["url"]
        yield Graph(url, EmulatorLedger(url))


@contextmanager
def sidecar(origin: Graph, *, lines: bool = False, **settings) -> Iterator[Proxy]:
    """Run `graph-sidecar serve` in front of *origin*, with these settings by their dotted names, and a new cache.

    With *lines*, each reply is a line of JSON in a file, as by default; else only warnings are told.
    """
    listen, admin = _free_port(), _free_port()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        given = {
            "listen": f"127.0.0.1:{listen}",
            "admin": f"127.0.0.1:{admin}",
            "upstream.origin": origin.url,
            "cache.dir": f"{folder}/cache",
            "cache.key_file": f"{folder}/key",
            **({} if lines else {"log.level": "warning"}),
            **{key: json.dumps(value) for key, value in settings.items()},
        }
        flags = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
        log = stack.enter_context(Path(folder, "log").open("wb")) if lines else None
        command = [sys.executable, "-m", "proxy", "serve", *flags]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stderr=log)
        try:
            if _ALONE:
                os.sched_setaffinity(process.pid, _ALONE)
            _await_port(listen, process)
            at = f"http://127.0.0.1:{admin}"
            ours = Control(at)
            yield Proxy(f"http://127.0.0.1:{listen}", process.pid, lambda: ours.read("/stats"), at)
        finally:
            process.terminate()
            process.wait()


def _pinned(cpus):
    return {"cpus": cpus} if cpus else {}


_NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/client; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache keys_zone=held:16m;
  proxy_http_version 1.1; proxy_set_header Connection ""; keepalive_requests 1000000;
  upstream graph {{ server {origin}; keepalive 64; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{passing} backlog=4096; location / {{ proxy_pass http://graph; }} }}
  server {{ listen 127.0.0.1:{holding} backlog=4096; location / {{
    proxy_pass http://graph;
    proxy_cache held; proxy_cache_valid 200 1h; proxy_cache_key $request_uri$http_authorization;
    proxy_ignore_headers Cache-Control Expires Vary Set-Cookie;
  }} }}
}}
"""


@contextmanager
def nginx(origin: Graph) -> Iterator[tuple[Proxy, Proxy] | None]:
    """Run nginx in front of *origin*, passing on one port and caching on another; None where it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        print("  nginx is not installed, so its figures are left out")
        yield None
        return
    passing, holding = _free_port(), _free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "nginx.conf")
        where = origin.url.removeprefix("http://")
        file.write_text(_NGINX.format(folder=folder, origin=where, passing=passing, holding=holding))
        process = subprocess.Popen([program, "-p", folder, "-c", file, "-e", f"{folder}/error.log"])
        try:
            if _ALONE:
                os.sched_setaffinity(process.pid, _ALONE)
            _await_port(holding, process)
            yield tuple(Proxy(f"http://127.0.0.1:{port}", process.pid) for port in (passing, holding))
        finally:
            process.terminate()
            process.wait()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _await_port(port, process):
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise SystemExit(f"{process.args[0]} does not start")


def run(script: Callable[[], Awaitable[None]]) -> None:
    """Run a script as the load generator that it is."""
    if _OTHERS:
        os.sched_setaffinity(0, _OTHERS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(script())


def gets(url: str, ids: Iterable[int | str], who: str = "bench") -> list[bytes]:
    """Plain GETs of nodes, as they go over the wire to *url*."""
    return [request(url, "GET", f"/v25.0/{each}", token=who) for each in ids]


async def at_once(url: str, asked: Sequence[bytes], callers: int) -> list[ClientReply]:
    """Send all of *asked*, each of so many callers taking the next as soon as it has its answer."""
    connections = await asyncio.gather(*(open_connection(url) for _ in range(callers)))
    answers = await sent(connections, asked)
    for connection in connections:
        connection.close()
    return answers


_WRK = """
local n = {asked}
request = function()
  local path = "/v25.0/" .. string.format("%d", {first} + n % {count}) .. "?access_token=bench"
  n = n + 1
  return wrk.format("GET", path)
end
done = function(summary)
  local e = summary.errors
  print(string.format("done %d %d", summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def has_wrk() -> bool:
    """Whether the load generator is installed; if not, say so."""
    if shutil.which("wrk") is None:
        print("  wrk is not installed, so what it measures is left out")
        return False
    return True


@dataclass
class Load:
    """GETs of the nodes of *numbers* in their order, over and over, by wrk."""

    proxy: Proxy
    numbers: range
    asked: int = 0

    def rate(self, *, callers: int, seconds: int) -> float:
        """GETs for each second of processor time of the proxy; each run begins where the last one ended."""
        first, count = self.numbers[0], len(self.numbers)
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(_WRK.format(first=first, count=count, asked=self.asked))
            script.flush()
            command = ["wrk", "-t1", f"-c{callers}", f"-d{seconds}s", "-s", script.name, self.proxy.url]
            before = self.proxy.cpu_s()
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            took = self.proxy.cpu_s() - before
        asked, wrong = map(int, re.search(r"^done (\d+) (\d+)$", told, re.MULTILINE).groups())
        if wrong or not asked:
            raise SystemExit(f"{wrong} of {asked} GETs of {self.proxy.url} went wrong")
        self.asked += asked
        return asked / took


async def sent(connections: Sequence[ClientConnection], asked: Sequence[bytes]) -> list[ClientReply]:
    """Send all of *asked* over connections that are open."""
    waiting, answers = iter(asked), []

    async def caller(connection):
        for each in waiting:
            answers.append(await connection.ask(each))  # noqa: PERF401 - the callers share the list

    await asyncio.gather(*(caller(each) for each in connections))
    wrong = [answer for answer in answers if answer.status != 200]
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(answers)} replies were not 200, such as {wrong[0]}")
    return answers


async def timed(work: Awaitable) -> float:
    """Seconds that *work* takes."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def ids(start: int, count: int) -> range:
    """Ids of campaigns, which are distinct for distinct starts."""
    first = 1_201_000_000_000 + start
    return range(first, first + count)


def table(*heads: str) -> Table:
    """A table to add rows to: text on the left, figures on the right."""
    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    made.add_column(heads[0], no_wrap=True)
    for head in heads[1:]:
        made.add_column(head, justify="right", no_wrap=True)
    return made


def show(made: Table) -> None:
    """Print a table, as wide as it needs."""
    console = Console(highlight=False)
    console.width = max(console.width, 160)
    console.print()
    console.print(made)
    console.print()


def verdict(claim: str, wanted: str, measured: str, *, met: bool) -> None:
    """Say whether a claim holds, and keep it for the table at the end."""
    print(f"  {claim}: wanted {wanted}, measured {measured}: {'met' if met else 'NOT MET'}")
    if VERDICTS in os.environ:
        with Path(os.environ[VERDICTS]).open("a") as file:
            file.write(json.dumps([claim, wanted, measured, met]) + "\n")


def show_verdicts(file: Path) -> bool:
    """The table at the end; whether all is well."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    made = table("target", "wanted", "measured", "")
    for claim, wanted, measured, met in found:
        made.add_row(claim, wanted, measured, Text("met", "green") if met else Text("not met", "bold red"))
    show(made)
    return all(met for *_, met in found)
