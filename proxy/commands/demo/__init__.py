"""The demo: the same dashboard traffic straight to an offline Graph and through the sidecar, counted by that Graph.

    parts     the processes: emulator, sidecar, callers     child   the same from within
    traffic   what the callers ask                          crowd   how they ask it   client   the wire
    show      how it looks

The emulator, the sidecar and the callers each have a process, so that none is measured by what another does.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich is slow to load, and `--help` does without
    from rich.console import Console

    from proxy.commands.demo.processes import Ending, Part
    from proxy.commands.demo.show import Run, Scene

_LATENCY_MS = 80
_GRAPH = {"latency_ms": _LATENCY_MS, "compress": True, "ledger_requests": 0}
_FRESH_S = 30


@dataclass(frozen=True, slots=True)
class DemoSize:
    """The number of callers, and for how long they send."""

    callers: int
    seconds: float


FULL = DemoSize(callers=300, seconds=10)
QUICK = DemoSize(callers=100, seconds=1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the demo."""
    parser.add_argument("--quick", action="store_true", help="little traffic, for those in a hurry")


def run(options: argparse.Namespace) -> int:
    """Run the demo; returns 0 if every request was answered. On a terminal everything stays up until Ctrl-C."""
    from proxy.commands.demo import show
    from proxy.commands.demo.processes import Interrupted, PartError, ending

    with ending() as told:
        try:
            return _play(show.stage(), QUICK if options.quick else FULL, told)
        except PartError as failed:
            print(f"graph-sidecar: {failed}", file=sys.stderr)
            return 1
        except Interrupted as end:
            return 128 + end.number


def _play(console: Console, size: DemoSize, told: Ending) -> int:
    from proxy.commands.demo import show
    from proxy.commands.demo.processes import Control, Part

    with contextlib.ExitStack() as parts:
        graph = parts.enter_context(Part("graph", told, config=_GRAPH))
        origin = graph.hear()["url"]
        sidecar = parts.enter_context(Part("sidecar", told, settings=_settings(origin)))
        callers = parts.enter_context(Part("callers", told, graph=origin, callers=size.callers, seconds=size.seconds))
        where, planned = sidecar.hear(), callers.hear()
        scene = _scene(size, planned)
        show.opening(console, scene)
        direct, through = _both_ways(console, scene, callers, {show.DIRECT: origin, show.THROUGH: where["url"]})
        show.results(console, scene, direct, through, Control(where["admin"]).read("/stats"))
        if console.is_terminal:
            show.invitation(console, _commands(where, planned["campaign"]))
            _stay(sidecar)
    return 1 if direct.seen.failed or through.seen.failed else 0


def _settings(origin: str) -> dict[str, object]:
    from proxy.commands.demo.traffic import SLOW_MOVING

    return {"upstream": {"origin": origin}, "rules": [{"path": SLOW_MOVING, "fresh_s": _FRESH_S}]}


def _scene(size: DemoSize, planned: Mapping[str, int]) -> Scene:
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


def _both_ways(console: Console, scene: Scene, callers: Part, ways: Mapping[str, str]) -> Iterator[Run]:
    """Yields the result of each of *ways*, one after the other: side by side they would share two processors."""
    from proxy.commands.demo import show
    from proxy.commands.demo.callers import CallersReport
    from proxy.commands.demo.processes import EmulatorLedger

    ledger = EmulatorLedger(ways[show.DIRECT])
    with show.progress(console) as bars:
        tasks = {name: bars.add_task(name, total=scene.gets + scene.changes, start=False, remark="") for name in ways}
        for name, url in ways.items():
            ledger.reset("world")
            bars.start_task(tasks[name])
            callers.tell(url=url)
            while "seen" not in (told := callers.hear()):
                bars.update(tasks[name], completed=told["done"], remark=f"{ledger.counted()['counted_calls']:,} calls")
            yield show.Run.of(ledger.counted(), CallersReport(**told["seen"]))


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


def _stay(sidecar: Part) -> None:
    """Wait for Ctrl-C, which is the usual end of the demo."""
    from proxy.commands.demo.processes import Interrupted

    try:
        sidecar.hear()
    except Interrupted as end:
        if end.number != signal.SIGINT:
            raise
