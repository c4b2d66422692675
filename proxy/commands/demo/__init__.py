"""The demo: the same dashboard traffic straight to an offline Graph and through the sidecar, counted by that Graph.

    processes   starts emulator, sidecar and callers         child    each of them from within
    traffic     what the callers ask                         callers  how they ask it, over `client`
    pace        how fast this machine can play it            show     how it looks
    fleet       one sidecar against several that share a store

The emulator, the sidecar and the callers each have a process, so that none is measured by what another does.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich is slow to load, and `--help` does without
    from rich.console import Console

    from proxy.commands.demo.pace import Machine
    from proxy.commands.demo.processes import DemoProcess, Ending
    from proxy.commands.demo.show import Run, Scene

_LATENCY_MS = 80
GRAPH = {"latency_ms": _LATENCY_MS, "compress": True, "ledger_requests": 0}
_FRESH_S = 30
_LOOKED_S = 0.5  # for which the machine is watched before anything is asked


@dataclass(frozen=True, slots=True)
class DemoSize:
    """The number of callers, for how long they send, and for how long before that, to warm up."""

    callers: int
    seconds: float
    warm_up_s: float


FULL = DemoSize(callers=300, seconds=10, warm_up_s=2)
QUICK = DemoSize(callers=100, seconds=1, warm_up_s=0.3)
MOST_REPLICAS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the demo."""
    parser.add_argument("--quick", action="store_true", help="little traffic, for those in a hurry")
    parser.add_argument(
        "--replicas",
        type=_several,
        metavar="N",
        help="one sidecar against N that share a store; needs a redis-server or valkey-server on PATH",
    )


def _several(text: str) -> int:
    """A number of replicas."""
    if not (text.isascii() and text.isdigit() and 2 <= int(text) <= MOST_REPLICAS):
        raise argparse.ArgumentTypeError(f"must be a number from 2 to {MOST_REPLICAS}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Run the demo; returns 0 if every request was answered. On a terminal everything stays up until Ctrl-C."""
    from proxy.commands.demo import show
    from proxy.commands.demo.processes import Interrupted, PartError, ending

    with ending() as end:
        size = QUICK if options.quick else FULL
        try:
            if options.replicas:
                from proxy.commands.demo.fleet import play_fleet

                return play_fleet(show.stage(), size, options.replicas, end)
            return _play(show.stage(), size, end)
        except PartError as failed:
            print(f"graph-sidecar: {failed}", file=sys.stderr)
            return 1
        except Interrupted as end:
            return 128 + end.number


def _play(console: Console, size: DemoSize, end: Ending) -> int:
    from proxy.commands.demo import show
    from proxy.commands.demo.processes import Control, DemoProcess

    with contextlib.ExitStack() as parts:
        graph = parts.enter_context(DemoProcess("graph", end, config=GRAPH))
        origin = graph.receive()["url"]
        sidecar = parts.enter_context(DemoProcess("sidecar", end, settings=demo_settings(origin)))
        callers = parts.enter_context(
            DemoProcess("callers", end, graph=origin, callers=size.callers, seconds=size.seconds)
        )
        where, planned = sidecar.receive(), callers.receive()
        ways, admin = {show.DIRECT: [origin], show.THROUGH: [where["url"]]}, Control(where["admin"])
        scene = scene_of(size, planned)
        show.opening(console, scene)
        machine = warm_up(console, size, callers, ways)
        scene = scene.on(machine)
        before = admin.read("/stats")
        direct, through = play_ways(console, scene, callers, ways)
        show.results(console, scene, direct, through, show.since(before, admin.read("/stats")))
        if console.is_terminal:
            show.invitation(console, _commands(where, planned["campaign"]))
            _stay(sidecar)
    return 1 if direct.seen.failed or through.seen.failed else 0


def demo_settings(origin: str) -> dict[str, object]:
    """The settings of a sidecar in front of *origin*: one rule, for what changes slowly."""
    from proxy.commands.demo.traffic import SLOW_MOVING

    return {"upstream": {"origin": origin}, "rules": [{"path": SLOW_MOVING, "fresh_s": _FRESH_S}]}


def scene_of(size: DemoSize, planned: Mapping[str, int]) -> Scene:
    """The numbers of the demo that its introduction names."""
    from proxy.commands.demo.show import Scene
    from proxy.commands.demo.traffic import TOKENS

    return Scene(
        callers=size.callers,
        tokens=len(TOKENS),
        seconds=size.seconds,
        latency_ms=_LATENCY_MS,
        fresh_s=_FRESH_S,
        gets=planned["gets"],
        changes=planned["changes"],
    )


def warm_up(console: Console, size: DemoSize, callers: DemoProcess, ways: Mapping[str, Sequence[str]]) -> Machine:
    """Play a little of the traffic each way, so that all parts are warm; returns what the machine can do."""
    from proxy.commands.demo import show
    from proxy.commands.demo.pace import Machine, taken_by_others

    others, slowest = taken_by_others(_LOOKED_S), 0.0
    with show.warming(console):
        for urls in ways.values():
            callers.send(urls=urls, warm_up_s=size.warm_up_s)
            while "seen" not in (message := callers.receive()):
                pass
            slowest = max(slowest, message["seen"]["median_ms"])
    return Machine(others, slowest / _LATENCY_MS)


def play_ways(console: Console, scene: Scene, callers: DemoProcess, ways: Mapping[str, Sequence[str]]) -> Iterator[Run]:
    """Yields the result of each of *ways*, one after the other: side by side they would share two processors."""
    from proxy.commands.demo import show
    from proxy.commands.demo.callers import CallersReport
    from proxy.commands.demo.processes import EmulatorLedger

    ledger = EmulatorLedger(ways[show.DIRECT][0])
    ledger.change("/__emulator__/settings", latency_ms=scene.latency_ms)
    with show.progress(console) as bars:
        tasks = {name: bars.add_task(name, total=scene.gets + scene.changes, start=False, remark="") for name in ways}
        for name, urls in ways.items():
            ledger.reset("world")
            bars.start_task(tasks[name])
            callers.send(urls=urls, slowness=scene.slowness)
            while "seen" not in (message := callers.receive()):
                bars.update(
                    tasks[name], completed=message["done"], remark=f"{ledger.counted()['counted_calls']:,} calls"
                )
            yield show.Run.of(ledger.counted(), CallersReport(**message["seen"]))


def _commands(where: Mapping[str, str], campaign: str) -> dict[str, str]:
    """Returns commands to try, by what each shows."""
    from proxy.commands.demo.traffic import TOKENS, VERSION

    token = f"access_token={TOKENS[0]}"
    graph = f"{where['url']}/{VERSION}"
    return {
        "twice: first Cache-Status says uri-miss, then fwd-status=304": f"curl -si '{graph}/{campaign}?{token}'",
        "a change goes straight through; the first line shows it": f"curl -s '{graph}/{campaign}?{token}' -d name=Me",
        "what the sidecar has counted": f"curl -s {where['admin']}/stats",
        "the same live, for a browser; graph-sidecar top --admin shows it here": f"{where['admin']}/",
    }


def _stay(sidecar: DemoProcess) -> None:
    """Wait for Ctrl-C, which is the usual end of the demo."""
    from proxy.commands.demo.processes import Interrupted

    try:
        sidecar.receive()
    except Interrupted as end:
        if end.number != signal.SIGINT:
            raise
