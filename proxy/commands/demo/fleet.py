"""One sidecar against several that share a store: the same traffic, and the calls that Graph counts."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from proxy.commands.demo import GRAPH, DemoSize, demo_settings, play_ways, scene_of, show, warm_up
from proxy.commands.demo.processes import Control, DemoProcess, Ending, PartError

_STARTS_WITHIN_S = 30
_LONGEST_FOLDER = 80
"""Bytes of a folder's name, without the eight that `tempfile` adds."""

KEY_BYTES = 32


def play_fleet(console: Console, size: DemoSize, replicas: int, end: Ending) -> int:
    """Play the traffic directly, through one sidecar and through *replicas*; 0 if every request was answered."""
    with contextlib.ExitStack() as parts:
        url = parts.enter_context(_store())
        key = Path(parts.enter_context(tempfile.TemporaryDirectory()), "key")
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(KEY_BYTES))
        graph = parts.enter_context(DemoProcess("graph", end, config=GRAPH))
        origin = graph.receive()["url"]
        sharing = demo_settings(origin) | {"cache": {"key_file": str(key)}, "shared": {"url": url, "timeout_ms": 1000}}
        alone = parts.enter_context(DemoProcess("sidecar", end, settings=demo_settings(origin)))
        several = [parts.enter_context(DemoProcess("sidecar", end, settings=sharing)) for _ in range(replicas)]
        callers = parts.enter_context(
            DemoProcess("callers", end, graph=origin, callers=size.callers, seconds=size.seconds)
        )
        one, fleet, planned = alone.receive()["url"], [each.receive() for each in several], callers.receive()
        scene = scene_of(size, planned)
        show.opening(console, scene)
        ways = {show.DIRECT: [origin], "one sidecar": [one], f"{replicas} replicas": [each["url"] for each in fleet]}
        scene = scene.on(warm_up(console, size, callers, ways))
        before = [Control(each["admin"]).read("/stats") for each in fleet]
        runs = dict(zip(ways, play_ways(console, scene, callers, ways), strict=True))
        after = [Control(each["admin"]).read("/stats") for each in fleet]
        shared = Counter(_shared(iter(after)))
        shared.subtract(_shared(iter(before)))
        show.fleet_results(console, scene, runs, shared)
    return 1 if any(each.seen.failed for each in runs.values()) else 0


def _shared(numbers: Iterator[Any]) -> dict[str, int]:
    """Returns the sums of what all replicas shared."""
    sums = Counter[str]()
    for each in numbers:
        shared = each["shared"]
        sums.update(
            led=shared["flights"]["led"], joined=shared["flights"]["joined"], alone=sum(shared["alone"].values())
        )
    return dict(sums)


@contextlib.contextmanager
def _store() -> Iterator[str]:
    """The address of a store of our own. Raises PartError where there is no program for it."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise PartError(
            "--replicas needs a redis-server or valkey-server on PATH (Debian: apt-get install redis-server)"
        )
    with _short_folder() as folder:
        where = f"{folder}/socket"
        quiet = ("--port", "0", "--unixsocket", where, "--save", "", "--dir", folder, "--logfile", f"{folder}/log")
        process = subprocess.Popen([program, *quiet], stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603 - ours
        try:
            _await(where, process)
            yield f"unix://{where}"
        finally:
            process.terminate()
            process.wait()


def _short_folder() -> tempfile.TemporaryDirectory[str]:
    """Returns a new folder whose name is short enough for a socket in it: systems take 103 to 107 bytes of path."""
    name = "graph-sidecar-demo-"
    is_short = len(os.fsencode(tempfile.gettempdir())) + len(name) <= _LONGEST_FOLDER
    return tempfile.TemporaryDirectory(prefix=name, dir=None if is_short else "/tmp")  # noqa: S108 - made by mkdtemp


def _await(where: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(where)
            return
        time.sleep(0.01)
    raise PartError("the store does not start")
