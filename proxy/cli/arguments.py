"""Argument parsing that all commands share: the flags that change settings."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from proxy.settings import NAME, names
from proxy.settings import load as settings_load
from proxy.settings.load import SettingsError, to_toml


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The flags that change settings, and every setting below them."""
    parser.set_defaults(flags=[])
    parser.add_argument(
        "--config", type=Path, metavar="F", help=f"TOML file of settings (or {settings_load.CONFIG_VARIABLE})"
    )
    for flag, metavar in {
        "--listen": "H:P",
        "--admin": "H:P",
        "--upstream": "URL",
        "--cache-dir": "DIR",
        "--compare": "P",
    }.items():
        name = settings_load.SHORT_FLAGS[flag]
        info = names()[name]
        # argparse reads % as its own
        default = str(info.get_default(call_default_factory=True)).replace("%", "%%")
        parser.add_argument(flag, action=Flag, metavar=metavar, help=f"{info.description} (default: {default})")
    parser.add_argument("--set", action=Flag, metavar="KEY=VALUE", help="any setting below; may be given many times")
    parser.epilog = "\n".join(_reference())


class Flag(argparse.Action):
    """Notes flag and text in `flags`, in the order of the command line: the last on a setting wins."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Keep the flag as it was written, for messages."""
        del parser
        namespace.flags = [*namespace.flags, (option_string, values)]


def _reference() -> Iterator[str]:
    """Every setting with its default, what it takes and what it means."""
    yield "Flags beat environment variables, those beat the file, that beats the defaults. Each setting has one name:"
    yield "batch.window_ms is GRAPH_SIDECAR_BATCH__WINDOW_MS, --set batch.window_ms=5 and window_ms below [batch].\n"
    yield "settings and their defaults:"
    for name, info in names().items():
        yield f"  {name} = {to_toml(info.get_default(call_default_factory=True))}"
        yield textwrap.fill(settings_load.meaning(info), 100, initial_indent=" " * 6, subsequent_indent=" " * 6)


def load(options: argparse.Namespace) -> settings_load.Loaded:
    """The settings that the command line, the environment and the file come to."""
    return settings_load.load(flags=options.flags, environ=os.environ, file=options.config)


def refuse_if(problems: list[str]) -> None:
    """End with these lines, if there are any."""
    if problems:
        raise SettingsError(problems)


class Parser(argparse.ArgumentParser):
    """Argparse with our habits: no abbreviated flags, help as it is laid out, one line for an error."""

    def __init__(self, **options: Any) -> None:
        """Set the habits once, for the commands too."""
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Point at the help in place of the usage."""
        self.exit(2, f"{NAME}: {message} (see {self.prog} --help)\n")


def seconds(least: float, most: float) -> Callable[[str], float]:
    """What reads a number of seconds between these."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be a number of seconds from {least:g} to {most:.15g}")
        return value

    return read
