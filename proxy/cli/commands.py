"""The commands, as the help lists them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from proxy.cli import ca_commands, client_commands, offline_commands, server_commands
from proxy.cli.arguments import add_settings


@dataclass(frozen=True, slots=True)
class CliCommand:
    """A command: its summary in the help, its arguments, and the function that runs it."""

    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


COMMANDS = {
    "serve": CliCommand("runs the sidecar until SIGTERM", add_settings, server_commands.serve),
    "run": CliCommand(
        "runs a command whose calls to Graph go through a sidecar of its own",
        server_commands.add_run,
        server_commands.run,
    ),
    "ca": CliCommand("makes and shows the authority of transparent mode", ca_commands.add_ca, ca_commands.ca),
    "demo": CliCommand(
        "shows the savings: offline Graph, sidecar and sample traffic in one go",
        offline_commands.add_demo,
        offline_commands.demo,
    ),
    "emulate": CliCommand("runs the offline Graph alone", offline_commands.add_emulate, offline_commands.emulate),
    "top": CliCommand("shows a sidecar that runs, live in a terminal", client_commands.add_top, client_commands.top),
    "wait": CliCommand("returns when a sidecar takes requests", client_commands.add_wait, client_commands.wait),
    "reload": CliCommand(
        "makes a sidecar read its settings again, and says what it took", add_settings, client_commands.reload
    ),
    "quit": CliCommand(
        "drains and ends a sidecar, and returns when it has ended", client_commands.add_quit, client_commands.end
    ),
    "replay": CliCommand(
        "says what other settings would have saved of a log", client_commands.add_replay, client_commands.replay
    ),
    "cache": CliCommand("counts, removes or checks what is held", client_commands.add_cache, client_commands.cache),
    "doctor": CliCommand(
        "asks Graph which of the sidecar's assumptions hold today", client_commands.add_doctor, client_commands.doctor
    ),
    "fingerprint": CliCommand(
        "prints the name that the log and /stats give to a token", add_settings, server_commands.fingerprint
    ),
    "check": CliCommand(
        "prints the settings in force, where each comes from, and what is wrong or odd",
        server_commands.add_check,
        server_commands.check,
    ),
}
