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
    """Add the flags that change settings, and a reference of all settings to the help."""
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
    """Appends flag and text to `flags`, in the order of the command line: the last for a setting wins."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Keep the flag as it was written, for messages."""
        del parser
        namespace.flags = [*namespace.flags, (option_string, values)]


def _reference() -> Iterator[str]:
    """Yields the lines of the reference: every setting with its default, its meaning and the allowed values."""
    yield "Flags beat environment variables, those beat the file, that beats the defaults. Each setting has one name:"
    yield "batch.window_ms is GRAPH_SIDECAR_BATCH__WINDOW_MS, --set batch.window_ms=5 and window_ms below [batch].\n"
    yield "settings and their defaults:"
    for name, info in names().items():
        yield f"  {name} = {to_toml(info.get_default(call_default_factory=True))}"
        yield textwrap.fill(
            settings_load.description_with_bounds(info), 100, initial_indent=" " * 6, subsequent_indent=" " * 6
        )


def load(options: argparse.Namespace) -> settings_load.Loaded:
    """Returns the settings from command line, environment and file. Raises SettingsError."""
    return settings_load.load(flags=options.flags, environ=os.environ, file=options.config)


def refuse_if(problems: list[str]) -> None:
    """Raise SettingsError with *problems*, if there are any."""
    if problems:
        raise SettingsError(problems)


class Parser(argparse.ArgumentParser):
    """A parser without abbreviated flags, with help in its own layout, and with one line for an error."""

    def __init__(self, **options: Any) -> None:
        """Set these options, for the parsers of commands too."""
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line that points to the help."""
        self.exit(2, f"{NAME}: {message} (see {self.prog} --help)\n")


def seconds(least: float, most: float) -> Callable[[str], float]:
    """Returns a function that parses a number of seconds from *least* to *most*."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be a number of seconds from {least:g} to {most:.15g}")
        return value

    return read
