"""Parses the command line, runs the command, and returns its exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from proxy.cli.arguments import Parser
from proxy.cli.commands import COMMANDS
from proxy.settings import NAME
from proxy.settings.base import version
from proxy.settings.load import SettingsError, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 for success, 2 after a line for each problem."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        options = parse(arguments)
        status: int = options.run(options)
        if sys.stdout:
            sys.stdout.flush()
        return status
    except SettingsError as error:
        for problem in error.problems:
            print(f"{NAME}: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output has gone; without this, Python would report that again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options of the command in *arguments*; their `run` is the function to call."""
    parser = Parser(prog=NAME, description="A proxy beside your application, in front of Meta's Graph API.")
    parser.add_argument("--version", action="version", version=f"{NAME} {version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    own, words = _split_at_dashes(arguments) if chosen == "run" else (list(arguments), [])
    for name, command in COMMANDS.items():
        below = commands.add_parser(name, help=command.summary, description=command.summary)
        below.set_defaults(run=command.run)
        if name == chosen:
            command.arguments(below)
    options, rest = parser.parse_known_args(own)
    if rest:
        parser.error(f"no such argument: {' '.join(printable(word.partition('=')[0]) for word in rest)}")
    options.words = words
    return options


def _split_at_dashes(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the arguments before `--`, and the words of the command after it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at + 1 :])
