"""The commands, as the help lists them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from proxy.cli import asking, ca, offline, serving
from proxy.cli.flags import add_settings


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the command line: what it does, what it takes, how it runs."""

    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


COMMANDS = {
    "serve": Command("runs the sidecar until SIGTERM", add_settings, serving.serve),
    "run": Command("runs a command whose calls to Graph go through a sidecar of its own", serving.add_run, serving.run),
    "ca": Command("makes and shows the authority of transparent mode", ca.add_ca, ca.ca),
    "demo": Command(
        "shows the savings: offline Graph, sidecar and sample traffic in one go", offline.add_demo, offline.demo
    ),
    "emulate": Command("runs the offline Graph alone", offline.add_emulate, offline.emulate),
    "top": Command("shows a sidecar that runs, live in a terminal", asking.add_top, asking.top),
    "wait": Command("returns when a sidecar takes requests", asking.add_wait, asking.wait),
    "quit": Command("drains and ends a sidecar, and returns when it has ended", asking.add_quit, asking.end),
    "replay": Command("says what other settings would have saved of a log", asking.add_replay, asking.replay),
    "cache": Command("counts, removes or checks what is held", asking.add_cache, asking.cache),
    "check": Command(
        "prints the settings in force and where each comes from, or what is wrong", add_settings, serving.check
    ),
}
